//! `lap images`, `history`, `tag`, `rmi` and `image inspect`

mod tree;

use std::process::ExitCode;

use base::{Digest, Reference};
use engine::report::{HistoryLine, ImageSummary, Removal};
use serde_json::{Value, json};

use super::{StoreChoice, now, open, platform, platforms};
use crate::error::{CliError, FAILED};
use crate::image_args::{HistoryArgs, ImagesArgs, InspectArgs, RmiArgs, TagArgs};
use crate::listing::{self, Columns};
use crate::terminal::{print, print_line};
use crate::{signals, template, units};
use docker::documents;
use docker::filters::images::ImageFilters;

const NONE: &str = "<none>";

/// One line of `lap images`: an image under one of its names.
struct Row {
    repository: String,
    tag: String,
    digest: String,
    id: Digest,
    created_since: String,
    created_at: String,
    size: String,
}

/// Lists images.
pub(crate) fn list(store: &StoreChoice, args: &ImagesArgs) -> Result<ExitCode, CliError> {
    let wanted = args.repository.as_deref().map(parse_name).transpose()?;
    let engine = open(store)?;
    let images = engine.images()?;
    let filters = ImageFilters::parse(&args.filters, now(), &images)?;
    if args.tree {
        let mut trees = engine.image_trees()?;
        trees.retain(|tree| is_shown(&tree.summary, &filters, wanted.as_ref()));
        print(&tree::text(&trees, args.no_trunc));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = images.iter().filter(|image| filters.fit(image));
    let mut rows: Vec<Row> = chosen.flat_map(|image| rows(image, &filters)).collect();
    if let Some(wanted) = wanted {
        let has_tag = args
            .repository
            .as_deref()
            .is_some_and(|text| text.rsplit('/').next().is_some_and(|n| n.contains(':')));
        let repository = wanted.familiar_repository();
        rows.retain(|row| {
            row.repository == repository && (!has_tag || wanted.tag.as_deref() == Some(&row.tag))
        });
    }
    if args.quiet {
        let mut ids: Vec<String> = rows.iter().map(|row| shown_id(&row.id, args.no_trunc)).collect();
        ids.dedup();
        ids.iter().for_each(|id| print_line(id));
    } else {
        let rows: Vec<Value> = rows.iter().map(|row| row_json(row, args.no_trunc)).collect();
        listing::show(&rows, args.format.as_deref(), &columns_of_images(args.digests))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether an image is to be shown under one of its names, or without one.
fn is_shown(image: &ImageSummary, filters: &ImageFilters, wanted: Option<&Reference>) -> bool {
    let mut names = image.names.iter().filter_map(|name| name.parse::<Reference>().ok());
    let is_wanted = |name: &Reference| {
        filters.fit_name(name)
            && wanted.is_none_or(|wanted| wanted.familiar_repository() == name.familiar_repository())
    };
    filters.fit(image) && ((image.names.is_empty() && wanted.is_none()) || names.any(|name| is_wanted(&name)))
}

fn rows(image: &ImageSummary, filters: &ImageFilters) -> Vec<Row> {
    let row = |repository: String, tag: String| Row {
        repository,
        tag,
        digest: image.digest.to_string(),
        id: image.id,
        created_since: image.created.map_or("N/A".to_owned(), |at| format!("{} ago", units::age(at, now()))),
        created_at: image.created.map_or("N/A".to_owned(), units::go_time),
        size: units::bytes(image.size),
    };
    if image.names.is_empty() {
        return vec![row(NONE.to_owned(), NONE.to_owned())];
    }
    let names = image.names.iter().filter_map(|name| name.parse::<Reference>().ok());
    let names = names.filter(|name| filters.fit_name(name));
    names.map(|name| row(name.familiar_repository(), name.tag.unwrap_or_else(|| NONE.to_owned()))).collect()
}

fn shown_id(id: &Digest, whole: bool) -> String {
    if whole { id.to_string() } else { id.short() }
}

fn row_json(row: &Row, whole: bool) -> Value {
    json!({
        "Containers": "N/A",
        "CreatedAt": row.created_at,
        "CreatedSince": row.created_since,
        "Digest": row.digest,
        "ID": shown_id(&row.id, whole),
        "Repository": row.repository,
        "SharedSize": "N/A",
        "Size": row.size,
        "Tag": row.tag,
        "UniqueSize": "N/A",
        "VirtualSize": row.size,
    })
}

fn columns_of_images(digests: bool) -> Columns<'static> {
    let template = match digests {
        true => "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
        false => "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    };
    Columns { template, titles: &[("ID", "IMAGE ID"), ("CreatedSince", "CREATED")] }
}

/// Shows how an image was made, the newest step first.
pub(crate) fn history(store: &StoreChoice, args: &HistoryArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let id = engine.inspect(&args.image)?.summary.id;
    let lines = engine.history(&args.image, platform(args.platform.as_deref())?.as_ref())?;
    let values: Vec<Value> = lines
        .iter()
        .enumerate()
        .map(|(index, line)| history_json(line, (index == 0).then_some(&id), args))
        .collect();
    let field = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    if args.quiet {
        values.iter().for_each(|value| print_line(&field(value, "ID")));
    } else {
        let columns = Columns {
            template: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            titles: &[("ID", "IMAGE"), ("CreatedSince", "CREATED")],
        };
        listing::show(&values, args.format.as_deref(), &columns)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn history_json(line: &HistoryLine, id: Option<&Digest>, args: &HistoryArgs) -> Value {
    let created_by = line.entry.created_by.replace('\t', " ");
    let since = line.entry.created.map_or("N/A".to_owned(), |at| format!("{} ago", units::age(at, now())));
    let at = line.entry.created.map_or(String::new(), |at| at.to_string());
    json!({
        "ID": id.map_or("<missing>".to_owned(), |id| shown_id(id, args.no_trunc)),
        "CreatedSince": if args.human { since } else { at.clone() },
        "CreatedAt": at,
        "CreatedBy": if args.no_trunc { created_by } else { truncated(&created_by, 45) },
        "Size": if args.human { units::bytes(line.size) } else { line.size.to_string() },
        "Comment": line.entry.comment,
    })
}

fn truncated(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

/// Gives an image another name.
pub(crate) fn tag(store: &StoreChoice, args: &TagArgs) -> Result<ExitCode, CliError> {
    let target = parse_name(&args.target)?;
    open(store)?.tag(&args.source, &target)?;
    Ok(ExitCode::SUCCESS)
}

/// Removes images; goes on after one that cannot be removed.
pub(crate) fn remove(store: &StoreChoice, args: &RmiArgs) -> Result<ExitCode, CliError> {
    let platforms = platforms(&args.platforms)?;
    let engine = open(store)?;
    let mut code = ExitCode::SUCCESS;
    for image in &args.images {
        let removed = match platforms.is_empty() {
            true => engine.remove_image(image, args.force),
            false => engine.remove_platforms(image, &platforms, args.force),
        };
        match removed {
            Ok(removals) => removals.iter().for_each(|removal| print_line(&removal_line(removal))),
            Err(error) => {
                CliError::engine(&error).report();
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}

fn removal_line(removal: &Removal) -> String {
    match removal {
        Removal::Untagged(name) => format!("Untagged: {name}"),
        Removal::Deleted(digest) => format!("Deleted: {digest}"),
    }
}

/// Shows images in full, as Docker's JSON.
pub(crate) fn inspect(store: &StoreChoice, args: &InspectArgs) -> Result<ExitCode, CliError> {
    let platform = platform(args.platform.as_deref())?;
    let engine = open(store)?;
    let mut values = Vec::new();
    for image in &args.images {
        let details = if args.remote {
            engine.inspect_remote(image, platform.as_ref(), &signals::cancel_token())?
        } else {
            engine.inspect(image)?
        };
        let layers = if args.remote { Vec::new() } else { engine.image_layers(image)? };
        values.push(documents::images::document(&details, &layers));
    }
    match &args.format {
        Some(format) => {
            for value in &values {
                print_line(&template::fill(format, value)?);
            }
        }
        None => {
            let text =
                serde_json::to_string_pretty(&values).map_err(|error| CliError::failed(error.to_string()))?;
            print_line(&text);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_name(text: &str) -> Result<Reference, CliError> {
    text.parse().map_err(|error: base::reference::ReferenceError| {
        CliError::usage(error.to_string(), "a name looks like registry/path/name:tag")
    })
}

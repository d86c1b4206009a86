//! `lap manifest` and `lap search`

use std::process::ExitCode;

use base::Reference;
use base::image::media_type;
use engine::registries::{FoundRepository, ManifestText, PlatformChange};
use serde_json::{Value, json};

use super::{StoreChoice, login, open, reference};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::manifest_args::{
    ManifestAnnotateArgs, ManifestCommand, ManifestCreateArgs, ManifestInspectArgs, ManifestPushArgs,
    SearchArgs,
};
use crate::render::{self, Mode};
use crate::signals;
use crate::terminal::print_line;

/// The longest description that is shown in a table.
const DESCRIPTION: usize = 45;

pub(crate) fn dispatch(store: &StoreChoice, command: ManifestCommand) -> Result<ExitCode, CliError> {
    match command {
        ManifestCommand::Inspect(args) => inspect(store, &args)?,
        ManifestCommand::Create(args) => create(store, &args)?,
        ManifestCommand::Annotate(args) => annotate(store, args)?,
        ManifestCommand::Push(args) => push(store, &args)?,
        ManifestCommand::Rm(args) => {
            let engine = open(store)?;
            for list in &args.lists {
                engine.remove_list(list)?;
                print_line(&reference(list)?.to_string());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect(store: &StoreChoice, args: &ManifestInspectArgs) -> Result<(), CliError> {
    let cancel = signals::cancel_token();
    // Of an image in a list, the registry has the same as without the list.
    let name = args.names.last().map_or("", String::as_str);
    let text = open(store)?.manifest_text(name, &cancel)?;
    let parsed: Value = serde_json::from_slice(&text.bytes)
        .map_err(|error| CliError::failed(format!("{name} is not JSON: {error}")))?;
    let shown = if args.verbose { verbose(&reference(name)?, &text, parsed) } else { parsed };
    print_line(&format!("{shown:#}"));
    Ok(())
}

fn verbose(name: &Reference, text: &ManifestText, parsed: Value) -> Value {
    let kind = if media_type::is_index(&text.descriptor.media_type) { "Index" } else { "Manifest" };
    json!({"Ref": name.to_string(), "Descriptor": text.descriptor, kind: parsed})
}

fn create(store: &StoreChoice, args: &ManifestCreateArgs) -> Result<(), CliError> {
    let cancel = signals::cancel_token();
    let list = open(store)?.create_list(&args.list, &args.images, args.amend, &cancel)?;
    print_line(&format!("Created manifest list {list}"));
    Ok(())
}

fn annotate(store: &StoreChoice, args: ManifestAnnotateArgs) -> Result<(), CliError> {
    let cancel = signals::cancel_token();
    let ManifestAnnotateArgs { list, image, arch, os, variant, os_version, os_features } = args;
    let change = PlatformChange { os, architecture: arch, variant, os_version, os_features };
    Ok(open(store)?.annotate_list(&list, &image, &change, &cancel)?)
}

fn push(store: &StoreChoice, args: &ManifestPushArgs) -> Result<(), CliError> {
    let cancel = signals::cancel_token();
    let renderer = render::renderer(Mode::Quiet);
    let pushed = open(store)?.push_list(&args.list, args.purge, renderer, &cancel)?;
    print_line(&pushed.digest.to_string());
    Ok(())
}

/// Finds images.
pub(crate) fn search(store: &StoreChoice, args: &SearchArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let filters = args.filters.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let (registry, term) = match args.term.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => {
            (login::registry_name(Some(host))?, term)
        }
        _ => (login::registry_name(None)?, args.term.as_str()),
    };
    let mut found = open(store)?.search(&registry, term, args.limit, &cancel)?;
    found.retain(|repository| filters.iter().all(|filter| filter.fits(repository)));
    found.sort_by_key(|repository| std::cmp::Reverse(repository.stars));
    let values: Vec<Value> = found.iter().map(|repository| found_json(repository, args.no_trunc)).collect();
    let columns = Columns {
        template: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
        titles: &[("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")],
    };
    listing::show(&values, args.format.as_deref(), &columns)?;
    Ok(ExitCode::SUCCESS)
}

fn found_json(repository: &FoundRepository, whole: bool) -> Value {
    let mut description: String = repository.description.clone();
    if !whole && description.chars().count() > DESCRIPTION {
        description = description.chars().take(DESCRIPTION - 1).chain(['…']).collect();
    }
    json!({
        "Name": repository.name,
        "Description": description,
        "StarCount": repository.stars.to_string(),
        "IsOfficial": if repository.official { "[OK]" } else { "" },
    })
}

/// `--filter` of `lap search`
enum Filter {
    Stars(u64),
    Official(bool),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CliError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let filter = match name {
            "stars" => value.parse().ok().map(Self::Stars),
            "is-official" => base::boolean::parse(value).map(Self::Official),
            // Docker Hub does not know them any more.
            "is-automated" => base::boolean::parse(value).map(|_| Self::Stars(0)),
            _ => None,
        };
        filter.ok_or_else(|| {
            CliError::usage(
                format!("invalid filter \"{text}\""),
                "the filters are stars=COUNT and is-official=true",
            )
        })
    }

    fn fits(&self, repository: &FoundRepository) -> bool {
        match self {
            Self::Stars(stars) => repository.stars >= *stars,
            Self::Official(official) => repository.official == *official,
        }
    }
}

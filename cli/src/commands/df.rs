//! `lap system df`

use std::process::ExitCode;

use base::{Reference, Timestamp};
use engine::CacheUsage;
use engine::Engine;
use engine::report::{ImageUsage, Usage, UsageDetails, UsageLine};
use serde_json::{Value, json};

use super::{StoreChoice, now, open};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::prune_args::DfArgs;
use crate::terminal::print;
use crate::{table, units};

const COLUMNS: Columns<'static> = Columns {
    template: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    titles: &[("TotalCount", "TOTAL")],
};
const NONE: &str = "<none>";
const IMAGE_HEADER: [&str; 8] =
    ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "IN USE"];
const CACHE_HEADER: [&str; 8] =
    ["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "BUILD TIME", "IN USE", "SHARED"];

const CONTAINER_HEADER: [&str; 8] =
    ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"];
const VOLUME_HEADER: [&str; 3] = ["VOLUME NAME", "LINKS", "SIZE"];

/// Shows how much space is used.
pub(crate) fn show(store: &StoreChoice, args: &DfArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let usage = engine.usage()?;
    if args.verbose {
        let sections = [containers_section(&engine)?, volumes_section(&engine)?];
        print(&verbose(&engine.usage_details()?, &sections.concat(), &usage));
        return Ok(ExitCode::SUCCESS);
    }
    let whole = |size| UsageLine { size, ..UsageLine::default() };
    let kinds = [
        ("Images", usage.images),
        ("Containers", usage.containers),
        ("Local Volumes", usage.volumes),
        ("Build Cache", usage.build_cache),
        ("Cache Mounts", usage.cache_mounts),
        ("Temporary", usage.temporary),
        ("Metadata", whole(usage.metadata)),
        ("Total", whole(usage.total)),
    ];
    if let Some(format) = &args.format {
        let lines: Vec<Value> = kinds.iter().map(|(name, line)| usage_json(name, line)).collect();
        listing::show(&lines, Some(format), &COLUMNS)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = kinds.iter().map(|(name, line)| usage_row(name, line)).collect();
    print(&table::render(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows));
    Ok(ExitCode::SUCCESS)
}

fn usage_row(name: &str, line: &UsageLine) -> Vec<String> {
    let is_whole = matches!(name, "Metadata" | "Total");
    let unless_whole = |text: String| if is_whole { String::new() } else { text };
    vec![
        name.to_owned(),
        unless_whole(line.total.to_string()),
        unless_whole(line.active.to_string()),
        units::bytes(line.size),
        unless_whole(reclaimable(line)),
    ]
}

fn reclaimable(line: &UsageLine) -> String {
    let amount = units::bytes(line.reclaimable);
    match line.size {
        0 => amount,
        size => format!("{amount} ({}%)", line.reclaimable * 100 / size),
    }
}

fn usage_json(name: &str, line: &UsageLine) -> Value {
    json!({
        "Type": name,
        "TotalCount": line.total.to_string(),
        "Active": line.active.to_string(),
        "Size": units::bytes(line.size),
        "Reclaimable": reclaimable(line),
        // Docker has no exact number.
        "Bytes": line.size,
    })
}

/// Every container, with how much it has written.
fn containers_section(engine: &Engine) -> Result<String, CliError> {
    let mut rows = Vec::new();
    for container in engine.containers()? {
        // Of one that runs in the foreground and goes at its end nothing is written down that would tell.
        let size = engine.container_size(&container).map(|size| units::bytes(size.changes));
        let volumes = container.document.mounts.iter().filter(|point| point.volume.is_some()).count();
        rows.push(vec![
            container.short_id().to_owned(),
            container.document.image.clone(),
            docker::documents::containers::command(&container.document.command, false),
            volumes.to_string(),
            size.unwrap_or_else(|_| "N/A".to_owned()),
            ago(container.created_at),
            docker::documents::containers::status(&container),
            container.name,
        ]);
    }
    Ok(format!("Containers space usage:\n\n{}\n", table::render(&CONTAINER_HEADER, &rows)))
}

/// Every volume, with how many containers show it.
fn volumes_section(engine: &Engine) -> Result<String, CliError> {
    let mut rows = Vec::new();
    for volume in engine.volumes()? {
        let usage = engine.volume_usage(&volume)?;
        rows.push(vec![volume.name, usage.users.len().to_string(), units::bytes(usage.bytes)]);
    }
    Ok(format!("Local Volumes space usage:\n\n{}\n", table::render(&VOLUME_HEADER, &rows)))
}

fn verbose(details: &UsageDetails, others: &str, usage: &Usage) -> String {
    let images: Vec<Vec<String>> = details.images.iter().flat_map(image_rows).collect();
    let cache: Vec<Vec<String>> = details.cache.iter().map(cache_row).collect();
    // What images need as well is counted with them.
    let own = details.cache.iter().filter(|object| !object.shared).map(|object| object.bytes).sum();
    format!(
        "Images space usage:\n\n{}\n{others}Build cache usage: {}\n\n{}\nTemporary: {}\nMetadata: {}\nTotal: {}\n",
        table::render(&IMAGE_HEADER, &images),
        units::bytes(own),
        table::render(&CACHE_HEADER, &cache),
        units::bytes(usage.temporary.size),
        units::bytes(usage.metadata),
        units::bytes(usage.total),
    )
}

/// One line for each name.
fn image_rows(image: &ImageUsage) -> Vec<Vec<String>> {
    let row = |repository: String, tag: String| {
        vec![
            repository,
            tag,
            image.summary.id.short(),
            image.summary.created.map_or("N/A".to_owned(), ago),
            units::bytes(image.bytes),
            units::bytes(image.bytes - image.unique_bytes),
            units::bytes(image.unique_bytes),
            image.in_use.to_string(),
        ]
    };
    if image.summary.names.is_empty() {
        return vec![row(NONE.to_owned(), NONE.to_owned())];
    }
    let names = image.summary.names.iter().filter_map(|name| name.parse::<Reference>().ok());
    names.map(|name| row(name.familiar_repository(), name.tag.unwrap_or_else(|| NONE.to_owned()))).collect()
}

fn cache_row(object: &CacheUsage) -> Vec<String> {
    let cost = object.cost_ms.map_or("N/A".to_owned(), |cost| format!("{:.1}s", cost as f64 / 1000.0));
    vec![
        object.id.clone(),
        object.kind.to_string(),
        units::bytes(object.bytes),
        ago(object.created_at),
        ago(object.last_used),
        cost,
        object.in_use.to_string(),
        object.shared.to_string(),
    ]
}

fn ago(then: Timestamp) -> String {
    format!("{} ago", units::age(then, now()))
}

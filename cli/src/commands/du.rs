//! `lap builder du`: the records of the build cache, as `docker buildx du` shows them.

use std::process::ExitCode;

use base::Timestamp;
use engine::CacheUsage;
use serde_json::{Value, json};

use super::{StoreChoice, now, open};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::prune_args::DuArgs;
use crate::terminal::print;
use crate::{table, units};
use docker::filters::Filters;

/// Shows the records that fit the filters, then how much they are in all.
pub(crate) fn show(store: &StoreChoice, args: &DuArgs) -> Result<ExitCode, CliError> {
    let filters = Filters::parse(&args.filters, now())?;
    let fits = |record: &CacheUsage| {
        filters.records.iter().all(|filter| filter.fits(record))
            && filters.until.is_none_or(|until| record.last_used < until)
    };
    let records: Vec<CacheUsage> = open(store)?.usage_details()?.cache.into_iter().filter(fits).collect();
    if let Some(format) = &args.format {
        let columns = Columns { template: "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}", titles: &[] };
        listing::show(&records.iter().map(fields).collect::<Vec<_>>(), Some(format), &columns)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.verbose {
        records.iter().for_each(|record| print(&in_full(record)));
    } else {
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        print(&table::render(&["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"], &rows));
    }
    print(&totals(&records));
    Ok(ExitCode::SUCCESS)
}

/// A star marks an id whose content changes, and a size that an image needs as well.
fn row(record: &CacheUsage) -> Vec<String> {
    let star = |marked: bool| if marked { "*" } else { "" };
    vec![
        format!("{}{}", record.id, star(record.kind.is_mutable())),
        is_reclaimable(record).to_string(),
        format!("{}{}", units::bytes(record.bytes), star(record.shared)),
        ago(record.last_used),
    ]
}

fn in_full(record: &CacheUsage) -> String {
    let uses = record.uses.map_or("N/A".to_owned(), |uses| uses.to_string());
    let cost = record.cost_ms.map_or("N/A".to_owned(), |cost| format!("{:.1}s", cost as f64 / 1000.0));
    let lines = [
        ("ID", record.id.clone()),
        ("Parents", record.parents.join(", ")),
        ("Created at", record.created_at.to_string()),
        ("Mutable", record.kind.is_mutable().to_string()),
        ("Reclaimable", is_reclaimable(record).to_string()),
        ("Shared", record.shared.to_string()),
        ("Size", units::bytes(record.bytes)),
        ("Description", record.description.clone()),
        ("Usage count", uses),
        ("Last used", ago(record.last_used)),
        ("Build time", cost),
        ("Type", record.kind.to_string()),
    ];
    let known = lines.iter().filter(|(_, value)| !value.is_empty());
    let text: String = known.map(|(name, value)| format!("{:<16}{value}\n", format!("{name}:"))).collect();
    text + "\n"
}

fn fields(record: &CacheUsage) -> Value {
    json!({
        "ID": record.id,
        "Parents": record.parents,
        "CreatedAt": record.created_at.to_string(),
        "Mutable": record.kind.is_mutable(),
        "Reclaimable": is_reclaimable(record),
        "Shared": record.shared,
        "Size": record.bytes,
        "Description": record.description,
        "UsageCount": record.uses.unwrap_or(0),
        "LastUsedAt": record.last_used.to_string(),
        "Type": record.kind.name(),
    })
}

fn totals(records: &[CacheUsage]) -> String {
    let sum = |wanted: &dyn Fn(&CacheUsage) -> bool| {
        units::bytes(records.iter().filter(|record| wanted(record)).map(|record| record.bytes).sum())
    };
    let lines = [
        ("Shared:", sum(&|record| record.shared)),
        ("Private:", sum(&|record| !record.shared)),
        ("Reclaimable:", sum(&is_reclaimable)),
        ("Total:", sum(&|_| true)),
    ];
    lines.iter().map(|(name, amount)| format!("{name:<16}{amount}\n")).collect()
}

/// Whether pruning may remove it.
fn is_reclaimable(record: &CacheUsage) -> bool {
    !record.in_use
}

fn ago(then: Timestamp) -> String {
    format!("{} ago", units::age(then, now()))
}

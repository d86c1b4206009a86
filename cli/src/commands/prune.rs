//! `lap builder prune`, `lap image prune` and `lap system prune`

use std::process::ExitCode;

use engine::prune::{ImagePrune, Pruned};
use engine::report::Removal;
use engine::{Policy, SpaceLimits};

use super::{StoreChoice, now, open};
use crate::error::CliError;
use crate::filter::Filters;
use crate::prune_args::{BuilderPruneArgs, ImagePruneArgs, PruneArgs, SystemPruneArgs};
use crate::terminal::{ask, print_line};
use crate::units;

const ALL_CACHE: &str = "WARNING! This will remove all build cache.";
const UNUSED_CACHE: &str = "WARNING! This will remove all dangling build cache.";
const ALL_IMAGES: &str =
    "WARNING! This will remove all images without at least one container associated to them.\n";
const UNNAMED_IMAGES: &str = "WARNING! This will remove all dangling images.\n";

/// Removes build cache.
pub(crate) fn builder(store: &StoreChoice, args: &BuilderPruneArgs) -> Result<ExitCode, CliError> {
    let filters = Filters::parse(&args.common.filters, now())?;
    let limits = SpaceLimits {
        reserved: args.reserved_space,
        max_used: args.max_used_space,
        min_free: args.min_free_space,
    };
    let unused_for = Some(filters.unused_for(now())?);
    let policy = Policy { filters: filters.records, unused_for, all: args.all, limits };
    let warning = format!("{} ", if args.all { ALL_CACHE } else { UNUSED_CACHE });
    confirm(&warning, &args.common, "build cache prune")?;
    finish(open(store)?.prune(None, policy)?)
}

/// Removes images.
pub(crate) fn images(store: &StoreChoice, args: &ImagePruneArgs) -> Result<ExitCode, CliError> {
    let which = images_of(Filters::parse_for_images(&args.common.filters, now())?, args.all);
    confirm(if args.all { ALL_IMAGES } else { UNNAMED_IMAGES }, &args.common, "image prune")?;
    finish(open(store)?.prune(Some(&which), Policy::KEEP_CACHE)?)
}

/// Removes images and build cache.
pub(crate) fn system(store: &StoreChoice, args: &SystemPruneArgs) -> Result<ExitCode, CliError> {
    let filters = Filters::parse_for_images(&args.common.filters, now())?;
    let age = Filters { until: filters.until, ..Filters::default() };
    let unused_for = Some(age.unused_for(now())?);
    let policy = Policy { unused_for, all: args.all, ..Policy::KEEP_CACHE };
    confirm(&system_warning(args), &args.common, "system prune")?;
    finish(open(store)?.prune(Some(&images_of(filters, args.all)), policy)?)
}

/// Tells what goes, removes its files, and tells how much that was.
fn finish(pruned: Pruned) -> Result<ExitCode, CliError> {
    show_images(&pruned);
    show_cache(&pruned);
    let bytes = pruned.remove_files()?;
    print_line(&format!("Total reclaimed space: {}", units::bytes(bytes)));
    Ok(ExitCode::SUCCESS)
}

fn system_warning(args: &SystemPruneArgs) -> String {
    let (images, cache) = if args.all {
        ("all images without at least one container associated to them", "all build cache")
    } else {
        ("all dangling images", "unused build cache")
    };
    let mut text = format!("WARNING! This will remove:\n  - {images}\n  - {cache}\n\n");
    if !args.common.filters.is_empty() {
        text.push_str("  Items to be pruned will be filtered with:\n");
        args.common.filters.iter().for_each(|filter| text.push_str(&format!("  - {filter}\n")));
        text.push('\n');
    }
    text
}

fn images_of(filters: Filters, all: bool) -> ImagePrune {
    ImagePrune { all, until: filters.until, labels: filters.labels }
}

/// Asks unless told not to. What is not a yes is a no.
pub(super) fn confirm(warning: &str, args: &PruneArgs, what: &str) -> Result<(), CliError> {
    if args.force || ask(&format!("{warning}Are you sure you want to continue? [y/N] ")) {
        return Ok(());
    }
    Err(CliError::failed(format!("{what} has been cancelled")))
}

fn show_images(pruned: &Pruned) {
    if pruned.images.is_empty() {
        return;
    }
    print_line("Deleted Images:");
    for removal in &pruned.images {
        match removal {
            Removal::Untagged(name) => print_line(&format!("untagged: {name}")),
            Removal::Deleted(id) => print_line(&format!("deleted: {id}")),
        }
    }
    print_line("");
}

fn show_cache(pruned: &Pruned) {
    if pruned.cache.is_empty() {
        return;
    }
    print_line("Deleted build cache objects:");
    pruned.cache.iter().for_each(|id| print_line(id));
    print_line("");
}

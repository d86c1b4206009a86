//! `lap builder prune`, `lap image prune` and `lap system prune`

use std::collections::BTreeMap;
use std::process::ExitCode;

use base::Timestamp;
use engine::prune::{ImagePrune, Pruned};
use engine::report::Removal;
use engine::{Policy, SpaceLimits};

use super::{StoreChoice, now, open};
use crate::error::CliError;
use crate::prune_args::{BuilderPruneArgs, ImagePruneArgs, PruneArgs, SystemPruneArgs};
use crate::terminal::{ask, print_line};
use crate::units;
use docker::filters::Filters;

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
    finish(open(store)?.prune(None, policy)?, 0)
}

/// Removes images.
pub(crate) fn images(store: &StoreChoice, args: &ImagePruneArgs) -> Result<ExitCode, CliError> {
    let which = images_of(Filters::parse_for_images(&args.common.filters, now())?, args.all);
    confirm(if args.all { ALL_IMAGES } else { UNNAMED_IMAGES }, &args.common, "image prune")?;
    finish(open(store)?.prune(Some(&which), Policy::KEEP_CACHE)?, 0)
}

/// Removes containers, networks, images and build cache, and volumes if asked to.
pub(crate) fn system(store: &StoreChoice, args: &SystemPruneArgs) -> Result<ExitCode, CliError> {
    let filters = Filters::parse_for_images(&args.common.filters, now())?;
    if args.volumes && filters.until.is_some() {
        let message = "the \"until\" filter is not supported with \"--volumes\"".to_owned();
        return Err(CliError::failed_with_hint(message, "volumes have no age; prune them by themselves"));
    }
    let age = Filters { until: filters.until, ..Filters::default() };
    let unused_for = Some(age.unused_for(now())?);
    let policy = Policy { unused_for, all: args.all, ..Policy::KEEP_CACHE };
    confirm(&system_warning(args), &args.common, "system prune")?;
    let engine = open(store)?;
    // In this order: a container that goes uses no network, no volume and no image any more.
    let (containers, mut bytes) = engine.prune_containers(|container| {
        is_old(&filters, Some(container.created_at)) && fits(&filters, &container.document.labels)
    })?;
    show_names("Deleted Containers:", &containers);
    let networks = engine.prune_networks(|network| {
        is_old(&filters, network.created_at) && fits(&filters, &network.labels())
    })?;
    show_names("Deleted Networks:", &networks);
    if args.volumes {
        let (volumes, freed) =
            engine.prune_volumes(|volume| volume.anonymous && fits(&filters, &volume.labels))?;
        show_names("Deleted Volumes:", &volumes);
        bytes += freed;
    }
    finish(engine.prune(Some(&images_of(filters, args.all)), policy)?, bytes)
}

fn is_old(filters: &Filters, made: Option<Timestamp>) -> bool {
    filters.until.is_none_or(|until| made.is_some_and(|made| made < until))
}

fn fits(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    filters.labels.iter().all(|label| label.fits(labels))
}

/// What was removed of a kind, if anything was.
pub(super) fn show_names(title: &str, names: &[String]) {
    if !names.is_empty() {
        print_line(title);
        names.iter().for_each(|name| print_line(name));
        print_line("");
    }
}

/// Tells what goes, removes its files, and tells how much that was, with what went before.
fn finish(pruned: Pruned, before: u64) -> Result<ExitCode, CliError> {
    show_images(&pruned);
    show_names("Deleted build cache objects:", &pruned.cache);
    let bytes = before + pruned.remove_files()?;
    print_line(&format!("Total reclaimed space: {}", units::bytes(bytes)));
    Ok(ExitCode::SUCCESS)
}

fn system_warning(args: &SystemPruneArgs) -> String {
    let (images, cache) = if args.all {
        ("all images without at least one container associated to them", "all build cache")
    } else {
        ("all dangling images", "unused build cache")
    };
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    lines.extend(args.volumes.then_some("all anonymous volumes not used by at least one container"));
    lines.extend([images, cache]);
    let mut text = format!("WARNING! This will remove:\n  - {}\n\n", lines.join("\n  - "));
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

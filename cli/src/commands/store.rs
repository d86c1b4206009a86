//! `lap store check`, `lap store convert` and `lap store gc`

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use engine::images::FormChanges;
use engine::{ConvertTo, Findings, StoredForm};

use super::{StoreChoice, open};
use crate::error::{CliError, FAILED};
use crate::prune_args::{CheckArgs, ConvertArgs, ConvertForm, GcArgs};
use crate::terminal::print_line;
use crate::{config_file, signals, units};

/// Looks for damage, and repairs it when asked to.
pub(crate) fn check(store: &StoreChoice, args: &CheckArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let engine = open(store)?;
    let findings = engine.check_store(&cancel)?;
    let problems = problems(&findings);
    let nameless = nameless(&findings);
    problems.iter().chain(&nameless).for_each(|line| print_line(line));
    print_line(&summary(problems.len(), nameless.len() + findings.leftovers.len()));
    if args.repair {
        let freed = engine.repair_store(&findings, &cancel)?;
        print_line(&format!("Repaired; total reclaimed space: {}", units::bytes(freed)));
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Gives layers another form.
pub(crate) fn convert(store: &StoreChoice, args: &ConvertArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let to = match args.to {
        ConvertForm::Dir => ConvertTo::Dir,
        ConvertForm::Packed => ConvertTo::Packed,
    };
    // What is asked for otherwise is meant for layers that are made, and must not unpack what was just packed.
    let engine = open(&StoreChoice { layer_form: StoredForm::Auto, ..store.clone() })?;
    let changes = engine.convert_layers(&args.images, to, &cancel)?;
    for (snapshot, why) in &changes.kept {
        print_line(&format!("snapshot {snapshot}: {}", base::fault::chain(why)));
    }
    print_line(&outcome(&changes, args.to));
    Ok(if changes.kept.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// One line about all of them.
fn outcome(changes: &FormChanges, form: ConvertForm) -> String {
    let (done, already) = match form {
        ConvertForm::Dir => ("Unpacked", "directories already"),
        ConvertForm::Packed => ("Packed", "packed already"),
    };
    let mut line = match changes.converted {
        1 => format!("{done} 1 layer"),
        count => format!("{done} {count} layers"),
    };
    for (count, what) in [(changes.already, already), (changes.kept.len(), "left as they are")] {
        if count > 0 {
            line.push_str(&format!("; {count} {what}"));
        }
    }
    line
}

/// Applies the rules of automatic collection now.
pub(crate) fn collect(store: &StoreChoice, args: &GcArgs) -> Result<ExitCode, CliError> {
    let rules = config_file::read()?.retention;
    if let Some(freed) = open(store)?.collect(&rules, args.if_due)? {
        print_line(&format!("Total reclaimed space: {}", units::bytes(freed)));
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for everything that is damaged.
fn problems(findings: &Findings) -> Vec<String> {
    fn lines<T: Display>(of: &[T], what: &str, is: &str) -> Vec<String> {
        of.iter().map(|one| format!("{what} {one}: {is}")).collect()
    }
    let volumes: Vec<_> = findings.unlisted_volumes.iter().map(|path| path.display()).collect();
    [
        lines(&findings.lost_snapshots, "snapshot", "its directory is gone"),
        lines(&findings.orphaned_snapshots, "snapshot", "what it stands on is gone"),
        lines(&findings.lost_blobs, "blob", "its file is gone or has another length"),
        lines(&findings.wrong_blobs, "blob", "its content does not match its digest"),
        lines(&findings.incomplete_images, "image", "parts of it are damaged"),
        lines(&findings.lost_cache_mounts, "cache mount", "its directory is gone"),
        lines(&volumes, "volume", "its row is gone; --repair lists it again"),
    ]
    .concat()
}

/// One line for each file that belongs to nothing. That is no damage: somebody was killed before its row was written
/// or after that was removed, and the next collection removes the file.
fn nameless(findings: &Findings) -> Vec<String> {
    let line = |path: &PathBuf| format!("file {}: nothing in the database names it", path.display());
    findings.without_row.iter().map(line).collect()
}

fn summary(problems: usize, leftovers: usize) -> String {
    let found = match problems {
        0 => "The store is sound".to_owned(),
        1 => "1 problem found".to_owned(),
        more => format!("{more} problems found"),
    };
    match leftovers {
        0 => found,
        count => format!("{found}; {count} leftovers of ended processes will be removed"),
    }
}

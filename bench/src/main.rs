//! Measures `lap` beside the builders and runtimes that are installed, in one run on one machine.
//!
//!     bench --lap PATH [--alone] [--record] [--rounds N] [--only WORK] [--small]
//!
//! Every round runs each subject once, in turn, so that whatever else the machine does falls on all of them. What
//! is told is the median and its ratio to `lap`'s; absolute figures mean something only beside one another. A peer
//! that is missing, or does not work on this machine, is left out with the reason; `--alone` leaves out all. `--record`
//! also writes `bench/RESULTS.md`. There are no limits here, and no test is timed.
#![allow(clippy::disallowed_methods, reason = "a benchmark starts processes and reads the clock")]
#![allow(clippy::disallowed_macros, reason = "a benchmark writes to the terminal")]

mod buildah;
mod builder;
mod buildx;
mod caches;
mod costs;
mod daemon;
mod docker;
mod docker_api;
mod engine;
mod error;
mod in_process;
mod lap;
mod machine;
mod many;
mod measure;
mod options;
mod output;
mod planning;
mod registry;
mod report;
mod runtime;
mod shim;
mod solving;
mod stubs;
mod subject;
mod transfer;
mod work;

use std::path::Path;
use std::process::ExitCode;

use crate::costs::Costs;
use crate::error::BenchError;
use crate::options::{Mode, Options};
use crate::report::Report;
use crate::subject::Subjects;
use crate::work::Work;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match options::parse(&args) {
        Ok(Mode::Measure(command)) => measure::run_as_child(&command),
        Ok(Mode::Bench(options)) => bench(&options),
        Err(message) => {
            eprintln!("{message}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every kind of work and prints, and perhaps records, what came out.
fn bench(options: &Options) -> Result<(), BenchError> {
    let parent = testkit::binary::cache_dir();
    let dir = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&parent)
        .map_err(|source| BenchError::File { path: parent, source })?;
    let mut report = Report::new(machine::describe(dir.path()));
    for work in in_process::all().iter().filter(|work| options.wants(work.name)) {
        eprintln!("measuring: {}", work.name);
        report.add(work.name, work.bound, (work.run)(options.rounds));
        eprintln!("{}", report.last());
    }
    let works: Vec<Work> = work::all().into_iter().filter(|work| options.wants(work.name)).collect();
    if !works.is_empty() {
        measure_processes(options, dir.path(), &works, &mut report)?;
    }
    println!("{}", report.markdown());
    if options.record {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
        std::fs::write(&path, report.document()).map_err(|source| BenchError::File { path, source })?;
    }
    Ok(())
}

/// Starts the subjects, and lets them do the work in turns.
fn measure_processes(
    options: &Options,
    dir: &Path,
    works: &[Work],
    report: &mut Report,
) -> Result<(), BenchError> {
    let mut subjects = Subjects::lap(dir, options)?;
    if !options.alone && works.iter().any(|work| work.needs_builders) {
        subjects.add_peers(dir);
    }
    report.leave_out(subjects.left_out());
    let costs = Costs::measure(&subjects, dir)?;
    report.describe(costs.describe());
    for work in works {
        eprintln!("measuring: {}", work.name);
        report.add(work.name, work.bound, (work.run)(&subjects, dir, options.rounds)?);
        if let Some(limit) = work.limit {
            report.limit(&limit(&costs));
        }
        eprintln!("{}", report.last());
    }
    drop(subjects);
    testkit::env::unmount_below(dir);
    Ok(())
}

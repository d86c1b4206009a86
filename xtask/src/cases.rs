//! `cargo xtask coverage` and `cargo xtask judge`: what the conformance cases show, and what Docker says of them.

use std::path::Path;
use std::process::ExitCode;

use frontend_tests::case::{self, Case};
use frontend_tests::conformance::{self, Verdict};
use frontend_tests::coverage::Coverage;
use frontend_tests::docker::Docker;

/// Where `judge --record` writes.
const PAGE: &str = "docs/conformance.md";

/// Prints the rows without a case. With `deny_missing` one of them is a failure.
pub(crate) fn coverage(deny_missing: bool) -> ExitCode {
    let Some(cases) = read_cases() else { return ExitCode::FAILURE };
    let coverage = Coverage::of(&cases);
    println!("{coverage}");
    if deny_missing && !coverage.is_complete() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Gives the cases whose name contains the last argument to Docker. Fails if one is refuted.
pub(crate) fn judge(workspace: &Path, args: &[&str]) -> ExitCode {
    let mut programs = Path::new("/");
    let (mut record, mut filter) = (false, "");
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--record" => record = true,
            "--programs" => programs = Path::new(args.next().copied().unwrap_or("/")),
            name => filter = name,
        }
    }
    let Some(cases) = read_cases() else { return ExitCode::FAILURE };
    let docker = match Docker::start(programs) {
        Ok(docker) => docker,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let chosen = cases.into_iter().filter(|case| case.name.contains(filter));
    let verdicts: Vec<(Case, Verdict)> = chosen
        .map(|case| {
            let verdict = conformance::judge(&case, &docker);
            show(&case, &verdict);
            (case, verdict)
        })
        .collect();
    if record && let Err(error) = std::fs::write(workspace.join(PAGE), conformance::page(&verdicts, &docker))
    {
        eprintln!("{PAGE}: {error}");
        return ExitCode::FAILURE;
    }
    let refuted = verdicts.iter().filter(|(_, verdict)| is_refuted(verdict)).count();
    println!("{} cases, {refuted} refuted by Docker {}", verdicts.len(), docker.version);
    if refuted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read_cases() -> Option<Vec<Case>> {
    case::all().inspect_err(|error| eprintln!("{error}")).ok()
}

fn is_refuted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Disagrees(_) | Verdict::Stale)
}

fn show(case: &Case, verdict: &Verdict) {
    match verdict {
        Verdict::Agrees => println!("{}: agrees", case.name),
        Verdict::Newer => println!("{}: newer than the judge", case.name),
        Verdict::Differs(_) => println!("{}: differs, as the case says", case.name),
        Verdict::Stale => println!("{}: AGREES, although the case says that it differs", case.name),
        Verdict::Disagrees(problems) => println!("{}: DISAGREES\n{problems}", case.name),
    }
}

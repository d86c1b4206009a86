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
///
/// Who refutes a case is asked again as a daemon that has seen no other: one that has names steps as the first build with their key
/// named them, even after its cache was emptied, and a case may end it.
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
    let chosen = cases.into_iter().filter(|case| case.name.contains(filter));
    let (docker, verdicts) = match ask(chosen, programs) {
        Ok(answer) => answer,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    if record && let Err(error) = std::fs::write(workspace.join(PAGE), conformance::page(&verdicts, &docker))
    {
        eprintln!("{PAGE}: {error}");
        return ExitCode::FAILURE;
    }
    let refuted = verdicts.iter().filter(|(_, verdict)| is_refuted(verdict)).count();
    println!("{} cases, {refuted} refuted by Docker {}", verdicts.len(), docker.version);
    if refuted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The cases with their verdicts, and the daemon that gave the last one. The error says why there is no daemon.
fn ask(cases: impl Iterator<Item = Case>, programs: &Path) -> Result<(Docker, Vec<(Case, Verdict)>), String> {
    let mut docker = Docker::start(programs)?;
    let mut verdicts = Vec::new();
    for case in cases {
        let mut verdict = conformance::judge(&case, &docker);
        if is_refuted(&verdict) {
            drop(docker);
            docker = Docker::start(programs)?;
            verdict = conformance::judge(&case, &docker);
        }
        show(&case, &verdict);
        verdicts.push((case, verdict));
    }
    Ok((docker, verdicts))
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

//! Has an independent builder judge the cases, and writes down what it says.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::case::Case;
use crate::docker::Docker;
use crate::scene::perform;

/// What a judge says of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does what the case expects.
    Agrees,
    /// It is older than the feature, and is not asked to agree.
    Newer,
    /// It does not, and the case says why we are right.
    Differs(String),
    /// It does not, and nothing explains it: the case is wrong, or lap is.
    Disagrees(String),
    /// It does, although the case says that it differs: the reason is out of date.
    Stale,
}

/// Runs a case with the judge.
pub fn judge(case: &Case, docker: &Docker) -> Verdict {
    if let Err(reason) = docker.reset() {
        return Verdict::Disagrees(reason);
    }
    let problems = catch_unwind(AssertUnwindSafe(|| perform(case, docker)));
    let problems = problems.unwrap_or_else(|_| vec!["the case could not be carried out".to_owned()]);
    let is_newer =
        case.about.since.as_deref().is_some_and(|since| version(since) > version(docker.frontend()));
    match (problems.is_empty(), is_newer, &case.about.differs) {
        (_, true, _) => Verdict::Newer,
        (true, false, None) => Verdict::Agrees,
        (true, false, Some(_)) => Verdict::Stale,
        (false, false, Some(reason)) => Verdict::Differs(reason.clone()),
        (false, false, None) => Verdict::Disagrees(problems.join("\n")),
    }
}

/// `1.10` is newer than `1.9`.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

/// The page for `docs/`: how many cases the judge confirms, and why the others stand.
pub fn page(verdicts: &[(Case, Verdict)], docker: &Docker) -> String {
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, verdict)| wanted(verdict)).count();
    let mut page = format!(
        "# Conformance\n\nWritten by `cargo xtask judge`. Every case below `frontend-tests/cases` was also given to Docker {} with \
         BuildKit\n(Dockerfile frontend {}), which has to give the same files, config, history and cache hits, or fail where the case \
         fails.\nTexts of messages are our own and are not compared.\n\n| | cases |\n|---|---|\n",
        docker.version,
        docker.frontend()
    );
    let newer = count(|verdict| matches!(verdict, Verdict::Newer));
    let differs = count(|verdict| matches!(verdict, Verdict::Differs(_)));
    let agrees = count(|verdict| matches!(verdict, Verdict::Agrees));
    let other = verdicts.len() - newer - differs - agrees;
    let _ = writeln!(page, "| the judge agrees | {agrees} |\n| newer than the judge | {newer} |");
    let _ = writeln!(page, "| known difference | {differs} |\n| unexplained | {other} |");
    section(&mut page, "Newer than the judge", "Feature of Dockerfile", verdicts, |case, verdict| {
        matches!(verdict, Verdict::Newer).then(|| case.about.since.clone().unwrap_or_default())
    });
    section(&mut page, "Known differences", "Why", verdicts, |_, verdict| match verdict {
        Verdict::Differs(reason) => Some(reason.clone()),
        _ => None,
    });
    section(&mut page, "Unexplained", "", verdicts, |_, verdict| {
        matches!(verdict, Verdict::Disagrees(_) | Verdict::Stale).then(String::new)
    });
    page
}

fn section(
    page: &mut String,
    title: &str,
    column: &str,
    verdicts: &[(Case, Verdict)],
    cell: impl Fn(&Case, &Verdict) -> Option<String>,
) {
    let rows: Vec<String> = verdicts
        .iter()
        .filter_map(|(case, verdict)| {
            let what = case.about.what.trim_end_matches('.');
            Some(format!("| `{}` | {what} | {} |", case.name, cell(case, verdict)?))
        })
        .collect();
    if !rows.is_empty() {
        let _ =
            writeln!(page, "\n## {title}\n\n| case | what | {column} |\n|---|---|---|\n{}", rows.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert!(version("1.10") > version("1.9"));
        assert!(version("1.7") <= version("1.7"));
    }
}

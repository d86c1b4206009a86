//! `lap why`: why steps of a build ran, and where its time went.

use std::fmt::Write as _;
use std::process::ExitCode;

use engine::history::document::StepOutcome;
use engine::history::{BuildDetails, RememberedStep};
use serde_json::{Value, json};

use super::{StoreChoice, open};
use crate::error::CliError;
use crate::history_args::WhyArgs;
use crate::terminal::{print, print_line, printable};

/// Tells why the steps ran that the command line names, or all that did.
pub(crate) fn why(store: &StoreChoice, args: &WhyArgs) -> Result<ExitCode, CliError> {
    let build = open(store)?.build_details(args.build.as_deref())?;
    let chosen = chosen(&build, args.step.as_deref())?;
    if args.format.is_some() {
        let steps: Vec<Value> = chosen.iter().map(|step| step_json(&build, *step)).collect();
        print_line(&json!({"Build": build.summary.id, "Steps": steps}).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if chosen.is_empty() {
        print_line(&format!("build {}: {}", build.summary.id, nothing_ran(&build)));
    }
    for step in chosen {
        print(&printable(&told(&build, step)));
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing_ran(build: &BuildDetails) -> &'static str {
    match (&build.document, build.steps.is_empty()) {
        (None, _) => "it has not ended, so its steps are not known",
        (Some(document), true) if document.graph.is_none() => "it ended before its steps were known",
        (Some(_), true) => "its steps are no longer remembered",
        (Some(_), false) => "every step was cached",
    }
}

/// The steps that `text` names, by their places; without it, those that ran.
fn chosen(build: &BuildDetails, text: Option<&str>) -> Result<Vec<usize>, CliError> {
    let all = || build.steps.iter().enumerate().filter(|(_, step)| !step.is_directory);
    let Some(text) = text else {
        return Ok(all().filter(|(_, step)| step.ran()).map(|(index, _)| index).collect());
    };
    let numbered: Vec<usize> =
        all().filter(|(_, step)| is_numbered(&step.name, text)).map(|(index, _)| index).collect();
    let found = match numbered.is_empty() {
        false => numbered,
        true => {
            let text = text.to_lowercase();
            all()
                .filter(|(_, step)| step.name.to_lowercase().contains(&text))
                .map(|(index, _)| index)
                .collect()
        }
    };
    match found.is_empty() {
        false => Ok(found),
        true => {
            let message = format!("build {} has no step \"{text}\"", build.summary.id);
            Err(CliError::usage(message, "lap history inspect lists its steps"))
        }
    }
}

/// Whether `text` is what stands in the brackets of a step's name, or the end of it: `build 2/5`, `2/5`.
fn is_numbered(name: &str, text: &str) -> bool {
    let Some((inside, _)) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return false;
    };
    let squeezed = inside.split_whitespace().collect::<Vec<_>>().join(" ");
    squeezed == text || squeezed.rsplit(' ').next() == Some(text)
}

/// A step, its reasons, and the chain down to their root.
fn told(build: &BuildDetails, index: usize) -> String {
    let step = &build.steps[index];
    let mut text = format!("{}\n  {}\n", step.name, outcome(step));
    let mut indent = 4;
    let mut next = Some(step);
    let mut below = index;
    while let Some(step) = next {
        for reason in &step.reasons {
            let _ = writeln!(text, "{:indent$}{reason}", "");
        }
        if step.reasons.is_empty() && step.ran() {
            let _ = writeln!(text, "{:indent$}never built here", "");
        }
        // Inputs come before what uses them, so this ends.
        next = step.because_of.filter(|input| *input < below).map(|input| {
            below = input;
            &build.steps[input]
        });
        indent += 2;
    }
    if let Some(compared) = &step.document.compared_with {
        let _ = writeln!(text, "    compared with build {compared}");
    }
    text
}

fn outcome(step: &RememberedStep) -> String {
    let seconds = step.duration().unwrap_or_default().as_secs_f64();
    match step.document.outcome {
        StepOutcome::Done => format!("ran, {seconds:.1}s"),
        StepOutcome::Failed => format!("failed after {seconds:.1}s"),
        StepOutcome::Canceled => format!("was stopped after {seconds:.1}s"),
        StepOutcome::NotReached => "was not reached".to_owned(),
        StepOutcome::Cached => match step.document.cost_ms {
            Some(cost) => format!("was cached; it took {:.1}s when it ran", cost as f64 / 1000.0),
            None => "was cached, or not needed because a step above it was".to_owned(),
        },
    }
}

fn step_json(build: &BuildDetails, index: usize) -> Value {
    let step = &build.steps[index];
    json!({
        "Name": step.name,
        "Outcome": step.document.outcome,
        "Seconds": step.duration().map(|duration| duration.as_secs_f64()),
        "Reasons": step.reasons,
        "Details": step.document.reasons,
        "BecauseOf": step.because_of.map(|input| build.steps[input].name.clone()),
        "ComparedWith": step.document.compared_with,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_by_what_stands_in_the_brackets() {
        for (name, text, expected) in [
            ("[build 2/5] RUN make", "build 2/5", true),
            ("[build 2/5] RUN make", "2/5", true),
            ("[build  2/15] RUN make", "build 2/15", true),
            ("[build 2/5] RUN make", "1/5", false),
            ("[2/5] RUN [ x ]", "2/5", true),
            ("RUN make", "2/5", false),
        ] {
            assert_eq!(is_numbered(name, text), expected, "{name} {text}");
        }
    }
}

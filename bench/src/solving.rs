//! What the solver and the records of builds cost: large contexts, wide graphs, steps that wait.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use testkit::Context;

use crate::builder::{BASE, Builder};
use crate::error::BenchError;
use crate::measure::{Sample, measure};
use crate::subject::Subjects;
use crate::work::{LARGE_ROUNDS, Samples, large_context, rebuilt, take_turns, trivial, turns_of, with};

/// The wide graph: how many stages, and how many COPYs each has.
const STAGES: usize = 64;
const COPIES: usize = 8;

/// How many stages wait for a second each.
const WAITING: usize = 8;

/// How many pairs are needed to tell a fiftieth from noise.
const PAIRS: usize = 10;

/// Nothing but the status of every file is asked for. `find` asks for it as well, and does nothing with it.
pub(crate) fn rebuild_large(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = large_context(subjects, dir, LARGE_ROUNDS + 1);
    let forms = subjects.forms(dir)?;
    let builders = with(subjects, &forms);
    for builder in &builders {
        measure(&builder.build(context.path()))?;
    }
    let mut find = Command::new("find");
    find.arg(context.path()).args(["-printf", "%s %m %i %T@ %C@ %p\\n"]);
    let mut found = Vec::new();
    let mut samples = turns_of(rounds, &builders, |builder, round| {
        if found.len() == round {
            found.push(measure(&find)?);
        }
        measure(&builder.build(context.path()))
    })?;
    samples.push(("find -printf".to_owned(), found));
    Ok(samples)
}

/// Stages that have nothing to do with each other, gathered in one image. Every file is another in each round. Without
/// builders that would take minutes.
pub(crate) fn wide(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = Context::create(dir);
    let stages = subjects.of_size(STAGES, 4);
    context.dockerfile(&wide_dockerfile(stages));
    let builders = subjects.builders.iter().map(AsRef::as_ref);
    let builders: Vec<&dyn Builder> = builders.filter(|builder| !builder.commits_each_step()).collect();
    turns_of(rounds.min(LARGE_ROUNDS), &builders, |builder, round| {
        for stage in 0..stages {
            for copy in 0..COPIES {
                context.file(&format!("part{stage}/file{copy}"), format!("{round} {stage} {copy}\n"));
            }
        }
        measure(&builder.build(context.path()))
    })
}

fn wide_dockerfile(stages: usize) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for stage in 0..stages {
        let _ = writeln!(text, "FROM {BASE} AS stage{stage}");
        for copy in 0..COPIES {
            let _ = writeln!(text, "COPY part{stage}/file{copy} /part{stage}/file{copy}");
        }
    }
    text.push_str("FROM scratch\n");
    for stage in 0..stages {
        let _ = writeln!(text, "COPY --from=stage{stage} /part{stage} /part{stage}");
    }
    text
}

/// Stages that wait and use nothing. Each is another in each round.
pub(crate) fn waiting(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = Context::create(dir);
    take_turns(rounds.min(LARGE_ROUNDS), &subjects.builders, |builder, round| {
        let mut text = String::new();
        // Writing to a string cannot fail.
        for stage in 0..WAITING {
            let _ = writeln!(text, "FROM {BASE} AS stage{stage}\nRUN sleep 1; echo {round} > /done{stage}");
        }
        text.push_str("FROM scratch\n");
        for stage in 0..WAITING {
            let _ = writeln!(text, "COPY --from=stage{stage} /done{stage} /");
        }
        context.dockerfile(&text);
        measure(&builder.build(context.path()))
    })
}

/// A rebuild with nothing changed, and what it would take without a record of it.
pub(crate) fn record_of_rebuild(
    subjects: &Subjects,
    dir: &Path,
    rounds: usize,
) -> Result<Samples, BenchError> {
    let context = rebuilt(dir);
    in_pairs(subjects, rounds.saturating_mul(PAIRS), |builder, _, remembered| {
        Ok(command(builder, context.path(), remembered))
    })
}

/// A hundred steps that run, each with a reason to be found, and what they would take without.
pub(crate) fn record_of_runs(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = Context::create(dir);
    in_pairs(subjects, rounds, |builder, round, remembered| {
        trivial(subjects, &context, &format!("{round} {remembered}"));
        Ok(command(builder, context.path(), remembered))
    })
}

fn command(builder: &dyn Builder, context: &Path, remembered: bool) -> Option<Command> {
    if remembered { Some(builder.build(context)) } else { builder.build_unremembered(context) }
}

/// Lets the builders that can do without a record do so in every other run.
fn in_pairs(
    subjects: &Subjects,
    rounds: usize,
    mut turn: impl FnMut(&dyn Builder, usize, bool) -> Result<Option<Command>, BenchError>,
) -> Result<Samples, BenchError> {
    let mut samples = Vec::new();
    for builder in subjects.builders.iter().map(AsRef::as_ref) {
        let (mut with, mut without): (Vec<Sample>, Vec<Sample>) = (Vec::new(), Vec::new());
        // The first pair is not counted.
        for round in 0..=rounds {
            let Some(plain) = turn(builder, round, false)? else { break };
            let plain = measure(&plain)?;
            let Some(recorded) = turn(builder, round, true)? else { break };
            let recorded = measure(&recorded)?;
            if round > 0 {
                with.push(recorded);
                without.push(plain);
            }
        }
        if !with.is_empty() {
            samples.push((builder.name().to_owned(), with));
            samples.push((format!("{}, no record", builder.name()), without));
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_graph_has_all_its_copies() {
        let text = wide_dockerfile(STAGES);
        assert_eq!(text.matches("\nCOPY part").count(), STAGES * COPIES);
        assert_eq!(text.matches("\nCOPY --from=").count(), STAGES);
        assert_eq!(parser::parse(text.as_bytes()).diagnostics, []);
    }
}

//! Work that needs no process: what a build does with text and graphs before anything runs. Measured in this process,
//! since a process of its own would cost more than the work.

use std::fmt::Write as _;
use std::time::Instant;

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};
use frontend::{HttpRequest, MetaResolver, Options, ResolveError, ResolvedHttp, ResolvedImage};
use nix::sys::resource::{UsageWho, getrusage};
use parser::ignore::IgnoreFile;

use crate::measure::Sample;
use crate::planning::Planning;
use crate::work::Samples;

/// Lines of the Dockerfile that is parsed and lowered.
const LINES: usize = 1000;
/// Rules of the ignore file, and paths that are asked about.
const RULES: usize = 200;
const PATHS: usize = 100_000;
/// How many of the paths are in one directory.
const ENTRIES: usize = 50;

/// A work and what it is called in the results.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// What it should not go beyond.
    pub(crate) bound: &'static str,
    /// Does it so many rounds.
    pub(crate) run: fn(usize) -> Samples,
}

/// All of it, in the order of the results.
pub(crate) fn all() -> [Work; 5] {
    [
        Work { name: "parse and lower a Dockerfile of 1,000 lines", bound: "5 ms", run: parse_and_lower },
        Work { name: "200 usual ignore patterns over 100,000 paths", bound: "300 ms", run: ignore_usual },
        Work {
            name: "200 ignore patterns with the same ends over 100,000 paths",
            bound: "300 ms",
            run: ignore_alike,
        },
        Work {
            name: "200 ignore patterns of stars and classes over 100,000 paths",
            bound: "300 ms",
            run: ignore_stars,
        },
        Work { name: "plan 10,000 steps that are all cached", bound: "50 ms", run: plan_cached },
    ]
}

fn parse_and_lower(rounds: usize) -> Samples {
    let text = dockerfile();
    measured(rounds, || {
        let parsed = parser::parse(text.as_bytes());
        frontend::lower(&parsed.dockerfile, &Options::for_host(), &OneImage)
            .map_or(0, |lowered| lowered.graph.len())
    })
}

/// Stages of twenty steps each, with what Dockerfiles have: continuations, variables, flags.
fn dockerfile() -> String {
    let mut text = String::new();
    for stage in 0..LINES / 20 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "FROM debian:12 AS stage{stage}\nARG VERSION=1.{stage}");
        for step in 0..3 {
            let _ = write!(
                text,
                "ENV KEY{step}=\"value $VERSION\" OTHER{step}=${{VERSION:-none}}\n\
                 RUN --mount=type=cache,target=/var/cache/{step} make \\\n    --jobs 4 \\\n    part{step}\n\
                 COPY --chown=1000:1000 src/part{step}/*.c include/ /usr/src/part{step}/\n\
                 LABEL org.example.part{step}=\"$KEY{step}\"\n"
            );
        }
    }
    let from = LINES / 20 - 1;
    let _ = writeln!(text, "FROM debian:12\nCOPY --from=stage{from} /usr/src /usr/src");
    for stage in 0..from {
        let _ = writeln!(text, "COPY --from=stage{stage} /usr/src /usr/src/{stage}");
    }
    text
}

fn ignore_usual(rounds: usize) -> Samples {
    let rule = |number: usize| match number % 5 {
        0 => format!("build{number}/out"),
        1 => format!("**/*.extension{number}"),
        2 => format!("**/name{number}"),
        3 => format!("part{number}/**/test_*"),
        _ => format!("!docs/keep{number}*.md"),
    };
    ignore(rounds, rule)
}

/// No rule can be told from the next by how the names begin or end.
fn ignore_alike(rounds: usize) -> Samples {
    ignore(rounds, |number| format!("**/*.{number}c"))
}

fn ignore_stars(rounds: usize) -> Samples {
    ignore(rounds, |number| format!("**/[a-f]*{number}*?"))
}

fn ignore(rounds: usize, rule: impl Fn(usize) -> String) -> Samples {
    let text: String = (0..RULES).map(|number| rule(number) + "\n").collect();
    let (file, _) = IgnoreFile::parse(&text);
    measured(rounds, || {
        let directories = (0..PATHS / ENTRIES).map(|number| {
            let path = format!("project/src/module{}/deeper/directory{number}", number / 20);
            let directory = file.directory(path.as_bytes());
            let entries = 0..ENTRIES;
            entries.filter(|entry| file.excludes_in(&directory, format!("file{entry}.c").as_bytes())).count()
        });
        directories.sum()
    })
}

fn plan_cached(rounds: usize) -> Samples {
    let planning = Planning::prepare();
    measured(rounds, || planning.as_ref().map_or(0, Planning::solve))
}

/// Times some work, whose result keeps the compiler from leaving it out.
fn measured(rounds: usize, work: impl Fn() -> usize) -> Samples {
    let samples = (0..rounds).map(|_| {
        let start = Instant::now();
        std::hint::black_box(work());
        let time = start.elapsed();
        let memory = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
        Sample { time, memory: u64::try_from(memory).unwrap_or_default() }
    });
    vec![("lap, in process".to_owned(), samples.collect())]
}

/// Every image is the same and nothing is asked of a network.
struct OneImage;

impl MetaResolver for OneImage {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        let mut config = ImageConfig::scratch(platform);
        config.rootfs.diff_ids = vec![Digest::of(b"layer")];
        Ok(ResolvedImage { reference: reference.clone(), manifest: Digest::of(b"manifest"), config })
    }

    fn http(&self, _request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        Err("there is no network here".into())
    }

    fn git(&self, _url: &GitUrl) -> Result<String, ResolveError> {
        Err("there is no network here".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_is_long_and_right() {
        let text = dockerfile();
        assert!((LINES..LINES + LINES / 10).contains(&text.lines().count()), "{}", text.lines().count());
        let parsed = parser::parse(text.as_bytes());
        assert_eq!(parsed.diagnostics, []);
    }
}

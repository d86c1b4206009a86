//! Caches of `type=records` that builders share: what a builder that begins with nothing gains by one, and what writing to it adds to
//! a build. The places are a directory, `lap registry serve`, Debian's `docker-registry` and moto's S3, each on this machine
//! and with the builder's processors; those that are not installed are left out.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use testkit::{Context, DockerRegistry, MotoServer, images};

use crate::builder::{BASE, RESULT};
use crate::error::BenchError;
use crate::measure::{Sample, line, measure, output_of, start_error};
use crate::subject::Subjects;
use crate::work::{Samples, trivial};

/// How many steps that use a processor for about a second the build of such steps has.
const LONG_STEPS: usize = 10;

/// A builder that begins with nothing, and a cache that has all of its 100 steps.
pub(crate) fn warm(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let bench = Bench::start(subjects, dir)?;
    trivial(subjects, &bench.context, "warm");
    for place in &bench.places {
        output_of(bench.build(&bench.store("writer")?).args(["--cache-to", &place.to]))?;
    }
    bench.take_turns(rounds, |place, _| {
        let store = bench.store("reader")?;
        measure(bench.build(&store).args(["--cache-from", &place.from]))
    })
}

/// What writing 100 steps adds to running them, each of which is over at once.
pub(crate) fn writing_short(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    writing(subjects, dir, rounds, |context, mark| trivial(subjects, context, mark))
}

/// The same for a few steps that work.
pub(crate) fn writing_long(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let turns = subjects.of_size(600_000, 600);
    writing(subjects, dir, rounds.min(3), |context, mark| {
        let count = format!("i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done");
        let step = |step: usize| format!("RUN {count}; echo {mark} {step} > /ran\n");
        let steps: String = (0..LONG_STEPS).map(step).collect();
        context.dockerfile(&format!("FROM {BASE}\n{steps}"));
    })
}

/// Builds by turns without a cache and with each of them. No step is as any before.
fn writing(
    subjects: &Subjects,
    dir: &Path,
    rounds: usize,
    dockerfile: impl Fn(&Context, &str),
) -> Result<Samples, BenchError> {
    let bench = Bench::start(subjects, dir)?;
    let store = bench.store("builder")?;
    let (mut number, mut plain) = (0, Vec::new());
    let mut build = |to: &[&str]| {
        number += 1;
        dockerfile(&bench.context, &number.to_string());
        nix::unistd::sync();
        measure(bench.build(&store).args(to))
    };
    build(&[])?;
    let written = bench.take_turns(rounds, |place, index| {
        if index == 0 {
            plain.push(build(&[])?);
        }
        build(&["--cache-to", &place.to])
    })?;
    Ok([vec![("lap without a cache".to_owned(), plain)], written].concat())
}

/// The places, and builders with stores of their own.
struct Bench {
    program: PathBuf,
    dir: tempfile::TempDir,
    context: Context,
    places: Vec<Place>,
    _served: Served,
    _registry: Option<DockerRegistry>,
    _bucket: Option<MotoServer>,
}

/// A cache, and what is typed to write to it and to read from it.
struct Place {
    name: &'static str,
    to: String,
    from: String,
}

impl Bench {
    fn start(subjects: &Subjects, dir: &Path) -> Result<Self, BenchError> {
        let program = subjects.program().to_owned();
        let dir = tempfile::Builder::new()
            .prefix("caches-")
            .tempdir_in(dir)
            .map_err(|source| BenchError::File { path: dir.to_owned(), source })?;
        images::busybox_as(BASE).write_archive(&dir.path().join("base.tar"));
        let served = Served::start(&program, &dir.path().join("served"))?;
        let (registry, bucket) = (DockerRegistry::start(), MotoServer::start());
        let cache = dir.path().join("cache").display().to_string();
        let of = |name, text: String| Place { name, to: text.clone(), from: text };
        let mut places = vec![
            Place {
                name: "directory",
                to: format!("type=records,dest={cache}"),
                from: format!("type=records,src={cache}"),
            },
            of("lap registry serve", format!("type=records,ref={}/cache", served.address)),
        ];
        places.extend(registry.as_ref().map(|registry| {
            of("docker-registry", format!("type=records,ref={}", registry.reference("cache")))
        }));
        places.extend(bucket.as_ref().map(|bucket| {
            let url = bucket.url();
            let keys = "access_key_id=id,secret_access_key=secret";
            of("S3 (moto)", format!("type=records,s3=cache,endpoint_url={url},use_path_style=true,{keys}"))
        }));
        let context = Context::create(dir.path());
        Ok(Self { program, context, dir, places, _served: served, _registry: registry, _bucket: bucket })
    }

    /// A new store with the base image alone.
    fn store(&self, name: &str) -> Result<PathBuf, BenchError> {
        let root = self.dir.path().join(name);
        if root.exists() {
            testkit::env::unmount_below(&root);
            std::fs::remove_dir_all(&root)
                .map_err(|source| BenchError::File { path: root.clone(), source })?;
        }
        output_of(self.lap(&root).arg("load").arg("-i").arg(self.dir.path().join("base.tar")))?;
        Ok(root)
    }

    fn lap(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // Nothing is at work in a store any more when its builds are over, so that it can be removed.
        command.env("LAPSTRAKE_GC", "off");
        command.arg("--root").arg(root);
        command
    }

    /// A build of the context; flags may follow.
    fn build(&self, root: &Path) -> Command {
        let mut command = self.lap(root);
        command.args(["build", "--quiet", "--network", "none", "-t", RESULT]).arg(self.context.path());
        command
    }

    /// Has every place do something once in each round.
    fn take_turns(
        &self,
        rounds: usize,
        mut turn: impl FnMut(&Place, usize) -> Result<Sample, BenchError>,
    ) -> Result<Samples, BenchError> {
        let mut samples: Samples =
            self.places.iter().map(|place| (format!("lap, {}", place.name), Vec::new())).collect();
        for _ in 0..rounds {
            for (index, (place, (_, samples))) in self.places.iter().zip(&mut samples).enumerate() {
                nix::unistd::sync();
                samples.push(turn(place, index)?);
            }
        }
        Ok(samples)
    }
}

/// `lap registry serve`. Dropped, it ends.
struct Served {
    process: Child,
    /// `127.0.0.1:PORT`.
    address: String,
}

impl Served {
    fn start(program: &Path, root: &Path) -> Result<Self, BenchError> {
        let mut command = Command::new(program);
        command.arg("--root").arg(root).args(["registry", "serve", "--addr", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(|source| start_error(&command, source))?;
        let out = process.stdout.take();
        let mut served = Self { process, address: String::new() };
        let mut read = String::new();
        if let Some(out) = out {
            // It says where it listens, and nothing more.
            let _ = BufReader::new(out).read_line(&mut read);
        }
        let address = read.split_once("://").and_then(|(_, rest)| rest.split(' ').next());
        served.address = address.unwrap_or_default().to_owned();
        if served.address.is_empty() {
            return Err(BenchError::NotReady { command: line(&command), output: read });
        }
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

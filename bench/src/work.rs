//! The kinds of work that are measured.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use testkit::Context;

use crate::builder::{BASE, Builder};
use crate::caches;
use crate::costs::{Costs, Limit};
use crate::engine;
use crate::error::BenchError;
use crate::many;
use crate::measure::{Sample, measure};
use crate::output;
use crate::registry;
use crate::shim;
use crate::solving;
use crate::subject::Subjects;
use crate::transfer;
use crate::{buildx, docker_api, stubs};

/// How long each file of a large context is.
pub(crate) const FILE_SIZE: usize = 4096;

/// How long the one file of a context is.
pub(crate) const LARGE_FILE: usize = 1 << 30;
const SMALL_FILE: usize = 4 << 20;

/// How many containers are started at once, and how many steps a build of trivial ones has.
const AT_ONCE: usize = 100;
pub(crate) const STEPS: usize = 100;

/// How many of both where all is small.
pub(crate) const FEW: usize = 5;

/// The file of the large context that changes between builds.
pub(crate) const CHANGING: &str = "changing/file";

/// How many rounds the large context is good for: each takes some GB of disk.
pub(crate) const LARGE_ROUNDS: usize = 3;

/// Who did a work, and each run of it.
pub(crate) type Samples = Vec<(String, Vec<Sample>)>;

/// Does a work so many rounds, with files in a directory.
type Run = fn(&Subjects, &Path, usize) -> Result<Samples, BenchError>;

/// A kind of work.
pub(crate) struct Work {
    /// What it is called in the results.
    pub(crate) name: &'static str,
    /// Does it so many rounds, with files in a directory.
    pub(crate) run: Run,
    /// Whether its peers are builders, which have to be started before.
    pub(crate) needs_builders: bool,
    /// What `lap` should not go beyond, in words; empty where nothing was promised.
    pub(crate) bound: &'static str,
    /// How fast it could be on this machine, where that can be said.
    pub(crate) limit: Option<fn(&Costs) -> Limit>,
}

impl Work {
    fn limit(self, limit: fn(&Costs) -> Limit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    fn bound(self, bound: &'static str) -> Self {
        Self { bound, ..self }
    }
}

/// All kinds of work, in the order of the results.
pub(crate) fn all() -> [Work; 49] {
    let of_builders = |name, run: Run| Work { name, run, needs_builders: true, bound: "", limit: None };
    let of_images = |name, run: Run| Work { name, run, needs_builders: false, bound: "", limit: None };
    [
        of_builders("rebuild with nothing changed, 20 steps, 50 files", rebuild)
            .bound("10 ms")
            .limit(Costs::nothing),
        of_builders("rebuild with nothing changed, 50,000 files", solving::rebuild_large)
            .bound("120 ms")
            .limit(Costs::look),
        of_builders("64 stages of 8 COPYs, first time", solving::wide).bound("a fifth of docker"),
        of_builders("8 stages that sleep a second", solving::waiting).bound("1200 ms"),
        of_images("record of a rebuild with nothing changed", solving::record_of_rebuild).bound("ratio 0.98"),
        of_images("record of 100 trivial RUNs", solving::record_of_runs).bound("ratio 0.98"),
        of_builders("100 trivial RUNs", trivial_runs).bound("800 ms").limit(Costs::steps),
        of_builders("COPY of 50,000 files of 4 KiB, first time", copy_first)
            .bound("600 ms")
            .limit(Costs::gather),
        of_builders("COPY of 50,000 files of 4 KiB, one file changed", copy_changed)
            .bound("250 ms")
            .limit(Costs::look),
        of_builders("COPY of one file of 1 GiB", copy_large).bound("1.3 times cp").limit(Costs::large),
        of_builders("pull to first process of an image of 50,000 files", many::pull)
            .bound("0.4 times tar -x")
            .limit(Costs::unpack),
        of_builders("prune of an image of 50,000 files", many::prune).bound("30 ms").limit(Costs::forget),
        of_builders("container start to exit, true", start).bound("10 ms").limit(|costs| costs.containers(1)),
        of_builders("container start to exit, true, by network", start_connected),
        of_builders("100 containers at once, true", start_many),
        of_builders("exec of true in a container", exec),
        of_builders("4 GiB of output through a pipe", output::piped),
        of_images("load of an image of 1 GiB", transfer::load),
        of_images("save of an image of 1 GiB", transfer::save),
        of_images("100 RUNs from a warm shared cache, empty builder", caches::warm).bound("300 ms"),
        of_images("writing 100 trivial RUNs to a shared cache", caches::writing_short)
            .bound("1.05 times the first"),
        of_images("writing 10 RUNs of a second to a shared cache", caches::writing_long)
            .bound("1.05 times the first"),
        of_builders("registry: pull of 1 GiB in 12 layers", registry::pull).bound("half of the others"),
        of_builders("registry: push of 1 GiB in 12 layers", registry::push).bound("half of the others"),
        of_builders("registry: push of an unchanged image", registry::push_again).bound("30 ms"),
        of_images("buildx: rebuild with nothing changed, 20 steps", buildx::rebuild),
        of_images("buildx: context of 50,000 files, first time", buildx::large_first),
        of_images("buildx: context of 50,000 files, one touched", buildx::large_touched),
        of_images("buildx: an image of 64 MiB into an archive", buildx::load),
        of_images("buildx: an image of 64 MiB loaded into docker", buildx::load_into_docker),
        of_images("daemon: memory, idle and after 200 builds", buildx::memory).bound("20 and 40 MiB"),
        of_images("buildx: 100 cached builds at once", buildx::at_once).bound("2 s"),
        of_images("daemon: 100 cached builds at once, one client for all", stubs::at_once).bound("2 s"),
        // From here on: these have a network namespace of their own.
        of_images("docker's API: the client alone, version", docker_api::version),
        of_images("docker's API: run --rm of true", docker_api::run).bound("half of docker"),
        of_images("docker's API: exec of true", docker_api::exec).bound("half of docker"),
        of_images("docker's API: ps of 20 containers", docker_api::ps).bound("half of docker"),
        of_images("docker's API: logs of 100 MB", docker_api::logs).bound("half of docker"),
        of_images("docker's API: build with nothing changed", docker_api::build).bound("half of docker"),
        of_images("docker's API: cp of 1 GiB out", docker_api::copy_out).bound("half of docker"),
        of_images("docker's API: cp of 1 GiB in", docker_api::copy_in).bound("half of docker"),
        of_images("docker's API: load of 1 GiB", docker_api::load).bound("half of docker"),
        of_images("engine: run --rm of true", engine::run).bound("a tenth of docker"),
        of_images("engine: exec of true", engine::exec).bound("a tenth of docker"),
        of_images("engine: ps of 100 containers", engine::ps).bound("10 ms"),
        of_images("engine: rm -f of a sleeping container", engine::remove).bound("30 ms"),
        of_images("engine: stats of 50 containers, processor time in 10 s", engine::stats).bound("100 ms"),
        of_images("engine: 8 GiB to a published port", engine::port).bound("1.1 times docker"),
        of_images("engine: start of a detached container, memory of its shim", shim::detached).bound("3 MiB"),
    ]
}

/// Ten COPYs and ten RUNs, built once before.
fn rebuild(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = rebuilt(dir);
    for builder in &subjects.builders {
        measure(&builder.build(context.path()))?;
    }
    take_turns(rounds, &subjects.builders, |builder, _| measure(&builder.build(context.path())))
}

/// A context of 50 files in ten COPYs, between ten RUNs.
pub(crate) fn rebuilt(dir: &Path) -> Context {
    let context = Context::create(dir);
    context.twenty_steps(BASE);
    context
}

/// Each RUN of each round is another, so that none can be taken from an earlier result.
fn trivial_runs(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = Context::create(dir);
    take_turns(rounds.min(5), &subjects.builders, |builder, round| {
        trivial(subjects, &context, &round.to_string());
        measure(&builder.build(context.path()))
    })
}

/// A hundred RUNs, which are others for another `mark`.
pub(crate) fn trivial(subjects: &Subjects, context: &Context, mark: &str) {
    let steps = subjects.of_size(STEPS, FEW);
    let runs: String = (0..steps).map(|number| format!("RUN echo {mark} {number} > /ran\n")).collect();
    context.dockerfile(&format!("FROM {BASE}\n{runs}"));
}

/// Each round has a context of its own. Nothing is removed between the rounds: ext4 does not use the inodes of
/// files removed a moment ago, and looking for others would slow down whoever comes next.
fn copy_first(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let rounds = rounds.min(LARGE_ROUNDS);
    let contexts: Vec<Context> = (0..rounds).map(|round| large_context(subjects, dir, round)).collect();
    let forms = subjects.forms(dir)?;
    let mut copies = Vec::new();
    let mut samples = turns_of(rounds, &with(subjects, &forms), |builder, round| {
        if copies.len() == round {
            let target = dir.join(format!("copy{round}"));
            copies.push(measure(Command::new("cp").arg("-a").arg(contexts[round].path()).arg(target))?);
        }
        // Who makes a result durable does not wait for what others wrote.
        nix::unistd::sync();
        measure(&builder.build(contexts[round].path()))
    })?;
    samples.push(("cp -a".to_owned(), copies));
    Ok(samples)
}

fn copy_changed(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = large_context(subjects, dir, LARGE_ROUNDS);
    let forms = subjects.forms(dir)?;
    let builders = with(subjects, &forms);
    for builder in &builders {
        measure(&builder.build(context.path()))?;
    }
    let mut change = 0;
    turns_of(rounds.min(LARGE_ROUNDS), &builders, |builder, _| {
        change += 1;
        context.file(CHANGING, format!("change {change}\n"));
        measure(&builder.build(context.path()))
    })
}

/// Noise, another in each round, so that nothing of it is anywhere.
fn copy_large(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let context = Context::create(dir);
    context.dockerfile("FROM scratch\nCOPY large /\n");
    let length = subjects.of_size(LARGE_FILE, SMALL_FILE);
    let (from, to) = (context.path().join("large"), dir.join("copy-large"));
    let (mut written, mut copies) = (None, Vec::new());
    let forms = subjects.forms(dir)?;
    let mut samples = turns_of(rounds.min(LARGE_ROUNDS), &with(subjects, &forms), |builder, round| {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| BenchError::File { path, source }
        };
        if written != Some(round) {
            written = Some(round);
            write_noise(&from, length, round).map_err(failed(&from))?;
            nix::unistd::sync();
            copies.push(measure(Command::new("cp").arg(&from).arg(&to))?);
            std::fs::remove_file(&to).map_err(failed(&to))?;
            nix::unistd::sync();
        }
        measure(&builder.build(context.path()))
    })?;
    samples.push(("cp".to_owned(), copies));
    Ok(samples)
}

/// A file that no other round has.
fn write_noise(path: &Path, length: usize, round: usize) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_add(round as u64);
    for _ in 0..length / 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        file.write_all(&state.to_le_bytes())?;
    }
    file.flush()
}

/// The builders, and `lap` with each form of layers.
pub(crate) fn with<'a>(subjects: &'a Subjects, forms: &'a [Box<dyn Builder>]) -> Vec<&'a dyn Builder> {
    subjects.builders.iter().chain(forms).map(AsRef::as_ref).collect()
}

fn start(subjects: &Subjects, _dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let builders = subjects.builders.iter();
    let builders = builders.filter_map(|builder| Some((builder.name().to_owned(), builder.start_true()?)));
    let runtimes = subjects.runtimes.iter().map(|runtime| (runtime.name().to_owned(), runtime.start_true()));
    repeat(rounds.saturating_mul(3), &builders.chain(runtimes).collect::<Vec<_>>())
}

/// What a network adds, and what a published port adds to that.
fn start_connected(subjects: &Subjects, _dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let networks: [(&str, &[&str]); 3] = [
        ("none", &["--network", "none"]),
        ("bridge", &["--network", "bridge"]),
        ("bridge, one port", &["--network", "bridge", "-p", "80"]),
    ];
    let mut commands = Vec::new();
    for builder in &subjects.builders {
        let of = |(network, flags): &(&str, &[&str])| {
            let name = format!("{} ({network})", builder.name());
            builder.start_connected(flags).map(|command| (name, command))
        };
        commands.extend(networks.iter().filter_map(of));
    }
    repeat(rounds.saturating_mul(3), &commands)
}

fn start_many(subjects: &Subjects, _dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let count = subjects.of_size(AT_ONCE, FEW);
    let builders = subjects.builders.iter();
    let builders =
        builders.filter_map(|builder| Some((builder.name().to_owned(), builder.start_many(count)?)));
    let runtimes = subjects.runtimes.iter();
    let runtimes = runtimes.map(|runtime| (runtime.name().to_owned(), runtime.start_many(count)));
    repeat(rounds, &builders.chain(runtimes).collect::<Vec<_>>())
}

fn exec(subjects: &Subjects, _dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let waiting = subjects.runtimes.iter().map(|runtime| Ok((runtime.name().to_owned(), runtime.wait()?)));
    let waiting: Vec<_> = waiting.collect::<Result<_, BenchError>>()?;
    let commands: Vec<_> = waiting.iter().map(|(name, one)| (name.clone(), one.exec_true())).collect();
    repeat(rounds.saturating_mul(3), &commands)
}

/// Runs each command once in each round.
pub(crate) fn repeat(rounds: usize, commands: &[(String, Command)]) -> Result<Samples, BenchError> {
    let mut samples: Samples = commands.iter().map(|(name, _)| (name.clone(), Vec::new())).collect();
    for _ in 0..rounds {
        for ((_, command), (_, samples)) in commands.iter().zip(&mut samples) {
            samples.push(measure(command)?);
        }
    }
    Ok(samples)
}

/// Lets each builder do something once in each round, with nothing of the one before left to be written to disk.
pub(crate) fn take_turns(
    rounds: usize,
    builders: &[Box<dyn Builder>],
    turn: impl FnMut(&dyn Builder, usize) -> Result<Sample, BenchError>,
) -> Result<Samples, BenchError> {
    turns_of(rounds, &builders.iter().map(AsRef::as_ref).collect::<Vec<_>>(), turn)
}

/// The same for some of the builders.
pub(crate) fn turns_of(
    rounds: usize,
    builders: &[&dyn Builder],
    mut turn: impl FnMut(&dyn Builder, usize) -> Result<Sample, BenchError>,
) -> Result<Samples, BenchError> {
    let mut samples: Samples =
        builders.iter().map(|builder| (builder.name().to_owned(), Vec::new())).collect();
    for round in 0..rounds {
        for (builder, (_, samples)) in builders.iter().zip(&mut samples) {
            nix::unistd::sync();
            samples.push(turn(*builder, round)?);
        }
    }
    Ok(samples)
}

/// A context that is copied whole into an empty image. No file is as any other, nor as one of another round.
pub(crate) fn large_context(subjects: &Subjects, dir: &Path, round: usize) -> Context {
    let context = Context::create(dir);
    for number in 0..subjects.many_files() {
        let mut content = format!("file {number} of round {round}\n").into_bytes();
        content.resize(FILE_SIZE, b'.');
        context.file(&format!("files/part{}/file{number}", number / 500), content);
    }
    context.file(CHANGING, "");
    context.dockerfile("FROM scratch\nCOPY . /\n");
    context
}

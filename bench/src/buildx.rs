//! `lap daemon` beside docker's embedded BuildKit, both through the same buildx; and what the daemon itself takes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::builder::{Builder, RESULT};
use crate::daemon::Daemon;
use crate::docker::Docker;
use crate::error::BenchError;
use crate::measure::{Sample, measure, output_of, start_error};
use crate::subject::{BASE_ARCHIVE, Subjects};
use crate::work::{self, LARGE_ROUNDS, Samples, turns_of};

/// Where Debian has the plugins of Docker's client, and `scripts/setup test` those of a newer Debian.
const PLUGINS: &str = "usr/libexec/docker/cli-plugins/docker-buildx";

/// The name of the builder that is `lap daemon`.
const OURS: &str = "lap";

/// How long the daemon has to give memory back when it has nothing to do.
const RESTED: Duration = Duration::from_secs(4);

/// How many builds the daemon has done when its memory is looked at, and how many run at once.
const MANY: usize = 200;
const AT_ONCE: usize = 100;

/// `lap daemon` and buildx. Dropped, the daemon ends.
struct Ours {
    daemon: Daemon,
    client: Client,
}

/// buildx, with a configuration of its own.
#[derive(Clone)]
struct Client {
    program: PathBuf,
    dir: PathBuf,
}

/// docker's daemon by buildx.
struct Theirs {
    docker: Docker,
    client: Client,
}

impl Client {
    /// buildx, if it is there.
    fn find(dir: &Path) -> Option<Self> {
        let fetched = testkit::binary::cache_dir().join("../clients").join(PLUGINS);
        let program = [fetched, Path::new("/").join(PLUGINS)].into_iter().find(|path| path.is_file())?;
        Some(Self { program, dir: dir.to_owned() })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env("HOME", &self.dir).env("DOCKER_CONFIG", self.dir.join("docker-config"));
        command
            .env("BUILDX_CONFIG", self.dir.join("buildx-config"))
            .env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
        command
    }

    fn build(&self, builder: &str, output: &str, context: &Path) -> Command {
        let mut command = self.command(&["build", "--builder", builder, "--quiet", "--network", "none"]);
        command.args(["--output", output]).arg(context);
        command
    }
}

/// A directory that no other kind of work has had: what they have built and how they are reached is their own.
fn fresh(dir: &Path, name: &str) -> PathBuf {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    dir.join(format!("{name}-{}", STARTED.fetch_add(1, Ordering::Relaxed)))
}

impl Ours {
    fn start(subjects: &Subjects, dir: &Path) -> Result<Option<Self>, BenchError> {
        let dir = fresh(dir, "lap-daemon");
        let Some(client) = Client::find(&dir) else { return Ok(None) };
        let ours = Self { daemon: Daemon::start(subjects, dir)?, client };
        let address = ours.daemon.address();
        output_of(&mut ours.client.command(&["create", "--name", OURS, "--driver", "remote", &address]))?;
        Ok(Some(ours))
    }
}

impl Builder for Ours {
    fn name(&self) -> &str {
        "lap daemon"
    }

    fn build(&self, context: &Path) -> Command {
        self.client.build(OURS, &format!("type=image,name={RESULT}"), context)
    }

    fn start_true(&self) -> Option<Command> {
        None
    }
}

impl Theirs {
    fn start(subjects: &Subjects, dir: &Path) -> Result<Option<Self>, BenchError> {
        let dir = fresh(dir, "docker-buildx");
        let (true, Some(client)) = (subjects.has("dockerd"), Client::find(&dir)) else { return Ok(None) };
        let context = testkit::Context::create(&std::env::temp_dir());
        context.dockerfile(&format!("FROM {}\nRUN true\n", crate::builder::BASE));
        let docker = Docker::start(dir.clone(), &dir.with_file_name(BASE_ARCHIVE), context.path())?;
        Ok(Some(Self { docker, client }))
    }
}

impl Theirs {
    /// Has a client of buildx load its images into this docker.
    fn reach_docker(&self, command: &mut Command) {
        for (name, value) in self.docker.command().get_envs().filter(|(name, _)| *name == "DOCKER_HOST") {
            command.env(name, value.unwrap_or_default());
        }
    }
}

impl Builder for Theirs {
    fn name(&self) -> &str {
        "docker's BuildKit"
    }

    fn build(&self, context: &Path) -> Command {
        let mut command = self.client.build("default", &format!("type=docker,name={RESULT}"), context);
        self.reach_docker(&mut command);
        command
    }

    fn start_true(&self) -> Option<Command> {
        None
    }
}

/// Both, as far as they are there.
fn builders(subjects: &Subjects, dir: &Path) -> Result<Vec<Box<dyn Builder>>, BenchError> {
    let ours = Ours::start(subjects, dir)?.map(|ours| Box::new(ours) as Box<dyn Builder>);
    let theirs = Theirs::start(subjects, dir)?.map(|theirs| Box::new(theirs) as Box<dyn Builder>);
    Ok(ours.into_iter().chain(theirs).collect())
}

fn in_turns(
    rounds: usize,
    builders: &[Box<dyn Builder>],
    turn: impl FnMut(&dyn Builder, usize) -> Result<Sample, BenchError>,
) -> Result<Samples, BenchError> {
    turns_of(rounds, &builders.iter().map(AsRef::as_ref).collect::<Vec<_>>(), turn)
}

/// Ten COPYs and ten RUNs, built once before.
pub(crate) fn rebuild(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let (builders, context) = (builders(subjects, dir)?, work::rebuilt(dir));
    builders.iter().try_for_each(|builder| measure(&builder.build(context.path())).map(drop))?;
    in_turns(rounds, &builders, |builder, _| measure(&builder.build(context.path())))
}

/// A context of 50,000 files that the builder has never seen.
pub(crate) fn large_first(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let (builders, rounds) = (builders(subjects, dir)?, rounds.min(LARGE_ROUNDS));
    let contexts: Vec<_> = (0..rounds).map(|round| work::large_context(subjects, dir, round)).collect();
    in_turns(rounds, &builders, |builder, round| measure(&builder.build(contexts[round].path())))
}

/// The same, sent before but for one file.
pub(crate) fn large_touched(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let (builders, context) = (builders(subjects, dir)?, work::large_context(subjects, dir, LARGE_ROUNDS));
    builders.iter().try_for_each(|builder| measure(&builder.build(context.path())).map(drop))?;
    let mut change = 0;
    in_turns(rounds.min(LARGE_ROUNDS), &builders, |builder, _| {
        change += 1;
        context.file(work::CHANGING, format!("change {change}\n"));
        measure(&builder.build(context.path()))
    })
}

/// An image of 64 MiB in its base and a small layer, into an archive of the client.
pub(crate) fn load(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let Some(ours) = Ours::start(subjects, dir)? else { return Ok(Samples::new()) };
    let context = testkit::Context::create(dir);
    context.file("large", vec![7; subjects.of_size(64 << 20, 1 << 20)]);
    context.dockerfile(&format!("FROM {}\nCOPY large /large\n", crate::builder::BASE));
    let archive = dir.join("loaded.tar");
    let to_archive = format!("type=docker,name={RESULT},dest={}", archive.display());
    let load = ours.client.build(OURS, &to_archive, context.path());
    measure(&load)?;
    let samples = (0..rounds).map(|_| measure(&load)).collect::<Result<_, _>>()?;
    Ok(vec![("lap daemon".to_owned(), samples)])
}

/// The same image with a small file that changes, into docker: an archive by our daemon, which docker unpacks, beside docker's own BuildKit,
/// whose images are there already.
pub(crate) fn load_into_docker(
    subjects: &Subjects,
    dir: &Path,
    rounds: usize,
) -> Result<Samples, BenchError> {
    let (Some(ours), Some(theirs)) = (Ours::start(subjects, dir)?, Theirs::start(subjects, dir)?) else {
        return Ok(Samples::new());
    };
    let context = testkit::Context::create(dir);
    context.file("large", vec![7; subjects.of_size(64 << 20, 1 << 20)]).file("small", "before\n");
    context.dockerfile(&format!("FROM {}\nCOPY large /large\nCOPY small /small\n", crate::builder::BASE));
    let output = format!("type=docker,name={RESULT}");
    let of_ours = || {
        let mut command = ours.client.build(OURS, &output, context.path());
        theirs.reach_docker(&mut command);
        command
    };
    // What docker has of this name is what was loaded.
    output_of(theirs.docker.command().args(["rmi", "--force", RESULT]))?;
    measure(&of_ours())?;
    output_of(theirs.docker.command().args(["image", "inspect", RESULT]))?;
    measure(&theirs.build(context.path()))?;
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        context.file("small", format!("round {round} of ours\n"));
        samples[0].push(measure(&of_ours())?);
        context.file("small", format!("round {round} of theirs\n"));
        samples[1].push(measure(&theirs.build(context.path()))?);
    }
    Ok([ours.name(), theirs.name()].map(str::to_owned).into_iter().zip(samples).collect())
}

/// The daemon's resident memory before many builds, and when it rests after them. The time is that of all builds together.
pub(crate) fn memory(subjects: &Subjects, dir: &Path, _rounds: usize) -> Result<Samples, BenchError> {
    let Some(ours) = Ours::start(subjects, dir)? else { return Ok(Samples::new()) };
    let context = work::rebuilt(dir);
    let idle = Sample { time: Duration::ZERO, memory: ours.daemon.memory() };
    let (begin, builds) = (Instant::now(), if subjects.is_small() { 5 } else { MANY });
    for _ in 0..builds {
        output_of(&mut ours.build(context.path()))?;
    }
    let time = begin.elapsed();
    std::thread::sleep(subjects.of_size(RESTED, Duration::ZERO));
    let used = Sample { time, memory: ours.daemon.memory() };
    Ok(vec![("lap daemon, idle".to_owned(), vec![idle]), (format!("after {builds} builds"), vec![used])])
}

/// Many cached builds at the same time, from the first client's start to the last one's end.
pub(crate) fn at_once(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let builders = builders(subjects, dir)?;
    let context = testkit::Context::create(dir);
    context.file("file", "content\n");
    context.dockerfile(&format!("FROM {}\nCOPY file /file\nRUN true\n", crate::builder::BASE));
    builders.iter().try_for_each(|builder| measure(&builder.build(context.path())).map(drop))?;
    let count = if subjects.is_small() { 5 } else { AT_ONCE };
    in_turns(rounds.min(LARGE_ROUNDS), &builders, |builder, _| {
        let begin = Instant::now();
        let start = |_| {
            let mut command = builder.build(context.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().map_err(|source| start_error(&command, source))
        };
        let mut running = (0..count).map(start).collect::<Result<Vec<Child>, _>>()?;
        for client in &mut running {
            let status =
                client.wait().map_err(|source| start_error(&builder.build(context.path()), source))?;
            if !status.success() {
                let command = crate::measure::line(&builder.build(context.path()));
                return Err(BenchError::Failed {
                    command,
                    status: status.to_string(),
                    output: String::new(),
                });
            }
        }
        Ok(Sample { time: begin.elapsed(), memory: 0 })
    })
}

//! Power loss while the real binary builds and prunes.
//!
//! The store lies on an ext4 file system of its own, whose disk is a file. Again and again, at any moment, that
//! file is cloned (`FICLONE`, which no write can come between, on XFS): the clone is the disk as a power loss
//! would leave it. Some clones are then mounted, which replays ext4's journal, and used as if the machine had
//! started again: nothing wrong is served, what was reported as built is there, and builds go on.
//!
//! What is lost is what ext4 had not written yet. The disk has no cache of its own that could lose more.
//!
//! For some seconds, or for as many as `LAPSTRAKE_SOAK_SECONDS` says (`make soak`).
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test starts programs")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::disk::{Disks, Format};
use testkit::judges::{Judge, program};
use testkit::{Context, TestEnv, mounted, privilege};

/// How long a machine works until it has lost its power for the last time.
const WORK: Duration = Duration::from_secs(5);

/// How many clones of its disk are looked at.
const SAMPLES: usize = 4;

/// Names of images are used again after so many builds.
const NAMES: usize = 3;

/// What makes and mounts file systems, and what takes another boot for granted.
struct Tools {
    host: Disks,
    store: Disks,
    unshare: Judge,
}

impl Tools {
    fn find() -> Option<Self> {
        Some(Self {
            host: Disks::of(Format::Xfs)?,
            store: Disks::of(Format::Ext4)?,
            unshare: program("unshare")?,
        })
    }
}

/// The disk at one moment.
struct Sample {
    disk: PathBuf,
    /// How many builds had been reported as done before.
    built: usize,
}

/// Clones of a disk, each moment as likely as any other (reservoir sampling).
struct Sampler<'m> {
    host: &'m Path,
    samples: Vec<Sample>,
    seen: usize,
    random: u64,
}

impl Sampler<'_> {
    fn take(&mut self, counter: &AtomicUsize) {
        let built = counter.load(Ordering::Acquire);
        self.seen += 1;
        // Knuth's MMIX generator: what is random here is when the clones are made.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let slot =
            if self.seen <= SAMPLES { self.seen - 1 } else { (self.random >> 33) as usize % self.seen };
        let sample = Sample { disk: self.host.join(format!("clone-{}", self.seen)), built };
        let (disk, clone) = (File::open(self.host.join("disk")), File::create_new(&sample.disk));
        rustix::fs::ioctl_ficlone(clone.unwrap(), disk.unwrap()).unwrap();
        // In a later round the oldest name that is looked at may be another build's.
        if slot >= SAMPLES || counter.load(Ordering::Acquire) != built {
            fs::remove_file(&sample.disk).unwrap();
        } else if slot < self.samples.len() {
            fs::remove_file(&self.samples[slot].disk).unwrap();
            self.samples[slot] = sample;
        } else {
            self.samples.push(sample);
        }
    }
}

/// The context of one of many builds: much that stays, and something new.
fn write_context(context: &Context, round: usize) {
    for number in 0..40 {
        context.file(&format!("files/{number}"), format!("{number} ").repeat(1 + number * 50));
    }
    context.file("files/new", format!("of round {round}").repeat(20_000)).dockerfile(
        "FROM busybox\nCOPY files /files\nARG N\n\
         RUN mkdir /made && for i in 1 2 3 4 5 6 7 8 9; do seq $N $((N + i * 999)) > /made/$i; done\n\
         RUN rm -r /files/1* && find /files /made -type f | sort | xargs sha256sum > /sums && echo $N > /n\n",
    );
}

fn name(round: usize) -> String {
    format!("own-{}", round % NAMES)
}

fn build(env: &TestEnv, context: &Context, round: usize) {
    write_context(context, round);
    let argument = format!("N={round}");
    env.lap(["build", "-q", "-t", &name(round), "--build-arg", &argument]).arg(context.path()).ok();
}

/// Makes blobs of all layers of an image, which compresses them.
fn save(env: &TestEnv, round: usize) {
    let archive = env.work().join(format!("saved-{round}.tar"));
    env.lap(["save", "-o"]).arg(&archive).arg(name(round)).ok();
    fs::remove_file(archive).unwrap();
}

/// What an image says about its files, after they were all read and compared with that.
fn content(env: &TestEnv, round: usize) -> String {
    let check = "sha256sum -c /sums > /dev/null && cat /n /sums";
    env.lap(["run", "--rm", &name(round), "sh", "-c", check]).ok().stdout_text()
}

/// Makes a store, builds, saves and prunes, on a disk that is cloned meanwhile. Returns what every build made.
fn work(env: &TestEnv, sampler: &mut Sampler<'_>) -> HashMap<usize, String> {
    let context = env.context();
    let (built, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // As the kernel would sooner or later: nothing waits for it.
        scope.spawn(|| {
            let disk = File::open(env.root()).unwrap();
            while !done.load(Ordering::Relaxed) {
                rustix::fs::syncfs(&disk).unwrap();
            }
        });
        let builder = scope.spawn(|| {
            env.load(&testkit::images::busybox());
            let (start, mut contents) = (Instant::now(), HashMap::new());
            for round in 0.. {
                if start.elapsed() > WORK && round > NAMES {
                    break;
                }
                build(env, &context, round);
                built.store(round + 1, Ordering::Release);
                contents.insert(round, content(env, round));
                match round % 3 {
                    0 => save(env, round),
                    2 => drop(env.lap(["builder", "prune", "--all", "--force"]).ok()),
                    _ => {}
                }
            }
            contents
        });
        while !builder.is_finished() || sampler.samples.len() < SAMPLES {
            sampler.take(&built);
        }
        done.store(true, Ordering::Relaxed);
        builder.join().unwrap()
    })
}

/// Starts the machine again with the disk as it was at one moment.
fn start_again(tools: &Tools, sample: &Sample, contents: &HashMap<usize, String>) {
    let dir = tempfile::tempdir().unwrap();
    let env = TestEnv::with_binary(&lap_of_another_boot(tools, dir.path()));
    let _disk = tools.store.mount(&sample.disk, "loop", env.root());
    // Files without rows are what a crash leaves; rows without files, or with wrong ones, it must not.
    let check = env.lap(["store", "check"]).run();
    let text = check.stdout_text();
    let is_garbage =
        |line: &str| line.starts_with("file ") && line.ends_with("nothing in the database names it");
    let count = text.lines().filter(|line| is_garbage(line)).count();
    assert_eq!(text.lines().count(), count + 1, "more than a summary: {check}");
    // The build that was at work may have taken the oldest name.
    for round in sample.built.saturating_sub(NAMES - 1)..sample.built {
        assert_eq!(content(&env, round), contents[&round], "what was built before the power was lost");
        save(&env, round);
    }
    // Whatever is in the cache is right, and what is not there can be built.
    env.load(&testkit::images::busybox());
    let context = env.context();
    for round in [sample.built.saturating_sub(1), sample.built, sample.built + 1] {
        build(&env, &context, round);
        if let Some(expected) = contents.get(&round) {
            assert_eq!(&content(&env, round), expected, "built again");
        }
    }
    env.lap(["builder", "prune", "--all", "--force"]).ok();
    let check = env.lap(["store", "check"]).ok();
    assert_eq!(check.stdout_text(), "The store is sound\n", "{check}");
}

/// The binary in a mount namespace in which the kernel seems to have been started another time.
fn lap_of_another_boot(tools: &Tools, dir: &Path) -> PathBuf {
    let (script, boot) = (dir.join("lap"), dir.join("boot_id"));
    fs::write(&boot, "00000000-0000-4000-8000-000000000001\n").unwrap();
    let text = format!(
        "#!/bin/sh\nexec '{unshare}' --mount /bin/sh -c 'mount --bind \"{boot}\" \
         /proc/sys/kernel/random/boot_id && exec \"{lap}\" \"$@\"' lap \"$@\"\n",
        unshare = tools.unshare.path().display(),
        boot = boot.display(),
        lap = testkit::binary::lap().display(),
    );
    testkit::command::program_file(&script, text.as_bytes());
    script
}

fn lose_power(tools: &Tools, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("host.img");
    tools.host.make(&image, 4 << 30);
    let host = tools.host.mount(&image, "loop", dir.path().join("host"));
    let disk = host.path().join("disk");
    tools.store.make(&disk, 512 << 20);
    let env = TestEnv::new();
    let mut sampler = Sampler { host: host.path(), samples: Vec::new(), seen: 0, random: seed };
    let contents = {
        // Names come into being before content is on the disk, unless somebody asks for that.
        let _disk = tools.store.mount(&disk, "loop,noauto_da_alloc,commit=1", env.root());
        work(&env, &mut sampler)
    };
    assert_eq!(sampler.samples.len(), SAMPLES);
    for sample in &sampler.samples {
        start_again(tools, sample, &contents);
    }
}

#[test]
fn a_power_loss_at_any_moment_breaks_nothing() {
    let Some(tools) = Tools::find() else { return };
    let seconds = std::env::var("LAPSTRAKE_SOAK_SECONDS").ok();
    let duration = Duration::from_secs(seconds.map_or(0, |seconds| seconds.parse().unwrap()));
    let start = Instant::now();
    for seed in 0.. {
        mounted::alone(|| lose_power(&tools, seed));
        if start.elapsed() >= duration {
            return;
        }
    }
}

/// Files are flushed together at the end of a build, and then the rows that say so, however many there are.
#[test]
fn a_build_flushes_the_disk_once() {
    let Some(strace) = privilege::root().and_then(|()| program("strace")) else { return };
    let env = TestEnv::new();
    env.load(&testkit::images::busybox());
    let context = env.context();
    let trace = env.work().join("trace");
    for round in 0..3 {
        write_context(&context, round);
        let mut traced = Command::new(strace.path());
        traced.args(["-f", "-y", "-e", "trace=fsync,fdatasync,syncfs,sync,sync_file_range,msync", "-o"]);
        traced.arg(&trace).arg(testkit::binary::lap()).arg("--root").arg(env.root());
        // An automatic collection is a process of its own, which flushes what it decides.
        traced.env("LAPSTRAKE_GC", "off");
        traced.args(["build", "-q", "--build-arg", &format!("N={round}"), "-t", "traced"]);
        let output = traced.arg(context.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let trace = fs::read_to_string(&trace).unwrap();
        let calls: Vec<&str> =
            trace.lines().filter(|line| line.contains("sync(") || line.contains("syncfs(")).collect();
        let of = |what: &str| calls.iter().filter(|call| call.contains(what)).count();
        assert_eq!(of("syncfs("), 1, "{trace}");
        // The log of the database, with its first page when it begins anew, and its name.
        assert!(calls.len() <= 4, "{trace}");
        assert_eq!(of("fsync("), of("-wal>") + of(&format!("<{}>", env.root().display())) - 1, "{trace}");
    }
}

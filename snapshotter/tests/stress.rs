//! Eight users of one store at once, each of whom starts the real binary again and again: to build, load, tag,
//! save and remove; one prunes and collects meanwhile, the whole cache with it.
//!
//! For some seconds, or for as many as `LAPSTRAKE_SOAK_SECONDS` says (`make soak`).
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test reads its environment")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base::CancelToken;
use snapshotter::{Options, Store};
use testkit::{Context, Image, Layer, LayerTar, TestEnv};

/// How long a test takes if nobody says otherwise.
const SHORT: Duration = Duration::from_secs(4);

/// How many users build. What each built last must be there in the end.
const BUILDERS: usize = 4;

fn duration() -> Duration {
    let seconds = std::env::var("LAPSTRAKE_SOAK_SECONDS").ok();
    seconds.map_or(SHORT, |seconds| Duration::from_secs(seconds.parse().unwrap()))
}

/// A store that several users work on until a time comes.
struct Arena {
    env: TestEnv,
    context: Context,
    archive: PathBuf,
    /// By which an automatic collection would keep next to nothing.
    policies: PathBuf,
    end: Instant,
}

impl Arena {
    fn new(env: TestEnv) -> Self {
        env.load(&testkit::images::busybox());
        let context = env.context();
        context.file("f", "content").dockerfile(
            "FROM busybox\nARG N\nCOPY f /f\nRUN echo shared > /s && mkdir /d\nRUN echo $N > /n\nCOPY --link f /d/g\n",
        );
        let archive = env.work().join("loaded.tar");
        let layer = Layer::gzip(&LayerTar::new().file("loaded", 0o644, "loaded").finish());
        Image::new("loaded").layer(layer).write_archive(&archive);
        let policies = env.work().join("policies.toml");
        let all = "[[worker.oci.gcpolicy]]\nall = true\nmaxUsedSpace = 10000\n";
        std::fs::write(&policies, all).unwrap();
        Self { env, context, archive, policies, end: Instant::now() + duration() }
    }

    /// Does `round` until the time is over, at least once. Returns how many rounds that were.
    fn repeat(&self, mut round: impl FnMut(usize)) -> usize {
        let mut rounds = 0;
        while rounds == 0 || Instant::now() < self.end {
            round(rounds);
            rounds += 1;
        }
        rounds
    }

    /// Runs a command that may find that somebody has removed its image.
    fn try_on_image(&self, args: &[&str]) {
        let output = self.env.lap(args).run();
        if output.code() != Some(0) {
            output.stderr_has(&["no such image"]);
        }
    }

    /// Builds with one of few values, so that others do the same steps, and keeps the newest result only.
    fn build(&self, builder: usize) -> usize {
        self.repeat(|round| {
            let (name, argument) = (format!("own-{builder}"), format!("N={}", (round + builder) % 3));
            let shared = format!("shared-{}", round % 2);
            let tags = ["-t", &name, "-t", &shared, "--build-arg", &argument];
            self.env.lap(["build", "-q"]).args(tags).arg(self.context.path()).ok();
        })
    }

    fn load_and_remove(&self) {
        self.repeat(|_| {
            self.env.lap(["load", "-i"]).arg(&self.archive).ok();
            self.try_on_image(&["rmi", "loaded"]);
        });
    }

    fn tag_and_remove(&self) {
        self.repeat(|round| {
            self.try_on_image(&["tag", &format!("shared-{}", round % 2), "other"]);
            self.try_on_image(&["rmi", "other"]);
            self.try_on_image(&["rmi", &format!("shared-{}", round % 2)]);
        });
    }

    fn save(&self) {
        let saved = self.env.work().join("saved.tar");
        self.repeat(|round| {
            let name = ["shared-0", "loaded", "busybox"][round % 3];
            self.try_on_image(&["save", "-o", saved.to_str().unwrap(), name]);
        });
    }

    /// Takes away whatever nobody needs at the moment, which is most of what the others have just made.
    fn prune(&self) {
        self.repeat(|round| {
            let commands: [&[&str]; 4] = [
                &["system", "prune", "--force"],
                &["builder", "prune", "--force", "--all"],
                &["image", "prune", "--force"],
                &["store", "gc"],
            ];
            self.env.lap(commands[round % 4]).env("LAPSTRAKE_CONFIG", &self.policies).ok();
        });
    }

    /// Everybody at once.
    fn run(&self) {
        let rounds: Vec<usize> = std::thread::scope(|scope| {
            let builders: Vec<_> =
                (0..BUILDERS).map(|builder| scope.spawn(move || self.build(builder))).collect();
            scope.spawn(|| self.load_and_remove());
            scope.spawn(|| self.tag_and_remove());
            scope.spawn(|| self.save());
            scope.spawn(|| self.prune());
            builders.into_iter().map(|builder| builder.join().unwrap()).collect()
        });
        for (builder, rounds) in rounds.into_iter().enumerate() {
            self.expect_image(builder, rounds);
        }
        // Every blob is read. What a process leaves that ended is no damage, and one prune takes it away.
        self.env.lap(["store", "check"]).ok();
        self.env.lap(["builder", "prune", "--force"]).ok();
        let store = Store::open(&self.env.root(), Options::default()).unwrap();
        let findings = store.verify(&CancelToken::new()).unwrap();
        assert!(findings.is_clean(), "{findings:?}");
    }

    /// The newest image of a builder is whole, and can leave the store and come into another one.
    fn expect_image(&self, builder: usize, rounds: usize) {
        assert!(rounds > 0, "builder {builder} has built nothing");
        let name = format!("own-{builder}");
        let archive = self.env.work().join(format!("{name}.tar"));
        self.env.lap(["save", "-o"]).arg(&archive).arg(&name).ok();
        let other = TestEnv::new();
        other.load_archive(&archive);
        let shown = other.lap(["run", "--rm", &name, "cat", "/f", "/d/g", "/s", "/n"]).ok().stdout_text();
        assert_eq!(shown, format!("contentcontentshared\n{}\n", (rounds - 1 + builder) % 3));
    }
}

#[test]
fn many_processes_share_a_store() {
    if testkit::privilege::root().is_some() {
        Arena::new(TestEnv::new()).run();
    }
}

/// Claims only save work. Here every process has a directory of claims of its own, mounted where only it sees it,
/// and so all do the same work at once.
#[test]
fn many_processes_share_a_store_without_claims() {
    let needed = testkit::privilege::root().and_then(|()| testkit::judges::program("unshare"));
    let Some(unshare) = needed else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("lap-without-claims");
    // The second argument is the root of the store: see `TestEnv::lap`.
    let text = format!(
        "#!/bin/sh\n[ -d \"$2/claims\" ] || exec '{lap}' \"$@\"\n\
         exec '{unshare}' --mount /bin/sh -c 'mount -t tmpfs claims \"$2/claims\" && exec \"{lap}\" \"$@\"' lap \"$@\"\n",
        unshare = unshare.path().display(),
        lap = testkit::binary::lap().display(),
    );
    testkit::command::program_file(&script, text.as_bytes());
    Arena::new(TestEnv::with_binary(&script)).run();
}

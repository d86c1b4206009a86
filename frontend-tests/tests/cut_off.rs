//! Where a rebuild stops: a command that runs again and leaves the same files lets all that follows be found, and one
//! that leaves anything else does not, however small the difference is.

mod common;

use common::steps_run;
use testkit::TestEnv;

/// What is there before the command runs.
const BEFORE: &str =
    "mkdir -p /d/sub && echo a > /d/a && echo b > /d/b && echo c > /d/sub/c && ln -s a /d/link";

/// Pairs of commands that leave the same files.
const SAME: [(&str, &str); 9] = [
    ("true", "echo said"),
    ("true", "touch /d/new && rm /d/new"),
    ("true", "mkdir /d/new && rmdir /d/new"),
    ("echo 1 > /x; echo 2 > /y", "echo 2 > /y; echo 1 > /x"),
    ("echo 1 > /x", "echo 2 > /x; echo 1 > /x; touch -d '2001-01-01 00:00:00' /x"),
    ("rm /d/a", "mv /d/a /d/z; rm /d/z"),
    ("ln -s x /l", "ln -s y /l; rm /l; ln -s x /l"),
    ("mkdir -m 700 /e", "mkdir /e; chmod 700 /e; chown 0:0 /e"),
    ("echo 1 > /x; ln /x /y", "echo 1 > /y; ln /y /x"),
];

/// Pairs of commands that leave other files.
const DIFFERENT: [(&str, &str); 23] = [
    ("echo 1 > /x", "echo 2 > /x"),
    ("echo 1 > /x", "echo 1 > /y"),
    ("touch /x", "mkdir /x"),
    ("touch /x", "mkfifo /x"),
    ("touch /x", "ln -s x /x"),
    ("ln -s a /x", "ln -s b /x"),
    ("touch /x", "touch /x; chmod 600 /x"),
    ("touch /x", "touch /x; chmod 4755 /x"),
    ("touch /x", "touch /x; chown 1 /x"),
    ("touch /x", "touch /x; chgrp 1 /x"),
    ("mkdir /x", "mkdir -m 1777 /x"),
    ("mknod /x c 1 3", "mknod /x c 1 5"),
    ("mknod /x c 1 3", "mknod /x b 1 3"),
    ("true", "rm /d/a"),
    ("rm /d/a", "rm /d/b"),
    ("true", "chmod 700 /d"),
    ("true", "chown 1 /d/sub"),
    ("true", "rm -r /d/sub && mkdir /d/sub"),
    ("rm -r /d", "rm -r /d && mkdir /d"),
    ("true", "ln -sfn b /d/link"),
    ("true", "mv /d/sub /d/other"),
    ("true", "chmod 711 /"),
    // Who writes to one of two names of a file changes both, and of two files one.
    ("echo 1 > /x; cp /x /y", "echo 1 > /x; ln /x /y"),
];

/// Builds with one command and then with the other, and tells whether what follows had to run again.
fn follower_runs(env: &TestEnv, driver: &str, (one, other): (&str, &str)) -> bool {
    let context = env.context();
    // Named after the pair, so that no other pair has run it.
    let follower = format!("RUN ls -ld /; ls -lR /d; echo '{}'", format!("{one} {other}").replace('\'', ""));
    let [_, again] = [one, other].map(|command| {
        context.dockerfile(&format!("FROM busybox\nRUN {BEFORE}\nRUN {command}\n{follower}\n"));
        let command = env.lap(["--storage-driver", driver, "build", "--progress", "plain"]);
        command.arg(context.path()).ok()
    });
    steps_run(&again).iter().any(|step| step.ends_with(&follower))
}

/// The pairs for which it is not as it should be.
fn wrong(
    driver: &str,
    pairs: &[(&'static str, &'static str)],
    expected: bool,
) -> Vec<(&'static str, &'static str)> {
    let env = TestEnv::new();
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    env.lap(["--storage-driver", driver, "load", "-i"]).arg(&archive).ok();
    pairs.iter().copied().filter(|pair| follower_runs(&env, driver, *pair) != expected).collect()
}

#[test]
fn the_same_files_stop_the_rebuild() {
    for driver in ["overlay", "native"] {
        assert_eq!(wrong(driver, &SAME, false), [], "{driver}");
    }
}

#[test]
fn other_files_never_do() {
    for driver in ["overlay", "native"] {
        assert_eq!(wrong(driver, &DIFFERENT, true), [], "{driver}");
    }
}

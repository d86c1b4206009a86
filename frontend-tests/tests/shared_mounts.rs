//! Cache mounts in steps of several processes at once: `locked` excludes, `private` gives another instance, `shared`
//! brings together, and the end of a process, however it comes, lets go of what it had.
//!
//! Steps wait for each other at FIFOs in cache mounts, never for a time.

mod common;

use common::{build, env};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Context, Running, TestEnv};

/// An environment in which a cache mount `gate` has the FIFO `open`.
fn with_gate() -> TestEnv {
    let env = env();
    step(&env, "--mount=type=cache,id=gate,target=/gate mkfifo /gate/open").0.finish();
    env
}

/// Starts a build of one step in a process of its own.
fn step(env: &TestEnv, run: &str) -> (Running, Context) {
    let context = env.context();
    context.dockerfile(&format!("FROM busybox\nRUN {run}\n"));
    (env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn(), context)
}

/// A step that uses the cache `c` with this sharing.
fn user(env: &TestEnv, sharing: &str, run: &str) -> (Running, Context) {
    let mounts = format!("--mount=type=cache,id=c,target=/c,sharing={sharing}");
    step(env, &format!("{mounts} --mount=type=cache,id=gate,target=/gate {run}"))
}

/// Lets the step go on that reads from the gate.
fn open_gate(env: &TestEnv) {
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN --mount=type=cache,id=gate,target=/gate echo > /gate/open\n");
    build(env, &context, &["--no-cache"]);
}

fn succeeds(running: Running) -> String {
    let output = running.finish();
    assert_eq!(output.code(), Some(0), "{output}");
    output.stderr_text()
}

/// How many instances of the cache `c` there are.
fn instances(env: &TestEnv) -> usize {
    let lines = env.lap(["cache-mount", "ls", "--format", "json"]).ok().stdout_text();
    lines.lines().filter(|line| serde_json::from_str::<Value>(line).unwrap()["ID"] == "c").count()
}

#[test]
fn a_locked_cache_has_one_user_at_a_time() {
    let env = with_gate();
    let (mut first, _one) =
        user(&env, "locked", "mkdir /c/inside && echo has-''it; cat /gate/open; rmdir /c/inside");
    first.wait_for("has-it");
    let (mut second, _two) = user(&env, "locked", "mkdir /c/inside && echo also-''in; rmdir /c/inside");
    second.wait_for("RUN --mount");
    // Whoever does not wait for the lock has failed by the time that this build has come and gone.
    open_gate(&env);
    succeeds(first);
    assert!(succeeds(second).contains("also-in"));
    assert_eq!(instances(&env), 1);
}

#[test]
fn many_processes_take_a_locked_cache_in_turn() {
    let env = with_gate();
    // Making a directory fails when it is there.
    let turn = "for i in 1 2 3 4 5 6 7 8 9 10; do mkdir /c/inside || exit 1; echo x >> /c/turns; rmdir /c/inside; done";
    let builds: Vec<_> = (0..6).map(|number| user(&env, "locked", &format!("{turn}; : {number}"))).collect();
    for (running, _context) in builds {
        succeeds(running);
    }
    let (count, _context) = user(&env, "locked", "echo turns-$(wc -l < /c/turns)");
    assert!(succeeds(count).contains("turns-60"));
    assert_eq!(instances(&env), 1);
}

#[test]
fn steps_that_lock_two_caches_in_any_order_do_not_wait_for_each_other_for_ever() {
    let env = env();
    let mount = |id: &str| format!("--mount=type=cache,id={id},target=/{id},sharing=locked");
    let both = [[mount("a"), mount("b")], [mount("b"), mount("a")]];
    let builds: Vec<_> = (0..8)
        .map(|number| {
            step(
                &env,
                &format!("{} mkdir /a/in /b/in && rmdir /a/in /b/in; : {number}", both[number % 2].join(" ")),
            )
        })
        .collect();
    for (running, _context) in builds {
        succeeds(running);
    }
}

#[test]
fn caches_of_one_id_that_begin_differently_are_locked_in_one_order_too() {
    let env = with_gate();
    let empty = "--mount=type=cache,id=c,target=/c,sharing=locked";
    let seeded = "--mount=type=cache,id=c,target=/d,from=busybox,source=/etc,sharing=locked";
    let (mut holder, _one) = user(&env, "locked", "echo has-''it; cat /gate/open");
    holder.wait_for("has-it");
    let both: Vec<_> = [format!("{empty} {seeded}"), format!("{seeded} {empty}")]
        .iter()
        .map(|mounts| {
            let (mut both, context) = step(&env, &format!("{mounts} mkdir /c/in /d/in && rmdir /c/in /d/in"));
            both.wait_for("RUN --mount");
            (both, context)
        })
        .collect();
    // Both wait for the one that is held. If either had the other meanwhile, this would not come to an end.
    let (alone, _context) = step(&env, &format!("{seeded} test -f /d/passwd"));
    succeeds(alone);
    open_gate(&env);
    succeeds(holder);
    for (running, _context) in both {
        succeeds(running);
    }
}

#[test]
fn the_strictest_mount_of_a_cache_decides_for_the_step() {
    let env = with_gate();
    let twice = "--mount=type=cache,id=c,target=/c --mount=type=cache,id=c,target=/d,sharing=locked";
    let gate = "--mount=type=cache,id=gate,target=/gate";
    let (mut first, _one) = step(
        &env,
        &format!(
            "{twice} {gate} mkdir /c/inside && test -d /d/inside && echo has-''it; cat /gate/open; rmdir /d/inside"
        ),
    );
    first.wait_for("has-it");
    let (mut second, _two) = user(&env, "shared", "echo finds-$(ls /c | wc -l)");
    second.wait_for("finds-0");
    succeeds(second);
    assert_eq!(instances(&env), 2, "what somebody has alone is not shared");
    open_gate(&env);
    succeeds(first);
}

#[test]
fn a_private_cache_in_use_means_another_one() {
    let env = with_gate();
    let (mut first, _one) =
        user(&env, "private", "echo 1 > /c/mine; echo has-''it; cat /gate/open; echo keeps-$(ls /c)");
    first.wait_for("has-it");
    let (second, _two) = user(&env, "private", "echo finds-$(ls /c | wc -l); echo 2 > /c/other");
    assert!(succeeds(second).contains("finds-0"), "it has one of its own, and does not wait");
    assert_eq!(instances(&env), 2);
    open_gate(&env);
    assert!(succeeds(first).contains("keeps-mine"));
    // Now both are free, and one of them is used again.
    let (third, _three) = user(&env, "private", "echo finds-$(ls /c)");
    let told = succeeds(third);
    assert!(told.contains("finds-mine") || told.contains("finds-other"), "{told}");
    assert_eq!(instances(&env), 2);
}

#[test]
fn a_shared_cache_is_the_same_for_all_at_once() {
    let env = with_gate();
    let (mut first, _one) =
        user(&env, "shared", "mkfifo /c/between; echo has-''it; echo got-$(cat /c/between)");
    first.wait_for("has-it");
    let (second, _two) = user(&env, "shared", "echo hello > /c/between");
    assert!(succeeds(first).contains("got-hello"));
    succeeds(second);
    assert_eq!(instances(&env), 1);
}

#[test]
fn who_wants_it_alone_does_not_get_what_is_shared() {
    let env = with_gate();
    let (mut first, _one) = user(&env, "shared", "echo 1 > /c/shared; echo has-''it; cat /gate/open");
    first.wait_for("has-it");
    let (private, _two) = user(&env, "private", "echo finds-$(ls /c | wc -l)");
    assert!(succeeds(private).contains("finds-0"));
    let (mut locked, _three) = user(&env, "locked", "test ! -e /gate/closed");
    locked.wait_for("RUN --mount");
    open_gate(&env);
    succeeds(first);
    succeeds(locked);
}

#[test]
fn a_holder_that_is_killed_lets_go() {
    for sharing in ["locked", "private"] {
        let env = with_gate();
        let (mut holder, _one) = user(&env, sharing, "echo 1 > /c/left; echo has-''it; exec sleep 1000");
        holder.wait_for("has-it");
        let (mut waiting, _two) = user(&env, "locked", "echo finds-$(ls /c)");
        waiting.wait_for("RUN --mount");
        holder.signal(Signal::SIGKILL);
        holder.finish();
        assert!(succeeds(waiting).contains("finds-left"), "{sharing}");
        assert_eq!(instances(&env), 1, "{sharing}");
        env.lap(["store", "check"]).ok();
    }
}

#[test]
fn stages_of_one_build_keep_to_the_same_rules() {
    let env = env();
    let context = env.context();
    let locked = "RUN --mount=type=cache,id=l,target=/c,sharing=locked mkdir /c/in && rmdir /c/in";
    let meet = "RUN --mount=type=cache,id=s,target=/c";
    context.dockerfile(&format!(
        "FROM busybox AS a\n{locked} && touch /a\nFROM busybox AS b\n{locked} && touch /b\nFROM busybox AS c\n\
         {meet} mkfifo /c/f || true; cat /c/f > /c1\nFROM busybox AS d\n{meet} mkfifo /c/f || true; echo met > /c/f\n\
         FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c1 /\nCOPY --from=d /etc/passwd /\n"
    ));
    assert_eq!(common::build_tree(&env, &context, &[]).text("c1"), "met\n");
}

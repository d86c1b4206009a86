//! Restart policies, and `lap restart`.

mod common;

use common::containers::Containers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::wait::until;

#[test]
fn failures_are_tried_again_so_often() {
    let env = Containers::new();
    env.detached(&["--name", "c", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 9"]);
    assert_eq!(env.lap(["wait", "c"]).ok().stdout_text(), "9\n");
    assert_eq!(env.lap(["logs", "c"]).ok().stdout_text(), "run\nrun\nrun\n");
    assert_eq!(env.inspect("c", ".RestartCount"), "2");
    assert_eq!(env.inspect("c", ".HostConfig.RestartPolicy"), "map[MaximumRetryCount:2 Name:on-failure]");
    env.detached(&["--name", "d", "--restart", "on-failure", "busybox", "true"]);
    assert_eq!(env.lap(["wait", "d"]).ok().stdout_text(), "0\n");
    assert_eq!(env.inspect("d", ".RestartCount"), "0");
}

#[test]
fn always_is_until_somebody_stops_it() {
    let env = Containers::new();
    for policy in ["always", "unless-stopped"] {
        env.detached(&["--name", policy, "--restart", policy, "busybox", "sh", "-c", "echo run"]);
        env.wait_until(policy, ".RestartCount", |count| count.parse::<u32>().unwrap() >= 2);
        env.lap(["stop", policy]).ok();
        assert_eq!(env.inspect(policy, ".State.Status"), "exited");
        let runs = env.lap(["logs", policy]).ok().stdout_text().lines().count();
        assert!(runs >= 3, "{runs}");
        // What is started again begins anew.
        env.lap(["start", policy]).ok();
        env.wait_until(policy, ".State.Status", |status| status != "exited");
        env.lap(["rm", "-f", policy]).ok();
    }
}

#[test]
fn killing_by_hand_is_stopping() {
    let env = Containers::new();
    env.detached(&["--name", "c", "--restart", "always", "busybox", "sleep", "1000"]);
    env.lap(["kill", "c"]).ok();
    assert_eq!(env.lap(["wait", "c"]).ok().stdout_text(), "137\n");
    assert_eq!(env.inspect("c", ".RestartCount"), "0");
}

#[test]
fn a_restart_by_hand_is_a_new_process() {
    let env = Containers::new();
    let script = "echo started; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    env.detached(&["--name", "c", "busybox", "sh", "-c", script]);
    env.wait_for("c", "started");
    let was_started = |times: usize| {
        until(&format!("it was started {times} times"), || {
            env.lap(["logs", "c"]).ok().stdout_text().matches("started").count() == times
        });
    };
    let before = env.inspect("c", ".State.Pid");
    env.lap(["restart", "c"]).ok();
    assert_ne!(env.inspect("c", ".State.Pid"), before);
    was_started(2);
    env.lap(["stop", "c"]).ok();
    env.lap(["restart", "c"]).ok();
    assert_eq!(env.inspect("c", ".State.Status"), "running");
    was_started(3);
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let env = Containers::new();
    let run = |args: &[&str]| env.lap(["run", "-d"]).args(args).args(["busybox", "true"]);
    run(&["--restart", "sometimes"]).fails(2).stderr_has(&["sometimes", "unless-stopped"]);
    run(&["--rm", "--restart", "always"]).fails(125).stderr_has(&["--restart and --rm"]);
}

/// Ends the shims of all containers as the end of the machine would.
fn end_of_machine(env: &Containers, ids: &[String]) {
    for id in ids {
        kill(Pid::from_raw(env.shim_of(id)), Signal::SIGKILL).unwrap();
        env.wait_until(id, ".State.Status", |status| status == "exited");
    }
}

#[test]
fn containers_are_started_with_the_machine_as_their_policies_say() {
    let env = Containers::new();
    let start = |name: &str, policy: &str| {
        env.detached(&["--name", name, "--restart", policy, "busybox", "sleep", "1000"])
    };
    let ids = [
        start("always", "always"),
        start("unless", "unless-stopped"),
        start("failure", "on-failure"),
        start("no", "no"),
    ];
    start("stopped-always", "always");
    start("stopped-unless", "unless-stopped");
    env.lap(["stop", "-t", "0", "stopped-always", "stopped-unless"]).ok();
    env.lap(["create", "--name", "never-ran", "--restart", "always", "busybox", "sleep", "1000"]).ok();
    end_of_machine(&env, &ids);
    let started = env.lap(["system", "start-containers"]).ok().stdout_text();
    assert_eq!(started, "always\nunless\nstopped-always\n", "in the order in which they were made");
    let running = env.lap(["ps", "--format", "{{.Names}}"]).ok().stdout_text();
    let mut running: Vec<&str> = running.lines().collect();
    running.sort_unstable();
    assert_eq!(running, ["always", "stopped-always", "unless"]);
    assert_eq!(env.inspect("always", ".State.ExitCode"), "0");
    // What runs is left alone.
    assert_eq!(env.lap(["system", "start-containers"]).ok().stdout_text(), "");
}

#[test]
fn the_end_of_the_machine_is_nobodys_wish() {
    let env = Containers::new();
    let script = "trap 'echo ended; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let id = env.detached(&["--name", "c", "--restart", "unless-stopped", "busybox", "sh", "-c", script]);
    env.wait_for("c", "ready");
    // As systemd does when the machine is shut down.
    kill(Pid::from_raw(env.shim_of(&id)), Signal::SIGTERM).unwrap();
    env.wait_until("c", ".State.Status", |status| status == "exited");
    assert_eq!(env.lap(["logs", "c"]).ok().stdout_text(), "ready\nended\n");
    assert_eq!(env.lap(["system", "start-containers"]).ok().stdout_text(), "c\n");
    env.lap(["kill", "c"]).ok();
    env.lap(["wait", "c"]).ok();
    assert_eq!(env.lap(["system", "start-containers"]).ok().stdout_text(), "", "killed by hand");
}

#[test]
fn one_that_cannot_be_started_does_not_keep_others_from_it() {
    let env = Containers::new();
    let source = env.work().join("source");
    std::fs::create_dir(&source).unwrap();
    let volume = format!("{}:/v", source.display());
    let first =
        env.detached(&["--name", "a", "--restart", "always", "-v", &volume, "busybox", "sleep", "1000"]);
    let second = env.detached(&["--name", "b", "--restart", "always", "busybox", "sleep", "1000"]);
    end_of_machine(&env, &[first, second]);
    std::fs::remove_dir(&source).unwrap();
    let started = env.lap(["system", "start-containers"]).fails(1);
    assert_eq!(started.stdout_text(), "b\n");
    started.stderr_has(&[source.to_str().unwrap()]);
    let unit = env.lap(["system", "start-containers", "--systemd-unit"]).ok().stdout_text();
    let line = format!(
        "ExecStart=-\"{}\" --root \"{}\" system start-containers\n",
        testkit::binary::lap().display(),
        env.root().display()
    );
    assert!(unit.contains(&line) && unit.contains("Delegate=yes\n"), "{unit}");
}

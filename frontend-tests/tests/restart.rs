//! Restart policies, and `lap restart`.

mod common;

use common::containers::Containers;

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
    let before = env.inspect("c", ".State.Pid");
    env.lap(["restart", "c"]).ok();
    assert_ne!(env.inspect("c", ".State.Pid"), before);
    env.lap(["stop", "c"]).ok();
    env.lap(["restart", "c"]).ok();
    assert_eq!(env.inspect("c", ".State.Status"), "running");
    assert_eq!(env.lap(["logs", "c"]).ok().stdout_text().matches("started").count(), 3);
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let env = Containers::new();
    let run = |args: &[&str]| env.lap(["run", "-d"]).args(args).args(["busybox", "true"]);
    run(&["--restart", "sometimes"]).fails(2).stderr_has(&["sometimes", "unless-stopped"]);
    run(&["--rm", "--restart", "always"]).fails(2).stderr_has(&["--restart and --rm"]);
}

//! `lap run`: what a process in a container sees, and what comes out.

mod common;

use std::path::Path;

use common::env;
use nix::sys::signal::Signal;

#[test]
fn exit_codes_and_streams_pass_through() {
    let env = env();
    env.lap(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42"])
        .fails(42)
        .stdout_has(&["out\n"])
        .stderr_has(&["err\n"]);
    let upper = env.lap(["run", "--rm", "-i", "busybox", "tr", "a-z", "A-Z"]).stdin("piped\n").ok();
    assert_eq!(upper.stdout_text(), "PIPED\n");
    env.lap(["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).fails(137);
}

/// Some supervisors ignore SIGCHLD, and what they start inherits that.
#[test]
fn who_ignores_ended_children_gets_their_codes() {
    let env = env();
    let ignoring =
        |args: &[&str]| env.lap_under(Path::new("/bin/sh"), &["-c", "trap '' CHLD; exec \"$@\"", "sh"], args);
    ignoring(&["run", "--rm", "busybox", "sh", "-c", "exit 42"]).fails(42);
    ignoring(&["run", "-d", "--name", "c", "busybox", "sleep", "100"]).ok();
    ignoring(&["exec", "c", "sh", "-c", "exit 43"]).fails(43);
    env.lap(["rm", "-f", "c"]).ok();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo one > /one\n");
    ignoring(&["build", &context.path().to_string_lossy()]).ok();
}

#[test]
fn commands_that_cannot_start_have_dockers_codes() {
    let env = env();
    env.lap(["run", "--rm", "busybox", "no-such-program"]).fails(127).stderr_has(&["no-such-program"]);
    env.lap(["run", "--rm", "busybox", "/etc/passwd"]).fails(126).stderr_has(&["/etc/passwd"]);
    env.lap(["run", "--rm", "no-such-image:1", "true"]).fails(125);
    env.lap(["run", "--rm", "--user", "nosuchuser", "busybox", "true"])
        .fails(125)
        .stderr_has(&["nosuchuser"]);
}

#[test]
fn image_config_and_flags_decide_what_runs() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nENV A=image B=image\nWORKDIR /w\nENTRYPOINT [\"/bin/echo\", \"entry\"]\nCMD [\"cmd\"]\n");
    common::build(&env, &context, &["-t", "x"]);
    let says = |args: &[&str]| env.lap(["run", "--rm"]).args(args).ok().stdout_text();
    assert_eq!(says(&["x"]), "entry cmd\n");
    assert_eq!(says(&["x", "other"]), "entry other\n");
    assert_eq!(says(&["--entrypoint", "pwd", "x"]), "/w\n");
    assert_eq!(says(&["--entrypoint", "sh", "-e", "B=flag", "x", "-c", "echo $A $B"]), "image flag\n");
    assert_eq!(says(&["--entrypoint", "pwd", "-w", "/new/dir", "x"]), "/new/dir\n");
    assert_eq!(says(&["--entrypoint", "id", "-u", "nobody", "x", "-u"]), "65534\n");
    assert_eq!(says(&["--entrypoint", "hostname", "--hostname", "boat", "x"]), "boat\n");
}

#[test]
fn a_container_sees_only_itself() {
    let env = env();
    let secret = env.work().join("secret");
    std::fs::write(&secret, "host").unwrap();
    let sh = |script: &str| {
        env.lap(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]).ok().stdout_text()
    };
    assert_eq!(sh("echo $$"), "1\n");
    assert_eq!(sh(&format!("ls {} 2>&1 | grep -c 'No such'", secret.display())), "1\n");
    assert_eq!(sh("ls /sys/class/net"), "lo\n");
    assert_eq!(
        sh("grep -c . /proc/1/cgroup | head -1; cat /proc/self/status | grep CapEff").lines().last(),
        Some("CapEff:\t00000000a80425fb")
    );
    assert_eq!(sh("grep Seccomp: /proc/self/status"), "Seccomp:\t2\n");
    assert_eq!(sh("cat /proc/kcore 2>/dev/null | wc -c; ls -A /proc/scsi 2>/dev/null | wc -l"), "0\n0\n");
    assert_eq!(sh("echo x > /proc/sys/kernel/hostname || echo refused").trim(), "refused");
    assert!(sh("mount -t tmpfs none /tmp 2>&1 || echo denied").contains("denied"));
    assert_eq!(sh("cat /etc/hosts | grep -c localhost | grep -v '^0$' > /dev/null && echo hosts"), "hosts\n");
}

#[test]
fn changes_stay_in_the_container() {
    let env = env();
    env.lap(["run", "--rm", "busybox", "sh", "-c", "echo x > /new && rm /bin/tac && ls /new"]).ok();
    env.lap(["run", "--rm", "busybox", "sh", "-c", "test ! -e /new && test -e /bin/tac"]).ok();
}

#[test]
fn volumes_show_host_paths() {
    let env = env();
    let dir = env.work().join("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("in"), "from the host").unwrap();
    let volume = format!("{}:/v", dir.display());
    env.lap(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", "cat /v/in; echo back > /v/out"])
        .ok()
        .stdout_has(&["from the host"]);
    assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), "back\n");
    let read_only = format!("{volume}:ro");
    env.lap(["run", "--rm", "-v", &read_only, "busybox", "touch", "/v/no"]).fails(1);
    let missing = format!("{}:/v", env.work().join("missing").display());
    let bind = format!("type=bind,source={},target=/v", env.work().join("missing").display());
    env.lap(["run", "--rm", "--mount", &bind, "busybox", "true"]).fails(125).stderr_has(&["missing"]);
    env.lap(["run", "--rm", "-v", &missing, "busybox", "touch", "/v/f"]).ok();
    assert!(env.work().join("missing/f").is_file(), "-v makes the directory, as Docker does");
}

#[test]
fn signals_reach_the_process_and_its_end_is_ours() {
    let env = env();
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = env.lap(["run", "--rm", "busybox", "sh", "-c", script]).spawn();
    running.wait_for("ready");
    running.signal(Signal::SIGTERM);
    let output = running.finish();
    assert_eq!(output.code(), Some(3), "{output}");
    output.stdout_has(&["caught"]);
}

#[test]
fn killing_lap_kills_the_container() {
    let env = env();
    let mut running =
        env.lap(["run", "--rm", "busybox", "sh", "-c", "sleep 1000 & echo ready; wait"]).spawn();
    running.wait_for("ready");
    running.signal(Signal::SIGKILL);
    // The pipes close only when the last process that holds them is gone; the deadline is the assertion.
    let output = running.finish();
    assert_eq!(output.signal(), Some(9));
}

#[test]
fn large_output_arrives_whole() {
    let env = env();
    let output =
        env.lap(["run", "--rm", "busybox", "sh", "-c", "yes 0123456789abcde | head -c 20000000"]).ok();
    assert_eq!(output.stdout.len(), 20_000_000);
}

/// What Docker's client hands to builds and containers, ours does.
#[test]
fn proxies_of_dockers_config_reach_builds_and_containers() {
    let env = env();
    let config = env.context();
    config.file("config.json", r#"{"proxies": {"default": {"httpProxy": "http://proxy:1", "noProxy": "here"}}, "detachKeys": "ctrl-x"}"#);
    let run = |flags: &[&str]| {
        let command = env.lap(["run", "--rm"]).args(flags).args([
            "busybox",
            "sh",
            "-c",
            "echo $http_proxy $HTTP_PROXY $no_proxy",
        ]);
        command.env("DOCKER_CONFIG", config.path()).ok().stdout_text()
    };
    assert_eq!(run(&[]), "http://proxy:1 http://proxy:1 here\n");
    assert_eq!(run(&["-e", "http_proxy=mine", "-e", "no_proxy="]), "mine http://proxy:1\n");
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo $https_proxy $http_proxy > /seen; env > /env\n");
    let built = env.lap(["build", "-t", "app"]).arg(context.path()).env("DOCKER_CONFIG", config.path());
    built.ok();
    assert_eq!(env.lap(["run", "--rm", "app", "cat", "/seen"]).ok().stdout_text(), "http://proxy:1\n");
    // They are no part of the image, nor of what a step is found by.
    assert_eq!(env.lap(["run", "--rm", "app", "sh", "-c", "echo $http_proxy"]).ok().stdout_text(), "\n");
    let again = env.lap(["build", "--progress", "plain"]).arg(context.path()).ok();
    assert_eq!(common::steps_run(&again), [""; 0]);
    config.file("config.json", r#"{"proxies": {"default": {"httpProxy": 7}}}"#);
    let refused = env.lap(["run", "--rm", "busybox", "true"]).env("DOCKER_CONFIG", config.path()).fails(125);
    refused.stderr_has(&["config.json", "is not as it should be", "line 1"]);
    config.file("config.json", r#"{"detachKeys": "ctrl-1"}"#);
    let refused = env.lap(["run", "--rm", "busybox", "true"]).env("DOCKER_CONFIG", config.path()).fails(125);
    refused.stderr_has(&["bad detachKeys", "ctrl-1"]);
}

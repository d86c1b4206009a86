//! Health checks of containers.

mod common;

use common::containers::Containers;

const FAST: [&str; 4] = ["--health-interval", "100ms", "--health-timeout", "20s"];

/// A container that waits, with a health check.
fn checked(env: &Containers, name: &str, flags: &[&str], check: &str) {
    let args =
        [&FAST[..], flags, &["--name", name, "--health-cmd", check, "busybox", "sleep", "1000"]].concat();
    env.detached(&args);
}

fn health(env: &Containers, name: &str, wanted: &str) {
    env.wait_until(name, ".State.Health.Status", |status| status == wanted);
}

#[test]
fn a_container_is_starting_then_healthy_then_unhealthy() {
    let env = Containers::new();
    checked(&env, "waiting", &["--health-interval", "1h"], "true");
    assert_eq!(env.inspect("waiting", ".State.Health.Status"), "starting");
    checked(&env, "c", &["--health-retries", "2"], "test -e /well && echo checked");
    env.lap(["exec", "c", "touch", "/well"]).ok();
    health(&env, "c", "healthy");
    assert!(env.lap(["ps"]).ok().stdout_text().contains("(healthy)"));
    env.lap(["exec", "c", "rm", "/well"]).ok();
    health(&env, "c", "unhealthy");
    let state = env.lap(["inspect", "-f", "{{json .State.Health}}", "c"]).ok().stdout_text();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert!(state["FailingStreak"].as_u64().unwrap() >= 2, "{state}");
    let log = state["Log"].as_array().unwrap();
    assert!(log.len() <= 5 && log.last().unwrap()["ExitCode"] == 1, "{state}");
    assert_eq!(env.lap(["ps", "-q", "-f", "health=unhealthy"]).ok().stdout_text().lines().count(), 1);
    env.lap(["exec", "c", "touch", "/well"]).ok();
    health(&env, "c", "healthy");
    let state = env.lap(["inspect", "-f", "{{json .State.Health}}", "c"]).ok().stdout_text();
    assert!(state.contains(r#""Output":"checked\n""#), "{state}");
}

#[test]
fn a_check_that_takes_too_long_has_failed() {
    let env = Containers::new();
    let flags = ["--health-retries", "1", "--health-timeout", "100ms"];
    checked(&env, "c", &flags, "sleep 1000");
    health(&env, "c", "unhealthy");
    let state = env.lap(["inspect", "-f", "{{json .State.Health.Log}}", "c"]).ok().stdout_text();
    assert!(state.contains("\"ExitCode\":-1") && state.contains("exceeded timeout"), "{state}");
    // Nothing of it is left in the container.
    let pid = env.inspect("c", ".State.Pid");
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children.trim(), "");
}

#[test]
fn failures_after_the_start_are_forgiven_for_a_while() {
    let env = Containers::new();
    let flags = ["--health-retries", "1", "--health-start-period", "1h", "--health-start-interval", "50ms"];
    checked(&env, "c", &flags, "echo x >> /tries; test -e /well");
    env.wait_for_exec("c", "test $(wc -l < /tries) -ge 3");
    assert_eq!(env.inspect("c", ".State.Health.Status"), "starting");
    env.lap(["exec", "c", "touch", "/well"]).ok();
    health(&env, "c", "healthy");
}

#[test]
fn the_image_says_how_and_flags_say_otherwise() {
    let env = Containers::new();
    let context = env.context();
    context.dockerfile("FROM busybox\nHEALTHCHECK --interval=100ms --retries=1 CMD false\nCMD sleep 1000\n");
    common::build(&env, &context, &["-t", "x"]);
    env.detached(&["--name", "image", "x"]);
    health(&env, "image", "unhealthy");
    env.detached(&["--name", "flag", "--health-cmd", "true", "x"]);
    health(&env, "flag", "healthy");
    env.detached(&["--name", "none", "--no-healthcheck", "x"]);
    assert_eq!(env.inspect("none", "if .State.Health}}checked{{else}}unchecked{{end"), "unchecked");
    env.lap(["inspect", "-f", "{{.State.Health.Status}}", "none"]).fails(1).stderr_has(&["Health"]);
    env.detached(&["--name", "missing", "--health-cmd", "no-such-program", "x"]);
    health(&env, "missing", "unhealthy");
}

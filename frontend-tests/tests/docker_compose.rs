//! Docker Compose and Testcontainers over Docker's API.

mod common;

use std::path::Path;

use common::containers::Containers;
use common::daemon::plugin;
use common::docker::Docker;
use testkit::Lap;

/// `docker-compose ARGS…` for a project of ours.
fn compose(docker: &Docker<'_>, program: &Path, args: &[&str]) -> Lap {
    let home = docker.daemon.env.home();
    Lap::new(program)
        .args(["-p", "shop"])
        .args(args)
        .current_dir(&docker.daemon.env.work())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", &home)
        .env("DOCKER_CONFIG", home.join(".docker"))
        .env("DOCKER_HOST", docker.daemon.address())
}

#[test]
fn compose_brings_a_project_up_and_down() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    let Some(program) = plugin("docker-compose") else { return };
    let file = "services:\n  db:\n    image: busybox\n    command: sh -c 'echo ready; exec sleep 1000'\n    stop_grace_period: 0s\n    volumes: ['data:/data', '/anonymous']\n    healthcheck:\n      test: ['CMD', 'true']\n      interval: 1s\n  web:\n    image: busybox\n    command: sh -c 'echo served > /w; exec sleep 1000'\n    stop_grace_period: 0s\n    environment: { A: b }\n    depends_on: { db: { condition: service_healthy } }\nvolumes:\n  data: {}\n";
    std::fs::write(env.work().join("compose.yaml"), file).unwrap();
    compose(&docker, &program, &["up", "-d"]).ok();
    let shown = compose(&docker, &program, &["ps", "--format", "{{.Service}} {{.State}}"]).ok().stdout_text();
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["db running", "web running"]);
    let logs = compose(&docker, &program, &["logs", "--no-log-prefix", "db"]).ok().stdout_text();
    assert!(logs.trim().ends_with("ready"), "{logs:?}");
    let said = compose(
        &docker,
        &program,
        &["exec", "-T", "web", "sh", "-c", "echo $A; ping -c 1 db > /dev/null && echo found"],
    );
    assert_eq!(said.ok().stdout_text(), "b\nfound\n");
    // Nothing is to be done again.
    let again = compose(&docker, &program, &["up", "-d"]).ok();
    assert!(!again.stderr_text().contains("Recreate"), "{again}");
    let run =
        compose(&docker, &program, &["run", "--rm", "-T", "--no-deps", "web", "sh", "-c", "exit 4"]).run();
    assert_eq!(run.code(), Some(4), "{run}");
    compose(&docker, &program, &["restart", "-t", "0", "web"]).ok();
    compose(&docker, &program, &["stop", "-t", "0"]).ok();
    compose(&docker, &program, &["start"]).ok();
    compose(&docker, &program, &["down", "-v", "-t", "0"]).ok();
    assert_eq!(docker.text(&["ps", "-aq"]), "");
    assert_eq!(docker.text(&["volume", "ls", "-q"]), "");
}

#[test]
fn testcontainers_are_started_and_removed() {
    let env = Containers::new();
    let Some(docker) = Docker::new(&env) else { return };
    let python = testkit::binary::cache_dir().join("../python/bin/python");
    let script = "from testcontainers.core.container import DockerContainer\nfrom testcontainers.core.waiting_utils import wait_for_logs\nwith DockerContainer('busybox').with_command(['sh', '-c', 'echo up and running; exec sleep 1000']) as c:\n    wait_for_logs(c, 'up and running')\n    print(c.exec(['echo', 'inside']).output.decode())\n";
    let has_library = Lap::new(&python).args(["-c", "import testcontainers"]).run().code() == Some(0);
    if !has_library {
        return testkit::privilege::skip("Python's testcontainers are not there");
    }
    let ran = Lap::new(&python)
        .args(["-c", script])
        .env("DOCKER_HOST", docker.daemon.address())
        .env("TESTCONTAINERS_RYUK_DISABLED", "true")
        .env("HOME", env.home());
    assert!(ran.ok().stdout_text().contains("inside"));
    assert_eq!(docker.text(&["ps", "-aq"]), "");
}

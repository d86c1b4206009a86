//! Podman and Docker with our runtime instead of theirs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use frontend_tests::docker::Docker;
use tempfile::TempDir;
use testkit::{Lap, Output};

/// A program of the name that callers can be given.
fn runtime(directory: &Path) -> PathBuf {
    let path = directory.join("lap-oci-runtime");
    std::os::unix::fs::symlink(testkit::binary::lap(), &path).unwrap();
    path
}

struct Podman {
    dir: TempDir,
    program: PathBuf,
}

impl Podman {
    /// With the image `box` of busybox.
    fn new() -> Option<Self> {
        testkit::privilege::root()?;
        let program = testkit::judges::program("podman")?.path().to_owned();
        let podman = Self { dir: tempfile::Builder::new().prefix("lap-podman-").tempdir().unwrap(), program };
        runtime(podman.dir.path());
        let archive = podman.dir.path().join("box.tar");
        testkit::images::busybox_as("localhost/box:latest").write_archive(&archive);
        podman.command(&["load", "--input", archive.to_str().unwrap()]).ok();
        Some(podman)
    }

    fn command(&self, args: &[&str]) -> Lap {
        let inside = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        Lap::new(&self.program)
            .args(["--root", &inside("root"), "--runroot", &inside("run"), "--tmpdir", &inside("tmp")])
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .args(["--runtime", &inside("lap-oci-runtime")])
            .args(args)
            .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.dir.path())
            .deadline(Duration::from_secs(60))
    }

    /// `podman run --network none ARGS`.
    fn run(&self, args: &[&str]) -> Lap {
        self.command(&[&["run", "--network", "none"], args].concat())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.command(&["rm", "--all", "--force", "--time", "0"]).run();
        testkit::env::unmount_below(self.dir.path());
    }
}

#[test]
fn podman_runs_containers() {
    let Some(podman) = Podman::new() else { return };
    let output = podman.run(&["--rm", "box", "sh", "-c", "echo $container; exit 6"]).fails(6);
    assert_eq!(output.stdout_text(), "podman\n");
    podman.run(&["--rm", "box", "nothing"]).fails(127);
    podman.run(&["--rm", "box", "/etc"]).fails(126);
    let output =
        podman.run(&["--rm", "--read-only", "--tmpfs", "/etc", "box", "sh", "-c", "touch /x || ls /etc"]);
    assert!(output.ok().stdout_text().contains("passwd"));
    let map = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
    let output = podman.run(&[&["--rm"], &map[..], &["box", "cat", "/proc/self/uid_map"]].concat()).ok();
    assert_eq!(output.stdout_text().split_whitespace().collect::<Vec<_>>(), ["0", "100000", "1000"]);
}

/// The limit of memory of the process whose number was printed, in bytes.
fn memory_limit(printed: &Output) -> u64 {
    let pid = printed.stdout_text();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    let first = groups.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path));
    let second = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let file = match (first, second) {
        (Some(path), _) => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
        (None, path) => format!("/sys/fs/cgroup{}/memory.max", path.unwrap()),
    };
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[test]
fn podman_looks_after_containers() {
    if !testkit::privilege::can_limit(&["memory", "pids", "freezer"]) {
        return;
    }
    let Some(podman) = Podman::new() else { return };
    let script = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 1; done";
    podman
        .run(&["--detach", "--name", "box1", "-m", "64m", "--pids-limit", "60", "box", "sh", "-c", script])
        .ok();
    let ps = podman.command(&["exec", "box1", "ps"]).ok();
    assert!(ps.stdout_text().lines().count() < 6, "{ps}");
    podman.command(&["exec", "box1", "nothing"]).fails(127);
    podman.command(&["pause", "box1"]).ok();
    let status = ["inspect", "--format", "{{.State.Status}}", "box1"];
    assert_eq!(podman.command(&status).ok().stdout_text(), "paused\n");
    podman.command(&["unpause", "box1"]).ok();
    podman.command(&["update", "--memory", "100m", "box1"]).ok();
    let stats = podman.command(&["stats", "--no-stream", "--format", "{{.CPU}}", "box1"]).ok();
    assert!(stats.stdout_text().trim().parse::<f64>().is_ok(), "{stats}");
    assert_eq!(
        memory_limit(&podman.command(&["inspect", "--format", "{{.State.Pid}}", "box1"]).ok()),
        100 << 20
    );
    podman.command(&["stop", "--time", "20", "box1"]).ok();
    assert_eq!(podman.command(&["wait", "box1"]).ok().stdout_text(), "5\n");
    assert_eq!(podman.command(&["logs", "box1"]).ok().stdout_text(), "ready\nasked\n");
    podman.command(&["rm", "box1"]).ok();
}

#[test]
fn docker_runs_and_looks_after_containers() {
    if !testkit::privilege::can_limit(&["memory", "freezer"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = runtime(dir.path());
    let option = format!("--add-runtime=lap={}", path.display());
    let docker = match Docker::start_with(Path::new("/"), &[&option, "--default-runtime=lap"]) {
        Ok(docker) => docker,
        Err(reason) => return println!("skipped: no Docker daemon: {reason}"),
    };
    let run = |args: &[&str]| docker.command().args(["run", "--network", "none"]).args(args);
    let output = run(&["--rm", "busybox", "sh", "-c", "cat /proc/self/status; exit 6"]).fails(6);
    let output = output.stdout_text();
    assert!(output.contains("CapBnd:\t00000000a80425fb") && output.contains("Seccomp:\t2"), "{output}");
    run(&["--rm", "busybox", "nothing"]).fails(127);
    run(&["--rm", "busybox", "/etc"]).fails(126);
    let script = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 1; done";
    run(&["--detach", "--name", "box1", "-m", "64m", "busybox", "sh", "-c", script]).ok();
    docker.command().args(["exec", "box1", "sh", "-c", "exit 8"]).fails(8);
    docker.command().args(["pause", "box1"]).ok();
    docker.command().args(["unpause", "box1"]).ok();
    docker.command().args(["update", "--memory", "80m", "--memory-swap", "160m", "box1"]).ok();
    let top = docker.command().args(["top", "box1"]).ok();
    assert!(top.stdout_text().contains("while :"), "{top}");
    docker.command().args(["stop", "--time", "20", "box1"]).ok();
    let code = docker.command().args(["inspect", "--format", "{{.State.ExitCode}}", "box1"]).ok();
    assert_eq!(code.stdout_text(), "5\n");
    assert_eq!(docker.command().args(["logs", "box1"]).ok().stdout_text(), "ready\nasked\n");
    docker.command().args(["rm", "box1"]).ok();
}

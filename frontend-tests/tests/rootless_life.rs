//! The life of an ordinary user's containers, over several commands, which share a user namespace while any of them lives.

mod common;

use nix::sys::signal::Signal;
use testkit::wait::until;
use testkit::{OrdinaryUser, Ranges};

/// A user with `busybox:latest` whose containers are removed at the end.
struct User(OrdinaryUser);

impl User {
    fn new() -> Option<Self> {
        let user = OrdinaryUser::new(Ranges::Usual)?;
        user.load(&testkit::images::busybox());
        Some(Self(user))
    }

    /// `lap run -d ARGS…`, without a network, which is another test's.
    fn detached(&self, args: &[&str]) -> String {
        let run = self.0.lap(["run", "-d", "--network", "none"]);
        run.args(args).ok().stdout_text().trim().to_owned()
    }

    fn says(&self, args: &[&str]) -> String {
        self.0.lap(args).ok().stdout_text()
    }

    fn inspect(&self, container: &str, field: &str) -> String {
        self.says(&["inspect", "-f", &format!("{{{{{field}}}}}"), container]).trim().to_owned()
    }

    fn wait_until(&self, container: &str, field: &str, wanted: impl Fn(&str) -> bool) {
        until(&format!("{field} of {container} is as it should be"), || {
            wanted(&self.inspect(container, field))
        });
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let ids = self.0.lap(["ps", "-aq", "--no-trunc"]).run().stdout_text();
        for id in ids.lines() {
            self.0.lap(["rm", "-f", id]).run();
        }
    }
}

#[test]
fn a_container_is_used_by_many_commands() {
    let Some(user) = User::new() else { return };
    let script = "trap 'echo stopped; exit 6' TERM; echo started; id -u; while :; do sleep 0.1; done";
    let id = user.detached(&["--name", "c", "busybox", "sh", "-c", script]);
    assert_eq!(id.len(), 64);
    let mut follower = user.0.lap(["logs", "-f", "c"]).spawn();
    follower.wait_for("started");
    assert!(user.says(&["ps"]).contains("Up "));
    // A further command has the container's users, files and processes.
    let exec = |args: &[&str]| user.says(&[&["exec"], args].concat());
    assert_eq!(
        exec(&["c", "sh", "-c", "cat /proc/1/comm; id -u; hostname"]),
        format!("sh\n0\n{}\n", &id[..12])
    );
    assert_eq!(exec(&["-u", "1000:1001", "c", "sh", "-c", "id -u; id -g"]), "1000\n1001\n");
    assert_eq!(
        exec(&["-u", "nobody", "-w", "/tmp", "-e", "A=b", "c", "sh", "-c", "id -u; pwd; echo $A"]),
        "65534\n/tmp\nb\n"
    );
    assert_eq!(
        user.0.lap(["exec", "-i", "c", "tr", "a-z", "A-Z"]).stdin("piped\n").ok().stdout_text(),
        "PIPED\n"
    );
    exec(&["-d", "c", "sh", "-c", "echo x > /written; chown 33:44 /written"]);
    user.wait_until("c", ".State.Status", |_| {
        user.0.lap(["exec", "c", "sh", "-c", "test $(stat -c %u:%g /written) = 33:44"]).run().code()
            == Some(0)
    });
    user.0.lap(["exec", "c", "no-such-program"]).fails(127);
    user.says(&["stop", "c"]);
    let followed = follower.finish();
    assert_eq!(followed.stdout_text(), "started\n0\nstopped\n");
    assert_eq!(user.inspect("c", ".State.ExitCode"), "6");
    // What it wrote is there when it is started again.
    user.says(&["start", "c"]);
    assert_eq!(exec(&["c", "stat", "-c", "%u", "/written"]), "33\n");
    user.0.lap(["rm", "c"]).fails(1).stderr_has(&["container is running"]);
    user.says(&["kill", "c"]);
    assert_eq!(user.says(&["wait", "c"]), "137\n");
    user.says(&["rm", "-f", "c"]);
    assert_eq!(user.says(&["ps", "-aq"]), "");
    user.0.lap(["store", "check"]).ok();
}

#[test]
fn one_attaches_to_it_and_it_ends_with_the_foreground() {
    let Some(user) = User::new() else { return };
    user.detached(&["-i", "--name", "c", "busybox", "sh", "-c", "read line; echo \"got $line\"; exit 3"]);
    let attached = user.0.lap(["attach", "c"]).stdin("this\n").fails(3);
    assert_eq!(attached.stdout_text(), "got this\n");
    assert_eq!(user.says(&["logs", "c"]), "got this\n");
    let mut running = user
        .0
        .lap([
            "run",
            "--network",
            "none",
            "--name",
            "f",
            "busybox",
            "sh",
            "-c",
            "setsid sleep 1000 & echo ready; wait",
        ])
        .spawn();
    running.wait_for("ready");
    running.signal(Signal::SIGKILL);
    // The pipes close only when the last process that holds them is gone; the deadline is the assertion.
    running.finish();
    assert_eq!(user.inspect("f", ".State.Status"), "exited");
}

#[test]
fn it_is_restarted_checked_and_started_with_the_machine() {
    let Some(user) = User::new() else { return };
    user.detached(&[
        "--name",
        "failing",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo run; exit 9",
    ]);
    assert_eq!(user.says(&["wait", "failing"]), "9\n");
    assert_eq!(user.says(&["logs", "failing"]), "run\nrun\nrun\n");
    let check = ["--health-interval", "100ms", "--health-timeout", "20s", "--health-retries", "1"];
    let health = [&check[..], &["--health-cmd", "test -e /well"], &["--restart", "always"]].concat();
    user.detached(&[&health[..], &["--name", "checked", "busybox", "sleep", "1000"]].concat());
    user.wait_until("checked", ".State.Health.Status", |status| status == "unhealthy");
    user.says(&["exec", "checked", "touch", "/well"]);
    user.wait_until("checked", ".State.Health.Status", |status| status == "healthy");
    user.says(&["stop", "-t", "0", "checked"]);
    assert_eq!(user.says(&["system", "start-containers"]), "checked\n");
    assert_eq!(user.inspect("checked", ".State.Status"), "running");
}

#[test]
fn what_containers_do_and_use_is_shown_to_their_owner() {
    let Some(user) = User::new() else { return };
    let id = user.detached(&["--name", "c", "busybox", "sh", "-c", "sleep 1234 & echo ready; wait"]);
    let mut logs = user.0.lap(["logs", "-f", "c"]).spawn();
    logs.wait_for("ready");
    logs.signal(Signal::SIGTERM);
    logs.finish();
    until("its processes are told", || {
        user.says(&["top", "c", "-eo", "user,args"]).contains("root                sleep 1234\n")
    });
    let stats = user.says(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]);
    assert_eq!(stats, "c 2\n");
    user.0.lap(["update", "--restart", "unless-stopped", "c"]).ok();
    assert_eq!(user.inspect("c", ".HostConfig.RestartPolicy.Name"), "unless-stopped");
    user.0.lap(["rm", "-f", "c"]).ok();
    let events =
        user.says(&["events", "--since", "1h", "--until", "0s", "--filter", &format!("container={id}")]);
    let actions: Vec<&str> = events.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(actions, ["create", "start", "update", "kill", "kill", "die", "stop", "destroy"]);
}

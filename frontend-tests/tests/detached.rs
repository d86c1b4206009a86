//! Detached containers: `lap run -d`, and the commands that look at, end and remove them.

mod common;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::containers::Containers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::wait::until;

#[test]
fn a_container_outlives_the_command_that_started_it() {
    let env = Containers::new();
    let id = env.detached(&["--name", "web", "busybox", "sh", "-c", "echo ready; exec sleep 1000"]);
    assert_eq!(id.len(), 64);
    env.wait_for("web", "ready");
    let shown = env.lap(["ps"]).ok().stdout_text();
    assert!(shown.starts_with("CONTAINER ID   IMAGE     COMMAND"), "{shown}");
    assert!(shown.contains(&id[..12]) && shown.contains("Up ") && shown.contains("web"), "{shown}");
    assert_eq!(env.inspect("web", ".State.Status"), "running");
    assert_eq!(env.inspect(&id[..5], ".Name"), "/web");
    let pid = env.inspect("web", ".State.Pid");
    let command = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    until("the shell has become another program", || command() == b"sleep\x001000\x00");
    let shim = env.shim_of(&id);
    let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!((fields[3], fields[4]), (shim.to_string().as_str(), "0"), "a session without a terminal");
    assert_eq!(env.lap(["stop", "-t", "0", "web"]).ok().stdout_text(), "web\n");
    assert_eq!(env.inspect("web", ".State.ExitCode"), "137");
    assert_eq!(env.lap(["ps", "-q"]).ok().stdout_text(), "");
    assert!(env.lap(["ps", "-a"]).ok().stdout_text().contains("Exited (137)"));
    assert_eq!(env.lap(["rm", "web"]).ok().stdout_text(), "web\n");
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
    env.lap(["store", "check"]).ok();
}

#[test]
fn the_id_is_printed_only_when_the_program_runs() {
    let env = Containers::new();
    let missing = env.lap(["run", "-d", "--name", "no", "busybox", "no-such-program"]).fails(127);
    missing.stderr_has(&["no-such-program", "not found"]);
    assert_eq!(missing.stdout_text(), "");
    assert_eq!(env.inspect("no", ".State.Status"), "created");
    assert_eq!(env.inspect("no", ".State.ExitCode"), "127");
    env.lap(["run", "-d", "--rm", "busybox", "/etc/passwd"]).fails(126);
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text().lines().count(), 1, "--rm removes it");
    env.lap(["start", "no"]).fails(1).stderr_has(&["no-such-program"]);
}

#[test]
fn names_belong_to_one_container() {
    let env = Containers::new();
    let id = env.detached(&["--name", "web", "busybox", "sleep", "1000"]);
    let taken = env.lap(["run", "-d", "--name", "web", "busybox", "true"]).fails(125);
    taken.stderr_has(&["\"/web\" is already in use", &id]);
    env.lap(["run", "-d", "--name=.web", "busybox", "true"])
        .fails(125)
        .stderr_has(&["invalid container name"]);
    env.detached(&["busybox", "sleep", "1000"]);
    let names = env.lap(["ps", "--format", "{{.Names}}"]).ok().stdout_text();
    let generated = names.lines().find(|name| *name != "web").unwrap();
    assert!(generated.contains('_'), "{generated}");
    env.lap(["rename", generated, "db"]).ok();
    env.lap(["rename", "db", "web"]).fails(1).stderr_has(&["already in use"]);
    assert_eq!(env.lap(["ps", "-q", "--filter", "name=db"]).ok().stdout_text().lines().count(), 1);
    for command in [&["stop"][..], &["kill"], &["logs"], &["wait"], &["rm"], &["start"], &["attach"]] {
        env.lap(command).arg("nobody").fails(1).stderr_has(&["No such container: nobody"]);
    }
}

#[test]
fn a_container_is_stopped_by_its_signal_or_killed_in_the_end() {
    let env = Containers::new();
    let script = "trap 'echo USR1; exit 5' USR1; trap 'echo TERM; exit 6' TERM; echo ready; while :; do sleep 0.1; done";
    let start = |flags: &[&str], name: &str| {
        env.detached(&[flags, &["--name", name, "busybox", "sh", "-c", script]].concat());
        env.wait_for(name, "ready");
    };
    start(&[], "a");
    env.lap(["stop", "a"]).ok();
    assert_eq!(env.inspect("a", ".State.ExitCode"), "6");
    start(&["--stop-signal", "USR1"], "b");
    env.lap(["stop", "b"]).ok();
    assert_eq!(env.inspect("b", ".State.ExitCode"), "5");
    start(&[], "c");
    env.lap(["kill", "-s", "SIGUSR1", "c"]).ok();
    assert_eq!(env.lap(["wait", "c"]).ok().stdout_text(), "5\n");
    env.lap(["kill", "c"]).fails(1).stderr_has(&["is not running"]);
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    env.detached(&["--name", "deaf", "--stop-timeout", "1", "busybox", "sh", "-c", deaf]);
    env.wait_for("deaf", "ready");
    env.lap(["stop", "deaf"]).ok();
    assert_eq!(env.inspect("deaf", ".State.ExitCode"), "137");
    // What does not run is stopped already.
    env.lap(["stop", "deaf"]).ok();
    env.lap(["kill", "-s", "NOSUCH", "deaf"]).fails(2).stderr_has(&["NOSUCH"]);
}

#[test]
fn the_images_signal_asks_for_the_end() {
    let env = Containers::new();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nSTOPSIGNAL SIGUSR2\nCMD trap 'exit 4' USR2; echo ready; while :; do sleep 0.1; done\n",
    );
    common::build(&env, &context, &["-t", "x"]);
    env.detached(&["--name", "c", "x"]);
    env.wait_for("c", "ready");
    env.lap(["stop", "c"]).ok();
    assert_eq!(env.inspect("c", ".State.ExitCode"), "4");
    assert_eq!(env.inspect("c", ".Config.StopSignal"), "SIGUSR2");
}

#[test]
fn what_runs_is_removed_only_by_force() {
    let env = Containers::new();
    let id = env.detached(&["--name", "web", "busybox", "sleep", "1000"]);
    let refused = env.lap(["rm", "web"]).fails(1);
    refused.stderr_has(&["cannot remove container", &id, "container is running", "force remove"]);
    env.lap(["rm", "-f", "web"]).ok();
    env.lap(["rm", "-f", "web"]).ok().stderr_has(&["No such container: web"]);
    let id = env.detached(&["--rm", "busybox", "sleep", "1000"]);
    env.lap(["rm", "-f", &id]).ok();
    env.detached(&["--rm", "--name", "gone", "busybox", "true"]);
    let left = env.lap(["wait", "gone"]).run();
    assert!(left.stdout_text() == "0\n" || left.stderr_text().contains("No such container"), "{left}");
    env.lap(["store", "gc"]).ok();
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_container_keeps_what_it_wrote_and_starts_again() {
    let env = Containers::new();
    let script = "echo x >> /kept; wc -l < /kept; exit 3";
    env.lap(["run", "--name", "c", "busybox", "sh", "-c", script]).fails(3).stdout_has(&["1\n"]);
    assert_eq!(env.lap(["start", "-a", "c"]).fails(3).stdout_text(), "2\n");
    env.lap(["start", "c"]).ok();
    assert_eq!(env.lap(["wait", "c"]).ok().stdout_text(), "3\n");
    assert_eq!(env.lap(["logs", "c"]).ok().stdout_text(), "1\n2\n3\n");
    // Neither a collection nor the removal of the image takes anything from it.
    env.lap(["rmi", "busybox"]).fails(1).stderr_has(&["must force", "container"]);
    env.lap(["rmi", "-f", "busybox"]).ok();
    env.lap(["builder", "prune", "-af"]).ok();
    assert_eq!(env.lap(["start", "-a", "c"]).fails(3).stdout_text(), "4\n");
    let pruned = env.lap(["container", "prune", "-f"]).ok().stdout_text();
    assert!(pruned.contains("Deleted Containers:"), "{pruned}");
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
}

#[test]
fn a_container_made_without_being_started_is_started_later() {
    let env = Containers::new();
    let id = env.lap(["create", "--name", "c", "busybox", "echo", "hello"]).ok().stdout_text();
    assert_eq!(env.lap(["ps", "-aq", "--no-trunc", "--filter", "status=created"]).ok().stdout_text(), id);
    assert_eq!(env.lap(["start", "-a", "c"]).ok().stdout_text(), "hello\n");
    let file = env.work().join("id");
    let path = file.to_str().unwrap();
    env.lap(["run", "-d", "--rm", "--cidfile", path, "busybox", "sleep", "1000"]).ok();
    let written = std::fs::read_to_string(&file).unwrap();
    env.lap(["run", "--rm", "--cidfile", path, "busybox", "true"]).fails(125).stderr_has(&["ID file found"]);
    env.lap(["rm", "-f", &written]).ok();
}

#[test]
fn killing_the_shim_ends_the_container() {
    let env = Containers::new();
    let id = env.detached(&["--name", "c", "busybox", "sh", "-c", "setsid sleep 1000 & echo ready; wait"]);
    env.wait_for("c", "ready");
    let pid: i32 = env.inspect("c", ".State.Pid").parse().unwrap();
    let fd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::PidfdFlags::empty(),
    );
    let fd = fd.unwrap();
    kill(Pid::from_raw(env.shim_of(&id)), Signal::SIGKILL).unwrap();
    let minute = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    let mut polled = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut polled, Some(&minute)), Ok(1), "the container lives on");
    assert_eq!(env.wait_until("c", ".State.Status", |status| status == "exited"), "exited");
    assert_eq!(env.inspect("c", ".State.ExitCode"), "137");
    assert!(env.inspect("c", ".State.Error").contains("supervisor was killed"));
    env.lap(["start", "c"]).ok();
    assert_eq!(env.inspect("c", ".State.Status"), "running");
}

#[test]
fn garbage_on_the_socket_disturbs_nobody() {
    let env = Containers::new();
    let id = env.detached(&["--name", "c", "busybox", "sleep", "1000"]);
    let socket = env.root().join("containers-v1").join(&id).join("control");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions()) & 0o777,
        0o600
    );
    // Paths of sockets are short; the directory's descriptor makes it so.
    let directory = std::fs::File::open(socket.parent().unwrap()).unwrap();
    let path = format!("/proc/self/fd/{}/control", std::os::fd::AsRawFd::as_raw_fd(&directory));
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x02\0\0\0{}",
        b"\x05\0\0\0hello",
        b"\x00\0\0\0",
        b"\x20\0\0\0{\"request\":\"attach\",\"stdin\":true",
    ];
    for bytes in garbage {
        UnixStream::connect(&path).unwrap().write_all(bytes).unwrap();
    }
    let idle: Vec<UnixStream> = (0..200).filter_map(|_| UnixStream::connect(&path).ok()).collect();
    drop(idle);
    assert_eq!(env.inspect("c", ".State.Status"), "running");
    env.lap(["stop", "-t", "0", "c"]).ok();
}

#[test]
fn listing_is_filtered_and_formatted() {
    let env = Containers::new();
    env.detached(&["--name", "a", "-l", "tier=front", "busybox", "sleep", "1000"]);
    env.lap(["run", "--name", "b", "busybox", "sh", "-c", "exit 7"]).fails(7);
    let names = |args: &[&str]| {
        let list = env.lap(["ps", "--format", "{{.Names}} {{.State}}"]).args(args).ok().stdout_text();
        list.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["a running"]);
    assert_eq!(names(&["-a"]), ["b exited", "a running"]);
    assert_eq!(names(&["-l"]), ["b exited"]);
    assert_eq!(names(&["-n", "2"]).len(), 2);
    assert_eq!(names(&["-f", "exited=7"]), ["b exited"]);
    assert_eq!(names(&["-f", "status=exited"]), ["b exited"]);
    assert_eq!(names(&["-a", "-f", "label=tier=front"]), ["a running"]);
    assert_eq!(names(&["-a", "-f", "ancestor=busybox", "-f", "before=b"]), ["a running"]);
    env.lap(["ps", "-f", "colour=red"]).fails(2).stderr_has(&["colour=red"]);
    let document = env.lap(["container", "inspect", "a"]).ok().stdout_text();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document[0]["Config"]["Labels"]["tier"], "front");
    assert_eq!(document[0]["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(document[0]["HostConfig"]["RestartPolicy"]["Name"], "no");
    env.lap(["inspect", "--type", "container", "busybox"]).fails(1).stderr_has(&["No such container"]);
    env.lap(["inspect", "nothing"]).fails(1).stderr_has(&["No such object: nothing"]);
}

#[test]
fn a_shim_takes_little_memory() {
    let env = Containers::new();
    let id = env.detached(&["--name", "c", "busybox", "sh", "-c", "echo ready; exec sleep 1000"]);
    env.wait_for("c", "ready");
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", env.shim_of(&id))).unwrap();
    let kilobytes = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // What counts is what nobody else has; pages of the program are the file's. Without optimisation there is more of both: a
    // release build has 1.3 MiB of its own.
    assert!(kilobytes("Private_Dirty:") <= 4 << 10, "{rollup}");
    assert!(kilobytes("Rss:") <= 10 << 10, "{rollup}");
}

/// How many commands are killed while they start a container.
const KILLS: u32 = 40;

#[test]
fn a_container_whose_starter_is_killed_runs_or_is_gone() {
    let env = Containers::new();
    let run = ["run", "-d", "--rm", "--network", "none", "busybox", "sleep", "1000"];
    let begin = Instant::now();
    env.lap(run).ok();
    let usual = begin.elapsed();
    for kill in 0..KILLS {
        let moment = usual * kill / KILLS;
        let begin = Instant::now();
        let running = env.lap(run).spawn();
        while begin.elapsed() < moment {
            std::thread::yield_now();
        }
        running.signal(Signal::SIGKILL);
        // A shim that goes on has none of its streams.
        running.finish();
    }
    // A shim that has just been started may be about to start its container, or to notice that it is alone.
    until("all are started or gone", || {
        env.lap(["ps", "-aq", "--filter", "status=created"]).ok().stdout_text().is_empty()
    });
    let count = |args: &[&str]| env.lap(["ps", "-q"]).args(args).ok().stdout_text().lines().count();
    assert!(count(&[]) >= 1);
    assert_eq!(count(&["-a"]), count(&[]), "{}", env.lap(["ps", "-a"]).ok());
    env.lap(["store", "check"]).ok();
}

/// The processor time that a process has used, in ticks.
fn processor_time(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn who_is_attached_and_does_not_read_keeps_no_container_from_being_removed() {
    let env = Containers::new();
    let flags = ["--log-driver", "none", "--network", "none", "--name", "web", "busybox"];
    let script = "echo begin; read line </dev/null; while ! test -e /go; do :; done; exec yes";
    env.detached(&[&flags[..], &["sh", "-c", script]].concat());
    let mut attached = env.lap(["attach", "--no-stdin", "web"]).spawn();
    env.lap(["exec", "web", "touch", "/go"]).ok();
    attached.wait_for("y\ny\n");
    attached.signal(Signal::SIGSTOP);
    // All pipes are full when it does nothing any more.
    let pid = env.inspect("web", ".State.Pid");
    let mut before = None;
    while before != Some(processor_time(&pid)) {
        before = Some(processor_time(&pid));
        env.inspect("web", ".State.Status");
    }
    env.lap(["kill", "web"]).ok();
    env.wait_until("web", ".State.Status", |status| status == "exited");
    env.lap(["rm", "web"]).deadline(Duration::from_secs(30)).ok();
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
    attached.signal(Signal::SIGCONT);
    attached.finish();
}

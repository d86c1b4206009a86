//! `lap logs`: what containers have written, also while they write, and how much of it is kept.

mod common;

use std::io::Read as _;
use std::path::Path;

use common::containers::Containers;
use testkit::Lap;

#[test]
fn both_streams_come_back_as_they_were_written() {
    let env = Containers::new();
    let script = "echo one; echo two >&2; printf 'no end'";
    env.lap(["run", "--name", "c", "busybox", "sh", "-c", script]).ok();
    let logs = env.lap(["logs", "c"]).ok();
    assert_eq!((logs.stdout_text(), logs.stderr_text()), ("one\nno end".to_owned(), "two\n".to_owned()));
    let path = env.inspect("c", ".LogPath");
    let file = std::fs::read_to_string(path).unwrap();
    let first: serde_json::Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
    assert_eq!((&first["log"], &first["stream"]), (&"one\n".into(), &"stdout".into()));
    assert!(first["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn long_lines_are_cut_and_put_together_again() {
    let env = Containers::new();
    env.lap(["run", "--name", "c", "busybox", "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo"])
        .ok();
    let said = env.lap(["logs", "c"]).ok().stdout_text();
    assert_eq!(said, format!("{}\n", "x".repeat(100_000)));
    let file = std::fs::read_to_string(env.inspect("c", ".LogPath")).unwrap();
    assert_eq!(file.lines().count(), 7, "pieces of 16 KiB");
}

#[test]
fn parts_are_chosen_by_number_and_time() {
    let env = Containers::new();
    env.lap(["run", "--name", "c", "busybox", "seq", "5"]).ok();
    let logs = |args: &[&str]| env.lap(["logs"]).args(args).arg("c").ok().stdout_text();
    assert_eq!(logs(&["--tail", "2"]), "4\n5\n");
    assert_eq!(logs(&["-n", "0"]), "");
    assert_eq!(logs(&["--since", "1h"]), "1\n2\n3\n4\n5\n");
    assert_eq!(logs(&["--until", "1h"]), "");
    let stamped = logs(&["-t"]);
    let (time, line) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert_eq!((time.len(), line), ("2026-01-02T03:04:05.000000000Z".len(), "1"));
    let third = stamped.lines().nth(2).unwrap().split_once(' ').unwrap().0;
    assert!(logs(&["--since", third]).ends_with("3\n4\n5\n"));
    env.lap(["logs", "--tail", "some", "c"]).fails(2);
    let flags = ["--log-opt", "labels=tier", "-l", "tier=front", "--name", "d"];
    env.lap(["run"]).args(flags).args(["busybox", "echo", "hi"]).ok();
    assert_eq!(env.lap(["logs", "--details", "d"]).ok().stdout_text(), "tier=front hi\n");
}

#[test]
fn a_follower_sees_everything_until_the_end() {
    let env = Containers::new();
    env.detached(&["--name", "c", "-i", "busybox", "sh", "-c", "echo first; read line; echo \"got $line\""]);
    let mut logs = env.lap(["logs", "-f", "c"]).spawn();
    logs.wait_for("first");
    env.lap(["attach", "--sig-proxy=false", "c"]).stdin("this\n").ok();
    let output = logs.finish();
    assert_eq!(output.stdout_text(), "first\ngot this\n");
}

#[test]
fn files_give_way_and_a_follower_loses_and_repeats_nothing() {
    let env = Containers::new();
    let limits = ["--log-opt", "max-size=4k", "--log-opt", "max-file=500"];
    let script = "read go; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let args = [&limits[..], &["--name", "c", "-i", "busybox", "sh", "-c", script]].concat();
    env.detached(&args);
    let logs = env.lap(["logs", "-f", "c"]).spawn();
    env.lap(["attach", "c"]).stdin("go\n").ok();
    let expected: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(logs.finish().stdout_text(), expected);
    let directory = env.inspect("c", ".LogPath");
    let directory = std::path::Path::new(&directory).parent().unwrap();
    let files: Vec<_> =
        common::names_in(directory).into_iter().filter(|name| name.starts_with("json.log")).collect();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        assert!(std::fs::metadata(directory.join(file)).unwrap().len() <= 4096);
    }
}

#[test]
fn only_so_many_files_are_kept() {
    let env = Containers::new();
    let limits = ["--log-opt", "max-size=2k", "--log-opt", "max-file=2"];
    env.lap(["run", "--name", "c"]).args(limits).args(["busybox", "seq", "1000"]).ok();
    let said = env.lap(["logs", "c"]).ok().stdout_text();
    assert!(said.ends_with("999\n1000\n") && said.lines().count() < 100, "{said}");
    env.lap(["run", "--log-opt", "max-file=2", "busybox", "true"]).fails(125).stderr_has(&["max-size"]);
}

#[test]
fn a_container_may_keep_no_log() {
    let env = Containers::new();
    env.detached(&[
        "--name",
        "c",
        "--log-driver",
        "none",
        "busybox",
        "sh",
        "-c",
        "yes | head -c 10000000; sleep 1000",
    ]);
    env.lap(["logs", "c"]).fails(1).stderr_has(&["does not support reading", "--log-driver none"]);
    assert_eq!(env.inspect("c", ".HostConfig.LogConfig.Type"), "none");
}

#[test]
fn a_reader_who_stalls_stops_the_container_and_loses_nothing() {
    let env = Containers::new();
    let script = "read go; yes 0123456789abcde | head -c 8000000; echo end";
    env.detached(&["--name", "c", "-i", "busybox", "sh", "-c", script]);
    // It answers others although nobody reads what it writes, and gives everything to who does.
    let (pipe, lap) = (env.work().join("pipe"), testkit::binary::lap());
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let attach =
        format!("echo go | {} --root {} attach c > {}", lap.display(), env.root().display(), pipe.display());
    let attached = Lap::new(Path::new("/bin/sh")).args(["-c", &attach]).spawn();
    let mut output = vec![0; 8_000_000 + 4];
    reader.read_exact(&mut output[..16]).unwrap();
    assert_eq!(env.inspect("c", ".State.Status"), "running");
    reader.read_exact(&mut output[16..]).unwrap();
    assert!(output.ends_with(b"\nend\n"));
    assert_eq!(attached.finish().code(), Some(0));
    assert_eq!(env.lap(["logs", "c"]).ok().stdout.len(), 8_000_000 + 4);
}

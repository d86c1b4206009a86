//! The life of containers in the foreground: input, output, signals, and that nothing outlives them.

mod common;

use common::containers::Containers;
use nix::sys::signal::Signal;

#[test]
fn the_end_of_the_input_is_passed_on() {
    let env = Containers::new();
    let cat = env.lap(["run", "--rm", "-i", "busybox", "cat"]).stdin("x\n").ok();
    assert_eq!(cat.stdout_text(), "x\n");
    // Also where the input is read only later, and where the output is kept.
    let script = "sleep 0.2; cat; echo end";
    let kept = env.lap(["run", "-i", "--name", "c", "busybox", "sh", "-c", script]).stdin("y\n").ok();
    assert_eq!(kept.stdout_text(), "y\nend\n");
    // Without -i there is none.
    let none = env.lap(["run", "--rm", "busybox", "cat"]).stdin("z\n").ok();
    assert_eq!(none.stdout_text(), "");
}

#[test]
fn containers_in_the_foreground_can_be_seen_and_ended_by_others() {
    let env = Containers::new();
    let run = [
        "run",
        "--rm",
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done",
    ];
    let mut running = env.lap(run).spawn();
    running.wait_for("ready");
    assert_eq!(env.lap(["ps", "--format", "{{.Names}}"]).ok().stdout_text(), "c\n");
    env.lap(["attach", "c"]).fails(1).stderr_has(&["in the foreground"]);
    env.lap(["logs", "c"]).fails(1).stderr_has(&["does not support reading"]);
    env.lap(["stop", "c"]).ok();
    assert_eq!(running.finish().code(), Some(4));
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
}

#[test]
fn nothing_of_a_container_is_left_when_lap_is_killed() {
    let env = Containers::new();
    for flags in [&["--rm"][..], &[]] {
        let script = "trap '' HUP TERM; setsid sleep 1000 & echo ready; wait";
        let mut running = env.lap(["run"]).args(flags).args(["busybox", "sh", "-c", script]).spawn();
        running.wait_for("ready");
        running.signal(Signal::SIGKILL);
        // The pipes close only when the last process that holds them is gone; the deadline is the assertion.
        assert_eq!(running.finish().signal(), Some(9));
    }
    // What was to be removed is, by whoever looks next.
    let left = env.lap(["ps", "-a", "--format", "{{.State}}"]).ok().stdout_text();
    assert_eq!(left, "exited\n");
}

#[test]
fn who_asks_three_times_for_the_end_gets_it() {
    let env = Containers::new();
    let deaf = "i=0; trap 'i=$((i+1)); echo caught $i' INT; echo ready; while :; do sleep 0.1; done";
    let mut running = env.lap(["run", "--rm", "busybox", "sh", "-c", deaf]).spawn();
    running.wait_for("ready");
    for count in 1..=2 {
        running.signal(Signal::SIGINT);
        running.wait_for(&format!("caught {count}"));
    }
    running.signal(Signal::SIGINT);
    let output = running.finish();
    assert_eq!(output.code(), Some(137), "{output}");
}

#[test]
fn signals_need_not_be_passed_on() {
    let env = Containers::new();
    let run =
        ["run", "--sig-proxy=false", "--name", "c", "busybox", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut running = env.lap(run).spawn();
    running.wait_for("ready");
    running.signal(Signal::SIGINT);
    running.finish();
    assert_eq!(env.inspect("c", ".State.Status"), "running");
}

#[test]
fn much_output_arrives_whole_whoever_reads_it() {
    let env = Containers::new();
    let script = "yes 0123456789abcde | head -c 200000000";
    let direct = env.lap(["run", "--rm", "busybox", "sh", "-c", script]).ok();
    assert_eq!(direct.stdout.len(), 200_000_000);
    let both = "yes out | head -c 2000000 & yes err | head -c 2000000 >&2; wait";
    let kept = env.lap(["run", "--name", "c", "busybox", "sh", "-c", both]).ok();
    assert_eq!((kept.stdout.len(), kept.stderr.len()), (2_000_000, 2_000_000));
    let logs = env.lap(["logs", "c"]).ok();
    assert_eq!((logs.stdout.len(), logs.stderr.len()), (2_000_000, 2_000_000));
}

#[test]
fn both_outputs_arrive_whole_in_one_file() {
    let env = Containers::new();
    let path = env.work().join("both");
    let lap = format!("{} --root {}", testkit::binary::lap().display(), env.root().display());
    let script = "i=0; while [ $i -lt 3000 ]; do echo out; echo err >&2; i=$((i+1)); done";
    let line = format!("{lap} run --rm --network none busybox sh -c '{script}' > {} 2>&1", path.display());
    let status = std::process::Command::new("sh").args(["-c", &line]).status().unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(&path).unwrap();
    let count = |wanted: &str| text.lines().filter(|line| *line == wanted).count();
    assert_eq!((count("out"), count("err"), text.len()), (3000, 3000, 24_000));
}

#[test]
fn a_reader_that_goes_away_is_a_closed_pipe() {
    let env = Containers::new();
    let script = "while echo line; do :; done 2>/dev/null; exit 8";
    let lap = format!("{} --root {}", testkit::binary::lap().display(), env.root().display());
    let shell = format!("{{ {lap} run --rm busybox sh -c '{script}'; echo code $? >&2; }} | head -n 1");
    let output = std::process::Command::new("sh").args(["-c", &shell]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("code 8") || said.contains("code 141"), "{said}");
}

#[test]
fn the_first_process_may_be_one_that_collects_others() {
    let env = Containers::new();
    // Each is given a hundred looks to be gone; one that nobody collects stays.
    let orphans = "for i in 1 2 3; do sh -c 'sleep 0.1 & exit'; done; sleep 0.5; for look in $(seq 100); do
        left=$(ps -o stat,comm | grep -c -e ^Z -e sleep); [ $left = 0 ] && break; sleep 0.1
        done; echo $left; exit 6";
    let with = env.lap(["run", "--rm", "--init", "busybox", "sh", "-c", orphans]).fails(6);
    assert_eq!(with.stdout_text(), "0\n");
    let comm = ["busybox", "sh", "-c", "cat /proc/1/comm; echo $(($$ != 1))"];
    let said = env.lap(["run", "--rm", "--init"]).args(comm).ok().stdout_text();
    assert_eq!(said, "init\n1\n");
    // What can be seen of it is not ours, and cannot be changed.
    let look =
        "head -c 4 /proc/1/exe | tail -c 3; wc -c < /proc/1/exe; echo x > /proc/1/exe; echo x > /dev/init";
    let seen = env.lap(["run", "--rm", "--init", "busybox", "sh", "-c", look]).run();
    let size: usize = seen.stdout_text().trim_start_matches("ELF").trim().parse().unwrap();
    assert!(size < 16 << 10, "{seen}");
    seen.stderr_has(&["/proc/1/exe", "/dev/init"]);
    env.lap(["run", "--rm", "--init", "busybox", "no-such-program"])
        .fails(127)
        .stderr_has(&["no-such-program"]);
    // A program that has no handler for a signal is not the first process any more, so that it has its effect.
    let mut running =
        env.lap(["run", "--rm", "--init", "busybox", "sh", "-c", "echo ready; exec sleep 1000"]).spawn();
    running.wait_for("ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.finish().code(), Some(143));
}

#[test]
fn one_connects_only_to_what_one_names() {
    let env = Containers::new();
    let script = "cat; echo out; echo err >&2; exit 3";
    let run = |flags: &[&str]| {
        env.lap(["run", "-i", "--name", "c"]).args(flags).args(["busybox", "sh", "-c", script]).stdin("in\n")
    };
    let remove = || env.lap(["rm", "-f", "c"]).ok();
    let all = run(&["-a", "stdin", "-a", "stdout", "-a", "STDERR"]).fails(3);
    assert_eq!((all.stdout_text().as_str(), all.stderr_text().as_str()), ("in\nout\n", "err\n"));
    remove();
    let errors = run(&["-a", "stdin", "-a", "stderr"]).fails(3);
    assert_eq!((errors.stdout_text().as_str(), errors.stderr_text().as_str()), ("", "err\n"));
    // What nobody is connected to is in the log all the same.
    assert_eq!(env.lap(["logs", "c"]).ok().stdout_text(), "in\nout\n");
    remove();
    // Who only has something to say leaves, and gets the id.
    let told = run(&["-a", "stdin"]).ok();
    assert_eq!(told.stdout_text().trim(), env.inspect("c", ".Id"));
    assert_eq!(env.lap(["wait", "c"]).ok().stdout_text(), "3\n");
    assert_eq!(env.lap(["logs", "c"]).ok().stdout_text(), "in\nout\n");
    env.lap(["run", "-d", "-a", "stdout", "busybox", "true"]).fails(2).stderr_has(&["--detach"]);
    env.lap(["run", "-a", "stdall", "busybox", "true"]).fails(2).stderr_has(&["stdall"]);
}

/// The sum of a stream, and how long it was.
fn sum(mut stream: impl std::io::Read) -> (u64, blake3::Hash) {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match stream.read(&mut chunk).unwrap() {
            0 => return (length, hasher.finalize()),
            read => {
                length += read as u64;
                hasher.update(&chunk[..read]);
            }
        }
    }
}

#[test]
fn a_gibibyte_arrives_whole_and_in_order() {
    let env = Containers::new();
    let file = env.work().join("numbers");
    let numbers: String = (0..1 << 19).map(|number| format!("{number:015}\n")).collect();
    std::fs::write(&file, &numbers).unwrap();
    let (volume, times) = (format!("{}:/numbers:ro", file.display()), (1 << 30) / numbers.len());
    let mut expected = blake3::Hasher::new();
    for _ in 0..times {
        expected.update(numbers.as_bytes());
    }
    let script = format!("i=0; while [ $i -lt {times} ]; do cat /numbers; i=$((i+1)); done");
    // Straight, through the supervisor with no log, and past a reader that takes it in its own time.
    for flags in [&["--rm"][..], &["--log-driver", "none", "--sig-proxy=false"]] {
        let mut lap = std::process::Command::new(testkit::binary::lap())
            .arg("--root")
            .arg(env.root())
            .args(["run", "--network", "none", "-v", &volume])
            .args(flags)
            .args(["busybox", "sh", "-c", &script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (length, hash) = sum(lap.stdout.take().unwrap());
        assert!(lap.wait().unwrap().success());
        assert_eq!((length, hash), (1 << 30, expected.finalize()), "{flags:?}");
    }
}

//! Containers as they live: their processes, their limits, what they use.

mod common;

use common::containers::Containers;
use common::terminal::Terminal;
use nix::sys::signal::Signal;
use testkit::privilege::can_limit;

/// A process with one child, which is what it is to be when this says that it is ready.
const PARENT: &str = "sleep 1234 & until ps | grep -q '[s]leep 1234$'; do :; done; echo ready; wait";

/// The lines of a table as words, the titles first.
fn words(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn top_shows_the_processes_of_the_container_and_no_others() {
    let env = Containers::new();
    env.detached(&["--name", "other", "busybox", "sleep", "4321"]);
    env.detached(&["--name", "c", "busybox", "sh", "-c", PARENT]);
    env.wait_for("c", "ready");
    let output = env.lap(["top", "c"]).ok();
    let text = output.stdout_text();
    let header = "UID                 PID                 PPID                C                   STIME               TTY                 TIME                CMD";
    assert_eq!(text.lines().next().unwrap(), header);
    let rows = words(&text);
    assert_eq!(rows.len(), 3, "{output}");
    let first = env.inspect("c", ".State.Pid");
    assert_eq!((rows[1][0].as_str(), &rows[1][1], rows[1][5].as_str()), ("root", &first, "?"));
    assert!(rows[1][7..].join(" ").starts_with("sh -c sleep 1234"), "{output}");
    assert_eq!((&rows[2][2], rows[2][7..].join(" ").as_str()), (&first, "sleep 1234"));
    // A further process is one of its own, and a frozen container has its processes still.
    env.lap(["exec", "-d", "c", "sleep", "77"]).ok();
    env.lap(["pause", "c"]).ok();
    env.lap(["container", "top", "c", "-eo", "pid,args"]).ok().stdout_has(&["sleep 77", "sleep 1234"]);
    env.lap(["unpause", "c"]).ok();
}

#[test]
fn top_takes_the_options_of_ps() {
    let env = Containers::new();
    env.detached(&["--name", "c", "--user", "1:1", "-t", "busybox", "sleep", "1234"]);
    let rows = |options: &[&str]| words(&env.lap(["top", "c"]).args(options).ok().stdout_text());
    assert_eq!(rows(&["-o", "pid,tty=TERMINAL,stat,comm"])[0], ["PID", "TERMINAL", "STAT", "COMMAND"]);
    let users = rows(&["-o", "uid,gid,comm,args"]);
    assert_eq!(users[1], ["1", "1", "sleep", "sleep", "1234"]);
    let all = rows(&["aux"]);
    assert_eq!(all[0].join(" "), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
    assert!(all[1][6].starts_with("pts/"), "{all:?}");
    // What we do not draw ourselves is left to the host's ps.
    let long = rows(&["-el"]);
    assert_eq!((long[0][0].as_str(), long.len()), ("F", 2), "{long:?}");
    assert!(long[1].contains(&"sleep".to_owned()), "{long:?}");
    env.lap(["top", "c", "-o", "nonsense"]).fails(1).stderr_has(&["ps: ", "nonsense"]);
    env.lap(["top", "c", "-e", "--format", "cmd"])
        .fails(1)
        .stderr_has(&["Couldn't find PID field in ps output"]);
}

#[test]
fn top_needs_no_control_group() {
    let env = Containers::new();
    let run = ["run", "--rm", "--name", "c", "busybox", "sh", "-c", PARENT];
    let mut running = env.lap(run).spawn();
    running.wait_for("ready");
    let rows = words(&env.lap(["top", "c", "-o", "args"]).ok().stdout_text());
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(rows[2].join(" "), "sleep 1234");
    env.lap(["kill", "c"]).ok();
    running.finish();
}

#[test]
fn top_is_of_containers_that_run() {
    let env = Containers::new();
    env.lap(["top", "nobody"]).fails(1).stderr_has(&["No such container: nobody"]);
    let id = env.lap(["create", "--name", "c", "busybox", "true"]).ok().stdout_text();
    let wanted = format!("container {} is not running", id.trim());
    env.lap(["top", "c"]).fails(1).stderr_has(&[&wanted]);
    env.lap(["start", "-a", "c"]).ok();
    env.lap(["top", "c"]).fails(1).stderr_has(&[&wanted]);
    env.lap(["top"]).fails(2);
}

/// What a container reads of its own limits, in version 1 and in version 2.
const LIMITS: &str = "cd /sys/fs/cgroup; \
    cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max; \
    cat pids/pids.max 2>/dev/null || cat pids.max; \
    cat cpu*/cpu.shares 2>/dev/null || cat cpu.weight; \
    cat cpuset/cpuset.cpus 2>/dev/null || cat cpuset.cpus";

fn limits(env: &Containers, container: &str) -> Vec<String> {
    let text = env.lap(["exec", container, "sh", "-c", LIMITS]).ok().stdout_text();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn limits_change_while_a_container_runs_and_stay_changed() {
    if !can_limit(&["memory", "cpu", "cpuset", "pids"]) {
        return;
    }
    let env = Containers::new();
    env.detached(&["--name", "c", "-m", "64m", "--memory-swap", "128m", "busybox", "sleep", "1000"]);
    let flags = ["-m", "96m", "--pids-limit", "77", "--cpu-shares", "2048", "--cpuset-cpus", "0"];
    let updated = env.lap(["update"]).args(flags).arg("c").ok();
    assert_eq!(updated.stdout_text(), "c\n");
    let changed = limits(&env, "c");
    assert_eq!([changed[0].as_str(), &changed[1], &changed[3]], ["100663296", "77", "0"]);
    // What is not named stays, and it is the same after a restart.
    env.lap(["container", "update", "--pids-limit", "78", "--cpus", "0.5", "c"]).ok();
    env.lap(["restart", "-t", "0", "c"]).ok();
    let again = limits(&env, "c");
    assert_eq!((again[1].as_str(), &again[0], &again[2..]), ("78", &changed[0], &changed[2..]));
    let fields =
        ".HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus";
    assert_eq!(env.inspect("c", fields), "100663296 134217728 78 500000000");
}

#[test]
fn an_update_is_whole_or_nothing() {
    if !can_limit(&["memory", "cpuset", "pids"]) {
        return;
    }
    let env = Containers::new();
    let id = env.detached(&["--name", "c", "-m", "64m", "--memory-swap", "64m", "busybox", "sleep", "1000"]);
    env.lap(["create", "--name", "d", "-m", "64m", "--memory-swap", "64m", "busybox", "true"]).ok();
    let before = limits(&env, "c");
    for name in ["c", "d"] {
        let update = |flags: &[&str]| env.lap(["update"]).args(flags).arg(name).fails(1);
        // The kernel has no such processor, and all else stays as it was.
        let refused =
            update(&["--pids-limit", "9", "-m", "32m", "--cpuset-cpus", "4000", "--restart", "always"]);
        refused.stderr_has(&["cannot update container", "the processors to 4000"]);
        update(&["-m", "65m"]).stderr_has(&[
            "memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ]);
        update(&["--memory-swap", "63m"])
            .stderr_has(&["minimum memoryswap limit should be larger than memory limit"]);
        let fields = ".HostConfig.PidsLimit}} {{.HostConfig.Memory}} {{.HostConfig.CpusetCpus}}{{.HostConfig.RestartPolicy.Name";
        let known = env.inspect(name, fields);
        assert!(known.ends_with(" 67108864 no"), "{known}");
    }
    assert_eq!(limits(&env, "c"), before);
    // Both at once fit, and one that is refused does not keep others from it.
    let both = env.lap(["update", "-m", "80m", "--memory-swap", "-1", "nobody", "c", "d"]).fails(1);
    both.stderr_has(&["No such container: nobody"]);
    assert_eq!(both.stdout_text(), "c\nd\n");
    assert_eq!(limits(&env, &id)[0], "83886080");
    env.lap(["start", "-a", "d"]).ok();
}

#[test]
fn the_restart_policy_changes_while_a_container_runs() {
    let env = Containers::new();
    env.detached(&[
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 3' USR1; echo run; while :; do sleep 0.1; done",
    ]);
    env.lap(["update", "--restart", "on-failure:1", "c"]).ok();
    assert_eq!(
        env.inspect("c", "json .HostConfig.RestartPolicy"),
        r#"{"MaximumRetryCount":1,"Name":"on-failure"}"#
    );
    env.wait_for("c", "run");
    env.lap(["kill", "-s", "USR1", "c"]).ok();
    env.wait_until("c", ".RestartCount", |count| count == "1");
    env.lap(["update", "--restart", "no", "c"]).ok();
    env.lap(["stop", "-t", "0", "c"]).ok();
    env.lap(["run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "1000"]).ok();
    env.lap(["update", "--restart", "always", "gone"])
        .fails(1)
        .stderr_has(&["restart policy cannot be updated because AutoRemove is enabled for the container"]);
}

#[test]
fn updates_that_make_no_sense_are_refused() {
    let env = Containers::new();
    env.lap(["create", "--name", "c", "busybox", "true"]).ok();
    env.lap(["update", "c"])
        .fails(1)
        .stderr_has(&["you must provide one or more flags when using this command."]);
    env.lap(["update", "-m", "1m", "c"]).fails(2).stderr_has(&["minimum memory limit allowed is 6MB"]);
    for flags in [
        ["-m", "much"],
        ["--cpus", "0"],
        ["--blkio-weight", "5"],
        ["--pids-limit", "x"],
        ["--restart", "sometimes"],
        ["--cpu-quota", "1.5"],
    ] {
        env.lap(["update"]).args(flags).arg("c").fails(2);
    }
    env.lap(["update", "-m", "64m"]).fails(2);
    env.lap(["update", "-m", "64m", "nobody"]).fails(1).stderr_has(&["No such container: nobody"]);
}

#[test]
fn stats_tell_what_a_container_uses() {
    if !can_limit(&["memory", "cpu", "pids"]) {
        return;
    }
    let env = Containers::new();
    let busy = "echo ready; while :; do :; done";
    let id = env.detached(&["--name", "busy", "-m", "64m", "busybox", "sh", "-c", busy]);
    env.lap(["create", "--name", "idle", "busybox", "true"]).ok();
    env.wait_for("busy", "ready");
    let stats = |args: &[&str]| env.lap(["stats", "--no-stream"]).args(args).ok().stdout_text();
    let table = stats(&[]);
    let titles = "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O";
    assert!(table.starts_with(titles), "{table}");
    let rows = words(&table);
    assert_eq!((rows.len(), rows[1][0].as_str(), rows[1][1].as_str()), (2, &id[..12], "busy"), "{table}");
    let json = stats(&["--format", "json", "busy"]);
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"];
    assert_eq!(keys, expected);
    let share = row["CPUPerc"].as_str().unwrap().trim_end_matches('%').parse::<f64>().unwrap();
    assert!(share > 1.0 && share < 400.0, "{json}");
    assert!(row["MemUsage"].as_str().unwrap().ends_with("iB / 64MiB"), "{json}");
    assert_eq!((row["PIDs"].as_str(), row["Container"].as_str()), (Some("1"), Some("busy")));
    // Those that do not run use nothing.
    let all =
        stats(&["-a", "--no-trunc", "--format", "{{.ID}} {{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}"]);
    assert!(all.contains(&format!("{id} busy ")) && all.contains(" idle 0.00% 0B / 0B 0\n"), "{all}");
    assert_eq!(stats(&["--format", "{{.Name}} {{.NetIO}} {{.PIDs}}", "idle"]), "idle 0B / 0B 0\n");
}

#[test]
fn stats_go_on_until_those_that_were_named_are_gone() {
    let env = Containers::new();
    env.detached(&["--rm", "--name", "c", "busybox", "sleep", "1000"]);
    let mut stats = env.lap(["stats", "--format", "{{.Name}} {{.PIDs}}", "c"]).spawn();
    stats.wait_for("c 1\nc 1\n");
    env.lap(["pause", "c"]).ok();
    env.lap(["stop", "-t", "0", "c"]).ok();
    assert_eq!(stats.finish().code(), Some(0));
    // Whose reader has gone ends as well.
    env.detached(&["--name", "d", "busybox", "sleep", "1000"]);
    let lap = format!("{} --root {}", testkit::binary::lap().display(), env.root().display());
    let line = format!("{lap} stats --format '{{{{.Name}}}}' | head -n 1");
    let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "d\n");
}

#[test]
fn stats_are_redrawn_on_a_terminal() {
    let env = Containers::new();
    env.detached(&["--name", "c", "busybox", "sleep", "1000"]);
    let mut terminal = Terminal::start(&env, &["stats"]);
    terminal.wait_for("\u{1b}[2J\u{1b}[HCONTAINER ID");
    terminal.wait_for("\u{1b}[J\u{1b}[HCONTAINER ID");
    terminal.signal(Signal::SIGINT);
    terminal.finish();
}

#[test]
fn stats_without_a_control_group_are_sums_over_processes() {
    let env = Containers::new();
    let mut running = env.lap(["run", "--rm", "--name", "c", "busybox", "sh", "-c", PARENT]).spawn();
    running.wait_for("ready");
    let stats = env.lap(["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "c"]).ok();
    assert!(stats.stdout_text().starts_with("2 "), "{stats}");
    assert!(!stats.stdout_text().starts_with("2 0B"), "{stats}");
    stats.stderr_has(&["no control group counts all of c"]);
    env.lap(["update", "-m", "64m", "c"]).fails(1).stderr_has(&["cannot update container", "control group"]);
    env.lap(["kill", "c"]).ok();
    running.finish();
}

#[test]
fn stats_of_nobody_and_in_no_form_are_refused() {
    let env = Containers::new();
    env.lap(["stats", "nobody"]).fails(1).stderr_has(&["No such container: nobody"]);
    env.detached(&["--name", "c", "busybox", "sleep", "1000"]);
    env.lap(["stats", "--format", "{{.Nothing}}"]).fails(1).stderr_has(&["can't evaluate field Nothing"]);
    env.lap(["stats", "--format", "{{"]).run().stderr_has(&["template"]);
    assert_eq!(
        env.lap(["container", "stats", "--no-stream", "--format", "{{.Name}}"]).ok().stdout_text(),
        "c\n"
    );
}

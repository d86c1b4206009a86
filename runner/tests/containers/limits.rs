//! Limits of control groups, by their effect inside and their traces outside.

use std::fs;
use std::path::{Path, PathBuf};

use base::CancelToken;
use runner::cgroup::hierarchy::{Controller, Hierarchies};
use runner::{ExitStatus, Limits, RunError, RunRequest, run_logged};
use testkit::wait::until;

use crate::support::{Image, explain, image, run, try_run};

/// An image, if this machine has all of `controllers` and lets us make groups in them.
fn image_with(controllers: &[Controller]) -> Option<Image> {
    let image = image()?;
    let hierarchies = Hierarchies::discover().unwrap();
    for controller in controllers {
        let place = hierarchies.place(*controller);
        let probe = place.as_ref().map(|place| place.directory.join(format!("probe-{}", std::process::id())));
        match probe {
            Ok(probe) if fs::create_dir(&probe).or_else(already_there).is_ok() => drop(fs::remove_dir(probe)),
            Ok(probe) => {
                eprintln!("skipped: no control group can be made at {}", probe.display());
                return None;
            }
            Err(error) => {
                eprintln!("skipped: {}", explain(error));
                return None;
            }
        }
    }
    Some(image)
}

/// Tests that run beside this one may be at the same place.
fn already_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

fn limited(image: &Image, script: &str, limits: Limits) -> RunRequest {
    RunRequest { limits, ..image.script(script) }
}

/// The groups of this process that exist below a directory.
fn groups_below(directory: &Path) -> Vec<PathBuf> {
    let prefix = format!("lapstrake-{}-", std::process::id());
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_processes() {
    let Some(image) = image_with(&[Controller::Pids]) else { return };
    let limits = Limits { pids: Some(20), ..Limits::default() };
    let bomb = "n=0; while [ $n -lt 60 ]; do sleep 1000 & n=$((n+1)); echo $n; done";
    let output = run(&limited(&image, bomb, limits));
    assert!(output.stderr.contains("fork"), "{output:?}");
    let started = output.stdout.lines().count();
    assert!((10..20).contains(&started), "{started} processes started");
    // Without the limit it is no bomb.
    assert_eq!(
        image.shell("n=0; while [ $n -lt 60 ]; do sleep 0 & n=$((n+1)); done").status,
        ExitStatus::Exited(0)
    );
}

#[test]
fn a_process_that_takes_too_much_memory_is_killed_and_that_is_known() {
    let Some(image) = image_with(&[Controller::Memory]) else { return };
    let limits = || Limits { memory: Some(32 << 20), ..Limits::default() };
    let request = limited(&image, "exec dd if=/dev/zero of=/dev/null bs=256M count=1", limits());
    let finished = run_logged(&request, &mut |_, _| {}, &CancelToken::new()).unwrap();
    assert_eq!(finished.status, ExitStatus::Signaled(9));
    assert!(finished.out_of_memory());
    // A child that is killed counts as well; who stays below does not.
    let child = limited(&image, "dd if=/dev/zero of=/dev/null bs=256M count=1; exit 3", limits());
    let finished = run_logged(&child, &mut |_, _| {}, &CancelToken::new()).unwrap();
    assert_eq!((finished.status, finished.out_of_memory()), (ExitStatus::Exited(3), true));
    let modest = limited(&image, "dd if=/dev/zero of=/dev/null bs=1M count=256", limits());
    let finished = run_logged(&modest, &mut |_, _| {}, &CancelToken::new()).unwrap();
    assert_eq!((finished.status, finished.out_of_memory()), (ExitStatus::Exited(0), false));
}

#[test]
fn processors_are_those_of_the_set() {
    let Some(image) = image_with(&[Controller::Cpuset]) else { return };
    let limits = Limits { cpuset_cpus: Some("0".to_owned()), ..Limits::default() };
    let output = run(&limited(&image, "grep Cpus_allowed_list /proc/self/status", limits));
    assert_eq!(output.stdout.split_whitespace().last(), Some("0"), "{output:?}");
}

#[test]
fn a_container_sees_its_group_as_the_root_and_the_group_goes_with_it() {
    let Some(image) = image_with(&[Controller::Pids]) else { return };
    let directory = Hierarchies::discover().unwrap().place(Controller::Pids).unwrap().directory;
    let limits = Limits { pids: Some(77), ..Limits::default() };
    let mut limit_seen = None;
    let mut output = Vec::new();
    let mut sink = |_, bytes: &[u8]| {
        output.extend_from_slice(bytes);
        let limits =
            groups_below(&directory).into_iter().map(|group| fs::read_to_string(group.join("pids.max")));
        limit_seen = limit_seen.take().or(limits.flatten().find(|limit| limit.trim() == "77"));
    };
    let request = limited(&image, "cat /proc/self/cgroup; exec sleep 0", limits);
    run_logged(&request, &mut sink, &CancelToken::new()).unwrap();
    assert!(limit_seen.is_some(), "no group with the limit was there");
    let output = String::from_utf8(output).unwrap();
    let line = output.lines().find(|line| line.contains("pids") || line.starts_with("0::")).unwrap();
    assert!(line.ends_with(":/"), "{output}");
    let left = groups_below(&directory)
        .into_iter()
        .filter(|group| fs::read_to_string(group.join("pids.max")).is_ok_and(|limit| limit.trim() == "77"));
    assert_eq!(left.count(), 0);
}

#[test]
fn groups_that_a_container_made_in_its_own_go_with_it() {
    let Some(image) = image_with(&[Controller::Pids]) else { return };
    let directory = Hierarchies::discover().unwrap().place(Controller::Pids).unwrap().directory;
    let limits = Limits { pids: Some(79), ..Limits::default() };
    let is_ours =
        |group: &PathBuf| fs::read_to_string(group.join("pids.max")).is_ok_and(|most| most.trim() == "79");
    let mut made = 0;
    // Made from outside, since not every container sees its groups.
    let mut sink = |_, _: &[u8]| {
        for group in groups_below(&directory).into_iter().filter(is_ours) {
            fs::create_dir_all(group.join("inner/innermost")).unwrap();
            made += 1;
        }
    };
    let request = limited(&image, "echo here; exec cat", limits);
    let finished = run_logged(&request, &mut sink, &CancelToken::new()).unwrap();
    assert_eq!((finished.status, made), (ExitStatus::Exited(0), 1));
    assert_eq!(groups_below(&directory).iter().filter(|group| is_ours(group)).count(), 0);
}

#[test]
fn what_the_kernel_refuses_is_named_and_leaves_no_group() {
    let Some(image) = image_with(&[Controller::Cpuset, Controller::Cpu]) else { return };
    let directory = Hierarchies::discover().unwrap().place(Controller::Cpuset).unwrap().directory;
    let refused = |limits: Limits, said: &[&str]| {
        let error = try_run(&limited(&image, "true", limits)).unwrap_err();
        assert!(matches!(error, RunError::Group(_)), "{error:?}");
        let text = explain(&error);
        assert!(said.iter().all(|said| text.contains(said)), "{text}");
        assert_eq!(error.exit_code(), 125);
    };
    let cpus = Some("4000-4001".to_owned());
    refused(Limits { cpuset_cpus: cpus, ..Limits::default() }, &["the processors", "4000-4001"]);
    refused(Limits { cpu_quota: Some(1), ..Limits::default() }, &["the processor quota", "1"]);
    let refused_one = |group: &PathBuf| {
        fs::read_to_string(group.join("cpuset.cpus")).is_ok_and(|cpus| cpus.trim().is_empty())
    };
    // That of another test is empty for a moment.
    until("no group is left", || !groups_below(&directory).iter().any(refused_one));
}

#[test]
fn a_program_that_does_not_exist_leaves_no_group() {
    let Some(image) = image_with(&[Controller::Pids]) else { return };
    let directory = Hierarchies::discover().unwrap().place(Controller::Pids).unwrap().directory;
    let limits = Limits { pids: Some(78), ..Limits::default() };
    let error = try_run(&RunRequest { limits, ..image.command(&["/no/such"]) }).unwrap_err();
    assert_eq!(error.exit_code(), 127);
    let left = groups_below(&directory)
        .into_iter()
        .filter(|group| fs::read_to_string(group.join("pids.max")).is_ok_and(|limit| limit.trim() == "78"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_container_reads_its_own_limits_and_writes_none() {
    let Some(image) = image_with(&[Controller::Memory, Controller::Pids]) else { return };
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; \
                  echo -1 >memory/memory.limit_in_bytes; mkdir memory/x x; rmdir memory; touch y; ls memory | grep release_agent; \
                  find . -writable; grep -c ' / /sys/fs/cgroup' /proc/self/mountinfo";
    let limits = Limits { memory: Some(64 << 20), pids: Some(50), ..Limits::default() };
    let request = limited(&image, script, limits);
    let output = run(&request);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"67108864"), "{output:?}");
    // Each mount of it begins at the container's own group.
    assert_eq!(lines.len(), 2, "{output:?}");
    assert!(lines[1].parse::<u32>().unwrap() > 0, "{output:?}");
    assert!(!output.stderr.contains("not found"), "{output:?}");
    // Who has every right sees the same.
    let all = RunRequest { privileged: true, ..request };
    assert!(run(&all).stdout.starts_with("67108864\n"));
}

#[test]
fn a_container_runs_in_half_a_mebibyte_of_memory() {
    let Some(image) = image_with(&[Controller::Memory]) else { return };
    let runs = |kibibytes: u64| {
        let limits = Limits { memory: Some(kibibytes << 10), ..Limits::default() };
        let request = RunRequest { limits, ..image.command(&["/bin/true"]) };
        // What another processor has charged and not used is given back a moment late.
        (0..5).any(|_| {
            run_logged(&request, &mut |_, _| {}, &CancelToken::new())
                .is_ok_and(|finished| finished.status == ExitStatus::Exited(0))
        })
    };
    let enough = [1024, 768, 512, 384, 256, 192, 128, 64, 32].into_iter().take_while(|&size| runs(size));
    let least = enough.last();
    eprintln!("the least memory that a container runs in: {least:?} KiB");
    assert!(least.is_some_and(|least| least <= 512), "{least:?}");
}

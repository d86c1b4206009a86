//! What a container shares with the host on request, and what only a spec can say: ambient capabilities, clocks.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset, Spec,
};
use runner::plan::Machine;
use runner::{ExitStatus, RunRequest, Sharing, Stdio, User};

use crate::support::{image, run};

/// Runs a request whose spec is changed, and gives what it prints.
fn with_spec(request: &RunRequest, change: impl FnOnce(&mut Spec)) -> String {
    let mut bundle = runner::spec::build(request, Stdio::CAPTURED).unwrap();
    change(&mut bundle.spec);
    let plan = runner::plan::build(&bundle, Machine::this(), &[]).unwrap();
    let null = File::open("/dev/null").unwrap();
    let (mut read, write) = std::io::pipe().unwrap();
    let started = sys::spawn::launch(plan, Some([null.as_fd(), write.as_fd(), write.as_fd()])).unwrap();
    drop(write);
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    started.process.wait().unwrap();
    said
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

#[test]
fn ambient_capabilities_are_in_force_for_programs_of_other_users() {
    let Some(image) = image() else { return };
    let mut request = image.command(&["/bin/cat", "/proc/self/status"]);
    request.user = User { uid: 1000, gid: 1000, additional_gids: vec![] };
    let status = with_spec(&request, |spec| {
        let one = || Some(HashSet::from([Capability::NetBindService]));
        let mut sets = LinuxCapabilities::default();
        sets.set_bounding(Some(HashSet::from([Capability::NetBindService, Capability::Chown])));
        sets.set_effective(one()).set_permitted(one()).set_inheritable(one()).set_ambient(one());
        let mut process = spec.process().clone().unwrap();
        process.set_capabilities(Some(sets));
        spec.set_process(Some(process));
    });
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000400", "{set}: {status}");
    }
    assert_eq!(field(&status, "CapBnd"), "0000000000000401");
    assert_eq!(field(&status, "Uid"), "1000\t1000\t1000\t1000");
}

#[test]
fn clocks_are_the_container_s_own_where_asked() {
    let Some(image) = image() else { return };
    if !Path::new("/proc/self/ns/time").exists() {
        eprintln!("skipped: this kernel has no time namespaces");
        return;
    }
    let request = image.script("cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time");
    let said = with_spec(&request, |spec| {
        let mut time = LinuxNamespace::default();
        time.set_typ(LinuxNamespaceType::Time);
        let mut day = LinuxTimeOffset::default();
        day.set_secs(Some(100 * 86_400));
        let mut linux = spec.linux().clone().unwrap();
        let mut namespaces = linux.namespaces().clone().unwrap();
        namespaces.push(time);
        linux.set_namespaces(Some(namespaces));
        linux.set_time_offsets(Some(HashMap::from([("boottime".to_owned(), day)])));
        spec.set_linux(Some(linux));
    });
    let (uptime, namespace) = said.split_once('\n').unwrap();
    let ours = fs::read_to_string("/proc/uptime").unwrap();
    let ours: u64 = ours.split('.').next().unwrap().parse().unwrap();
    let ahead = uptime.parse::<u64>().unwrap() - ours.min(uptime.parse().unwrap());
    assert!((100 * 86_400 - 600..=100 * 86_400).contains(&ahead), "{said} here {ours}");
    let ours = fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(namespace.trim(), ours.to_string_lossy());
}

#[test]
fn the_kernel_is_told_how_gladly_to_kill() {
    let Some(image) = image() else { return };
    let mut request = image.script("cat /proc/self/oom_score_adj");
    let ours = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(run(&request).stdout, ours);
    for score in [0, 321, 1000] {
        request.oom_score_adjustment = Some(score);
        assert_eq!(run(&request).stdout, format!("{score}\n"));
    }
    assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), ours);
}

#[test]
fn the_host_s_process_ids_are_shared_on_request_and_nothing_is_left() {
    let Some(image) = image() else { return };
    let ours = std::process::id();
    let script = format!(
        "readlink /proc/self/ns/pid; test -d /proc/{ours} && echo seen; (trap '' HUP TERM; exec sleep 1000) \
         > /dev/null 2>&1 & echo $!"
    );
    let mut request = image.script(&script);
    request.pids = Sharing::Host;
    let output = run(&request);
    let lines: Vec<&str> = output.stdout.lines().collect();
    let [namespace, "seen", left] = lines[..] else { panic!("{output:?}") };
    assert_eq!(output.status, ExitStatus::Exited(0));
    assert_eq!(namespace, fs::read_link("/proc/self/ns/pid").unwrap().to_string_lossy());
    let command = fs::read_to_string(format!("/proc/{left}/cmdline")).unwrap_or_default();
    assert!(!command.contains("sleep"), "a process of the container is left: {command}");
}

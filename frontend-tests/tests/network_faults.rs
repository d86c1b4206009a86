//! Commands that are killed while they connect containers: whatever the moment, nothing is left in the end.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::containers::Containers;
use nix::sys::signal::Signal;
use testkit::wait::until;

/// How many commands are killed.
const KILLS: u32 = 30;

/// How long a container takes from the command to its end.
fn usual_time(env: &Containers) -> Duration {
    let begin = Instant::now();
    env.lap(["run", "--rm", "-p", "127.0.0.1::80", "busybox", "true"]).ok();
    begin.elapsed()
}

/// The bridge of the environment's network.
fn bridge(env: &Containers) -> String {
    let shown = env.lap(["system", "doctor"]).run().stdout_text();
    let after = shown.split("(bridge ").nth(1).unwrap_or_else(|| panic!("{shown}"));
    after.split(')').next().unwrap().to_owned()
}

/// The rules of a bridge, if there is a program that shows them.
fn rules(bridge: &str) -> String {
    if testkit::judges::program("nft").is_none() {
        return String::new();
    }
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let table = text.split("\ntable ").find(|table| table.contains(&format!("lapstrake_{bridge} ")));
    table.unwrap_or_default().to_owned()
}

#[test]
fn nothing_is_left_of_commands_that_were_killed_at_any_moment() {
    let env = Containers::new();
    // The first one makes the bridge.
    usual_time(&env);
    let usual = usual_time(&env);
    let port = testkit::ports::free_port();
    let publish = format!("{port}:80");
    for kill in 0..KILLS {
        // From the first moment to well after the end of what `true` takes.
        let moment = usual * kill * 3 / (KILLS * 2);
        let command = env.lap(["run", "--rm", "-p", &publish, "busybox", "sleep", "1000"]);
        let begin = Instant::now();
        let running = command.spawn();
        while begin.elapsed() < moment {
            std::thread::yield_now();
        }
        running.signal(Signal::SIGKILL);
        running.finish();
    }
    // What they left is garbage, and no damage.
    let check = env.lap(["store", "check"]).ok().stdout_text();
    assert!(check.contains("The store is sound"), "{check}");
    // The next one takes the same port, and finds nothing in its way.
    env.lap(["run", "--rm", "-p", &publish, "busybox", "true"]).ok();
    let leases = env.run().join("networks/default/leases");
    assert_eq!(std::fs::read_dir(leases).unwrap().count(), 0);
    let bridge = bridge(&env);
    let rules_left = rules(&bridge);
    assert!(!rules_left.contains("elements"), "{rules_left}");
    let device = Path::new("/sys/class/net").join(&bridge);
    until("no cable is left", || std::fs::read_dir(device.join("brif")).unwrap().count() == 0);
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
    env.lap(["store", "gc"]).ok();
    assert_eq!(env.lap(["store", "check"]).ok().stdout_text(), "The store is sound\n");
    let doctor = env.lap(["system", "doctor"]).run().stdout_text();
    assert!(!doctor.contains("killed containers"), "{doctor}");
    env.lap(["system", "doctor", "--fix"]).run().stdout_has(&["removed: network \"default\""]);
    assert!(!device.exists() && rules(&bridge).is_empty(), "{}", rules(&bridge));
}

#[test]
fn a_killed_shim_leaves_nothing_either() {
    let env = Containers::new();
    let port = testkit::ports::free_port();
    let id = env.detached(&["--name", "web", "-p", &format!("{port}:80"), "busybox", "sleep", "1000"]);
    let pid = nix::unistd::Pid::from_raw(env.shim_of(&id));
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    env.wait_until("web", ".State.Status", |status| status == "exited");
    assert_eq!(env.lap(["port", "web"]).ok().stdout_text(), "");
    env.lap(["system", "doctor"]).run().stdout_has(&["addresses of killed containers: 1"]);
    env.lap(["system", "doctor", "--fix"]).run().stdout_has(&["removed: network \"default\" has addresses"]);
    assert!(!env.lap(["system", "doctor"]).run().stdout_text().contains("killed containers"));
    env.lap(["start", "web"]).ok();
    assert!(env.lap(["port", "web"]).ok().stdout_text().contains(&port.to_string()));
}

#[test]
fn many_containers_come_and_go_at_once() {
    let env = Containers::new();
    let run = |_| {
        let flags = ["run", "--rm", "-p", "127.0.0.1::80", "-p", "0.0.0.0::81"];
        env.lap(flags).args(["busybox", "true"]).spawn()
    };
    for _ in 0..3 {
        let running: Vec<_> = (0..8).map(run).collect();
        for one in running {
            let output = one.finish();
            assert_eq!(output.code(), Some(0), "{output}");
        }
    }
    let leases = env.run().join("networks/default/leases");
    assert_eq!(std::fs::read_dir(leases).unwrap().count(), 0);
    let rules_left = rules(&bridge(&env));
    assert!(!rules_left.contains("elements"), "{rules_left}");
    env.lap(["system", "doctor", "--fix"]).run();
}

//! What is left, found and removed.

use std::time::{Duration, Instant};

use runner::network::leftovers::{self, Leftover};

use crate::support::{Runtime, addresses, in_own_network, run};

/// Everything that a network makes on the machine.
fn traces() -> String {
    let links = run("ip", &["-o", "link"]);
    let links: String = links.lines().filter(|line| !line.contains(" lo:")).collect();
    format!("{links}{}", run("nft", &["list", "ruleset"]))
}

/// Waits until nothing is left: the kernel takes a namespace down, with its interfaces, some time after its end.
fn assert_no_traces() {
    let begin = Instant::now();
    while !traces().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", traces());
    }
}

#[test]
fn nothing_is_left_when_leftovers_are_removed() {
    if !in_own_network("leftovers::nothing_is_left_when_leftovers_are_removed", &["nft"]) {
        return;
    }
    let runtime = Runtime::new();
    let container = runtime.publish(&["8080:80"]);
    // In use, nothing is a leftover.
    assert_eq!(leftovers::list(runtime.path()).unwrap(), []);
    container.disconnect().unwrap();
    let found = leftovers::list(runtime.path()).unwrap();
    assert!(matches!(found[..], [Leftover::IdleNetwork { .. }]), "{found:?}");
    // Nothing but the bridge and rules that name no port.
    let left = traces();
    assert!(!left.contains("8080") && left.contains(": lap"), "{left}");
    leftovers::remove(runtime.path(), &found[0]).unwrap();
    assert_no_traces();
    assert_eq!(leftovers::list(runtime.path()).unwrap(), []);
    assert!(!runtime.path().join("networks/default").exists());
}

#[test]
fn what_a_killed_process_left_is_swept_by_the_next_container() {
    if !in_own_network("leftovers::what_a_killed_process_left_is_swept_by_the_next_container", &["nft"]) {
        return;
    }
    let runtime = Runtime::new();
    let container = runtime.publish(&["8080:80"]);
    let leases = runtime.path().join("networks/default/leases");
    let (address, _) = addresses(&container);
    let lease = std::fs::read(leases.join(&address)).unwrap();
    container.disconnect().unwrap();
    // A lease that nobody has locked is what a killed process leaves.
    std::fs::write(leases.join(&address), lease).unwrap();
    let found = leftovers::list(runtime.path()).unwrap();
    assert!(matches!(found[0], Leftover::DeadLeases { count: 1, .. }), "{found:?}");
    let _next = runtime.publish(&[]);
    assert!(!leases.join(&address).exists());
    assert_eq!(leftovers::list(runtime.path()).unwrap(), []);
}

#[test]
fn bridges_of_directories_that_are_gone_are_found() {
    if !in_own_network("leftovers::bridges_of_directories_that_are_gone_are_found", &["nft"]) {
        return;
    }
    drop({
        let runtime = Runtime::new();
        let container = runtime.publish(&[]);
        container.disconnect().unwrap();
        runtime
    });
    let ours = Runtime::new();
    let found = leftovers::list(ours.path()).unwrap();
    assert!(matches!(found[..], [Leftover::OrphanBridge { .. }]), "{found:?}");
    leftovers::remove(ours.path(), &found[0]).unwrap();
    assert_no_traces();
}

//! What is left, found and removed.

use runner::network::leftovers::{self, Leftover};
use testkit::wait::until;

use crate::support::{Place as _, Runtime, addresses, in_own_network, run};

/// Everything that a network makes on the machine.
fn traces() -> String {
    let links = run("ip", &["-o", "link"]);
    let links: String = links.lines().filter(|line| !line.contains(" lo:")).collect();
    format!("{links}{}", run("nft", &["list", "ruleset"]))
}

/// Waits until nothing is left: the kernel takes a namespace down, with its interfaces, some time after its end.
fn assert_no_traces() {
    until("no interface and no rule is left", || traces().is_empty());
}

/// What is left of others once the kernel has taken the cables of ended containers down.
fn when_cables_are_gone(ours: &Runtime) -> Vec<Leftover> {
    let mut found = Vec::new();
    until("something is left", || {
        found = leftovers::list(ours.path()).unwrap();
        !found.is_empty()
    });
    found
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
    assert!(!left.contains(" 8080") && left.contains(": lap"), "{left}");
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

/// The table of the only network that there is.
fn table() -> String {
    let tables = run("nft", &["list", "tables"]);
    tables.split("inet ").nth(1).expect("a table").trim().to_owned()
}

/// The published ports that the firewall knows, in order.
fn redirected() -> Vec<u16> {
    let map = run("nft", &["list", "map", "inet", &table(), "all4"]);
    let ports = map.split("tcp . ").skip(1).map(|text| text.split(' ').next().unwrap().parse().unwrap());
    let mut ports: Vec<u16> = ports.collect();
    ports.sort_unstable();
    ports
}

#[test]
fn every_container_removes_its_own_redirects() {
    if !in_own_network("leftovers::every_container_removes_its_own_redirects", &["nft"]) {
        return;
    }
    let runtime = Runtime::new();
    let (first, second) = (runtime.publish(&["8080:80", "8081:81"]), runtime.publish(&["8082:82"]));
    assert_eq!(redirected(), [8080, 8081, 8082]);
    first.disconnect().unwrap();
    assert_eq!(redirected(), [8082]);
    // The port of one that ended is for the next one.
    let _third = runtime.publish(&["8080:80"]);
    assert_eq!(redirected(), [8080, 8082]);
    second.disconnect().unwrap();
    assert_eq!(redirected(), [8080]);
}

#[test]
fn redirects_that_nobody_should_have_are_in_nobody_s_way() {
    if !in_own_network("leftovers::redirects_that_nobody_should_have_are_in_nobody_s_way", &["nft"]) {
        return;
    }
    let runtime = Runtime::new();
    let first = runtime.publish(&["8080:80"]);
    let leases = runtime.path().join("networks/default/leases");
    let (address, _) = addresses(&first);
    // A killed process leaves its lease and its redirects.
    let dead = std::fs::read_to_string(leases.join(&address)).unwrap();
    let dead = dead.replace(&address, "10.176.0.99").replace("8080", "8081");
    std::fs::write(leases.join("10.176.0.99"), dead).unwrap();
    let add = |port: &str| {
        let element = format!("{{ tcp . {port} : 10.176.0.99 . 80 }}");
        run("nft", &["add", "element", "inet", &table(), "all4", &element]);
    };
    add("8081");
    assert_eq!(redirected(), [8080, 8081]);
    let second = runtime.publish(&[]);
    assert_eq!(redirected(), [8080], "the next one sweeps");
    // Somebody else's hand.
    add("8082");
    let third = runtime.publish(&["8082:80"]);
    third.serve(80);
    assert_eq!(redirected(), [8080, 8082]);
    run("nft", &["delete", "element", "inet", &table(), "all4", "{ tcp . 8082 }"]);
    third.disconnect().unwrap();
    assert_eq!(redirected(), [8080]);
    run("nft", &["flush", "ruleset"]);
    first.disconnect().unwrap();
    second.disconnect().unwrap();
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
    let found = when_cables_are_gone(&ours);
    assert!(matches!(found[..], [Leftover::OrphanBridge { .. }]), "{found:?}");
    leftovers::remove(ours.path(), &found[0]).unwrap();
    assert_no_traces();
}

/// A directory on a mount that this process does not see, as that of a service with temporary files of its own.
#[test]
fn a_bridge_in_use_is_nobody_s_leftover_even_where_its_directory_is_not_seen() {
    let name = "leftovers::a_bridge_in_use_is_nobody_s_leftover_even_where_its_directory_is_not_seen";
    if !in_own_network(name, &["nft"]) {
        return;
    }
    let hidden = Runtime::new();
    let container = hidden.publish(&[]);
    let away = hidden.path().with_extension("away");
    std::fs::rename(hidden.path(), &away).unwrap();
    let ours = Runtime::new();
    assert_eq!(leftovers::list(ours.path()).unwrap(), []);
    std::fs::rename(&away, hidden.path()).unwrap();
    container.disconnect().unwrap();
    std::fs::rename(hidden.path(), &away).unwrap();
    let found = when_cables_are_gone(&ours);
    assert!(matches!(found[..], [Leftover::OrphanBridge { .. }]), "{found:?}");
    // It comes into use between being found and being removed.
    std::fs::rename(&away, hidden.path()).unwrap();
    let container = hidden.publish(&[]);
    std::fs::rename(hidden.path(), &away).unwrap();
    leftovers::remove(ours.path(), &found[0]).unwrap();
    let bridge = match &found[0] {
        Leftover::OrphanBridge { bridge, .. } => bridge.clone(),
        other => panic!("{other:?}"),
    };
    run("ip", &["link", "show", &bridge]);
    run("nft", &["list", "table", "inet", &format!("lapstrake_{bridge}")]);
    std::fs::rename(&away, hidden.path()).unwrap();
    container.disconnect().unwrap();
}

//! Other firewalls than the usual one, and other users of the firewall.

use runner::network::Connect;
use runner::network::firewall::Backend;

use crate::publishing::assert_reachable;
use crate::support::{
    Internet, OUR_ADDRESS, Place as _, Runtime, THEIR_ADDRESS, in_own_network, run, wishes,
};

#[test]
fn iptables_does_the_same() {
    if !in_own_network("firewall::iptables_does_the_same", &["iptables-legacy", "ip6tables-legacy"]) {
        return;
    }
    let (internet, runtime) = (Internet::new(), Runtime::new());
    let connect = |ports: &[&str]| {
        let firewall = Some(Backend::Iptables);
        let wanted = Connect { firewall, publish: wishes(ports), ..Connect::new("c0ffee") };
        runtime.connect(&wanted).unwrap()
    };
    let (container, other) = (connect(&["8080:80", "8080:53/udp"]), connect(&[]));
    container.serve(80);
    container.serve_messages(53);
    assert_reachable(&internet, &container, &other);
    internet.serve(80);
    assert_eq!(container.ask(&format!("{THEIR_ADDRESS}:80")), format!("{OUR_ADDRESS} hi"));
    container.disconnect().unwrap();
    let rules = run("iptables-legacy-save", &[]);
    assert!(!rules.contains("--dport"), "{rules}");
}

#[test]
fn packets_pass_where_docker_forbids_others() {
    let programs = ["iptables-nft", "ip6tables-nft", "nft"];
    if !in_own_network("firewall::packets_pass_where_docker_forbids_others", &programs) {
        return;
    }
    for program in ["iptables-nft", "ip6tables-nft"] {
        run(program, &["-P", "FORWARD", "DROP"]);
    }
    let (internet, runtime) = (Internet::new(), Runtime::new());
    let (container, other) = (runtime.publish(&["8080:80", "8080:53/udp"]), runtime.publish(&[]));
    container.serve(80);
    container.serve_messages(53);
    assert_reachable(&internet, &container, &other);
    // The rules are few, and such that the program of that firewall still reads them.
    let rules = run("iptables-nft", &["-S", "FORWARD"]);
    assert_eq!(rules.matches(" -j ACCEPT").count(), 2, "{rules}");
    drop((container, other));
    for leftover in runner::network::leftovers::list(runtime.path()).unwrap() {
        runner::network::leftovers::remove(runtime.path(), &leftover).unwrap();
    }
    assert_eq!(run("iptables-nft", &["-S", "FORWARD"]), "-P FORWARD DROP\n");
}

#[test]
fn rules_that_somebody_flushed_come_back() {
    if !in_own_network("firewall::rules_that_somebody_flushed_come_back", &["nft"]) {
        return;
    }
    let (internet, runtime) = (Internet::new(), Runtime::new());
    let container = runtime.publish(&["8080:80"]);
    container.serve(80);
    run("nft", &["flush", "ruleset"]);
    let _next = runtime.publish(&[]);
    assert_eq!(internet.ask(&format!("{OUR_ADDRESS}:8080")), format!("{THEIR_ADDRESS} hi"));
}

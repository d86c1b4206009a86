//! Containers among each other, and their way out.

use runner::network::Connect;

use crate::support::{
    Host, Internet, OUR_ADDRESS, OUR_ADDRESS_6, Place as _, Runtime, THEIR_ADDRESS, THEIR_ADDRESS_6,
    addresses, in_own_network, run,
};

#[test]
fn containers_talk_to_each_other() {
    if !in_own_network("bridge::containers_talk_to_each_other", &[]) {
        return;
    }
    let runtime = Runtime::new();
    let (first, second) = (runtime.publish(&[]), runtime.publish(&[]));
    let ((first4, first6), (second4, second6)) = (addresses(&first), addresses(&second));
    assert_ne!(first4, second4);
    first.serve(80);
    assert_eq!(second.ask(&format!("{first4}:80")), format!("{second4} hi"));
    assert_eq!(second.ask(&format!("[{first6}]:80")), format!("{second6} hi"));
    // And the host reaches them.
    let answer = Host.ask(&format!("{first4}:80"));
    assert!(answer.starts_with("10."), "{answer}");
    // Their own loopback interface is up.
    assert_eq!(first.ask("127.0.0.1:80"), "127.0.0.1 hi");
}

#[test]
fn what_leaves_has_the_address_of_the_host() {
    if !in_own_network("bridge::what_leaves_has_the_address_of_the_host", &[]) {
        return;
    }
    let (internet, runtime) = (Internet::new(), Runtime::new());
    let container = runtime.publish(&[]);
    internet.serve(80);
    internet.serve_messages(53);
    assert_eq!(container.ask(&format!("{THEIR_ADDRESS}:80")), format!("{OUR_ADDRESS} hi"));
    assert_eq!(container.ask(&format!("[{THEIR_ADDRESS_6}]:80")), format!("{OUR_ADDRESS_6} hi"));
    assert_eq!(container.ask_by_message(&format!("{THEIR_ADDRESS}:53")), format!("{OUR_ADDRESS} hi"));
}

#[test]
fn packets_are_no_longer_than_the_way_out_takes() {
    if !in_own_network("bridge::packets_are_no_longer_than_the_way_out_takes", &[]) {
        return;
    }
    let _internet = Internet::new();
    let mtu = |runtime: &Runtime, wanted| {
        let container = runtime.connect(&Connect { mtu: wanted, ..Connect::new("c0ffee") }).unwrap();
        let link = container.inside(|| run("ip", &["-o", "link", "show", "eth0"]));
        link.split_once(" mtu ").unwrap().1.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(mtu(&Runtime::new(), None), "1400");
    assert_eq!(mtu(&Runtime::new(), Some(1280)), "1280");
}

#[test]
fn addresses_can_be_chosen() {
    if !in_own_network("bridge::addresses_can_be_chosen", &[]) {
        return;
    }
    let runtime = Runtime::new();
    let wanted = Connect {
        address: Some("10.0.0.9".parse().unwrap()),
        mac: Some("02:42:00:00:00:09".parse().unwrap()),
        ..Connect::new("feedbeef0123456789")
    };
    let error = runtime.connect(&wanted).unwrap_err().to_string();
    let subnet = error.split_once("it has ").unwrap().1.split(',').next().unwrap();
    let base = subnet.strip_suffix(".0/22").unwrap_or_else(|| panic!("{error}"));
    let address = format!("{base}.9");
    let wanted = Connect { address: Some(address.parse().unwrap()), ..wanted };
    let container = runtime.connect(&wanted).unwrap();
    assert_eq!(addresses(&container).0, address);
    let link = container.inside(|| run("ip", &["-o", "link", "show", "eth0"]));
    assert!(link.contains("02:42:00:00:00:09"), "{link}");
    let error = runtime.connect(&wanted).unwrap_err().to_string();
    assert_eq!(error, format!("address {address} is taken by container feedbeef0123"));
    let gateway = Connect { address: Some(format!("{base}.1").parse().unwrap()), ..wanted };
    runtime.connect(&gateway).unwrap_err();
}

#[test]
fn networks_of_other_directories_have_other_subnets() {
    if !in_own_network("bridge::networks_of_other_directories_have_other_subnets", &["ip"]) {
        return;
    }
    // All but the last sixteenth of what we choose from is somebody else's.
    run("ip", &["link", "add", "other", "type", "bridge"]);
    run("ip", &["link", "set", "other", "up"]);
    for route in ["10.176.0.0/13", "10.184.0.0/14", "10.188.0.0/15", "10.190.0.0/16"] {
        run("ip", &["route", "add", route, "dev", "other"]);
    }
    let runtimes: Vec<Runtime> = (0..5).map(|_| Runtime::new()).collect();
    let containers: Vec<_> = runtimes.iter().map(|runtime| runtime.publish(&[])).collect();
    let mut subnets: Vec<String> = containers
        .iter()
        .map(|container| {
            let address = addresses(container).0;
            assert!(address.starts_with("10.191."), "{address}");
            let third: u8 = address.split('.').nth(2).unwrap().parse().unwrap();
            format!("{}", third & !3)
        })
        .collect();
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), 5);
    // Containers of one do not reach those of another.
    containers[0].serve(80);
    assert!(containers[1].cannot_reach(&format!("{}:80", addresses(&containers[0]).0)));
}

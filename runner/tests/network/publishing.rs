//! Published ports, from everywhere they can be used.

use std::net::TcpListener;

use runner::network::{Attachment, Connect};

use crate::support::{
    Host, Internet, OUR_ADDRESS, OUR_ADDRESS_6, Place as _, Runtime, THEIR_ADDRESS, THEIR_ADDRESS_6,
    addresses, in_own_network, wishes,
};

/// Every way to a published port 8080 of all addresses.
pub(crate) fn assert_reachable(internet: &Internet, container: &Attachment, other: &Attachment) {
    // From outside the sender stays who it is.
    assert_eq!(internet.ask(&format!("{OUR_ADDRESS}:8080")), format!("{THEIR_ADDRESS} hi"));
    assert_eq!(internet.ask(&format!("[{OUR_ADDRESS_6}]:8080")), format!("{THEIR_ADDRESS_6} hi"));
    assert_eq!(internet.ask_by_message(&format!("{OUR_ADDRESS}:8080")), format!("{THEIR_ADDRESS} hi"));
    for address in
        ["127.0.0.1:8080", "[::1]:8080", &format!("{OUR_ADDRESS}:8080"), &format!("[{OUR_ADDRESS_6}]:8080")]
    {
        assert!(Host.ask(address).ends_with(" hi"), "{address}");
    }
    assert!(Host.ask_by_message("127.0.0.1:8080").ends_with(" hi"));
    // From the container itself, and from its neighbour.
    for place in [container, other] {
        assert!(place.ask(&format!("{OUR_ADDRESS}:8080")).ends_with(" hi"));
        assert!(place.ask(&format!("[{OUR_ADDRESS_6}]:8080")).ends_with(" hi"));
        assert!(place.ask_by_message(&format!("{OUR_ADDRESS}:8080")).ends_with(" hi"));
    }
}

#[test]
fn a_port_is_reached_from_everywhere() {
    if !in_own_network("publishing::a_port_is_reached_from_everywhere", &[]) {
        return;
    }
    let (internet, runtime) = (Internet::new(), Runtime::new());
    let container = runtime.publish(&["8080:80", "8080:53/udp"]);
    let other = runtime.publish(&[]);
    container.serve(80);
    container.serve_messages(53);
    assert_reachable(&internet, &container, &other);
    // From a network of another directory, as from outside.
    let elsewhere = Runtime::new();
    let stranger = elsewhere.publish(&[]);
    assert!(stranger.ask(&format!("{OUR_ADDRESS}:8080")).ends_with(" hi"));
    // The container's own port is nobody else's business.
    internet.ip(&format!("route add {}/32 via {OUR_ADDRESS}", addresses(&container).0));
    assert!(internet.cannot_reach(&format!("{}:80", addresses(&container).0)));
    container.disconnect().unwrap();
    assert!(Host.cannot_reach("127.0.0.1:8080") && internet.cannot_reach(&format!("{OUR_ADDRESS}:8080")));
}

#[test]
fn an_address_limits_who_reaches_the_port() {
    if !in_own_network("publishing::an_address_limits_who_reaches_the_port", &[]) {
        return;
    }
    let (internet, runtime) = (Internet::new(), Runtime::new());
    let ours = format!("{OUR_ADDRESS}:8081:80");
    let ours6 = format!("[{OUR_ADDRESS_6}]:8082:80");
    let container = runtime.publish(&["127.0.0.1:8080:80", &ours, &ours6, "[::1]:8083:80"]);
    container.serve(80);
    assert!(Host.ask("127.0.0.1:8080").ends_with(" hi"));
    assert!(Host.ask("[::1]:8083").ends_with(" hi"));
    assert_eq!(internet.ask(&format!("{OUR_ADDRESS}:8081")), format!("{THEIR_ADDRESS} hi"));
    assert_eq!(internet.ask(&format!("[{OUR_ADDRESS_6}]:8082")), format!("{THEIR_ADDRESS_6} hi"));
    assert!(Host.cannot_reach("127.0.0.1:8081") && Host.cannot_reach("[::1]:8080"));
    assert!(internet.cannot_reach(&format!("{OUR_ADDRESS}:8080")));
    // Not even somebody who sends packets for our loopback interface to our card.
    internet.ip("route add 127.0.0.0/8 via 198.51.100.1 table 7");
    internet.ip("rule add to 127.0.0.1 lookup 7 priority 0");
    assert!(internet.cannot_reach("127.0.0.1:8080"));
}

#[test]
fn ranges_and_any_port() {
    if !in_own_network("publishing::ranges_and_any_port", &[]) {
        return;
    }
    let runtime = Runtime::new();
    let container = runtime.publish(&["8000-8002:80-82", "90", "9000-9001:91"]);
    for port in [80, 81, 82, 90, 91] {
        container.serve(port);
    }
    for port in [8000, 8001, 8002, 9000] {
        assert!(Host.ask(&format!("127.0.0.1:{port}")).ends_with(" hi"), "{port}");
    }
    let any = container.published().iter().find(|one| one.container_port == 90).unwrap();
    assert!(Host.ask(&format!("127.0.0.1:{}", any.host.port())).ends_with(" hi"));
    // The next one gets the next port of the range, the third one none.
    let second = runtime.publish(&["9000-9001:91"]);
    assert_eq!(second.published()[0].host.port(), 9001);
    let third = Connect { publish: wishes(&["9000-9001:91"]), ..Connect::new("third") };
    let error = runtime.connect(&third).unwrap_err().to_string();
    assert_eq!(error, "bind for ports 9000-9001/tcp failed: all ports are allocated");
}

#[test]
fn a_port_that_is_in_use_is_refused() {
    if !in_own_network("publishing::a_port_that_is_in_use_is_refused", &["nft"]) {
        return;
    }
    let runtime = Runtime::new();
    let _server = TcpListener::bind("127.0.0.1:8080").unwrap();
    let wanted = |port: &str| Connect { publish: wishes(&[port]), ..Connect::new("0123456789abcdef") };
    let error = runtime.connect(&wanted("8080:80")).unwrap_err().to_string();
    assert_eq!(error, "bind for 0.0.0.0:8080/tcp failed: port is already allocated");
    let _holder = runtime.connect(&wanted("8081:80")).unwrap();
    let error = runtime.connect(&wanted("8081:80")).unwrap_err().to_string();
    assert!(error.ends_with("port is already allocated by container 0123456789ab"), "{error}");
}

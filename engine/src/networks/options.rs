//! Options of the drivers of networks, by the names under which Docker's documents list them.

use runner::network::definition::{Definition, Driver, GatewayMode};

use super::NetworkRefusal;

/// Which of several ways `macvlan` and `ipvlan` connect their cards.
pub(super) const MACVLAN_MODE: &str = "macvlan_mode";
pub(super) const IPVLAN_MODE: &str = "ipvlan_mode";
pub(super) const IPVLAN_FLAG: &str = "ipvlan_flag";

/// The longest name that the kernel gives an interface, in bytes.
const LONGEST_INTERFACE: usize = 15;
/// The longest beginning of the names of cards, which numbers follow.
const LONGEST_PREFIX: usize = 12;
/// The smallest packet that IPv4 asks every link for (RFC 791).
const SMALLEST_MTU: u32 = 68;

/// Sets one of them.
pub(super) fn set(wanted: &mut Definition, name: &str, value: &str) -> Result<(), NetworkRefusal> {
    let bad = || NetworkRefusal::Option { name: name.to_owned(), value: value.to_owned() };
    let known = match (name, wanted.driver) {
        ("com.docker.network.driver.mtu", _) => {
            wanted.mtu = value.parse().ok().filter(|mtu| (SMALLEST_MTU..=u32::from(u16::MAX)).contains(mtu));
            wanted.mtu.is_some()
        }
        ("com.docker.network.container_iface_prefix", _) => {
            wanted.card_prefix = Some(value.to_owned()).filter(|value| is_interface(value, LONGEST_PREFIX));
            wanted.card_prefix.is_some()
        }
        (_, Driver::Bridge) => return set_of_bridge(wanted, name, value),
        ("parent", _) => {
            // The loopback interface has no network.
            wanted.parent = Some(value.to_owned())
                .filter(|value| is_interface(value, LONGEST_INTERFACE) && value != "lo");
            wanted.parent.is_some()
        }
        // They belong to the driver itself.
        (MACVLAN_MODE, Driver::Macvlan { .. }) | (IPVLAN_MODE | IPVLAN_FLAG, Driver::Ipvlan { .. }) => true,
        _ => false,
    };
    known.then_some(()).ok_or_else(bad)
}

fn set_of_bridge(wanted: &mut Definition, name: &str, value: &str) -> Result<(), NetworkRefusal> {
    let bad = || NetworkRefusal::Option { name: name.to_owned(), value: value.to_owned() };
    let flag = || match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad()),
    };
    let mode = || match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(bad()),
    };
    match name.strip_prefix("com.docker.network.bridge.").unwrap_or_default() {
        "name" => {
            wanted.bridge = Some(value.to_owned());
            if is_interface(value, LONGEST_INTERFACE) { Ok(()) } else { Err(bad()) }
        }
        "enable_icc" => flag().map(|on| wanted.separate = !on),
        "enable_ip_masquerade" => flag().map(|on| wanted.masquerade = on),
        "inhibit_ipv4" => flag().map(|on| wanted.without_address = on),
        "host_binding_ipv4" => value.parse().map(|address| wanted.bind_to = Some(address)).map_err(|_| bad()),
        "gateway_mode_ipv4" => mode().map(|mode| wanted.modes.inet = mode),
        "gateway_mode_ipv6" => mode().map(|mode| wanted.modes.inet6 = mode),
        _ => Err(bad()),
    }
}

fn is_interface(name: &str, longest: usize) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=longest).contains(&name.len()) && name.bytes().all(is_fine) && !matches!(name, "." | "..")
}

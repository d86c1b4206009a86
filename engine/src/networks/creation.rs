//! Making a network: what was asked for becomes a definition, or is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use runner::network::address::{Subnet4, Subnet6};
use runner::network::definition::{self, Definition};
use runner::network::error::NetworkError;

use runner::isolation::Mode;
use sys::lock::{FileLock, LockMode};

use super::{Defined, Network, NetworkRefusal, PREDEFINED};
use crate::Engine;
use crate::error::EngineError;
use crate::request::NetworkCreation;

/// The longest name that the kernel gives an interface, in bytes.
const LONGEST_BRIDGE: usize = 15;
/// The smallest packet that IPv4 asks every link for (RFC 791).
const SMALLEST_MTU: u32 = 68;

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// [`NetworkRefusal`]; the name is taken, a subnet is in use, or this user may not make bridges.
    pub fn create_network(&self, asked: &NetworkCreation) -> Result<Network, EngineError> {
        check_name(&asked.name)?;
        self.check_bridges()?;
        // Nothing else keeps two commands of an ordinary user from choosing the same subnet.
        let lock = self.runtime_directory()?.join("networks.lock");
        let _alone = FileLock::acquire(&lock, LockMode::Exclusive).map_err(snapshotter::StoreError::from)?;
        let known = self.networks()?;
        if known.iter().any(|other| other.name == asked.name) {
            let name = asked.name.clone();
            return Err(snapshotter::StoreError::NetworkNameTaken { name }.into());
        }
        let wanted = define(asked)?;
        if known
            .iter()
            .filter_map(|other| other.defined.as_ref())
            .any(|other| overlap(&wanted, &other.definition))
        {
            return Err(NetworkRefusal::Overlap.into());
        }
        let definitions = known.iter().filter_map(|other| other.defined.as_ref());
        let taken: Vec<Subnet4> = definitions.filter_map(|other| other.definition.subnet).collect();
        let made = definition::create(&self.runtime_directory, &wanted, &taken);
        let made = made.map_err(|error| match error {
            NetworkError::SubnetTaken { .. } => NetworkRefusal::Overlap.into(),
            other => EngineError::from(runner::RunError::from(other)),
        })?;
        let (id, name) = (made.id.clone(), made.name.clone());
        let auxiliary = asked.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string()));
        let defined = Defined {
            definition: made,
            auxiliary: auxiliary.collect(),
            attachable: asked.attachable,
            labels: asked.labels.clone(),
            options: asked.options.clone(),
        };
        let document = serde_json::to_string(&defined).unwrap_or_default();
        match self.store.create_network(&id, &name, &document) {
            Ok(record) => {
                self.tell_of_network("create", &id, &name);
                Ok(Network { created_at: Some(record.created_at), ..Network::made(id, name, defined) })
            }
            Err(error) => {
                // Somebody has just made one of this name.
                definition::remove(&self.runtime_directory, &id).map_err(runner::RunError::from)?;
                Err(error.into())
            }
        }
    }
}

impl Engine {
    /// Refuses networks where containers can have none of their own.
    fn check_bridges(&self) -> Result<(), EngineError> {
        if self.isolation()?.mode != Mode::Chroot {
            return Ok(());
        }
        let flag = "a user-defined network";
        Err(runner::RunError::from(NetworkError::NeedsBridge { flag }).into())
    }
}

impl Network {
    fn made(id: String, name: String, defined: Defined) -> Self {
        Self { id, name, driver: super::DRIVER, created_at: None, defined: Some(defined) }
    }
}

fn overlap(one: &Definition, other: &Definition) -> bool {
    let inet = one.subnet.zip(other.subnet).is_some_and(|(one, other)| one.overlaps(other));
    inet || one.subnet6.is_some() && one.subnet6 == other.subnet6
}

fn check_name(name: &str) -> Result<(), NetworkRefusal> {
    if PREDEFINED.iter().any(|(predefined, _)| *predefined == name) || name == "default" {
        return Err(NetworkRefusal::PredefinedName(name.to_owned()));
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest { Ok(()) } else { Err(NetworkRefusal::Name(name.to_owned())) }
}

fn define(asked: &NetworkCreation) -> Result<Definition, EngineError> {
    let mut wanted = Definition {
        id: sys::random::hex(32)?,
        name: asked.name.clone(),
        subnet: None,
        gateway: None,
        range: None,
        reserved: Vec::new(),
        subnet6: None,
        internal: asked.internal,
        masquerade: true,
        separate: false,
        bridge: None,
        mtu: None,
    };
    for text in &asked.subnets {
        add_subnet(&mut wanted, text)?;
    }
    if asked.ipv6 && wanted.subnet6.is_none() {
        wanted.subnet6 = Some(Subnet6::random()?);
    }
    for gateway in &asked.gateways {
        set_gateway(&mut wanted, *gateway)?;
    }
    for text in &asked.ranges {
        let range: Subnet4 = text.parse().map_err(|_| config(format!("invalid range {text}")))?;
        let fits = |subnet: Subnet4| subnet.contains(range.first()) && range.length() >= subnet.length();
        if !wanted.subnet.is_some_and(fits) {
            return Err(config(format!("no matching subnet for range {text}")).into());
        }
        wanted.range = Some(range);
    }
    for address in asked.auxiliary.values() {
        match address {
            IpAddr::V4(address) if is_within(&wanted, *address) => wanted.reserved.push(*address),
            IpAddr::V6(address) if is_within6(&wanted, *address) => {}
            _ => return Err(config(format!("no matching subnet for aux-address {address}")).into()),
        }
    }
    asked.options.iter().try_for_each(|(name, value)| set_option(&mut wanted, name, value))?;
    Ok(wanted)
}

fn add_subnet(wanted: &mut Definition, text: &str) -> Result<(), NetworkRefusal> {
    if let Ok(subnet) = text.parse::<Subnet4>() {
        if subnet.length() > 30 {
            return Err(config(format!("invalid subnet {text}: it has no address for a container")));
        }
        return match wanted.subnet.replace(subnet) {
            None => Ok(()),
            Some(_) => Err(config("bridge networks have one subnet of each family".to_owned())),
        };
    }
    let invalid = || config(format!("invalid subnet {text} : invalid CIDR block notation"));
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let address: Ipv6Addr = address.parse().map_err(|_| invalid())?;
    if length != "64" {
        return Err(config(format!("subnet {text}: those of IPv6 have 64 bits here, as fd00:1:2:3::/64")));
    }
    match wanted.subnet6.replace(Subnet6::of(address)) {
        None => Ok(()),
        Some(_) => Err(config("bridge networks have one subnet of each family".to_owned())),
    }
}

fn set_gateway(wanted: &mut Definition, gateway: IpAddr) -> Result<(), NetworkRefusal> {
    match gateway {
        IpAddr::V4(address) if is_within(wanted, address) => wanted.gateway = Some(address),
        IpAddr::V6(address) if wanted.subnet6.is_some_and(|subnet| subnet.gateway() == address) => {}
        IpAddr::V6(address) if is_within6(wanted, address) => {
            return Err(config(format!("gateway {address}: that of IPv6 is the subnet's first address")));
        }
        _ => return Err(config(format!("no matching subnet for gateway {gateway}"))),
    }
    Ok(())
}

fn is_within(wanted: &Definition, address: Ipv4Addr) -> bool {
    wanted.subnet.is_some_and(|subnet| subnet.contains(address) && address != subnet.first())
}

fn is_within6(wanted: &Definition, address: Ipv6Addr) -> bool {
    wanted.subnet6.is_some_and(|subnet| subnet.contains(address))
}

/// An option of the driver, with the name by which Docker's documents list it.
fn set_option(wanted: &mut Definition, name: &str, value: &str) -> Result<(), NetworkRefusal> {
    let bad = || NetworkRefusal::Option { name: name.to_owned(), value: value.to_owned() };
    let flag = || match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad()),
    };
    match name {
        "com.docker.network.driver.mtu" => {
            let mtu: u32 = value.parse().map_err(|_| bad())?;
            let fits = (SMALLEST_MTU..=u32::from(u16::MAX)).contains(&mtu);
            wanted.mtu = Some(mtu).filter(|_| fits);
            if fits { Ok(()) } else { Err(bad()) }
        }
        "com.docker.network.bridge.name" => {
            let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
            let fits = (1..=LONGEST_BRIDGE).contains(&value.len()) && value.bytes().all(is_fine);
            wanted.bridge = Some(value.to_owned());
            if fits && !matches!(value, "." | "..") { Ok(()) } else { Err(bad()) }
        }
        "com.docker.network.bridge.enable_icc" => flag().map(|on| wanted.separate = !on),
        "com.docker.network.bridge.enable_ip_masquerade" => flag().map(|on| wanted.masquerade = on),
        _ => Err(bad()),
    }
}

fn config(what: String) -> NetworkRefusal {
    NetworkRefusal::Config(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(subnets: &[&str]) -> NetworkCreation {
        let subnets = subnets.iter().map(|text| (*text).to_owned()).collect();
        NetworkCreation { name: "net".to_owned(), subnets, ..NetworkCreation::default() }
    }

    #[test]
    fn what_is_asked_for_becomes_a_definition() {
        let options = [
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.bridge.name", "br-x"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "false"),
        ];
        let creation = NetworkCreation {
            gateways: vec!["10.9.8.254".parse().unwrap(), "fd00:1::1".parse().unwrap()],
            ranges: vec!["10.9.8.128/28".to_owned()],
            auxiliary: [("host".to_owned(), "10.9.8.130".parse().unwrap())].into(),
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..asked(&["10.9.8.0/24", "fd00:1::/64"])
        };
        let made = define(&creation).unwrap();
        assert_eq!(
            (made.subnet.unwrap().to_string(), made.range.unwrap().length()),
            ("10.9.8.0/24".to_owned(), 28)
        );
        assert_eq!(made.reserved, ["10.9.8.130".parse::<Ipv4Addr>().unwrap()]);
        assert_eq!((made.mtu, made.bridge.as_deref()), (Some(1400), Some("br-x")));
        assert!(made.separate && !made.masquerade && made.subnet6.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |creation: NetworkCreation| define(&creation).unwrap_err().to_string();
        assert!(refused(asked(&["10.9.8.0"])).contains("invalid CIDR"));
        assert!(refused(asked(&["10.9.8.0/31"])).contains("no address"));
        assert!(refused(asked(&["10.1.0.0/16", "10.2.0.0/16"])).contains("one subnet"));
        assert!(refused(asked(&["fd00::/48"])).contains("64 bits"));
        let with_gateway =
            NetworkCreation { gateways: vec!["10.9.9.1".parse().unwrap()], ..asked(&["10.9.8.0/24"]) };
        assert_eq!(refused(with_gateway), "invalid network config: no matching subnet for gateway 10.9.9.1");
        let with_range =
            NetworkCreation { ranges: vec!["10.9.0.0/16".to_owned()], ..asked(&["10.9.8.0/24"]) };
        assert!(refused(with_range).contains("no matching subnet for range"));
        for (name, value) in [
            ("no.such.option", "1"),
            ("com.docker.network.driver.mtu", "20"),
            ("com.docker.network.bridge.name", "a/b"),
            ("com.docker.network.bridge.enable_icc", "maybe"),
        ] {
            let options = [(name.to_owned(), value.to_owned())].into();
            assert!(refused(NetworkCreation { options, ..asked(&[]) }).contains(name));
        }
        assert!(check_name("host").is_err() && check_name("a b").is_err() && check_name("a.b-c_1").is_ok());
    }
}

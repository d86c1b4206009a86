//! Making a network: what was asked for becomes a definition, or is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use runner::network::address::{Subnet4, Subnet6};
use runner::network::definition::{self, Definition, Driver, GatewayMode, GatewayModes};
use runner::network::error::NetworkError;

use runner::isolation::Mode;
use sys::lock::{FileLock, LockMode};

use super::{Defined, Network, NetworkRefusal, PREDEFINED, options};
use crate::Engine;
use crate::error::EngineError;
use crate::request::NetworkCreation;

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
                self.tell_of_network("create", &id, &name, defined.definition.driver.name());
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
        Self { id, name, driver: defined.definition.driver.name(), created_at: None, defined: Some(defined) }
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
        driver: driver(asked)?,
        parent: None,
        card_prefix: None,
        bind_to: None,
        without_address: false,
        modes: GatewayModes::default(),
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
    asked.options.iter().try_for_each(|(name, value)| options::set(&mut wanted, name, value))?;
    // Without an interface that is somebody's nothing leads out.
    wanted.internal |= wanted.driver != Driver::Bridge && wanted.parent.is_none();
    let isolated = [wanted.modes.inet, wanted.modes.inet6].contains(&GatewayMode::Isolated);
    if isolated && !wanted.internal {
        return Err(
            config("gateway mode 'isolated' can only be used for an internal network".to_owned()).into()
        );
    }
    Ok(wanted)
}

/// What makes the network; modes are options.
fn driver(asked: &NetworkCreation) -> Result<Driver, NetworkRefusal> {
    let option = |name: &str| asked.options.get(name).map_or("", String::as_str);
    let bad = |name: &str| NetworkRefusal::Option { name: name.to_owned(), value: option(name).to_owned() };
    match asked.driver.as_str() {
        "" | super::DRIVER => Ok(Driver::Bridge),
        "macvlan" => Driver::macvlan(option(options::MACVLAN_MODE)).ok_or_else(|| bad(options::MACVLAN_MODE)),
        "ipvlan" => {
            let (mode, flag) = (option(options::IPVLAN_MODE), option(options::IPVLAN_FLAG));
            let name =
                if Driver::ipvlan(mode, "").is_none() { options::IPVLAN_MODE } else { options::IPVLAN_FLAG };
            Driver::ipvlan(mode, flag).ok_or_else(|| bad(name))
        }
        other => Err(NetworkRefusal::Driver(other.to_owned())),
    }
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
            ("com.docker.network.bridge.host_binding_ipv4", "x"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "open"),
            ("com.docker.network.container_iface_prefix", "a/b"),
            ("parent", "eth0"),
        ] {
            let options = [(name.to_owned(), value.to_owned())].into();
            assert!(refused(NetworkCreation { options, ..asked(&[]) }).contains(name));
        }
        let isolated = ("com.docker.network.bridge.gateway_mode_ipv4".to_owned(), "isolated".to_owned());
        let open = NetworkCreation { options: [isolated].into(), ..asked(&[]) };
        assert!(refused(open).contains("internal"));
        let mode = ("macvlan_mode".to_owned(), "l2".to_owned());
        let wrong = NetworkCreation { driver: "macvlan".to_owned(), options: [mode].into(), ..asked(&[]) };
        assert!(refused(wrong).contains("macvlan_mode=l2"));
        let overlay = NetworkCreation { driver: "overlay".to_owned(), ..asked(&[]) };
        assert!(refused(overlay).contains("cluster"));
        assert!(check_name("host").is_err() && check_name("a b").is_err() && check_name("a.b-c_1").is_ok());
    }
}

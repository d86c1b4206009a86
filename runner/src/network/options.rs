//! What a container's part of a network is to be like beyond its addresses, with the names that Docker gives to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::address::MacAddress;
use super::error::NetworkError;
use super::{hub, setting};

/// Where the name of the card stands in the name of a setting.
const CARD: &str = "IFNAME";
/// The longest name that the kernel gives an interface, in bytes.
const LONGEST_CARD: usize = 15;

/// What somebody asked for about a container's card in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardOptions {
    /// Its name; `None` is the first free one.
    #[serde(default)]
    pub name: Option<String>,
    /// Settings of the kernel about it, and their values.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
    /// Addresses of its link that it has besides.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// Names that only this container has for others in the network, with their ids.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// The options of the driver as they were given.
    #[serde(default)]
    pub given: BTreeMap<String, String>,
}

/// An option of a container's part of a network that nobody knows, or a value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint option {name}={value}: {why}")]
pub struct InvalidOption {
    name: String,
    value: String,
    why: &'static str,
}

impl CardOptions {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds an option of the driver for one container. One that names the card's address answers that.
    ///
    /// # Errors
    /// Nobody knows the option, or its value makes no sense.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<MacAddress>, InvalidOption> {
        let bad = |why| InvalidOption { name: name.to_owned(), value: value.to_owned(), why };
        match name {
            "com.docker.network.endpoint.ifname" => {
                let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
                let fits = (1..=LONGEST_CARD).contains(&value.len()) && value.bytes().all(is_fine);
                if !fits || matches!(value, "." | ".." | "lo" | "all" | "default") {
                    return Err(bad("that cannot be the name of a network card"));
                }
                self.name = Some(value.to_owned());
            }
            "com.docker.network.endpoint.macaddress" => {
                let address = value.parse().map_err(|_| bad("that is not the address of a network card"))?;
                self.given.insert(name.to_owned(), value.to_owned());
                return Ok(Some(address));
            }
            "com.docker.network.endpoint.sysctls" => {
                for text in value.split(',') {
                    let (setting, value) = text.split_once('=').ok_or_else(|| bad("write SETTING=VALUE"))?;
                    if path(setting, CARD).is_none() {
                        return Err(bad(
                            "write it as net.ipv4.conf.IFNAME.log_martians=1, with the word IFNAME",
                        ));
                    }
                    self.settings.push((setting.to_owned(), value.to_owned()));
                }
            }
            _ => return Err(bad("there are com.docker.network.endpoint.ifname, macaddress and sysctls")),
        }
        self.given.insert(name.to_owned(), value.to_owned());
        Ok(None)
    }

    /// Changes the settings of a card of a namespace.
    pub(super) fn apply(&self, namespace: &OwnedFd, card: &str) -> Result<(), NetworkError> {
        if self.settings.is_empty() {
            return Ok(());
        }
        hub::inside(namespace, || {
            for (name, value) in &self.settings {
                let path = path(name, card).unwrap_or_default();
                if !setting::write(&path, value)? {
                    return Err(NetworkError::NoSetting { name: name.replace(CARD, card) });
                }
            }
            Ok(())
        })
    }
}

/// The path of a card's setting below those of networks.
fn path(name: &str, card: &str) -> Option<String> {
    let mut words = name.strip_prefix("net.")?.split('.');
    let (family, group, place, last) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let fits = words.next().is_none() && place == CARD && [family, group, last].into_iter().all(is_word);
    fits.then(|| format!("{family}/{group}/{card}/{last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_endpoint_are_read() {
        let mut options = CardOptions::default();
        assert_eq!(options.set("com.docker.network.endpoint.ifname", "wan0"), Ok(None));
        let sysctls = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.ucast_solicit=5";
        assert_eq!(options.set("com.docker.network.endpoint.sysctls", sysctls), Ok(None));
        let mac = options.set("com.docker.network.endpoint.macaddress", "02:00:00:00:00:07").unwrap();
        assert_eq!(mac, Some("02:00:00:00:00:07".parse().unwrap()));
        assert_eq!((options.name.as_deref(), options.settings.len()), (Some("wan0"), 2));
        assert_eq!(path(&options.settings[0].0, "wan0").as_deref(), Some("ipv4/conf/wan0/log_martians"));
        for (name, value) in [
            ("ifname", "a/b"),
            ("ifname", "a-name-that-is-too-long"),
            ("macaddress", "x"),
            ("sysctls", "net.ipv4.ip_forward=1"),
            ("sysctls", "net.ipv4.conf.IFNAME/../all.rp_filter=0"),
            ("sysctls", "kernel.conf.IFNAME.x=0"),
            ("colour", "red"),
        ] {
            let name = format!("com.docker.network.endpoint.{name}");
            assert!(CardOptions::default().set(&name, value).is_err(), "{name}={value}");
        }
    }
}

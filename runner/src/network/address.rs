//! Subnets, and which address of one a container gets. Nothing here asks the system.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the subnets that we choose ourselves come from: a part of the private range 10.0.0.0/8 (RFC 1918) that
/// neither Docker nor Podman takes theirs from.
const POOL: Subnet4 = Subnet4 { first: Ipv4Addr::new(10, 176, 0, 0), length: 12 };

/// Length of the prefix of a subnet that we choose: 1022 hosts, two less than a bridge can have ports.
const CHOSEN_LENGTH: u8 = 22;

/// An IPv4 subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet4 {
    first: Ipv4Addr,
    length: u8,
}

/// Text that is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a subnet; write it as 10.1.2.0/24")]
pub struct InvalidSubnet {
    /// The text.
    pub text: String,
}

impl Subnet4 {
    /// The subnet that `address` is in. Lengths over 32 are taken as 32.
    pub fn new(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        Self { first: Ipv4Addr::from_bits(address.to_bits() & mask(length)), length }
    }

    /// The first address, which names the subnet.
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// Bits of the prefix.
    pub fn length(self) -> u8 {
        self.length
    }

    /// The bits of an address that are the subnet's, as an address.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.length))
    }

    /// The address that the bridge has: the first of a host.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() | 1)
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.first.to_bits()
    }

    /// Whether an address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether a container may have the address: it is neither the first, which names the subnet, nor the
    /// last, which is for broadcasts, nor the gateway's.
    pub fn is_for_containers(self, address: Ipv4Addr) -> bool {
        let host = address.to_bits() & !mask(self.length);
        self.contains(address) && host > 1 && host != !mask(self.length)
    }

    /// The address after `last` that no one has, from the beginning again after the end. Going on after the
    /// last one rather than taking the lowest keeps connections and caches that still mean an old container
    /// from reaching a new one.
    pub fn next_free(self, taken: &BTreeSet<Ipv4Addr>, last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        self.next_free_in(self, taken, last)
    }

    /// The same, of a part of it.
    pub fn next_free_in(
        self,
        range: Self,
        taken: &BTreeSet<Ipv4Addr>,
        last: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let hosts = !mask(range.length);
        // Before the first one, so that a range which is no whole subnet begins with its beginning.
        let before = if range == self { 1 } else { u32::MAX };
        let from = last.filter(|last| range.contains(*last)).map_or(before, |last| last.to_bits() & hosts);
        let candidates = (0..=hosts).map(|step| from.wrapping_add(1).wrapping_add(step) & hosts);
        let addresses = candidates.map(|host| Ipv4Addr::from_bits(range.first.to_bits() | host));
        // The set ends the search: one more step than there are taken addresses finds a free one, if any.
        addresses.into_iter().find(|one| self.is_for_containers(*one) && !taken.contains(one))
    }

    /// The subnets that a network may choose from, beginning with number `start` of the pool, without those
    /// that overlap one of `used`.
    pub fn choices(start: u32, used: &[Self]) -> impl Iterator<Item = Self> {
        let count = 1_u32 << (CHOSEN_LENGTH - POOL.length);
        let subnet = move |step: u32| {
            let number = start.wrapping_add(step) % count;
            let first = POOL.first.to_bits() | (number << (32 - CHOSEN_LENGTH));
            Self { first: Ipv4Addr::from_bits(first), length: CHOSEN_LENGTH }
        };
        (0..count).map(subnet).filter(|choice| !used.iter().any(|other| choice.overlaps(*other)))
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Subnet4 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.length)
    }
}

impl FromStr for Subnet4 {
    type Err = InvalidSubnet;

    fn from_str(text: &str) -> Result<Self, InvalidSubnet> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let length = length.parse().ok().filter(|length| *length <= 32)?;
            Some(Self::new(address.parse().ok()?, length))
        });
        parsed.ok_or_else(|| InvalidSubnet { text: text.to_owned() })
    }
}

impl TryFrom<String> for Subnet4 {
    type Error = InvalidSubnet;

    fn try_from(text: String) -> Result<Self, InvalidSubnet> {
        text.parse()
    }
}

impl From<Subnet4> for String {
    fn from(subnet: Subnet4) -> Self {
        subnet.to_string()
    }
}

/// An IPv6 subnet of 2⁶⁴ addresses, the length that every network segment has (RFC 4291).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subnet6 {
    first: Ipv6Addr,
}

impl Subnet6 {
    /// Bits of the prefix.
    pub const LENGTH: u8 = 64;

    /// The subnet that an address is in.
    pub fn of(address: Ipv6Addr) -> Self {
        Self { first: Ipv6Addr::from_bits(address.to_bits() >> 64 << 64) }
    }

    /// One that is as good as nobody else's.
    ///
    /// # Errors
    /// The kernel has no random numbers.
    pub fn random() -> Result<Self, sys::path_error::PathError> {
        let digits = sys::random::hex(7)?;
        // Fourteen hex digits are always a number.
        let number = u64::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes();
        let [_, random @ ..] = number;
        Ok(Self::unique_local(random))
    }

    /// The unique local subnet (RFC 4193: `fd`, 40 bits that nobody else has, 16 bits of our choice) of these
    /// seven bytes, which are to be as good as random.
    pub fn unique_local(random: [u8; 7]) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..8].copy_from_slice(&random);
        Self { first: Ipv6Addr::from(bytes) }
    }

    /// The first address, which names the subnet.
    pub fn first(self) -> Ipv6Addr {
        self.first
    }

    /// The address that the bridge has.
    pub fn gateway(self) -> Ipv6Addr {
        self.host(1)
    }

    /// The address that goes with a container's IPv4 address: it ends with the same number, so what is unique
    /// there is unique here.
    pub fn beside(self, address: Ipv4Addr) -> Ipv6Addr {
        self.host(u64::from(address.to_bits()))
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() >> 64 == self.first.to_bits() >> 64
    }

    /// Whether a container may ask for the address: neither the subnet's own nor the gateway's.
    pub fn is_for_containers(self, address: Ipv6Addr) -> bool {
        self.contains(address) && address != self.first && address != self.gateway()
    }

    fn host(self, number: u64) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.first.to_bits() | u128::from(number))
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, Self::LENGTH)
    }
}

/// The address of a network card: six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MacAddress([u8; 6]);

/// Text that is not the address of a network card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a MAC address of one card; write it as 02:42:ac:11:00:02")]
pub struct InvalidMacAddress {
    /// The text.
    pub text: String,
}

impl MacAddress {
    /// One that is not of a maker of cards but chosen (the second lowest bit of the first byte says that), and
    /// that goes with an IPv4 address.
    pub fn beside(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x4c, a, b, c, d])
    }

    /// The bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    /// Six pairs of hex digits with colons or hyphens between. The lowest bit of the first byte means groups of
    /// cards, so it is not taken.
    fn from_str(text: &str) -> Result<Self, InvalidMacAddress> {
        let invalid = || InvalidMacAddress { text: text.to_owned() };
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'));
            *octet = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(invalid)?;
        }
        if parts.next().is_some() || octets[0] & 1 != 0 || octets == [0; 6] {
            return Err(invalid());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;

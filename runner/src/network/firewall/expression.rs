//! The expressions that nf_tables rules are made of, in the kernel's own form (`linux/netfilter/nf_tables.h`).
//!
//! A rule is a small program: an expression loads something into a register, compares one, looks one up, or ends
//! the rule. The first comparison that fails ends the rule too. Registers 1 to 4 have 16 bytes each; those from 8
//! on are the same memory in pieces of 4, so that values of several fields can be put together for a look-up.

use super::super::netlink::Attributes;

/// `NFTA_LIST_ELEM`, `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`
pub(super) const LIST_ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// Length of an interface name with the zero bytes after it.
const INTERFACE_NAME: usize = 16;

/// The first 16 bytes of registers.
pub(super) const REGISTER_1: u32 = 1;
/// The second 16 bytes of registers.
pub(super) const REGISTER_2: u32 = 2;
const REGISTER_VERDICT: u32 = 0;
/// `NFT_REG32_00`: the first 4 bytes of registers.
const REGISTER_32: u32 = 8;

/// The register of the 4 bytes that begin `field` times 4 bytes after the beginning of [`REGISTER_1`].
pub(super) const fn part(field: u32) -> u32 {
    REGISTER_32 + field
}

/// A property of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    /// The name of the interface that it came in by.
    InputName = 6,
    /// The name of the interface that it leaves by.
    OutputName = 7,
    /// Its family: [`IPV4`] or [`IPV6`].
    Family = 15,
    /// Its transport's number.
    Transport = 16,
}

/// `NFPROTO_IPV4`
pub(super) const IPV4: u8 = 2;
/// `NFPROTO_IPV6`
pub(super) const IPV6: u8 = 10;

/// A part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    base: u32,
    offset: u32,
    length: u32,
}

impl Field {
    /// The sender's IPv4 address.
    pub(super) const SOURCE_4: Self = Self { base: 1, offset: 12, length: 4 };
    /// The receiver's IPv4 address.
    pub(super) const DESTINATION_4: Self = Self { base: 1, offset: 16, length: 4 };
    /// The first half of the sender's IPv6 address.
    pub(super) const SOURCE_6_PREFIX: Self = Self { base: 1, offset: 8, length: 8 };
    /// The receiver's IPv6 address.
    pub(super) const DESTINATION_6: Self = Self { base: 1, offset: 24, length: 16 };
    /// The receiver's port; it is in the same place for TCP and UDP.
    pub(super) const DESTINATION_PORT: Self = Self { base: 2, offset: 2, length: 2 };
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `NF_DROP`
    Drop = 0,
    /// `NF_ACCEPT`
    Accept = 1,
}

/// What the kernel knows of a packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// It belongs to one that exists, or to one that is related to such a one.
    Known,
    /// Its receiver was changed by a rule.
    Redirected,
}

/// The expressions of one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expressions(Attributes);

impl Expressions {
    /// A rule that matches everything and does nothing.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// As an attribute of a rule.
    pub(super) fn list(self) -> Attributes {
        self.0
    }

    fn add(self, name: &str, data: Attributes) -> Self {
        let expression = Attributes::new().text(NAME, name).nested(DATA, data);
        Self(self.0.nested(LIST_ELEMENT, expression))
    }

    /// Loads a property.
    pub(super) fn load(self, property: Property, register: u32) -> Self {
        let data = Attributes::new().big_endian(1, register).big_endian(2, property as u32);
        self.add("meta", data)
    }

    /// Loads a part of the packet.
    pub(super) fn load_field(self, field: Field, register: u32) -> Self {
        let data = Attributes::new()
            .big_endian(1, register)
            .big_endian(2, field.base)
            .big_endian(3, field.offset)
            .big_endian(4, field.length);
        self.add("payload", data)
    }

    fn compare(self, is: bool, value: &[u8]) -> Self {
        let value = Attributes::new().attribute(DATA_VALUE, value);
        let data = Attributes::new().big_endian(1, REGISTER_1).big_endian(2, u32::from(!is)).nested(3, value);
        self.add("cmp", data)
    }

    /// Goes on if a property is, or is not, this value.
    pub(super) fn match_property(self, property: Property, is: bool, value: &[u8]) -> Self {
        self.load(property, REGISTER_1).compare(is, value)
    }

    /// Goes on if the name of an interface is, or is not, this.
    pub(super) fn match_interface(self, property: Property, is: bool, name: &str) -> Self {
        self.match_property(property, is, &interface_name(name))
    }

    /// Goes on if a part of the packet is this value, as far as the mask has bits.
    pub(super) fn match_field(self, field: Field, mask: &[u8], value: &[u8]) -> Self {
        self.load_field(field, REGISTER_1).masked(mask).compare(true, value)
    }

    /// Keeps the bits of the first register that the mask has.
    fn masked(self, mask: &[u8]) -> Self {
        let of = |bytes: &[u8]| Attributes::new().attribute(DATA_VALUE, bytes);
        let data = Attributes::new()
            .big_endian(1, REGISTER_1)
            .big_endian(2, REGISTER_1)
            .big_endian(3, mask.len() as u32)
            .nested(4, of(mask))
            .nested(5, of(&vec![0; mask.len()]));
        self.add("bitwise", data)
    }

    /// Goes on if the packet is for an address of this host.
    pub(super) fn match_local_destination(self) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        let data = Attributes::new()
            .big_endian(1, REGISTER_1)
            .big_endian(2, ADDRESS_TYPE)
            .big_endian(3, OF_DESTINATION);
        self.add("fib", data).compare(true, &LOCAL.to_ne_bytes())
    }

    /// Goes on if the packet's connection is like this.
    pub(super) fn match_connection(self, connection: Connection) -> Self {
        // `NFT_CT_STATE` with the bits of "established" and "related"; `NFT_CT_STATUS` with `IPS_DST_NAT`.
        let (key, bits) = match connection {
            Connection::Known => (0, 0b110_u32),
            Connection::Redirected => (2, 1 << 5),
        };
        let data = Attributes::new().big_endian(1, REGISTER_1).big_endian(2, key);
        self.add("ct", data).masked(&bits.to_ne_bytes()).compare(false, &[0; 4])
    }

    /// Replaces what the first register begins with by what a map has for it; goes on if it has something.
    pub(super) fn look_up(self, map: &str) -> Self {
        let data = Attributes::new().text(1, map).big_endian(2, REGISTER_1).big_endian(3, REGISTER_1);
        self.add("lookup", data)
    }

    /// Loads a value.
    pub(super) fn set(self, register: u32, value: &[u8]) -> Self {
        let value = Attributes::new().attribute(DATA_VALUE, value);
        let data = Attributes::new().big_endian(1, register).nested(2, value);
        self.add("immediate", data)
    }

    /// Sends the packet to the address and the port in two registers.
    pub(super) fn redirect(self, family: u8, address: u32, port: u32) -> Self {
        const DESTINATION: u32 = 1;
        let data = Attributes::new()
            .big_endian(1, DESTINATION)
            .big_endian(2, u32::from(family))
            .big_endian(3, address)
            .big_endian(5, port);
        self.add("nat", data)
    }

    /// Gives the packet the address of the interface that it leaves by.
    pub(super) fn masquerade(self) -> Self {
        self.add("masq", Attributes::new())
    }

    /// Counts packets and bytes, as `iptables` does with every rule.
    pub(super) fn count(self) -> Self {
        let data = Attributes::new().attribute(1, &[0; 8]).attribute(2, &[0; 8]);
        self.add("counter", data)
    }

    /// Ends the rule and says what becomes of the packet.
    pub(super) fn verdict(self, verdict: Verdict) -> Self {
        let code = Attributes::new().big_endian(VERDICT_CODE, verdict as u32);
        let verdict = Attributes::new().nested(DATA_VERDICT, code);
        let data = Attributes::new().big_endian(1, REGISTER_VERDICT).nested(2, verdict);
        self.add("immediate", data)
    }
}

/// A name as the kernel compares it.
pub(super) fn interface_name(name: &str) -> [u8; INTERFACE_NAME] {
    let mut bytes = [0; INTERFACE_NAME];
    // The kernel has no longer names than 15 bytes.
    bytes.iter_mut().zip(name.bytes().take(INTERFACE_NAME - 1)).for_each(|(to, from)| *to = from);
    bytes
}

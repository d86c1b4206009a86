//! The form of netlink messages: a header, a header of the service, and attributes, each with type and length.
//!
//! Numbers are in the machine's byte order, except where a service says otherwise (`linux/netlink.h`).

/// Length of `struct nlmsghdr`.
pub(in crate::network) const HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are the type.
const TYPE_MASK: u16 = 0x3fff;

/// `NLM_F_REQUEST`
const REQUEST: u16 = 0x001;
/// `NLM_F_ACK`: answer, also when all went well.
const ACK: u16 = 0x004;
/// `NLM_F_DUMP`: all entries.
const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`: fail if it exists.
pub(in crate::network) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`: make it if it does not exist.
pub(in crate::network) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: put it last.
pub(in crate::network) const APPEND: u16 = 0x800;

/// A message being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network) struct Message(Vec<u8>);

impl Message {
    /// A message that the kernel acknowledges. `service` is the fixed header of the service.
    pub(in crate::network) fn change(kind: u16, flags: u16, service: &[u8]) -> Self {
        Self::new(kind, REQUEST | ACK | flags, service)
    }

    /// A message of a batch, whose end is acknowledged for all.
    pub(in crate::network) fn unacknowledged(kind: u16, flags: u16, service: &[u8]) -> Self {
        Self::new(kind, REQUEST | flags, service)
    }

    /// A question that the kernel answers with one message.
    pub(in crate::network) fn query(kind: u16, service: &[u8]) -> Self {
        Self::new(kind, REQUEST, service)
    }

    /// A question that the kernel answers with a message for each entry.
    pub(in crate::network) fn dump(kind: u16, service: &[u8]) -> Self {
        Self::new(kind, REQUEST | DUMP, service)
    }

    fn new(kind: u16, flags: u16, service: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(service);
        pad(&mut bytes);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(in crate::network) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put(&mut self.0, kind, value);
        self
    }

    /// Adds a number in the machine's byte order.
    pub(in crate::network) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds a text with a zero byte at its end.
    pub(in crate::network) fn text(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &with_zero(value))
    }

    /// Adds an attribute that holds attributes.
    pub(in crate::network) fn nested(mut self, kind: u16, value: Attributes) -> Self {
        put(&mut self.0, kind | NESTED, &value.0);
        self
    }

    /// Asks for an acknowledgement after all.
    pub(in crate::network) fn acknowledged(mut self) -> Self {
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | ACK;
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// The bytes to send, with this sequence number.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Attributes inside another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::network) struct Attributes(Vec<u8>);

impl Attributes {
    /// None, yet.
    pub(in crate::network) fn new() -> Self {
        Self::default()
    }

    /// Attributes after a fixed header, as a peer of a virtual cable has.
    pub(in crate::network) fn after(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// Adds an attribute.
    pub(in crate::network) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        put(&mut self.0, kind, value);
        self
    }

    /// Adds a number in the machine's byte order.
    pub(in crate::network) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds a number in the byte order of the network, as nf_tables wants them.
    pub(in crate::network) fn big_endian(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Adds a text with a zero byte at its end.
    pub(in crate::network) fn text(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &with_zero(value))
    }

    /// Adds an attribute that holds attributes.
    pub(in crate::network) fn nested(mut self, kind: u16, value: Attributes) -> Self {
        put(&mut self.0, kind | NESTED, &value.0);
        self
    }
}

fn with_zero(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // The kernel's limit is the field itself; no attribute of ours comes near it.
    let length = (ATTRIBUTE_HEADER + value.len()) as u16;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

/// The messages in what was received: kind, sequence number, and what follows the header.
pub(in crate::network) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let header = bytes.get(..HEADER)?;
        let body = bytes.get(HEADER..length)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

/// The attributes in `bytes`: type and value.
pub(in crate::network) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    })
}

/// The value of the first attribute of a type.
pub(in crate::network) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number in the machine's byte order.
pub(in crate::network) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let inner = Attributes::new().text(1, "veth").number(2, 7);
        let message = Message::change(16, CREATE, &[1, 2, 3]).text(3, "lap0").nested(18, inner);
        let bytes = message.finish(9);
        let [(kind, sequence, body)] = messages(&bytes).collect::<Vec<_>>()[..] else { panic!("one") };
        assert_eq!((kind, sequence, &body[..4]), (16, 9, &[1, 2, 3, 0][..]));
        let body = &body[4..];
        assert_eq!(find(body, 3), Some(&b"lap0\0"[..]));
        let inner = find(body, 18).unwrap();
        assert_eq!(find(inner, 2).and_then(number), Some(7));
        assert_eq!(find(inner, 9), None);
    }

    proptest! {
        /// What the kernel sends is trusted, but a length is never followed past the end.
        #[test]
        fn reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, _, body) in messages(&bytes) {
                attributes(body).for_each(drop);
            }
            attributes(&bytes).for_each(drop);
        }
    }
}

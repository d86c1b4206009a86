//! Messages of Protocol Buffers, as far as the few that we have need it.
//!
//! Source: Protocol Buffers documentation, "Encoding". Fields with their default value are left out, as in proto3.

/// A message that is being written.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Of a number, whichever its type.
    Number(u64),
    /// Of bytes, a text or a message.
    Bytes(&'a [u8]),
}

impl Message {
    /// Adds bytes or a text, unless it is empty.
    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        if !value.is_empty() {
            self.delimited(field, value);
        }
        self
    }

    /// Adds a message, which is there even if it is empty.
    pub(super) fn message(mut self, field: u32, value: &Self) -> Self {
        self.delimited(field, &value.0);
        self
    }

    /// Adds a number, unless it is zero.
    pub(super) fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
        self
    }

    /// The message as it is sent.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn delimited(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The fields of a message, in their order; `None` when it is none. Numbers of fixed length are skipped: we know no field that has one.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let field = u32::try_from(tag >> 3).ok()?;
        match tag & 7 {
            0 => fields.push((field, Value::Number(take_varint(&mut bytes)?))),
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                fields.push((field, Value::Bytes(take(&mut bytes, length)?)));
            }
            5 => drop(take(&mut bytes, 4)?),
            _ => return None,
        }
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the source: field 1 with 150, field 2 with "testing".
    #[test]
    fn the_examples_of_the_source_come_out() {
        let message = Message::default().number(1, 150).bytes(2, b"testing").into_bytes();
        assert_eq!(message, [&[0x08, 0x96, 0x01, 0x12, 0x07][..], b"testing"].concat());
        let read = vec![(1, Value::Number(150)), (2, Value::Bytes(&b"testing"[..]))];
        assert_eq!(fields(&message), Some(read));
        assert_eq!(Message::default().number(1, 0).bytes(2, b"").into_bytes(), b"");
        assert_eq!(Message::default().message(3, &Message::default()).into_bytes(), [0x1a, 0]);
    }

    #[test]
    fn what_is_cut_or_nonsense_is_no_message() {
        for bytes in
            [&[0x08][..], &[0x08, 0x80], &[0x12, 5, 1], &[0x0b], &[0xff; 11], &[0x09, 1], &[0x08, 0xff, 0xff]]
        {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
        assert_eq!(fields(&[0x0d, 1, 2, 3, 4, 0x08, 1]), Some(vec![(1, Value::Number(1))]));
        let largest = Message::default().number(1, u64::MAX).into_bytes();
        assert_eq!(fields(&largest), Some(vec![(1, Value::Number(u64::MAX))]));
    }
}

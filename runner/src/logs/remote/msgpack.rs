//! What fluentd's protocol needs of MessagePack (its specification of 2013): values of a few kinds, written.

/// Adds the head of an array.
pub(super) fn array(out: &mut Vec<u8>, length: u8) {
    out.push(0x90 | (length & 0x0f));
}

/// Adds the head of a map.
pub(super) fn map(out: &mut Vec<u8>, length: usize) {
    match u16::try_from(length) {
        Ok(length @ 0..=15) => out.push(0x80 | length as u8),
        Ok(length) => {
            out.push(0xde);
            out.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            out.push(0xdf);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// Adds a text. It may hold any bytes, which readers of texts from programs are used to.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
    match bytes.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// Adds a number of seconds.
pub(super) fn unsigned(out: &mut Vec<u8>, number: u64) {
    out.push(0xcf);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Adds an extension of eight bytes.
pub(super) fn extension(out: &mut Vec<u8>, kind: i8, bytes: [u8; 8]) {
    out.extend_from_slice(&[0xd7, kind as u8]);
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_as_long_as_needed() {
        let text_head = |length: usize| {
            let mut out = Vec::new();
            text(&mut out, &vec![b'x'; length]);
            assert!(out[out.len() - length..].iter().all(|byte| *byte == b'x'));
            out.truncate(out.len() - length);
            out
        };
        assert_eq!(text_head(0), [0xa0]);
        assert_eq!(text_head(31), [0xbf]);
        assert_eq!(text_head(32), [0xd9, 32]);
        assert_eq!(text_head(256), [0xda, 1, 0]);
        assert_eq!(text_head(65_536), [0xdb, 0, 1, 0, 0]);
        let map_head = |length| {
            let mut out = Vec::new();
            map(&mut out, length);
            out
        };
        assert_eq!(map_head(15), [0x8f]);
        assert_eq!(map_head(16), [0xde, 0, 16]);
        assert_eq!(map_head(65_536), [0xdf, 0, 1, 0, 0]);
        let mut out = Vec::new();
        array(&mut out, 4);
        unsigned(&mut out, 5);
        extension(&mut out, 0, [1; 8]);
        assert_eq!(out, [0x94, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5, 0xd7, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    }
}

//! Text as a string of JSON (RFC 8259, section 7). Pure, and made for much text with little to escape.

/// Bytes that are looked at together: enough for the compiler to use the widest instructions.
const BLOCK: usize = 32;

/// Adds `text` without quotes around it. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn push(out: &mut Vec<u8>, text: &[u8]) {
    // The whole of it is checked much faster than piece by piece.
    match std::str::from_utf8(text) {
        Ok(_) => escape(out, text),
        Err(_) => {
            for piece in text.utf8_chunks() {
                escape(out, piece.valid().as_bytes());
                if !piece.invalid().is_empty() {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
    }
}

fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = first_special(text) {
        out.extend_from_slice(&text[..at]);
        push_escaped(out, text[at]);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// Where the first byte is that cannot stand for itself.
fn first_special(text: &[u8]) -> Option<usize> {
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let plain = |block: &&[u8; BLOCK]| !block.iter().fold(false, |any, byte| any | is_special(*byte));
    let skipped = blocks.iter().take_while(plain).count() * BLOCK;
    let found = text[skipped..].iter().position(|byte| is_special(*byte));
    found.map(|at| skipped + at)
}

fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => {
            let digit = |four_bits: u8| DIGITS[usize::from(four_bits & 0xf)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_a_json_library_writes(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                proptest::collection::vec(prop_oneof![Just(b'x'), Just(b'\n'), Just(b'"'), Just(0xc3), Just(0xa9)], 0..200),
            ],
        ) {
            let mut out = vec![b'"'];
            push(&mut out, &text);
            out.push(b'"');
            let expected = serde_json::to_vec(&String::from_utf8_lossy(&text)).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(expected).unwrap());
        }
    }
}

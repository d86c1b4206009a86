//! Bytes to text.

use std::borrow::Cow;

use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// Decodes a file. What is not UTF-8 is reported once and decoded as well as it goes; so is a NUL byte.
pub(crate) fn decode(bytes: &[u8], diagnostics: &mut Vec<Diagnostic>) -> String {
    let text = match (std::str::from_utf8(bytes), bytes) {
        (Ok(text), _) => Cow::Borrowed(text),
        (Err(_), [0xff, 0xfe, rest @ ..]) => Cow::Owned(utf16(rest, u16::from_le_bytes, diagnostics)),
        (Err(_), [0xfe, 0xff, rest @ ..]) => Cow::Owned(utf16(rest, u16::from_be_bytes, diagnostics)),
        (Err(error), _) => {
            // U+FFFD, which stands for the bytes in the decoded text, has three bytes.
            let start = error.valid_up_to();
            let span = Span::new(start, start + '\u{fffd}'.len_utf8());
            diagnostics
                .push(Diagnostic::error("invalid-utf8", span, "this is not UTF-8 text").with_help(SAVE));
            String::from_utf8_lossy(bytes)
        }
    };
    if let Some(offset) = text.find('\0') {
        let error = Diagnostic::error("nul-byte", Span::new(offset, offset + 1), "there is a NUL byte here");
        diagnostics.push(error.with_help("a Dockerfile is text; no argument can contain this byte"));
    }
    text.into_owned()
}

const SAVE: &str = "save the file as UTF-8";

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, diagnostics: &mut Vec<Diagnostic>) -> String {
    let message = "the file is UTF-16, not UTF-8";
    diagnostics.push(Diagnostic::error("invalid-utf8", Span::new(0, 0), message).with_help(SAVE));
    let (pairs, _) = bytes.as_chunks::<2>();
    String::from_utf16_lossy(&pairs.iter().map(|pair| unit(*pair)).collect::<Vec<_>>())
}

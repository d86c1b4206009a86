//! Bytes to text.

use crate::diagnostic::Diagnostic;
use crate::span::Span;

/// Decodes a file. Bytes that are not UTF-8 become U+FFFD; they, NUL bytes and UTF-16 are reported once.
pub(crate) fn decode(bytes: &[u8], diagnostics: &mut Vec<Diagnostic>) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            diagnostics.push(invalid_utf8(bytes, error.valid_up_to()));
            String::from_utf8_lossy(bytes).into_owned()
        }
    };
    if let Some(offset) = text.find('\0') {
        let error = Diagnostic::error("nul-byte", Span::new(offset, offset + 1), "there is a NUL byte here");
        diagnostics.push(error.with_help("a Dockerfile is text; no argument can contain this byte"));
    }
    text
}

fn invalid_utf8(bytes: &[u8], offset: usize) -> Diagnostic {
    // U+FFFD, which stands for the bytes in the decoded text, has three bytes.
    let span = Span::new(offset, offset + '\u{fffd}'.len_utf8());
    let error = Diagnostic::error("invalid-utf8", span, "the file is not UTF-8 text");
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => error.with_help("it looks like UTF-16; save it as UTF-8"),
        _ => error.with_help("save it as UTF-8"),
    }
}

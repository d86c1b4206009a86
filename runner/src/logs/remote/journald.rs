//! Records as the journal of systemd has them ("Native Journal Protocol"). Pure.

use std::path::PathBuf;

use base::event::Stream;

use super::address::Address;
use super::{Message, Origin};

/// Where the journal listens (`systemd-journald.service(8)`).
const SOCKET: &str = "/run/systemd/journal/socket";

pub(super) fn places() -> Vec<Address> {
    vec![Address::Unixgram(PathBuf::from(SOCKET))]
}

/// A record as a datagram, with Docker's fields.
pub(super) fn encode(message: &Message, origin: &Origin) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.text.len() + 512);
    let source = &origin.source;
    let priority = if message.stream == Stream::Stdout { "6" } else { "3" };
    let (number, time) = (message.number.to_string(), message.time.to_string());
    for (name, value) in [
        ("PRIORITY", priority),
        ("CONTAINER_ID", source.short_id()),
        ("CONTAINER_ID_FULL", &source.id),
        ("CONTAINER_NAME", &source.name),
        ("CONTAINER_TAG", &source.tag),
        ("IMAGE_NAME", &source.image),
        ("SYSLOG_IDENTIFIER", &source.tag),
        ("SYSLOG_TIMESTAMP", &time),
        ("CONTAINER_LOG_EPOCH", &origin.epoch),
        ("CONTAINER_LOG_ORDINAL", &number),
    ] {
        field(&mut out, name, value.as_bytes());
    }
    for (name, value) in &origin.attributes {
        if let Some(name) = field_name(name) {
            field(&mut out, &name, value.as_bytes());
        }
    }
    if let Some(part) = &message.part {
        if !part.is_last {
            field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        field(&mut out, "CONTAINER_PARTIAL_ID", part.id.as_bytes());
        field(&mut out, "CONTAINER_PARTIAL_ORDINAL", part.number.to_string().as_bytes());
        field(&mut out, "CONTAINER_PARTIAL_LAST", if part.is_last { b"true" } else { b"false" });
    }
    field(&mut out, "MESSAGE", &message.text);
    out
}

/// A field: on a line of its own, or with its length where it has several lines or is not text.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') || std::str::from_utf8(value).is_err() {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The name of a label or variable as the journal takes it: capitals, digits and `_`, which is not the first.
fn field_name(name: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_start_matches('_');
    let is_name = !name.is_empty() && name.len() <= 64 && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::tests::{message, origin};
    use super::*;

    #[test]
    fn fields_are_dockers() {
        let text = String::from_utf8(encode(&message("hello"), &origin())).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "PRIORITY=6",
            "CONTAINER_ID=0123456789ab",
            "CONTAINER_ID_FULL=0123456789abcdef",
            "CONTAINER_NAME=web",
            "CONTAINER_TAG=tag",
            "SYSLOG_IDENTIFIER=tag",
            "IMAGE_NAME=busybox",
            "SYSLOG_TIMESTAMP=2026-01-02T03:04:05.600001Z",
            "COM_EXAMPLE_TIER=front",
            "MESSAGE=hello",
        ] {
            assert!(lines.contains(&line), "{line} in {text}");
        }
        assert!(!text.contains("PARTIAL"));
        let mut piece = message("x");
        piece.part = Some(Part { id: "p".to_owned(), number: 2, is_last: false });
        let text = String::from_utf8(encode(&piece, &origin())).unwrap();
        assert!(text.contains("CONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_PARTIAL_ID=p\n"), "{text}");
        assert!(text.contains("CONTAINER_PARTIAL_ORDINAL=2\nCONTAINER_PARTIAL_LAST=false\n"), "{text}");
    }

    #[test]
    fn what_is_no_line_of_text_has_its_length() {
        let mut out = Vec::new();
        field(&mut out, "MESSAGE", b"a\nb");
        assert_eq!(out, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
        out.clear();
        field(&mut out, "M", b"\xff");
        assert_eq!(out, b"M\n\x01\0\0\0\0\0\0\0\xff\n");
    }

    #[test]
    fn names_cannot_pretend_to_be_the_journals_own() {
        assert_eq!(field_name("__pid.x").as_deref(), Some("PID_X"));
        assert_eq!(field_name("com.example-a").as_deref(), Some("COM_EXAMPLE_A"));
        assert_eq!((field_name("___"), field_name("1a"), field_name("")), (None, None, None));
    }
}

//! One record of a log, and its form in a file.

use std::collections::BTreeMap;

use base::Timestamp;
use base::event::Stream;
use serde::{Deserialize, Serialize};

/// Something that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// By which stream.
    pub stream: Stream,
    /// When.
    pub time: Timestamp,
    /// What: a line with its end, or a piece of one. Bytes that are not UTF-8 have become U+FFFD.
    pub text: String,
    /// Names and values that the log was told to add.
    pub attributes: BTreeMap<String, String>,
}

/// The JSON document of a record.
#[derive(Serialize, Deserialize)]
struct Document<T, A> {
    log: T,
    stream: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attrs: Option<A>,
    time: Timestamp,
}

/// Adds a record as a line to `out`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    stream: Stream,
    time: Timestamp,
    text: &[u8],
    attributes: &BTreeMap<String, String>,
) {
    let text = String::from_utf8_lossy(text);
    let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    let attrs = (!attributes.is_empty()).then_some(attributes);
    let document = Document { log: text.as_ref(), stream: name, attrs, time };
    let before = out.len();
    match serde_json::to_writer(&mut *out, &document) {
        Ok(()) => out.push(b'\n'),
        // Text, numbers and maps of text have a form, and memory takes all; half a line would be worse.
        Err(_) => out.truncate(before),
    }
}

/// Reads a line; `None` for one that is damaged, such as the last one before a crash.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    let document: Document<String, BTreeMap<String, String>> = serde_json::from_slice(line).ok()?;
    let stream = match document.stream.as_str() {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    let attributes = document.attrs.unwrap_or_default();
    Some(Record { stream, time: document.time, text: document.log, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_dockers() {
        let mut out = Vec::new();
        let time: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        encode(&mut out, Stream::Stderr, time, b"a \"b\"\xff\n", &BTreeMap::new());
        let line = String::from_utf8(out).unwrap();
        assert_eq!(
            line,
            "{\"log\":\"a \\\"b\\\"\u{fffd}\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.6Z\"}\n"
        );
        let record = decode(line.as_bytes()).unwrap();
        assert_eq!((record.stream, record.time), (Stream::Stderr, time));
        assert_eq!(record.text, "a \"b\"\u{fffd}\n");
    }

    #[test]
    fn documents_of_docker_are_read_and_damaged_ones_left_out() {
        let docker =
            br#"{"log":"x\n","stream":"stdout","attrs":{"tag":"t"},"time":"2024-05-06T07:08:09.123456789Z"}"#;
        assert_eq!(decode(docker).unwrap().attributes["tag"], "t");
        for bad in [
            &b"{\"log\":\"x"[..],
            b"",
            b"{}",
            br#"{"log":"x","stream":"other","time":"2024-05-06T07:08:09Z"}"#,
        ] {
            assert_eq!(decode(bad), None);
        }
    }
}

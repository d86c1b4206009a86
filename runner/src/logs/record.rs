//! One record of a log, and its form in a file.

use std::collections::BTreeMap;

use base::Timestamp;
use base::event::Stream;
use serde::Deserialize;

use super::json_text;

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

/// The JSON document of a record. What is written is what [`encode`] makes.
#[derive(Deserialize)]
struct Document {
    log: String,
    stream: String,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
    time: Timestamp,
}

/// What follows the text in the lines of all records of one stream and moment.
#[derive(Debug)]
pub(super) struct LineEnd(Vec<u8>);

impl LineEnd {
    /// The end of lines of that stream and time, with these names and values.
    pub(super) fn new(stream: Stream, time: Timestamp, attributes: &BTreeMap<String, String>) -> Self {
        let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        let mut end = format!("\",\"stream\":\"{name}\",").into_bytes();
        let mut before = &b"\"attrs\":{"[..];
        for (name, value) in attributes {
            end.extend_from_slice(before);
            before = b",";
            push_string(&mut end, name);
            end.push(b':');
            push_string(&mut end, value);
        }
        if !attributes.is_empty() {
            end.extend_from_slice(b"},");
        }
        end.extend_from_slice(format!("\"time\":\"{time}\"}}\n").as_bytes());
        Self(end)
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    json_text::push(out, text.as_bytes());
    out.push(b'"');
}

/// Adds a record as a line to `out`.
pub(super) fn encode(out: &mut Vec<u8>, text: &[u8], LineEnd(end): &LineEnd) {
    out.extend_from_slice(b"{\"log\":\"");
    json_text::push(out, text);
    out.extend_from_slice(end);
}

/// Reads a line; `None` for one that is damaged, such as the last one before a crash.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    let document: Document = serde_json::from_slice(line).ok()?;
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
        encode(&mut out, b"a \"b\"\xff\n", &LineEnd::new(Stream::Stderr, time, &BTreeMap::new()));
        let line = String::from_utf8(out).unwrap();
        assert_eq!(
            line,
            "{\"log\":\"a \\\"b\\\"\u{fffd}\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.6Z\"}\n"
        );
        let record = decode(line.as_bytes()).unwrap();
        assert_eq!((record.stream, record.time), (Stream::Stderr, time));
        assert_eq!(record.text, "a \"b\"\u{fffd}\n");
        let mut out = Vec::new();
        let attributes =
            BTreeMap::from([("a".to_owned(), "\"1\"".to_owned()), ("b".to_owned(), "2".to_owned())]);
        encode(&mut out, b"x", &LineEnd::new(Stream::Stdout, time, &attributes));
        assert!(out.starts_with(br#"{"log":"x","stream":"stdout","attrs":{"a":"\"1\"","b":"2"},"time":"#));
        assert_eq!(decode(&out).unwrap().attributes, attributes);
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

//! Records as fluentd has them ("Forward Protocol Specification v1", message mode).

use std::io;

use base::event::Stream;
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::link::Link;
use super::{Message, Origin, Retries, msgpack};

/// Where fluentd listens unless somebody says otherwise.
pub const PORT: u16 = 24_224;

/// The longest answer to a record.
const LONGEST_ANSWER: usize = 256;

/// Where records go, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The server.
    pub address: Address,
    /// Whether the container starts before there is a connection, and goes on without one.
    pub asynchronous: bool,
    /// Milliseconds before a record is sent again.
    pub retry_wait: u64,
    /// How often it is.
    pub retries: u32,
    /// Whether times have nanoseconds.
    pub sub_seconds: bool,
    /// Whether the server has to say that it has got a record.
    pub acknowledged: bool,
    /// Milliseconds after which a connection is made anew, so that a server behind a name can change.
    #[serde(default)]
    pub reconnect_interval: Option<u64>,
    /// Milliseconds that the server may take to take a record.
    #[serde(default)]
    pub write_timeout: Option<u64>,
}

impl Settings {
    pub(super) fn retries(&self) -> Retries {
        Retries { most: self.retries, wait_ms: self.retry_wait, grows: true }
    }

    /// Sends a record, and waits for the answer where one is wanted.
    pub(super) fn send(&self, message: &Message, origin: &Origin, link: &mut Link) -> io::Result<()> {
        let chunk = self.acknowledged.then(|| sys::random::hex(16).unwrap_or_default());
        link.send(&self.encode(message, origin, chunk.as_deref()))?;
        let Some(chunk) = chunk else { return Ok(()) };
        let mut expected = Vec::new();
        msgpack::map(&mut expected, 1);
        msgpack::text(&mut expected, b"ack");
        let head = expected.len();
        msgpack::text(&mut expected, chunk.as_bytes());
        let mut answer = Vec::new();
        let mut piece = [0; LONGEST_ANSWER];
        // The id may have a longer head than it needs; what matters is that it is there.
        while !answer.ends_with(chunk.as_bytes()) {
            match link.receive(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => answer.extend_from_slice(&piece[..length]),
            }
            if answer.len() > LONGEST_ANSWER || !answer.starts_with(&expected[..head.min(answer.len())]) {
                return Err(io::Error::other("the server has answered with something else"));
            }
        }
        Ok(())
    }

    fn encode(&self, message: &Message, origin: &Origin, chunk: Option<&str>) -> Vec<u8> {
        let source = &origin.source;
        let mut fields: Vec<(&str, &[u8])> = Vec::new();
        fields.extend(origin.attributes.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let name = format!("/{}", source.name);
        let number = message.part.as_ref().map(|part| part.number.to_string()).unwrap_or_default();
        fields.push(("container_id", source.id.as_bytes()));
        fields.push(("container_name", name.as_bytes()));
        fields.push(("source", if message.stream == Stream::Stdout { b"stdout" } else { b"stderr" }));
        fields.push(("log", &message.text));
        if let Some(part) = &message.part {
            fields.push(("partial_message", b"true"));
            fields.push(("partial_id", part.id.as_bytes()));
            fields.push(("partial_ordinal", number.as_bytes()));
            fields.push(("partial_last", if part.is_last { b"true" } else { b"false" }));
        }
        let mut out = Vec::with_capacity(message.text.len() + 256);
        msgpack::array(&mut out, if chunk.is_some() { 4 } else { 3 });
        msgpack::text(&mut out, source.tag.as_bytes());
        let seconds = u64::try_from(message.time.as_second()).unwrap_or(0);
        if self.sub_seconds {
            let mut time = [0; 8];
            time[..4].copy_from_slice(&u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
            let nanos = u32::try_from(message.time.subsec_nanosecond()).unwrap_or(0);
            time[4..].copy_from_slice(&nanos.to_be_bytes());
            msgpack::extension(&mut out, 0, time);
        } else {
            msgpack::unsigned(&mut out, seconds);
        }
        msgpack::map(&mut out, fields.len());
        for (name, value) in fields {
            msgpack::text(&mut out, name.as_bytes());
            msgpack::text(&mut out, value);
        }
        if let Some(chunk) = chunk {
            msgpack::map(&mut out, 1);
            msgpack::text(&mut out, b"chunk");
            msgpack::text(&mut out, chunk.as_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::tests::{message, origin};
    use super::*;

    fn settings(sub_seconds: bool) -> Settings {
        Settings {
            address: Address::Tcp("h".to_owned(), PORT),
            asynchronous: false,
            retry_wait: 1,
            retries: 0,
            sub_seconds,
            acknowledged: false,
            reconnect_interval: None,
            write_timeout: None,
        }
    }

    #[test]
    fn a_record_is_tag_time_and_fields() {
        let sent = settings(false).encode(&message("hello"), &origin(), None);
        assert_eq!(sent[..5], [&[0x93, 0xa3][..], b"tag"].concat());
        assert_eq!(sent[5..14], [0xcf, 0, 0, 0, 0, 0x69, 0x57, 0x35, 0xa5]);
        let mut rest = vec![0x85];
        for text in
            ["com.example.tier", "front", "container_id", "0123456789abcdef", "container_name", "/web"]
        {
            msgpack::text(&mut rest, text.as_bytes());
        }
        for text in ["source", "stdout", "log", "hello"] {
            msgpack::text(&mut rest, text.as_bytes());
        }
        assert_eq!(sent[14..], rest);
    }

    #[test]
    fn times_may_have_nanoseconds_and_records_an_id() {
        let mut piece = message("x");
        piece.part = Some(Part { id: "p".to_owned(), number: 3, is_last: true });
        let sent = settings(true).encode(&piece, &origin(), Some("chunk-id"));
        assert_eq!(sent[0], 0x94);
        assert_eq!(sent[5..15], [0xd7, 0, 0x69, 0x57, 0x35, 0xa5, 0x23, 0xc3, 0x49, 0xe8]);
        assert_eq!(sent[15], 0x89);
        assert!(sent.ends_with(b"\xacpartial_last\xa4true\x81\xa5chunk\xa8chunk-id"));
    }
}

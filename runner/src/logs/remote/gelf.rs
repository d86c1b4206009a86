//! Records as Graylog has them (GELF 1.1): a JSON document, compressed and in chunks over UDP, with an end over TCP.

use std::io::{self, Write as _};

use base::event::Stream;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::address::Address;
use super::link::Link;
use super::{Message, Origin, Retries};

/// Bytes of a datagram at most, as in Docker: what passes everywhere.
const DATAGRAM: usize = 1420;

/// Bytes before what a chunk carries: two that tell it from others, the record's id, its number and how many there are.
const CHUNK_HEAD: usize = 12;

/// How many chunks a record may have.
const MOST_CHUNKS: usize = 128;

/// How a record is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Squeeze {
    /// As RFC 1952 says.
    Gzip,
    /// As RFC 1950 says.
    Zlib,
    /// Not at all.
    None,
}

/// Where records go, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The server.
    pub address: Address,
    /// How datagrams are compressed.
    pub squeeze: Squeeze,
    /// How much, from 0 to 9; -1 is the usual.
    pub level: i8,
    /// How often a lost connection is made again.
    pub reconnects: u32,
    /// Seconds between that.
    pub reconnect_delay: u64,
}

impl Settings {
    pub(super) fn retries(&self) -> Retries {
        match self.address {
            Address::Tcp(..) => {
                Retries { most: self.reconnects, wait_ms: self.reconnect_delay * 1000, grows: false }
            }
            _ => Retries::ONCE,
        }
    }

    /// Sends a record. A line without anything in it is none, as in Docker.
    pub(super) fn send(&self, message: &Message, origin: &Origin, link: &mut Link) -> io::Result<()> {
        if message.text.is_empty() {
            return Ok(());
        }
        let mut record = document(message, origin);
        if matches!(self.address, Address::Tcp(..)) {
            record.push(0);
            return link.send(&record);
        }
        let id = sys::random::hex(4).unwrap_or_default();
        let record = self.squeezed(record)?;
        for datagram in chunks(&record, id.as_bytes())? {
            link.send(&datagram)?;
        }
        Ok(())
    }

    fn squeezed(&self, record: Vec<u8>) -> io::Result<Vec<u8>> {
        let level = u32::try_from(self.level).map_or(Compression::default(), Compression::new);
        match self.squeeze {
            Squeeze::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(&record)?;
                encoder.finish()
            }
            Squeeze::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(&record)?;
                encoder.finish()
            }
            Squeeze::None => Ok(record),
        }
    }
}

/// The document of a record, with Docker's fields.
fn document(message: &Message, origin: &Origin) -> Vec<u8> {
    let source = &origin.source;
    let mut fields: Map<String, Value> = Map::new();
    let mut add = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    for (name, value) in &origin.attributes {
        // `_id` is the server's own.
        if name != "id" {
            add(&format!("_{name}"), value.as_str().into());
        }
    }
    add("version", "1.1".into());
    add("host", origin.host.as_str().into());
    add("short_message", String::from_utf8_lossy(&message.text).into());
    add("timestamp", (message.time.as_millisecond() as f64 / 1000.0).into());
    add("level", if message.stream == Stream::Stdout { 6.into() } else { 3.into() });
    add("_container_id", source.id.as_str().into());
    add("_container_name", source.name.as_str().into());
    add("_image_id", source.image_id.as_str().into());
    add("_image_name", source.image.as_str().into());
    add("_command", source.command.as_str().into());
    add("_tag", source.tag.as_str().into());
    add("_created", source.created.to_string().into());
    Value::Object(fields).to_string().into_bytes()
}

/// The datagrams of a record.
fn chunks(record: &[u8], id: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    if record.len() <= DATAGRAM {
        return Ok(vec![record.to_vec()]);
    }
    let parts: Vec<&[u8]> = record.chunks(DATAGRAM - CHUNK_HEAD).collect();
    let count = u8::try_from(parts.len()).ok().filter(|count| usize::from(*count) <= MOST_CHUNKS);
    let count = count.ok_or_else(|| io::Error::other("the record is too large for datagrams of GELF"))?;
    let mut id = id.to_vec();
    id.resize(8, 0);
    let chunk = |(number, part): (usize, &&[u8])| {
        let mut chunk = vec![0x1e, 0x0f];
        chunk.extend_from_slice(&id);
        chunk.extend_from_slice(&[number as u8, count]);
        chunk.extend_from_slice(part);
        chunk
    };
    Ok(parts.iter().enumerate().map(chunk).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::tests::{message, origin};
    use super::*;

    #[test]
    fn a_record_is_a_document_with_dockers_fields() {
        let document: Value = serde_json::from_slice(&document(&message("hello"), &origin())).unwrap();
        for (field, value) in [
            ("version", "1.1"),
            ("host", "my machine"),
            ("short_message", "hello"),
            ("_container_id", "0123456789abcdef"),
            ("_container_name", "web"),
            ("_image_name", "busybox"),
            ("_command", "sh -c true"),
            ("_tag", "tag"),
            ("_com.example.tier", "front"),
            ("_created", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(document[field], value, "{field}");
        }
        assert_eq!((&document["level"], &document["timestamp"]), (&6.into(), &1_767_323_045.6.into()));
    }

    #[test]
    fn a_large_record_goes_in_chunks_that_give_it_again() {
        let record: Vec<u8> = (0..5000u32).map(|number| number as u8).collect();
        let sent = chunks(&record, b"abcdefgh").unwrap();
        assert_eq!(sent.len(), 4);
        let mut again = Vec::new();
        for (number, chunk) in sent.iter().enumerate() {
            assert!(chunk.len() <= DATAGRAM);
            assert_eq!(chunk[..12], [&[0x1e, 0x0f][..], b"abcdefgh", &[number as u8, 4]].concat());
            again.extend_from_slice(&chunk[12..]);
        }
        assert_eq!(again, record);
        assert_eq!(chunks(b"small", b"id").unwrap(), [b"small"]);
        assert!(chunks(&vec![0; 128 * 1408 + 1], b"id").is_err());
        assert_eq!(chunks(&vec![0; 128 * 1408], b"id").unwrap().len(), 128);
    }

    #[test]
    fn records_are_compressed_as_asked_for() {
        let squeezed = |squeeze| {
            let address = Address::Udp("h".to_owned(), 1);
            let settings = Settings { address, squeeze, level: 9, reconnects: 3, reconnect_delay: 1 };
            settings.squeezed(b"text".to_vec()).unwrap()
        };
        let mut text = String::new();
        flate2::read::GzDecoder::new(&squeezed(Squeeze::Gzip)[..]).read_to_string(&mut text).unwrap();
        flate2::read::ZlibDecoder::new(&squeezed(Squeeze::Zlib)[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "texttext");
        assert_eq!(squeezed(Squeeze::None), b"text");
    }
}

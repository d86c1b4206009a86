//! What a process wrote, in documents: as text where it is text, else as a list of numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Output {
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(data) {
        Ok(text) => text.serialize(serializer),
        Err(_) => data.serialize(serializer),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    Ok(match Output::deserialize(deserializer)? {
        Output::Text(text) => text.into_bytes(),
        Output::Bytes(bytes) => bytes,
    })
}

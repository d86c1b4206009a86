//! Canonical bytes for keys.
//!
//! A [`Key`] is blake3 over an encoding with four rules, so that two different values never encode to
//! the same bytes:
//!
//! * a key starts with its domain, which names what is hashed and the version of the encoding
//!   (`"lapstrake/exec/v1"`);
//! * every string, byte string and list is preceded by its length as eight little-endian bytes;
//! * integers are eight little-endian bytes, booleans one byte, enum variants one ordinal byte;
//! * an unordered collection is sorted before it is hashed (`BTreeMap`, `BTreeSet`), and hash maps
//!   have no implementation here, so they cannot be hashed by mistake.
//!
//! Golden tests pin the result. A change of encoding is a change of the domain's version.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::{Digest, Key};

/// Builds a [`Key`] from canonical pieces.
#[derive(Clone)]
pub struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    /// Starts a key in `domain`, for example `"lapstrake/exec/v1"`.
    pub fn new(domain: &str) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.str(domain);
        hasher
    }

    /// Adds a length-prefixed byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u64(bytes.len() as u64);
        self.0.update(bytes);
        self
    }

    /// Adds a length-prefixed string.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds an integer.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    /// Adds a boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.ordinal(u8::from(value))
    }

    /// Adds the ordinal of an enum variant.
    pub fn ordinal(&mut self, value: u8) -> &mut Self {
        self.0.update(&[value]);
        self
    }

    /// Adds a value by its own canonical encoding.
    pub fn add<T: ContentHash + ?Sized>(&mut self, value: &T) -> &mut Self {
        value.hash_content(self);
        self
    }

    /// The key of all that was added.
    pub fn finish(&self) -> Key {
        Key::from_bytes(*self.0.finalize().as_bytes())
    }
}

/// A value with a canonical encoding. See the module for the rules.
pub trait ContentHash {
    /// Adds the encoding of this value to `hasher`.
    fn hash_content(&self, hasher: &mut KeyHasher);
}

impl ContentHash for str {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(self);
    }
}

impl ContentHash for String {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.str(self);
    }
}

impl ContentHash for u64 {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.u64(*self);
    }
}

impl ContentHash for bool {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.bool(*self);
    }
}

impl ContentHash for Key {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.bytes(self.as_bytes());
    }
}

impl ContentHash for Digest {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.bytes(self.as_bytes());
    }
}

impl<T: ContentHash> ContentHash for Option<T> {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        match self {
            None => hasher.ordinal(0),
            Some(value) => hasher.ordinal(1).add(value),
        };
    }
}

impl<T: ContentHash> ContentHash for [T] {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.u64(self.len() as u64);
        for value in self {
            hasher.add(value);
        }
    }
}

impl<T: ContentHash> ContentHash for Vec<T> {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.add(self.as_slice());
    }
}

impl<T: ContentHash> ContentHash for BTreeSet<T> {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.u64(self.len() as u64);
        for value in self {
            hasher.add(value);
        }
    }
}

impl<K: ContentHash, V: ContentHash> ContentHash for BTreeMap<K, V> {
    fn hash_content(&self, hasher: &mut KeyHasher) {
        hasher.u64(self.len() as u64);
        for (key, value) in self {
            hasher.add(key).add(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&str]) -> Key {
        let mut hasher = KeyHasher::new("test/v1");
        for value in values {
            hasher.str(value);
        }
        hasher.finish()
    }

    #[test]
    fn boundaries_between_strings_count() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["", "a"]), key(&["a", ""]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
    }

    #[test]
    fn absent_and_empty_differ() {
        let absent = KeyHasher::new("t").add(&None::<String>).finish();
        let empty = KeyHasher::new("t").add(&Some(String::new())).finish();
        assert_ne!(absent, empty);
    }

    #[test]
    fn encoding_is_pinned() {
        let mut hasher = KeyHasher::new("lapstrake/golden/v1");
        hasher.str("text").u64(7).bool(true).add(&vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(hasher.finish().hex(), GOLDEN);
    }

    /// Computed once; a different value means every cache in the world is invalid.
    const GOLDEN: &str = "9e77cacb5f13b0e2bedaee36359ed8372f0b8c17771e8459bd44446153c963b7";
}

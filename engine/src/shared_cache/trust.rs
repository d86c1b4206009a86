//! Signed records: who says what a step made, and whether that is enough.
//!
//! A record that is signed has a line after it: `ed25519:KEY SIGNATURE`, both in base64. What is signed is the record as it is written,
//! byte by byte, with the key that it is found under and a version of this form. So a record says nothing under another key,
//! and a signature of anything else is none of a record.

use base::Key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::policy::{Policy, Trusted};
use super::record::Record;
use crate::error::EngineError;
use crate::request::SharedCaches;
use crate::signing::{PublicKey, SigningKey};

/// What a signed message begins with. It changes when the form does.
const START: &[u8] = b"lapstrake cache record v1\0";

/// Whom a build believes, and as whom it speaks.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    policy: Option<Policy>,
    signer: Option<SigningKey>,
    /// The names of the images that are built, without tags.
    images: Vec<String>,
}

/// Why a record is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("it is not signed")]
    Unsigned,
    #[error("it is signed by {0}, whom the policy does not trust with it")]
    Signer(PublicKey),
    #[error("its signature is not one of {0} for this result")]
    Signature(PublicKey),
}

impl Trust {
    /// What was asked for. `images` are the names of what is built, without tags.
    ///
    /// # Errors
    /// When the key or the policy cannot be read: nothing is believed or said in place of what was asked for.
    pub(crate) fn of(caches: &SharedCaches, images: Vec<String>) -> Result<Self, EngineError> {
        let policy = caches.policy.as_deref().map(Policy::read).transpose()?;
        let signer = caches.signer.as_deref().map(SigningKey::read).transpose()?;
        Ok(Self { policy, signer, images })
    }

    /// Reads a record that a cache has under a key. `None` is a miss: nothing of ours is there.
    ///
    /// # Errors
    /// When it may not be used.
    pub(crate) fn read(&self, cache: &str, key: &Key, bytes: &[u8]) -> Result<Option<Record>, Distrust> {
        let Some(read) = Record::read(split(bytes).0) else { return Ok(None) };
        self.open(cache, key, bytes)?;
        Ok(Some(read))
    }

    /// What is written under a key, without its signature.
    ///
    /// # Errors
    /// When it may not be used.
    pub(crate) fn open<'b>(&self, cache: &str, key: &Key, bytes: &'b [u8]) -> Result<&'b [u8], Distrust> {
        let (record, signature) = split(bytes);
        if let Some(policy) = &self.policy {
            check(&policy.trusted(cache, &self.images), key, record, signature)?;
        }
        Ok(record)
    }

    /// Whether somebody who writes has reason to look at what is there.
    pub(crate) fn is_particular(&self) -> bool {
        self.signer.is_some()
    }

    /// Whether a record need not be written again: it is what would be read, and somebody stands in for it.
    pub(crate) fn is_enough(&self, cache: &str, key: &Key, bytes: &[u8]) -> bool {
        let (record, signature) = split(bytes);
        let trusted = match (&self.policy, &self.signer) {
            (Some(policy), _) => policy.trusted(cache, &self.images),
            (None, Some(signer)) => Trusted { signers: vec![signer.public()], unsigned: false },
            (None, None) => Trusted { unsigned: true, ..Trusted::default() },
        };
        Record::read(record).is_some() && check(&trusted, key, record, signature).is_ok()
    }

    /// A record as it is written under a key.
    pub(crate) fn to_bytes(&self, key: &Key, record: &Record) -> Vec<u8> {
        self.sign(key, record.to_bytes())
    }

    /// What is written under a key, with a signature if this build signs.
    pub(crate) fn sign(&self, key: &Key, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(signer) = &self.signer {
            let signature = STANDARD.encode(signer.sign(&message(key, &bytes)));
            bytes.extend_from_slice(format!("\n{} {signature}\n", signer.public()).as_bytes());
        }
        bytes
    }
}

/// The record and the line with its signature. JSON as we write it has no line breaks.
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
        None => (bytes, None),
    }
}

fn message(key: &Key, record: &[u8]) -> Vec<u8> {
    [START, key.as_bytes(), record].concat()
}

fn check(trusted: &Trusted, key: &Key, record: &[u8], signature: Option<&[u8]>) -> Result<(), Distrust> {
    if trusted.unsigned {
        return Ok(());
    }
    let read = |line: &[u8]| {
        let (signer, signature) = std::str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
        Some((PublicKey::parse(signer)?, STANDARD.decode(signature).ok()?))
    };
    let (signer, signature) = signature.and_then(read).ok_or(Distrust::Unsigned)?;
    if !trusted.signers.contains(&signer) {
        return Err(Distrust::Signer(signer));
    }
    if !signer.verifies(&message(key, record), &signature) {
        return Err(Distrust::Signature(signer));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    struct Fixture {
        main: Trust,
        other: Trust,
        reader: Trust,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let signer = |name: &str| {
            let path = dir.path().join(name);
            crate::signing::generate(&path).unwrap();
            Trust { signer: Some(SigningKey::read(&path).unwrap()), ..Trust::default() }
        };
        let (main, other) = (signer("main"), signer("other"));
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, "[[rule]]\nsigners = [\"main.pub\"]\n").unwrap();
        let reader = Trust { policy: Some(Policy::read(&path).unwrap()), ..Trust::default() };
        Fixture { main, other, reader }
    }

    const KEY: Key = Key::from_bytes([1; 32]);

    #[test]
    fn a_record_of_a_trusted_signer_is_used() {
        let Fixture { main, reader, .. } = fixture();
        let signed = main.to_bytes(&KEY, &record());
        assert_eq!(reader.read("cache", &KEY, &signed), Ok(Some(record())));
        // Who has no policy reads it as well.
        assert_eq!(Trust::default().read("cache", &KEY, &signed), Ok(Some(record())));
        assert!(main.is_enough("cache", &KEY, &signed) && reader.is_enough("cache", &KEY, &signed));
    }

    #[test]
    fn others_and_nobody_are_not_trusted() {
        let Fixture { main, other, reader } = fixture();
        let signed = other.to_bytes(&KEY, &record());
        let signer = other.signer.as_ref().unwrap().public();
        assert_eq!(reader.read("cache", &KEY, &signed), Err(Distrust::Signer(signer)));
        let unsigned = Trust::default().to_bytes(&KEY, &record());
        assert_eq!(reader.read("cache", &KEY, &unsigned), Err(Distrust::Unsigned));
        assert!(!main.is_enough("cache", &KEY, &signed) && !main.is_enough("cache", &KEY, &unsigned));
    }

    #[test]
    fn a_signature_is_for_one_record_under_one_key() {
        let Fixture { main, reader, .. } = fixture();
        let signed = main.to_bytes(&KEY, &record());
        let signer = main.signer.as_ref().unwrap().public();
        let wrong = Err(Distrust::Signature(signer));
        assert_eq!(reader.read("cache", &Key::from_bytes([2; 32]), &signed), wrong, "replayed");
        let text = String::from_utf8(signed.clone()).unwrap();
        let forged = text.replace("RUN make", "RUN fake");
        assert_ne!(forged, text);
        assert_eq!(reader.read("cache", &KEY, forged.as_bytes()), wrong, "forged");
        // Cut anywhere, it is either no record or not signed as it should be.
        for end in 0..signed.len() - 1 {
            let read = reader.read("cache", &KEY, &signed[..end]);
            assert!(!matches!(read, Ok(Some(_))), "{end}");
        }
    }
}

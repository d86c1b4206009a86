//! Ed25519 keys in files, and signatures with them: who has said what in a cache that builders share.
//!
//! Keys are PEM files as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them: a `PRIVATE KEY` in PKCS#8
//! (RFC 8410, section 7) and a `PUBLIC KEY` (section 4). Both forms have a fixed beginning before the 32 bytes of the key.

pub mod error;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sys::fs::PathContext as _;

use self::error::KeyError;

/// What precedes the key in PKCS#8: version 0, the algorithm 1.3.101.112, and two octet strings around the key.
const PRIVATE_START: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What precedes the key in a SubjectPublicKeyInfo: the algorithm and a bit string.
const PUBLIC_START: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";
/// No file with a key is longer.
const MAX_FILE: u64 = 64 * 1024;

/// The public half of a key: who signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// The private half of a key. It is shown nowhere.
pub struct SigningKey(Ed25519KeyPair);

/// The files of a key that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// The private half, which only its owner can read.
    pub private: PathBuf,
    /// The public half.
    pub public: PathBuf,
    /// Who signs with it.
    pub id: PublicKey,
}

/// Makes a key: the private half in `path`, which must not be there, and the public half beside it in `path.pub`.
///
/// # Errors
/// When one of the files is there or cannot be written.
pub fn generate(path: &Path) -> Result<KeyFiles, KeyError> {
    let failed = |what| KeyError::Unusable { path: path.to_owned(), what };
    let seed: [u8; 32] = ring::rand::generate(&SystemRandom::new())
        .map_err(|_| failed("the system has no random numbers"))?
        .expose();
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| failed("no key can be made of it"))?;
    let key = SigningKey(pair);
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let files = KeyFiles { private: path.to_owned(), public: name.into(), id: key.public() };
    write_new(&files.private, 0o600, &pem(PRIVATE_LABEL, &PRIVATE_START, &seed))?;
    write_new(&files.public, 0o644, &pem(PUBLIC_LABEL, &PUBLIC_START, &key.public().0))?;
    Ok(files)
}

impl SigningKey {
    /// The key in a file.
    ///
    /// # Errors
    /// When it cannot be read or has no Ed25519 key in PKCS#8.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let what = "it is no private Ed25519 key in PEM; lap key generate makes one";
        let wrong = || KeyError::Unusable { path: path.to_owned(), what };
        let document = from_pem(&read_text(path)?, PRIVATE_LABEL).ok_or_else(wrong)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document).map(Self).map_err(|_| wrong())
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        // An Ed25519 key has 32 bytes.
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs a message.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        // An Ed25519 signature has 64 bytes.
        bytes.copy_from_slice(self.0.sign(message).as_ref());
        bytes
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl PublicKey {
    /// The key in a file.
    ///
    /// # Errors
    /// When it cannot be read or has no Ed25519 key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let what = "it is no public Ed25519 key in PEM; it is the .pub file that lap key generate writes";
        let key = from_pem(&read_text(path)?, PUBLIC_LABEL)
            .and_then(|document| document.strip_prefix(&PUBLIC_START)?.try_into().ok());
        key.map(Self).ok_or_else(|| KeyError::Unusable { path: path.to_owned(), what })
    }

    /// The key that is written like this: `ed25519:` and 32 bytes in base64.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix("ed25519:")?).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Whether a signature is of this key and of this message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn read_text(path: &Path) -> Result<String, KeyError> {
    let bytes = sys::fs::read_limited(path, MAX_FILE)?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let mut file = sys::fs::create_new(path, mode)?;
    Ok(file.write_all(text.as_bytes()).at("write", path)?)
}

fn pem(label: &str, start: &[u8], key: &[u8]) -> String {
    let body = STANDARD.encode([start, key].concat());
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// The bytes of the first section with this label.
fn from_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let body = text.split_once(&format!("-----BEGIN {label}-----"))?.1;
    let body = body.split_once(&format!("-----END {label}-----"))?.0;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_that_was_made_signs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main");
        let files = generate(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (private, public) = (SigningKey::read(&path).unwrap(), PublicKey::read(&files.public).unwrap());
        assert_eq!((private.public(), public), (files.id, files.id));
        assert_eq!(PublicKey::parse(&public.to_string()), Some(public));
        let signature = private.sign(b"message");
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"another", &signature) && !public.verifies(b"message", &signature[1..]));
        assert!(generate(&path).is_err(), "a key is never overwritten");
        assert!(!format!("{private:?}").contains(&pem(PRIVATE_LABEL, &[], &[])[30..40]));
    }

    /// The keys of RFC 8410, section 10.
    #[test]
    fn keys_of_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("key"), dir.path().join("key.pub"));
        let text = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
        std::fs::write(&private, format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
            .unwrap();
        let text = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        std::fs::write(&public, format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"))
            .unwrap();
        assert_eq!(SigningKey::read(&private).unwrap().public(), PublicKey::read(&public).unwrap());
        // Neither is the other.
        assert!(SigningKey::read(&public).is_err() && PublicKey::read(&private).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for text in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nMC4C",
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(SigningKey::read(&path), Err(KeyError::Unusable { .. })), "{text}");
        }
        assert!(matches!(PublicKey::read(&dir.path().join("none")), Err(KeyError::File(_))));
        assert_eq!(PublicKey::parse("ed25519:AAAA"), None);
    }
}

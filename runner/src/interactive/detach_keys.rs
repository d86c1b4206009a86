//! The keys that leave a container running and end the connection to it. Pure.
//!
//! They are written as in Docker: letters, or `ctrl-` and a letter or one of `@ [ \ ] ^ _`, between commas.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Keys to be pressed one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// `ctrl-p,ctrl-q`
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

/// A text that names no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid detach keys \"{text}\": unknown key \"{key}\"")]
pub struct BadDetachKeys {
    text: String,
    key: String,
}

impl FromStr for DetachKeys {
    type Err = BadDetachKeys;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = |key: &str| {
            byte_of(key).ok_or_else(|| BadDetachKeys { text: text.to_owned(), key: key.to_owned() })
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// The byte that a terminal sends for a key.
fn byte_of(key: &str) -> Option<u8> {
    let only = |text: &str| match text.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        _ => None,
    };
    match key.strip_prefix("ctrl-") {
        Some(letter) => match only(letter)? {
            letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
            sign @ (b'@' | b'['..=b'_') => Some(sign - b'@'),
            _ => None,
        },
        None => only(key),
    }
}

/// Looks for the keys in what somebody types.
#[derive(Debug)]
pub struct KeyMatcher {
    keys: DetachKeys,
    /// What has been typed of the keys, and is not passed on before it is clear that they do not follow.
    held: Vec<u8>,
}

impl KeyMatcher {
    /// Nothing has been typed yet.
    pub fn new(keys: DetachKeys) -> Self {
        Self { keys, held: Vec::new() }
    }

    /// Takes what was typed, and adds to `pass` what the container gets. `true` when the keys were pressed;
    /// what follows them is lost.
    pub fn feed(&mut self, typed: &[u8], pass: &mut Vec<u8>) -> bool {
        for byte in typed {
            self.held.push(*byte);
            while !self.keys.0.starts_with(&self.held) {
                pass.push(self.held.remove(0));
            }
            if self.held == self.keys.0 {
                self.held.clear();
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(keys: &str, pieces: &[&str]) -> (String, bool) {
        let mut matcher = KeyMatcher::new(keys.parse().unwrap());
        let mut pass = Vec::new();
        let found = pieces.iter().any(|piece| matcher.feed(piece.as_bytes(), &mut pass));
        (String::from_utf8(pass).unwrap(), found)
    }

    #[test]
    fn keys_are_found_across_pieces_and_not_passed_on() {
        assert_eq!(feed("ctrl-p,ctrl-q", &["ls\x10", "\x11more"]), ("ls".to_owned(), true));
        assert_eq!(feed("ctrl-p,ctrl-q", &["\x10x\x10", "\x10", "y"]), ("\x10x\x10\x10y".to_owned(), false));
        assert_eq!(feed("a,a,b", &["caaab!"]), ("ca".to_owned(), true));
        assert_eq!(feed("x", &["abx"]), ("ab".to_owned(), true));
    }

    #[test]
    fn keys_are_named_as_in_docker() {
        assert_eq!("ctrl-p,ctrl-q".parse::<DetachKeys>().unwrap(), DetachKeys::default());
        assert_eq!(
            "ctrl-@,ctrl-[,ctrl-\\,q".parse::<DetachKeys>().unwrap(),
            DetachKeys(vec![0, 27, 28, b'q'])
        );
        for bad in ["", "ctrl-", "ctrl-P", "ctrl-1", "ab", "a,", "ü"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }
}

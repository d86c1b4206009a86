//! What the name of an entry means in a layer: an ordinary file, a whiteout, or an opaque directory (OCI
//! image specification, `layer.md`, "Whiteouts"). Purely about names.

use super::path::{join, split};

/// The prefix of every reserved name.
pub(crate) const PREFIX: &[u8] = b".wh.";

/// The prefix of names that AUFS kept for itself and old images carry; they mean nothing to others.
const META: &[u8] = b".wh..wh.";

/// The name that marks its directory as opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A file.
    Ordinary,
    /// This path of the layers below is deleted.
    Whiteout(Vec<u8>),
    /// What the layers below have in this directory is deleted.
    Opaque(Vec<u8>),
    /// Nothing.
    Ignored,
    /// The prefix stands where it may not: in a directory's name, or before no name.
    Invalid,
}

/// What a clean path means in a layer.
pub(super) fn meaning(path: &[u8]) -> Meaning {
    let (directory, name) = split(path);
    let mut parents = directory.split(|&byte| byte == b'/');
    if path.split(|&byte| byte == b'/').any(|component| component.starts_with(META) && component != OPAQUE) {
        return Meaning::Ignored;
    }
    if parents.any(|component| component.starts_with(PREFIX)) {
        return Meaning::Invalid;
    }
    match name.strip_prefix(PREFIX) {
        None => Meaning::Ordinary,
        Some(_) if name == OPAQUE => Meaning::Opaque(directory.to_vec()),
        Some(b"" | b"." | b"..") => Meaning::Invalid,
        Some(hidden) => Meaning::Whiteout(join(directory, hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_specification_says() {
        let whiteout = |path: &str| Meaning::Whiteout(path.as_bytes().to_vec());
        let cases = [
            ("a/b", Meaning::Ordinary),
            (".wh", Meaning::Ordinary),
            ("a/b.wh.c", Meaning::Ordinary),
            (".wh.a", whiteout("a")),
            ("a/.wh.b", whiteout("a/b")),
            ("a/.wh.b.wh.c", whiteout("a/b.wh.c")),
            (".wh..wh..opq", Meaning::Opaque(Vec::new())),
            ("a/.wh..wh..opq", Meaning::Opaque(b"a".to_vec())),
            (".wh..wh.plnk/12.34", Meaning::Ignored),
            (".wh..wh.aufs", Meaning::Ignored),
            (".wh.", Meaning::Invalid),
            (".wh..", Meaning::Invalid),
            (".wh...", Meaning::Invalid),
            (".wh.a/b", Meaning::Invalid),
            (".wh..wh..opq/x", Meaning::Invalid),
        ];
        for (path, expected) in cases {
            assert_eq!(meaning(path.as_bytes()), expected, "{path}");
        }
    }
}

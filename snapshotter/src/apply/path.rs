//! Names of archive entries as paths below the root. Purely about text.

/// Cleans a name: absolute names count from the root, empty and `.` components go, `a/..` goes. The result
/// has no slash at either end and is empty for the root itself; `None` when `..` leaves the root.
pub(super) fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in components_of(name) {
        match component {
            b".." => drop(components.pop()?),
            _ => components.push(component),
        }
    }
    Some(components.join(&b'/'))
}

/// The components of a path, without empty ones and `.`.
pub(super) fn components_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|component| !matches!(*component, b"" | b"."))
}

/// A clean path as the path of its directory (empty for the root) and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The path of `name` in the directory `directory` (empty for the root).
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_cannot_leave() {
        let cases: [(&str, Option<&str>); 11] = [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("a/./b/../c", Some("a/c")),
            ("./", Some("")),
            ("a/..", Some("")),
            ("..", None),
            ("/../etc", None),
            ("a/../../b", None),
            ("...", Some("...")),
            ("..a", Some("..a")),
        ];
        for (name, expected) in cases {
            assert_eq!(clean(name.as_bytes()), expected.map(|path| path.as_bytes().to_vec()), "{name}");
        }
    }
}

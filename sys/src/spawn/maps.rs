//! The ids of a new user namespace (`user_namespaces(7)`, "User and group ID mappings").

use std::fmt::Write as _;
use std::fs;
use std::io;

use super::plan::IdMap;
use crate::ns::PidFd;

/// Maps the ids of the user namespace that `process` has just made. Who may not map groups otherwise has to
/// give up changing them.
pub(super) fn write(process: &PidFd, users: &[IdMap], groups: &[IdMap]) -> io::Result<()> {
    let Some(pid) = process.pid()? else { return Err(io::ErrorKind::NotFound.into()) };
    let file = |name: &str| format!("/proc/{pid}/{name}");
    fs::write(file("uid_map"), lines(users))?;
    match fs::write(file("gid_map"), lines(groups)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fs::write(file("setgroups"), "deny")?;
            fs::write(file("gid_map"), lines(groups))
        }
        written => written,
    }
}

fn lines(map: &[IdMap]) -> String {
    map.iter().fold(String::new(), |mut text, IdMap { inside, outside, count }| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{inside} {outside} {count}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_a_line_for_each_range() {
        let map = [
            IdMap { inside: 0, outside: 1000, count: 1 },
            IdMap { inside: 1, outside: 100_000, count: 65_536 },
        ];
        assert_eq!(lines(&map), "0 1000 1\n1 100000 65536\n");
    }
}

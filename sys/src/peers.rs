//! Which other mounts a mount of the host exchanges mounts with (`mount_namespaces(7)`, "Shared subtrees").

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::path_error::{PathContext as _, PathError};

/// The table of our mounts (`proc_pid_mountinfo(5)`).
const MOUNTS: &str = "/proc/self/mountinfo";

/// What is known of the mount that a path is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Where it is mounted, as the table of mounts has it.
    pub mount_point: PathBuf,
    /// What is mounted on it appears on others, and the other way round.
    pub is_shared: bool,
    /// What is mounted on another appears on it.
    pub is_slave: bool,
}

/// The mount that `path` is on.
///
/// # Errors
/// There is nothing at `path`, or the table of mounts cannot be read.
pub fn peers_of(path: &Path) -> Result<Peers, PathError> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).at("inspect", path)?;
    let table = crate::fs::read(Path::new(MOUNTS))?;
    let line = find(&String::from_utf8_lossy(&table), found.stx_mnt_id);
    line.ok_or(io::ErrorKind::NotFound).map_err(io::Error::from).at("look up the mount of", path)
}

/// The mount with number `id`.
fn find(table: &str, id: u64) -> Option<Peers> {
    let line = table.lines().find(|line| line.split(' ').next() == Some(id.to_string().as_str()))?;
    let mount_point = PathBuf::from(line.split(' ').nth(4)?);
    let tags = || line.split(' ').skip(6).take_while(|tag| *tag != "-");
    let has = |kind: &str| tags().any(|tag| tag.starts_with(kind));
    Some(Peers { mount_point, is_shared: has("shared:"), is_slave: has("master:") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_of_peers() {
        let table = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                     22 21 0:5 / /a rw shared:7 master:1 - tmpfs shared:9 rw\n\
                     212 21 0:6 / /b rw - tmpfs master:9 rw\n";
        let peers = |path: &str, is_shared, is_slave| {
            Some(Peers { mount_point: PathBuf::from(path), is_shared, is_slave })
        };
        assert_eq!(find(table, 21), peers("/", true, false));
        assert_eq!(find(table, 22), peers("/a", true, true));
        assert_eq!(find(table, 212), peers("/b", false, false));
        assert_eq!(find(table, 2), None);
    }

    #[test]
    fn every_path_is_on_a_mount() {
        assert_eq!(peers_of(Path::new("/proc")).unwrap().mount_point, Path::new("/proc"));
        assert!(peers_of(Path::new("/no/such/path")).unwrap_err().is_not_found());
    }
}

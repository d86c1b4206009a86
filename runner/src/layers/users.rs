//! Who has a packed layer mounted. Containers of one image share what they have mounted, so that memory holds each file of it
//! once; the kernel keeps it until the last of them has ended, whichever that is.
//!
//! Beside the files of a layer is a list of processes that have it mounted and open: one line for each, appended by itself. The list is
//! a hint. Nobody takes his line out, and it may be cut off, old, or gone. What it leads to is proven: a mount has a
//! number that no other gets in this boot, and whoever told it has mounted those very files. Whatever else is found there is
//! left alone, and a layer that nobody shares is mounted anew.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base::mount::PACKED_USERS;

/// How long the list gets before it begins again.
const LIMIT: u64 = 8 << 10;

/// From whom a layer's mount comes, and of which files it is.
#[derive(Debug)]
pub(super) struct Shared {
    files: String,
    /// Whose mount this is a copy of.
    with: Option<User>,
}

impl Shared {
    /// Whether it is the layer of these files.
    pub(super) fn is_of(&self, files: &str) -> bool {
        self.files == files
    }

    /// The layer of these files, mounted by ourselves.
    pub(super) fn none(files: String) -> Self {
        Self { files, with: None }
    }
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    boot: String,
    pid: u32,
    descriptor: u32,
    mount: u64,
    files: String,
}

/// A mount of the layer with these files that shares that of somebody else.
pub(super) fn find(directory: &Path, files: &str) -> Option<(OwnedFd, Shared)> {
    let list = sys::fs::read_limited(&list_of(directory), LIMIT + 4096).ok()??;
    let boot = sys::fs::boot_id().ok()?;
    let list = String::from_utf8_lossy(&list);
    // Who came last is the most likely to be there.
    let users = list.lines().rev().filter_map(|line| line.parse::<User>().ok());
    users.filter(|user| user.boot == boot && user.files == files).find_map(|user| {
        let root = sys::erofs::share(user.pid, user.descriptor, user.mount).ok()??;
        Some((root, Shared { files: files.to_owned(), with: Some(user) }))
    })
}

/// Notes that this process has a layer mounted and keeps it open. That others do not learn it harms nobody.
pub(super) fn tell(directory: &Path, root: &OwnedFd, shared: &Shared) {
    let _ = try_to_tell(&list_of(directory), root, shared);
}

fn try_to_tell(list: &Path, root: &OwnedFd, shared: &Shared) -> io::Result<()> {
    let Some(mount) = sys::erofs::mount_number(root)? else { return Ok(()) };
    let descriptor = root.as_raw_fd().unsigned_abs();
    let boot = sys::fs::boot_id().map_err(|error| error.source)?;
    let own = User { boot, pid: std::process::id(), descriptor, mount, files: shared.files.clone() };
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(list)?;
    let mut lines = String::new();
    // Nobody of those in the list has it mounted any more, or too many had.
    if shared.with.is_none() || file.metadata()?.len() > LIMIT {
        file.set_len(0)?;
        lines = shared.with.as_ref().map(User::to_string).unwrap_or_default();
    }
    lines += &own.to_string();
    file.write_all(lines.as_bytes())
}

fn list_of(directory: &Path) -> PathBuf {
    directory.with_file_name(PACKED_USERS)
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boot, pid, descriptor, mount, files } = self;
        writeln!(f, "{boot} {pid} {descriptor} {mount} {files} .")
    }
}

/// A line that is not one.
#[derive(Debug, PartialEq, Eq)]
struct NoUser;

impl FromStr for User {
    type Err = NoUser;

    fn from_str(line: &str) -> Result<Self, NoUser> {
        let words: Vec<&str> = line.split(' ').collect();
        // The full stop says that the line is whole.
        let [boot, pid, descriptor, mount, files, "."] = words[..] else { return Err(NoUser) };
        Ok(Self {
            boot: boot.to_owned(),
            pid: pid.parse().map_err(|_| NoUser)?,
            descriptor: descriptor.parse().map_err(|_| NoUser)?,
            mount: mount.parse().map_err(|_| NoUser)?,
            files: files.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let user = User {
            boot: "b-1".into(),
            pid: 12,
            descriptor: 7,
            mount: 1 << 40,
            files: "1:2:3.4,5:6:7.8".into(),
        };
        assert_eq!(user.to_string(), "b-1 12 7 1099511627776 1:2:3.4,5:6:7.8 .\n");
        assert_eq!(user.to_string().trim_end().parse(), Ok(user));
    }

    #[test]
    fn lines_that_are_cut_off_or_damaged_are_none() {
        for line in [
            "",
            ".",
            "b 12 7 10 f",
            "b 12 7 10 .",
            "b -1 7 10 f .",
            "b 12 7 10 f . .",
            "b 12 x 10 f .",
            "b 12 7 1\0 f .",
        ] {
            assert_eq!(line.parse::<User>(), Err(NoUser), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_mount_of_the_layer_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (layer, open) = (dir.path().join("fs"), std::fs::File::open(dir.path()).unwrap());
        let user = |mount, boot: &str| User {
            boot: boot.to_owned(),
            pid: std::process::id(),
            descriptor: open.as_raw_fd().unsigned_abs(),
            mount,
            files: "f".into(),
        };
        let boot = sys::fs::boot_id().unwrap();
        let lines = [user(1, &boot), user(0, &boot), User { pid: 0, ..user(1, &boot) }, user(1, "other")];
        std::fs::write(list_of(&layer), lines.map(|line| line.to_string()).concat()).unwrap();
        assert!(find(&layer, "f").is_none());
        std::fs::write(list_of(&layer), [0xff; 20_000]).unwrap();
        assert!(find(&layer, "f").is_none());
        std::fs::remove_file(list_of(&layer)).unwrap();
        assert!(find(&layer, "f").is_none());
    }
}

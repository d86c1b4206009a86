//! An ordinary user of this machine, for tests that run as root.
//!
//! Nobody is added to the machine: a command runs in mounts of its own, in which `/etc/passwd` knows the user and
//! `/etc/subuid` and `/etc/subgid` give him ids, or none. His store, his home and a copy of `lap` are in a
//! directory that he may enter.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::{Lap, program_file};
use crate::judges;
use crate::oci::Image;

/// His id, unlikely to be anybody's.
const ID: u32 = 48_213;

/// The first of the ids in his range; as many follow as containers usually have.
const FIRST_ID: u32 = 1_048_576_000;

/// Replaces the files of users by those of `$1`, and becomes user `$2`. Everybody may use the tunnel device then, as
/// on most machines.
const BECOME: &str = "set -e; dir=$1; user=$2; shift 2; \
    if [ -e /dev/net/tun ]; then \
        mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200; \
    fi; \
    for file in passwd subuid subgid; do mount --bind \"$dir/etc/$file\" \"/etc/$file\"; done; \
    exec setpriv --reuid \"$user\" --regid \"$user\" --clear-groups --inh-caps=-all \"$@\"";

/// What the user may use besides his own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// As many ids as containers usually have.
    Usual,
    /// None.
    None,
}

/// A user with a store of his own. Dropped, nothing of him is left.
pub struct OrdinaryUser {
    dir: TempDir,
}

impl OrdinaryUser {
    /// A user with an empty store. `None`, after saying why, where he cannot be had.
    pub fn new(ranges: Ranges) -> Option<Self> {
        crate::privilege::root()?;
        for program in ["unshare", "setpriv", "newuidmap", "newgidmap"] {
            judges::program(program)?;
        }
        let dir = tempfile::Builder::new().prefix("lap-user-").tempdir().expect("a temporary directory");
        open_to_all(dir.path());
        let user = Self { dir };
        for name in ["etc", "home", "tmp", "work"] {
            std::fs::create_dir(user.path(name)).expect("a directory in a new one");
        }
        user.write_files(ranges);
        let lap = crate::binary::lap();
        if std::fs::hard_link(lap, user.path("lap")).is_err() {
            program_file(&user.path("lap"), &std::fs::read(lap).expect("lap can be read"));
        }
        for name in ["home", "tmp", "work"] {
            std::os::unix::fs::chown(user.path(name), Some(ID), Some(ID)).expect("root may give");
        }
        Some(user)
    }

    fn write_files(&self, ranges: Ranges) {
        let passwd = std::fs::read_to_string("/etc/passwd").expect("every machine has users");
        let line = format!("lapuser:x:{ID}:{ID}::{}:/bin/sh\n", self.path("home").display());
        let range = match ranges {
            Ranges::Usual => format!("lapuser:{FIRST_ID}:65536\n"),
            Ranges::None => String::new(),
        };
        let files = [("passwd", passwd + &line), ("subuid", range.clone()), ("subgid", range)];
        for (name, text) in files {
            let path = self.path("etc").join(name);
            std::fs::write(&path, text).expect("a file in a new directory");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("a mode");
        }
        open_to_all(&self.path("etc"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory that commands run in, which is his.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// Writes a file that he may read, and gives its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        std::fs::write(&path, content).expect("a file in a directory that is there");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("a mode");
        path
    }

    /// `lap ARGS` as this user.
    pub fn lap<I, S>(&self, args: I) -> Lap
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command(self.path("lap"), args)
    }

    /// A program of the machine as this user.
    pub fn command<I, S>(&self, program: impl AsRef<OsStr>, args: I) -> Lap
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let unshare = judges::program("unshare").expect("looked for before");
        Lap::new(unshare.path())
            .args(["--mount", "--propagation", "private", "sh", "-c", BECOME, "sh"])
            .arg(self.dir.path())
            .arg(ID.to_string())
            .arg(program)
            .args(args)
            .current_dir(&self.work())
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("LAPSTRAKE_GC", "off")
    }

    /// Loads `image` into his store.
    pub fn load(&self, image: &Image) {
        let archive = self.path("image.tar");
        image.write_archive(&archive);
        std::fs::set_permissions(&archive, PermissionsExt::from_mode(0o644)).expect("a mode");
        self.lap(["load", "-i"]).arg(&archive).ok();
    }
}

fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).expect("a mode");
}

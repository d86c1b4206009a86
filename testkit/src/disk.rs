//! File systems in files, for tests of what only some of them can do, or of what becomes of them.
//!
//! They are to be mounted in a thread that [`mounted::alone`](crate::mounted::alone) runs: nobody else sees them then, and they
//! end with it, with their loop devices, whatever becomes of the test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::judges::{Judge, program};
use crate::privilege;

/// Which file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ext4, whose files share no blocks.
    Ext4,
    /// XFS, with files that share blocks.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Format {
    /// The program that makes it.
    fn program(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["-q", "-F"],
            Self::Xfs => &["-q", "-mreflink=1"],
            Self::Btrfs => &["-q"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// The programs that make and mount file systems of one format.
pub struct Disks {
    format: Format,
    make: Judge,
    mount: Judge,
    umount: Judge,
}

impl Disks {
    /// `None`, with a note, where there are none of this format: the kernel does not know it, a program is missing, or this
    /// is not the superuser.
    pub fn of(format: Format) -> Option<Self> {
        privilege::root()?;
        let disks = Self {
            format,
            make: program(format.program())?,
            mount: program("mount")?,
            umount: program("umount")?,
        };
        if !is_known(format) {
            privilege::skip(&format!("the kernel has no {}", format.name()));
            return None;
        }
        if !Path::new("/dev/loop-control").exists() {
            privilege::skip("the kernel has no loop devices");
            return None;
        }
        Some(disks)
    }

    /// Makes a file system of that many bytes in a new file.
    pub fn make(&self, disk: &Path, size: u64) {
        File::create_new(disk).and_then(|file| file.set_len(size)).expect("a file for a disk");
        self.make.ok(self.format.flags().iter().map(OsStr::new).chain([disk.as_os_str()]));
    }

    /// Mounts it; `options` as those of `mount`, with `loop` among them.
    pub fn mount(&self, disk: &Path, options: &str, target: PathBuf) -> Mounted<'_> {
        std::fs::create_dir_all(&target).expect("a directory to mount at");
        self.mount.ok([Path::new("-o"), Path::new(options), disk, &target]);
        Mounted { umount: &self.umount, target }
    }
}

/// Whether the kernel has a file system, perhaps as a module that nobody has needed yet.
fn is_known(format: Format) -> bool {
    let is_listed = || {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        known.lines().any(|line| line.split('\t').next_back() == Some(format.name()))
    };
    is_listed() || Command::new("modprobe").args(["-q", format.name()]).status().is_ok_and(|_| is_listed())
}

/// A file system that is unmounted when dropped.
pub struct Mounted<'d> {
    umount: &'d Judge,
    target: PathBuf,
}

impl Mounted<'_> {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.target
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let mut umount = Command::new(self.umount.path());
        let done = umount.arg("--lazy").arg(&self.target).status().is_ok_and(|status| status.success());
        assert!(done || std::thread::panicking(), "unmount {}", self.target.display());
    }
}

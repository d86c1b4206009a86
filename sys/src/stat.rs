//! What the kernel says about a file: kind, mode, owner, size, times, identity.
//!
//! Plain data. Reading it from the disk is [`crate::rootdir`]'s work.

use rustix::fs::{FileType, Mode, RawMode};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

impl Kind {
    pub(crate) fn from_file_type(file_type: FileType) -> Option<Self> {
        Some(match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::Unknown => return None,
        })
    }

    pub(crate) fn file_type(self) -> FileType {
        match self {
            Self::File => FileType::RegularFile,
            Self::Directory => FileType::Directory,
            Self::Symlink => FileType::Symlink,
            Self::CharDevice => FileType::CharacterDevice,
            Self::BlockDevice => FileType::BlockDevice,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
        }
    }
}

/// A time of a file: seconds since 1970 in UTC and the nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, less than 1 000 000 000.
    pub nanoseconds: u32,
}

impl FileTime {
    /// Nanoseconds since 1970. Every time of a file fits.
    pub fn total_nanoseconds(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
    }

    /// The time of this many nanoseconds since 1970.
    pub fn from_nanoseconds(total: i64) -> Self {
        let second = 1_000_000_000;
        Self { seconds: total.div_euclid(second), nanoseconds: total.rem_euclid(second) as u32 }
    }

    pub(crate) fn to_timespec(self) -> rustix::fs::Timespec {
        rustix::fs::Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() }
    }
}

impl From<base::Timestamp> for FileTime {
    fn from(time: base::Timestamp) -> Self {
        let total = time.as_nanosecond();
        let second = 1_000_000_000;
        Self { seconds: total.div_euclid(second) as i64, nanoseconds: total.rem_euclid(second) as u32 }
    }
}

/// What the kernel says about one file (`inode(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Length in bytes; of a symbolic link, the length of its target.
    pub size: u64,
    /// Space on disk, in units of 512 bytes; less than `size` tells means that the file has holes.
    pub blocks: u64,
    /// When the content last changed, or what someone set it to.
    pub mtime: FileTime,
    /// When the inode last changed; nobody can set it.
    pub ctime: FileTime,
    /// The inode number.
    pub inode: u64,
    /// The device that holds the inode.
    pub device: u64,
    /// How many names the inode has.
    pub links: u64,
    /// The number of the device that the file stands for, if it is a device.
    pub rdev: u64,
}

impl Stat {
    pub(crate) fn from_raw(raw: &rustix::fs::Stat) -> Self {
        #[allow(clippy::useless_conversion, reason = "on arm64 it has 32 bits")]
        let links = u64::from(raw.st_nlink);
        Self {
            // The kernel knows no kind but these seven; a socket is what we never open.
            kind: Kind::from_file_type(FileType::from_raw_mode(raw.st_mode)).unwrap_or(Kind::Socket),
            mode: raw.st_mode & 0o7777,
            uid: raw.st_uid,
            gid: raw.st_gid,
            size: raw.st_size.cast_unsigned(),
            blocks: raw.st_blocks.cast_unsigned(),
            mtime: FileTime { seconds: raw.st_mtime, nanoseconds: raw.st_mtime_nsec as u32 },
            ctime: FileTime { seconds: raw.st_ctime, nanoseconds: raw.st_ctime_nsec as u32 },
            inode: raw.st_ino,
            device: raw.st_dev,
            links,
            rdev: raw.st_rdev,
        }
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether this is a whiteout of an overlay: a character device with the number 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::CharDevice && self.rdev == 0
    }

    /// Whether the file has fewer blocks than its length needs, so that some of it is holes.
    pub fn is_sparse(&self) -> bool {
        self.kind == Kind::File && self.blocks < self.size.div_ceil(512)
    }

    /// Whether `later`, taken from the same name, shows the same file with nothing written to it in
    /// between. A change within one tick of the file system's clock stays unseen.
    pub fn is_unchanged(&self, later: &Self) -> bool {
        (self.inode, self.device, self.size, self.mtime, self.ctime)
            == (later.inode, later.device, later.size, later.mtime, later.ctime)
    }
}

/// The permission bits as rustix wants them.
pub(crate) fn raw_mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as RawMode & 0o7777)
}

/// The major and minor number in the number of a device (`makedev(3)`).
pub fn device_numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

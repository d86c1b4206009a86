//! How packed layers are mounted, which depends on the kernel.

use std::fmt;
use std::str::FromStr;

/// How packed layers are mounted. Found out once by a trial, and good until the machine starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Way {
    /// What they are mounted from.
    pub backing: Backing,
    /// Whether their mounts have to be attached in the mount namespace of whoever makes other mounts of them. Since Linux
    /// 6.15 overlays are also made of mounts that are attached nowhere.
    pub attached: bool,
}

/// What a filesystem is mounted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backing {
    /// Ordinary files (Linux 6.12).
    #[default]
    File,
    /// Loop devices that show the files.
    Loop,
}

impl Way {
    /// All that there are, the best first.
    pub const ALL: [Self; 4] = [
        Self { backing: Backing::File, attached: false },
        Self { backing: Backing::File, attached: true },
        Self { backing: Backing::Loop, attached: false },
        Self { backing: Backing::Loop, attached: true },
    ];

    /// Its name, which says all of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self { backing: Backing::File, attached: false } => "file",
            Self { backing: Backing::File, attached: true } => "file-attached",
            Self { backing: Backing::Loop, attached: false } => "loop",
            Self { backing: Backing::Loop, attached: true } => "loop-attached",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no [`Way`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way to mount layers")]
pub struct UnknownWay(String);

impl FromStr for Way {
    type Err = UnknownWay;

    fn from_str(name: &str) -> Result<Self, UnknownWay> {
        let way = Self::ALL.into_iter().find(|way| way.name() == name);
        way.ok_or_else(|| UnknownWay(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for way in Way::ALL {
            assert_eq!(way.to_string().parse(), Ok(way));
        }
        assert_eq!("disk".parse::<Way>(), Err(UnknownWay("disk".into())));
    }
}

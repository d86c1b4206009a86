//! How two lists of files differ, as people are told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One path that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// The path, from the root of the list.
    pub path: String,
    /// What about it.
    #[serde(flatten)]
    pub what: FileDifference,
}

/// What about a path differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum FileDifference {
    /// It was not there.
    Added,
    /// It is gone.
    Removed,
    /// A file holds something else, a link leads elsewhere.
    Content,
    /// It was another kind of file.
    Kind,
    /// Its permission bits.
    Mode {
        /// As it was.
        before: u32,
        /// As it is.
        now: u32,
    },
    /// Its owner.
    Owner {
        /// As it was.
        before: (u32, u32),
        /// As it is.
        now: (u32, u32),
    },
    /// Extended attributes.
    Attributes,
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            FileDifference::Added => write!(f, "{path} added"),
            FileDifference::Removed => write!(f, "{path} removed"),
            FileDifference::Content => write!(f, "{path} changed"),
            FileDifference::Kind => write!(f, "{path} became another kind of file"),
            FileDifference::Mode { before, now } => write!(f, "{path} mode {before:04o} -> {now:04o}"),
            FileDifference::Owner { before, now } => {
                write!(f, "{path} owner {}:{} -> {}:{}", before.0, before.1, now.0, now.1)
            }
            FileDifference::Attributes => write!(f, "{path} extended attributes changed"),
        }
    }
}

//! The parts of the build cache as people see them: one record for each object that is kept or dropped as
//! a whole, in BuildKit's terms.

mod filter;

use std::fmt;

use base::Timestamp;

pub use filter::{FilterError, RecordFilter};

/// What a part of the cache is. The names are those of BuildKit's record types.
///
/// BuildKit has two more, `internal` and `frontend`: helper images, of which there are none in this store.
/// A filter may name them and finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum RecordKind {
    /// The result of a step.
    #[default]
    Regular,
    /// Files of a git repository at a commit.
    GitCheckout,
    /// What is remembered of a context directory. BuildKit keeps a copy of the directory; here it is read
    /// where it is, and only the hashes of its files are kept.
    LocalSource,
    /// A directory of `RUN --mount=type=cache`.
    CacheMount,
}

impl RecordKind {
    const ALL: [Self; 4] = [Self::Regular, Self::GitCheckout, Self::LocalSource, Self::CacheMount];

    /// BuildKit's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::GitCheckout => "source.git.checkout",
            Self::LocalSource => "source.local",
            Self::CacheMount => "exec.cachemount",
        }
    }

    /// The kind of this name. Any other is a result: nothing else has a row.
    pub(crate) fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_default()
    }

    /// Whether its content changes while it is kept.
    pub const fn is_mutable(self) -> bool {
        matches!(self, Self::LocalSource | Self::CacheMount)
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One object of the build cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUsage {
    /// Names it, also among what a collection has dropped.
    pub id: String,
    /// What it is.
    pub kind: RecordKind,
    /// What made it, for people: the step, or what its users call it.
    pub description: String,
    /// The objects that it stands on.
    pub parents: Vec<String>,
    /// Bytes of disk of its own files. A directory that several results share counts for the first.
    pub bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_used: Timestamp,
    /// How many builds have found it; `None` where nobody counts.
    pub uses: Option<u64>,
    /// How long it took to make, in milliseconds; `None` when nobody measured it.
    pub cost_ms: Option<u64>,
    /// Whether an image needs it as well.
    pub shared: bool,
    /// Whether a live process or a container uses it.
    pub in_use: bool,
}

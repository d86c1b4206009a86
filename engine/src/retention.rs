//! What of the build cache is kept when nobody prunes it: the policies that are applied after a build, in
//! BuildKit's terms, and the check before one whether there is room.

mod file;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snapshotter::{Policy, RecordFilter, SpaceLimits};

use crate::Engine;
use crate::error::EngineError;
pub(crate) use file::{Worker, duration};

/// How long after one automatic collection the next one may begin, in milliseconds.
const INTERVAL: i64 = 60_000;

const HOUR: Duration = Duration::from_secs(3600);
const GIGABYTE: u64 = 1_000_000_000;

/// An amount of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the file system that holds the store.
    Percent(u64),
    /// The smaller of hundredths of the file system and bytes.
    PercentUpTo(u64, u64),
}

impl Space {
    fn of(self, disk: u64) -> u64 {
        let percent =
            |percent: u64| u64::try_from(u128::from(disk) * u128::from(percent) / 100).unwrap_or(u64::MAX);
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(share) => percent(share),
            Self::PercentUpTo(share, bytes) => percent(share).min(bytes),
        }
    }
}

/// How much of the cache may stay, where a rule says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spaces {
    /// This much always stays.
    pub reserved: Option<Space>,
    /// More than this does not stay.
    pub max_used: Option<Space>,
    /// So much of the file system is to be free afterwards.
    pub min_free: Option<Space>,
}

impl Spaces {
    fn limits(&self, disk: u64) -> SpaceLimits {
        let of = |space: Option<Space>| space.map(|space| space.of(disk)).filter(|bytes| *bytes > 0);
        SpaceLimits { reserved: of(self.reserved), max_used: of(self.max_used), min_free: of(self.min_free) }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Only records that fit one of these may go; without any, all records.
    pub filters: Vec<RecordFilter>,
    /// Only what was not used for this long may go.
    pub keep_duration: Duration,
    /// Whether records may go that images need as well.
    pub all: bool,
    /// Down to where.
    pub spaces: Spaces,
}

/// The rules in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Whether anything is collected without being asked for.
    enabled: bool,
    /// Where the rules come from; `None` when nobody wrote any.
    file: Option<PathBuf>,
    rules: Vec<Rule>,
}

impl Default for Retention {
    /// BuildKit's rules, for when nobody wrote any.
    fn default() -> Self {
        Self { enabled: true, file: None, rules: default_rules(default_spaces()) }
    }
}

/// BuildKit's caps: of the disk, a tenth up to 10 GB is reserved, four fifths up to 100 GB may be used, and a
/// fifth is to be free.
fn default_spaces() -> Spaces {
    Spaces {
        reserved: Some(Space::PercentUpTo(10, 10 * GIGABYTE)),
        max_used: Some(Space::PercentUpTo(80, 100 * GIGABYTE)),
        min_free: Some(Space::Percent(20)),
    }
}

/// BuildKit's rules: first what is easy to get again and was not used for two days, then what was not used
/// for sixty days, then what no image needs, then anything.
fn default_rules(spaces: Spaces) -> Vec<Rule> {
    let easy = ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"];
    let easy_limit = Spaces { max_used: Some(Space::Bytes(512_000_000)), ..Spaces::default() };
    vec![
        Rule {
            filters: easy.into_iter().filter_map(|filter| RecordFilter::parse(filter).ok()).collect(),
            keep_duration: 48 * HOUR,
            all: false,
            spaces: easy_limit,
        },
        Rule { keep_duration: 60 * 24 * HOUR, spaces, ..Rule::default() },
        Rule { spaces, ..Rule::default() },
        Rule { all: true, spaces, ..Rule::default() },
    ]
}

impl Retention {
    /// The rules for a file system of `disk` bytes.
    fn policies(&self, disk: u64) -> Vec<Policy> {
        let policy = |rule: &Rule| Policy {
            filters: rule.filters.clone(),
            unused_for: Some(rule.keep_duration),
            all: rule.all,
            limits: rule.spaces.limits(disk),
        };
        self.rules.iter().map(policy).collect()
    }

    /// The same rules, which hold or do not, if that is said.
    #[must_use]
    pub fn switched(self, enabled: Option<bool>) -> Self {
        Self { enabled: enabled.unwrap_or(self.enabled), ..self }
    }

    /// Whether the rules hold.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The file that the rules are from; `None` when nobody wrote any.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// How many bytes should be free before a build begins. Rules that nobody wrote do not nag about the
    /// fifth of the disk that BuildKit would like to see free, only when what they reserve is missing.
    fn wanted(&self, disk: u64) -> u64 {
        let free = |rule: &Rule| match &self.file {
            Some(_) => rule.spaces.limits(disk).min_free,
            None => rule.spaces.limits(disk).reserved,
        };
        self.rules.iter().filter_map(free).max().unwrap_or(0)
    }
}

/// What [`Engine::room`] found wanting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowSpace {
    /// The store.
    pub path: PathBuf,
    /// Bytes that are free on its file system.
    pub free: u64,
    /// Bytes that should be free.
    pub wanted: u64,
}

impl Engine {
    /// Whether less of the disk is free than the rules want; asked before a build. Costs one system call.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn room(&self, retention: &Retention) -> Result<Option<LowSpace>, EngineError> {
        let space = sys::fs::disk_space(self.store.root()).map_err(snapshotter::StoreError::from)?;
        let (free, wanted) = (space.free, retention.wanted(space.total));
        let path = self.store.root().to_owned();
        Ok((retention.enabled && free < wanted).then_some(LowSpace { path, free, wanted }))
    }

    /// Whether an automatic collection may begin: the last one was a minute ago, or never. Changes nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_collection_due(&self, retention: &Retention) -> Result<bool, EngineError> {
        Ok(retention.enabled && self.store.is_collection_due(INTERVAL)?)
    }

    /// Starts a collection in a process of its own, which nobody waits for. `program` is this one; `args`
    /// and `variables` have it [`collect`](Self::collect).
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn collect_in_background(
        &self,
        program: &Path,
        args: &[OsString],
        variables: &[(OsString, OsString)],
    ) -> Result<(), EngineError> {
        Ok(sys::detached::start(program, args, variables).map_err(snapshotter::StoreError::from)?)
    }

    /// Applies the rules. With `only_if_due`, not within a minute of the last time. Gives the bytes of disk
    /// that were freed; `None` when it was not due.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn collect(&self, retention: &Retention, only_if_due: bool) -> Result<Option<u64>, EngineError> {
        let interval = if only_if_due { INTERVAL } else { 0 };
        if !self.store.begin_collection(interval)? {
            return Ok(None);
        }
        let disk = sys::fs::disk_space(self.store.root()).map_err(snapshotter::StoreError::from)?.total;
        let collection = self.store.collect(&retention.policies(disk))?;
        Ok(Some(collection.remove_files()?.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERABYTE: u64 = 1000 * GIGABYTE;

    #[test]
    fn the_default_is_buildkit_s() {
        let policies = Retention::default().policies(200 * GIGABYTE);
        let small = SpaceLimits { max_used: Some(512_000_000), ..SpaceLimits::NONE };
        assert_eq!((policies[0].filters.len(), policies[0].unused_for), (3, Some(48 * HOUR)));
        assert_eq!(policies[0].limits, small);
        let limits = SpaceLimits {
            reserved: Some(10 * GIGABYTE),
            max_used: Some(100 * GIGABYTE),
            min_free: Some(40 * GIGABYTE),
        };
        let rest: Vec<_> = policies[1..].iter().map(|p| (p.all, p.unused_for, p.limits)).collect();
        let days = |days: u32| Some(days * 24 * HOUR);
        assert_eq!(rest, [(false, days(60), limits), (false, days(0), limits), (true, days(0), limits)]);
        let tiny = Retention::default().policies(50 * GIGABYTE)[3].limits;
        assert_eq!((tiny.reserved, tiny.max_used), (Some(5 * GIGABYTE), Some(40 * GIGABYTE)));
    }

    #[test]
    fn only_written_rules_ask_for_a_share_of_a_large_disk() {
        assert_eq!(Retention::default().wanted(4 * TERABYTE), 10 * GIGABYTE);
        let text = "[worker.oci]\nminFreeSpace = \"20%\"\n";
        let written = crate::config_file::ConfigFile::parse(Path::new("/f"), text).unwrap().retention;
        assert_eq!(written.wanted(4 * TERABYTE), 800 * GIGABYTE);
    }
}

//! What of the cache a collection keeps, in BuildKit's terms (`buildkitd.toml`, `[[worker.oci.gcpolicy]]`).

use std::time::Duration;

use crate::record::{CacheUsage, RecordFilter};

/// What of the cache a collection may drop. What images, named roots and live leases need always stays, as
/// do cache mounts in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Only records that fit one of these may go; without any, all records.
    pub filters: Vec<RecordFilter>,
    /// Only what was not used for this long may go; `None` keeps the whole cache. An entry on which one
    /// that stays was built stays as well.
    pub unused_for: Option<Duration>,
    /// Whether entries may go whose files something else needs. That frees nothing, and makes the next
    /// build run these steps again.
    pub all: bool,
    /// How much may stay. The cheapest to make again per byte goes first, of equals the one that was used
    /// longest ago.
    pub limits: SpaceLimits,
}

impl Policy {
    /// Keeps the whole cache.
    pub const KEEP_CACHE: Self =
        Self { filters: Vec::new(), unused_for: None, all: false, limits: SpaceLimits::NONE };
    /// Drops the whole cache, cache mounts included.
    pub const DROP_CACHE: Self =
        Self { filters: Vec::new(), unused_for: Some(Duration::ZERO), all: true, limits: SpaceLimits::NONE };

    /// Whether `record` may go as far as the filters say. It is made only if there are some.
    pub(super) fn fits(&self, record: impl FnOnce() -> CacheUsage) -> bool {
        if self.filters.is_empty() {
            return true;
        }
        let record = record();
        self.filters.iter().any(|filter| filter.fits(&record))
    }

    /// The time of last use, in milliseconds since 1970, up to which something idle may go.
    pub(crate) fn deadline(&self, now: i64) -> Option<i64> {
        self.unused_for.map(|idle| now.saturating_sub(i64::try_from(idle.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// How much of the cache may stay, in bytes of disk, cache mounts included. Without any limit, all that may
/// go goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceLimits {
    /// This much always stays, whatever the other limits say.
    pub reserved: Option<u64>,
    /// More than this does not stay.
    pub max_used: Option<u64>,
    /// So much of the file system is to be free afterwards.
    pub min_free: Option<u64>,
}

impl SpaceLimits {
    /// No limit.
    pub const NONE: Self = Self { reserved: None, max_used: None, min_free: None };

    /// How many bytes of a cache of `used` bytes may stay when `free` bytes of the file system are free.
    /// `None` when there is no limit.
    pub(super) fn keep(&self, used: u64, free: u64) -> Option<u64> {
        if *self == Self::NONE {
            return None;
        }
        let most = match (self.max_used, self.min_free) {
            (None, None) => 0,
            (max_used, _) => max_used.unwrap_or(u64::MAX),
        };
        let missing = self.min_free.unwrap_or(0).saturating_sub(free);
        let allowed = if missing > 0 { most.min(used.saturating_sub(missing)) } else { most };
        Some(allowed.max(self.reserved.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_say_how_much_stays() {
        let keep = |reserved, max_used, min_free| SpaceLimits { reserved, max_used, min_free }.keep(100, 30);
        assert_eq!(keep(None, None, None), None);
        assert_eq!(keep(None, Some(60), None), Some(60));
        assert_eq!(keep(Some(40), None, None), Some(40));
        assert_eq!(keep(Some(80), Some(60), None), Some(80));
        assert_eq!(keep(None, None, Some(20)), Some(u64::MAX));
        assert_eq!(keep(None, None, Some(50)), Some(80));
        assert_eq!(keep(None, Some(70), Some(50)), Some(70));
        assert_eq!(keep(Some(90), Some(70), Some(50)), Some(90));
        assert_eq!(keep(None, None, Some(500)), Some(0));
    }
}

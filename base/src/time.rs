//! Points in time, as image documents and events carry them.

/// A moment in UTC with nanoseconds; prints as RFC 3339 (`2026-01-02T03:04:05.000000006Z`).
pub type Timestamp = jiff::Timestamp;

/// The timestamp of a whole number of seconds since 1970 (`SOURCE_DATE_EPOCH`), or `None` when it is
/// outside what a timestamp can hold.
pub fn from_epoch_seconds(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

/// A length of time as people write it: `48h`, `1h30m`. `None` when it is none, or less than nothing.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    text.parse::<jiff::SignedDuration>().ok().and_then(|duration| duration.try_into().ok())
}

/// Tells the time. Libraries take one instead of reading the clock, so that tests can fix it.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// A clock that always tells the same time.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

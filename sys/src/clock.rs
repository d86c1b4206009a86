//! The wall clock, and standing still.

use std::time::Duration;

use base::Timestamp;
use base::time::Clock;

/// The machine's clock: the one [`Clock`] that is not for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Now, or the epoch when the machine's clock is set to a time that no timestamp can hold.
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Stands still for a while. Only for what the kernel announces by nothing that could be waited for.
#[expect(clippy::disallowed_methods, reason = "the one place that waits for time itself")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_after_this_was_written() {
        assert!(SystemClock.now() > "2025-01-01T00:00:00Z".parse().unwrap());
    }
}

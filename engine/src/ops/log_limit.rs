//! Clipping the output of a step, for those who ask for it.
//!
//! BuildKit shows 2 MiB of a step's output, at 200 KiB per second. Here all of it is shown, unless the
//! variables that change BuildKit's limits are set.

use std::borrow::Cow;

use base::Timestamp;

use crate::request::LogLimits;

/// What of one step's output has been shown.
pub(super) struct LogLimit {
    limits: LogLimits,
    started: Timestamp,
    shown: u64,
    clipped: bool,
}

impl LogLimit {
    pub(super) fn new(limits: LogLimits, started: Timestamp) -> Self {
        Self { limits, started, shown: 0, clipped: false }
    }

    /// The part of `data` that is shown at `now`: all, nothing, or the beginning and a notice.
    pub(super) fn show<'a>(&mut self, data: &'a [u8], now: Timestamp) -> Cow<'a, [u8]> {
        if self.clipped {
            return Cow::Borrowed(&[]);
        }
        let (room, limit) = self.room(now);
        let fits = usize::try_from(room).unwrap_or(usize::MAX);
        if data.len() <= fits {
            self.shown += data.len() as u64;
            return Cow::Borrowed(data);
        }
        self.clipped = true;
        let mut shown = data[..fits].to_vec();
        shown.extend_from_slice(format!("[output clipped, log limit {limit} reached]\n").as_bytes());
        Cow::Owned(shown)
    }

    /// How many bytes may still be shown, and what is reached then.
    fn room(&self, now: Timestamp) -> (u64, String) {
        let size = self.limits.size.unwrap_or(u64::MAX);
        // The first second counts as a whole one.
        let seconds = now.as_second().saturating_sub(self.started.as_second()).max(0).unsigned_abs() + 1;
        let speed = self.limits.speed.map_or(u64::MAX, |speed| speed.saturating_mul(seconds));
        let text = match (size <= speed, self.limits.speed) {
            (false, Some(speed)) => format!("{}/s", base::bytes::format_binary(speed)),
            _ => base::bytes::format_binary(size),
        };
        (size.min(speed).saturating_sub(self.shown), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn without_limits_all_is_shown() {
        let mut limit = LogLimit::new(LogLimits::default(), at(0));
        assert_eq!(limit.show(b"abc", at(0)).as_ref(), b"abc");
    }

    #[test]
    fn what_is_too_much_is_clipped_once() {
        let limits = LogLimits { size: Some(4), speed: None };
        let mut limit = LogLimit::new(limits, at(0));
        assert_eq!(limit.show(b"abc", at(0)).as_ref(), b"abc");
        assert_eq!(limit.show(b"defg", at(0)).as_ref(), b"d[output clipped, log limit 4B reached]\n");
        assert_eq!(limit.show(b"h", at(0)).as_ref(), b"");
    }

    #[test]
    fn time_makes_room() {
        let limits = LogLimits { size: None, speed: Some(2048) };
        let mut limit = LogLimit::new(limits, at(0));
        assert_eq!(limit.show(&[0; 2048], at(0)).len(), 2048);
        assert_eq!(limit.show(&[0; 2048], at(1)).len(), 2048);
        assert!(limit.show(b"x", at(1)).ends_with(b"log limit 2KiB/s reached]\n"));
    }
}

//! When to try again, and how long to wait before.
//!
//! Only failures that another try can cure are retried: lost connections, stalls, 429 and the 5xx
//! that mean "not now". The number of tries is bounded, and so is the wait a registry may ask for.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};

use crate::error::{ConnectFailure, ErrorKind};

/// How patient a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most times a request is sent; at least one.
    pub attempts: u32,
    /// The wait before the second try; it doubles from try to try.
    pub first_delay: Duration,
    /// The longest wait between two tries, and the longest `Retry-After` that is waited for.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, first_delay: Duration::from_millis(250), longest_delay: Duration::from_secs(60) }
    }
}

/// Counts the tries of one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    made: u32,
}

impl Attempts {
    /// The first try.
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self { policy: policy.clone(), made: 1 }
    }

    /// How many tries were made, this one included.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// How long to wait before the next try, or `None` when this was the last. `asked` is what the
    /// registry asked for; a longer wait than the policy allows ends the tries.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.made >= self.policy.attempts {
            return None;
        }
        let doubled = self.policy.first_delay.saturating_mul(1 << (self.made - 1).min(16));
        let wait = match asked {
            Some(asked) if asked > self.policy.longest_delay => return None,
            Some(asked) => asked,
            None => doubled.min(self.policy.longest_delay),
        };
        self.made += 1;
        Some(wait)
    }
}

/// Whether a status means "not now" rather than "no".
pub(crate) fn is_transient_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Whether a failure may be gone on the next try. A refusal on this machine's own loopback is not: the
/// answer is immediate and the usual reason is that nobody started a registry.
pub(crate) fn is_transient(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::NoAnswer { .. } | ErrorKind::Stalled { .. } | ErrorKind::Interrupted { .. } => true,
        ErrorKind::RateLimited { .. } => true,
        ErrorKind::Status { status, .. } => StatusCode::from_u16(*status).is_ok_and(is_transient_status),
        ErrorKind::Connect { host, failure, .. } => match failure {
            ConnectFailure::Refused => !crate::hosts::is_loopback(host),
            ConnectFailure::TimedOut | ConnectFailure::Failed => true,
            // The resolver has asked more than once already.
            ConnectFailure::Name | ConnectFailure::NotTls | ConnectFailure::Certificate(_) => false,
        },
        _ => false,
    }
}

/// The wait that `Retry-After` asks for: seconds, or a date, which is taken relative to the answer's
/// own `Date` so that the clocks need not agree. Source: RFC 9110, section 10.2.3.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let sent = date(headers.get(header::DATE)?.to_str().ok()?)?;
    Duration::try_from(date(text)?.duration_since(sent)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 4,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(3),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        let policy = policy();
        let mut attempts = Attempts::new(&policy);
        let waits: Vec<_> = std::iter::from_fn(|| attempts.next(None)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 3]);
        assert_eq!(attempts.made(), 4);
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_or_ends_the_tries() {
        let policy = policy();
        let mut attempts = Attempts::new(&policy);
        assert_eq!(attempts.next(Some(Duration::ZERO)), Some(Duration::ZERO));
        assert_eq!(attempts.next(Some(Duration::from_secs(4))), None);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2026 07:28:05 GMT"));
        assert_eq!(retry_after(&headers), None);
        headers.insert(header::DATE, HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(5)));
    }
}

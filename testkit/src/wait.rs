//! Waiting for what has to come.

use std::time::{Duration, Instant};

/// How long to wait for what has to come. Generous, since it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until something holds; `what` says what it is.
///
/// # Panics
/// It does not hold within [`PATIENCE`].
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "in {PATIENCE:?} it did not come true that {what}");
        std::thread::yield_now();
    }
}

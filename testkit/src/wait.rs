//! Waiting for what has to come.

use std::time::{Duration, Instant};

/// How long to wait for what has to come. Generous, since it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two questions, which leaves the processor to what is waited for.
const PAUSE: Duration = Duration::from_millis(1);

/// Asks again and again until something holds; `what` says what it is.
///
/// # Panics
/// It does not hold within [`PATIENCE`].
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_ok(what, || if holds() { Ok(()) } else { Err("it does not") });
}

/// Asks again and again until there is an answer; `what` says what for.
///
/// # Panics
/// There is none within [`PATIENCE`]; tells why not.
pub fn until_ok<T, E: std::fmt::Display>(what: &str, mut answer: impl FnMut() -> Result<T, E>) -> T {
    let begin = Instant::now();
    loop {
        match answer() {
            Ok(answer) => return answer,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}: {error}"),
        }
        std::thread::sleep(PAUSE);
    }
}

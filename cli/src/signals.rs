//! Ctrl-C and friends during builds and pulls.
//!
//! The signals are blocked in every thread and waited for by one, so that nothing runs in a signal
//! handler. The first asks the work to stop and clean up; a second one ends the process at once.

use base::CancelToken;
use nix::sys::signal::{SigSet, Signal};

/// The signals that ask us to stop.
const CAUGHT: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// A token that SIGINT, SIGTERM and SIGHUP cancel. Call before any other thread is started.
pub(crate) fn cancel_token() -> CancelToken {
    let token = CancelToken::new();
    let signals: SigSet = CAUGHT.into_iter().collect();
    if signals.thread_block().is_err() {
        return token;
    }
    let cancelled = token.clone();
    // Without the thread the signals keep their default effect: the process ends.
    let waiter = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.wait().is_ok() {
            cancelled.cancel();
        }
        if let Ok(signal) = signals.wait() {
            exit(128 + signal as i32);
        }
    });
    if waiter.is_err() {
        let _ = signals.thread_unblock();
    }
    token
}

/// Lets the signals reach this thread again, for whoever catches them in another way from now on.
pub(crate) fn release() {
    let signals: SigSet = CAUGHT.into_iter().collect();
    let _ = signals.thread_unblock();
}

#[expect(clippy::disallowed_methods, reason = "the second Ctrl-C ends the process wherever it is")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

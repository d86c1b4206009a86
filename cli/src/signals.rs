//! Ctrl-C and friends during builds and pulls.
//!
//! The signals are blocked in every thread and waited for by one, so that nothing runs in a signal
//! handler. The first asks the work to stop and clean up; a second one ends the process at once.

use std::sync::mpsc::{Receiver, Sender, channel};

use base::CancelToken;
use nix::sys::signal::{SigSet, Signal};

/// The signals that ask us to stop.
const CAUGHT: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// A token that SIGINT, SIGTERM and SIGHUP cancel. Call before any other thread is started.
pub(crate) fn cancel_token() -> CancelToken {
    caught(None)
}

/// The same for a daemon: SIGHUP does not end it, but is told here, since it asks a daemon to read its settings again.
pub(crate) fn daemon_token() -> (CancelToken, Receiver<()>) {
    let (sender, hangups) = channel();
    (caught(Some(sender)), hangups)
}

fn caught(hangups: Option<Sender<()>>) -> CancelToken {
    let token = CancelToken::new();
    let signals: SigSet = CAUGHT.into_iter().collect();
    if signals.thread_block().is_err() {
        return token;
    }
    let cancelled = token.clone();
    // Without the thread the signals keep their default effect: the process ends.
    let waiter = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            match (signal, &hangups) {
                // Who does not listen any more is about to end.
                (Signal::SIGHUP, Some(hangups)) => drop(hangups.send(())),
                (signal, _) if cancelled.is_cancelled() => exit(128 + signal as i32),
                _ => cancelled.cancel(),
            }
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

//! Raw mode of our terminal, for as long as a value lives.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Once, PoisonError};

use rustix::io::retry_on_intr;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// What a panic has to undo; it may end the process without any destructor.
static IN_FORCE: Mutex<Option<Arc<Before>>> = Mutex::new(None);

/// Our terminal in raw mode: every key goes to the container unchanged. Dropping it restores the mode
/// before, and so does a panic.
pub(super) struct RawMode(Arc<Before>);

/// A terminal and the mode that it was in.
struct Before {
    terminal: OwnedFd,
    mode: Termios,
}

impl RawMode {
    /// Makes a terminal raw; `None` when it is no terminal or cannot be made so. Of one that `was` raw already the
    /// mode before that is the one to be restored.
    pub(super) fn enter(was: Option<Self>, terminal: BorrowedFd<'_>) -> Option<Self> {
        let entered = match was {
            Some(was) => was,
            None => {
                let mode = tcgetattr(terminal).ok()?;
                let before = Arc::new(Before { terminal: terminal.try_clone_to_owned().ok()?, mode });
                restore_at_panic();
                *IN_FORCE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&before));
                Self(before)
            }
        };
        let mut raw = entered.0.mode.clone();
        raw.make_raw();
        // Waiting for what was written ends early when a signal comes, as one does when the terminal gets its size.
        retry_on_intr(|| tcsetattr(&entered.0.terminal, OptionalActions::Drain, &raw)).ok()?;
        Some(entered)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        IN_FORCE.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.0.restore();
    }
}

impl Before {
    fn restore(&self) {
        // A terminal that is gone needs no restoring.
        let _ = retry_on_intr(|| tcsetattr(&self.terminal, OptionalActions::Drain, &self.mode));
    }
}

/// Has a panic restore the terminal before it says anything.
fn restore_at_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Held only for moments, but perhaps by the thread that panics.
            if let Ok(in_force) = IN_FORCE.try_lock()
                && let Some(before) = &*in_force
            {
                before.restore();
            }
            next(panic);
        }));
    });
}

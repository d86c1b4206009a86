//! Raw mode of our terminal, for as long as a value lives.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Our terminal in raw mode: every key goes to the container unchanged. Dropping it restores the mode
/// before.
pub(super) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes a terminal raw; `None` when it is no terminal or cannot be made so.
    pub(super) fn enter(terminal: BorrowedFd<'_>) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        let terminal = terminal.try_clone_to_owned().ok()?;
        tcsetattr(&terminal, OptionalActions::Drain, &raw).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

//! Typing at our terminal without being seen, for passwords.

use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// A terminal that does not show what is typed, until this is dropped.
pub struct HiddenInput {
    terminal: OwnedFd,
    mode: Termios,
}

impl HiddenInput {
    /// Hides what is typed at `terminal`. Ctrl-C is typed as well (as the character 3) rather than ending the process, which
    /// would leave the terminal so.
    ///
    /// # Errors
    /// When it is no terminal.
    pub fn begin(terminal: impl AsFd) -> std::io::Result<Self> {
        let mode = tcgetattr(&terminal)?;
        let mut hidden = mode.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal: terminal.as_fd().try_clone_to_owned()?, mode })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.mode);
    }
}

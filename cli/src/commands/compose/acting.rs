//! `--dry-run`: what a command would do, told and not done.

use crate::compose_args::ProjectArgs;
use crate::terminal::complain;

/// Whether things are done, or only told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acting {
    is_dry: bool,
}

impl Acting {
    /// What the command line wants.
    pub(super) fn of(args: &ProjectArgs) -> Self {
        Self { is_dry: args.dry_run }
    }

    /// Whether nothing is done.
    pub(super) fn is_dry(self) -> bool {
        self.is_dry
    }

    /// Does something, unless it is only to be told.
    pub(super) fn act<E>(self, act: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if self.is_dry { Ok(()) } else { act() }
    }

    /// Tells what was done, or would have been.
    pub(super) fn tell(self, line: &str) {
        match self.is_dry {
            // Docker's words.
            true => complain(&format!(" DRY-RUN MODE - {line}")),
            false => complain(line),
        }
    }
}

//! The command line of what tells about the command line: `lap completion` and `lap man`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Shells that can complete what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// To be read by `source <(lap completion bash)`.
    Bash,
    /// To be written to a file `_lap` in a directory of `fpath`.
    Zsh,
    /// To be written to `~/.config/fish/completions/lap.fish`.
    Fish,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory for the pages, such as /usr/local/share/man/man1; it is made if missing
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

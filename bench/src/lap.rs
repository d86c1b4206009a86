//! `lap` as a subject.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::builder::{BASE, Builder, RESULT};
use crate::error::BenchError;
use crate::measure::output_of;

/// The binary and its store.
pub(crate) struct Lap {
    program: PathBuf,
    root: PathBuf,
    base: PathBuf,
}

impl Lap {
    /// A store at `root` with the base image from `base`.
    pub(crate) fn start(program: &Path, root: PathBuf, base: &Path) -> Result<Self, BenchError> {
        let lap = Self { program: program.to_owned(), root, base: base.to_owned() };
        lap.load()?;
        Ok(lap)
    }

    fn load(&self) -> Result<(), BenchError> {
        output_of(self.command().arg("load").arg("-i").arg(&self.base)).map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root);
        command
    }
}

impl Builder for Lap {
    fn name(&self) -> &str {
        "lap"
    }

    fn build(&self, context: &Path, cached: bool) -> Command {
        let mut command = self.command();
        command.args(["build", "--quiet", "--network", "none", "-t", RESULT]);
        if !cached {
            command.arg("--no-cache");
        }
        command.arg(context);
        command
    }

    fn start_true(&self) -> Option<Command> {
        let mut command = self.command();
        command.args(["run", "--rm", "--network", "none", BASE, "true"]);
        Some(command)
    }

    fn forget(&self) -> Result<(), BenchError> {
        testkit::env::unmount_below(&self.root);
        std::fs::remove_dir_all(&self.root)
            .map_err(|source| BenchError::File { path: self.root.clone(), source })?;
        self.load()
    }
}

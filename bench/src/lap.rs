//! `lap` as a subject.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::builder::{BASE, Builder, RESULT};
use crate::error::BenchError;
use crate::measure::output_of;
use crate::runtime::at_once;

/// The binary and its store.
pub(crate) struct Lap {
    name: String,
    program: PathBuf,
    root: PathBuf,
    form: Option<&'static str>,
}

impl Lap {
    /// A store at `root` with the base image from `base`.
    pub(crate) fn start(program: &Path, root: PathBuf, base: &Path) -> Result<Self, BenchError> {
        Self::prepare(Self { name: "lap".to_owned(), program: program.to_owned(), root, form: None }, base)
    }

    /// The same with layers in this form.
    pub(crate) fn in_form(
        program: &Path,
        root: PathBuf,
        base: &Path,
        form: &'static str,
    ) -> Result<Self, BenchError> {
        let name = format!("lap, {form}");
        Self::prepare(Self { name, program: program.to_owned(), root, form: Some(form) }, base)
    }

    fn prepare(lap: Self, base: &Path) -> Result<Self, BenchError> {
        output_of(lap.command().arg("load").arg("-i").arg(base))?;
        Ok(lap)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root);
        command.args(self.form.iter().flat_map(|form| ["--layer-form", form]));
        command
    }
}

impl Builder for Lap {
    fn name(&self) -> &str {
        &self.name
    }

    fn build(&self, context: &Path) -> Command {
        let mut command = self.command();
        command.args(["build", "--quiet", "--network", "none", "-t", RESULT]);
        command.arg(context);
        command
    }

    fn build_unremembered(&self, context: &Path) -> Option<Command> {
        let mut command = self.build(context);
        command.arg("--no-record");
        Some(command)
    }

    fn start_true(&self) -> Option<Command> {
        self.start_connected(&["--network", "none"])
    }

    fn start_connected(&self, flags: &[&str]) -> Option<Command> {
        let mut command = self.command();
        command.args(["run", "--rm"]).args(flags).args([BASE, "true"]);
        Some(command)
    }

    fn start_many(&self, count: usize) -> Option<Command> {
        let lap = format!("{} --root {}", self.program.display(), self.root.display());
        Some(at_once(count, &format!("{lap} run --rm --network none {BASE} true")))
    }
}

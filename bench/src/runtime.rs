//! `lap oci-runtime`, `runc` and `crun` on a prepared bundle: what a container costs without images, storage or a
//! client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::BenchError;
use crate::measure::output_of;

/// A bare runtime and its bundle.
pub(crate) struct Runtime {
    name: &'static str,
    program: PathBuf,
    bundle: PathBuf,
}

/// A container that waits, for as long as this value is there.
pub(crate) struct Waiting<'a> {
    runtime: &'a Runtime,
    id: String,
}

impl Runtime {
    /// Makes a bundle with busybox below `dir`, and tries whether the runtime works here.
    pub(crate) fn start(name: &'static str, program: &Path, dir: &Path) -> Result<Self, BenchError> {
        let bundle = dir.join(format!("bundle-{}", name.replace(' ', "-")));
        let rootfs = bundle.join("rootfs");
        let file = |path: &Path, source| BenchError::File { path: path.to_owned(), source };
        std::fs::create_dir_all(&rootfs).map_err(|error| file(&rootfs, error))?;
        let tar = bundle.join("rootfs.tar");
        std::fs::write(&tar, testkit::images::busybox_tar()).map_err(|error| file(&tar, error))?;
        output_of(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&rootfs))?;
        for mount_point in ["dev", "proc", "sys"] {
            let path = rootfs.join(mount_point);
            std::fs::create_dir_all(&path).map_err(|error| file(&path, error))?;
        }
        output_of(Command::new(program).arg("spec").current_dir(&bundle))?;
        adjust_spec(&bundle.join("config.json"), &["true"])?;
        let runtime = Self { name, program: program.to_owned(), bundle };
        output_of(&mut runtime.start_true())?;
        Ok(runtime)
    }

    fn command(&self) -> Command {
        Command::new(&self.program)
    }

    /// What it is called in the results.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The command that runs `true` in a container.
    pub(crate) fn start_true(&self) -> Command {
        let mut command = self.command();
        command.args(["run", "--bundle"]).arg(&self.bundle).arg(format!("bench-{}", self.id()));
        command
    }

    /// The command that runs `true` in so many containers at once.
    pub(crate) fn start_many(&self, count: usize) -> Command {
        let run = format!("{} run --bundle {}", self.program.display(), self.bundle.display());
        at_once(count, &format!("{run} bench-{}-$i", self.id()))
    }

    /// Starts a container that waits.
    pub(crate) fn wait(&self) -> Result<Waiting<'_>, BenchError> {
        let config = self.bundle.join("config.json");
        adjust_spec(&config, &["sleep", "100000"])?;
        let waiting = Waiting { runtime: self, id: format!("bench-{}-waiting", self.id()) };
        let mut create = self.command();
        create.args(["create", "--bundle"]).arg(&self.bundle).arg(&waiting.id);
        create.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        run(&mut create)?;
        run(self.command().arg("start").arg(&waiting.id))?;
        adjust_spec(&config, &["true"])?;
        Ok(waiting)
    }

    fn id(&self) -> String {
        self.name.replace(' ', "-")
    }
}

impl Waiting<'_> {
    /// The command that runs `true` in it.
    pub(crate) fn exec_true(&self) -> Command {
        let mut command = self.runtime.command();
        command.arg("exec").arg(&self.id).arg("true");
        command
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let _ = output_of(self.runtime.command().args(["delete", "--force"]).arg(&self.id));
    }
}

/// A command that runs a line of shell so many times at once; `$i` counts. It fails if one of them does.
pub(crate) fn at_once(count: usize, line: &str) -> Command {
    let script =
        format!("i=0; while [ $i -lt {count} ]; do {{ {line} || kill $$; }} & i=$((i+1)); done; wait");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}

/// Runs a command whose output nobody reads to its end: a container may hold it.
fn run(command: &mut Command) -> Result<(), BenchError> {
    let line = format!("{command:?}");
    let status = command.status().map_err(|source| BenchError::File { path: line.clone().into(), source })?;
    match status.success() {
        true => Ok(()),
        false => {
            Err(BenchError::File { path: line.into(), source: std::io::Error::other(status.to_string()) })
        }
    }
}

/// The default specification runs a shell on a terminal; we want this program and no terminal.
fn adjust_spec(path: &Path, args: &[&str]) -> Result<(), BenchError> {
    let error = |source| BenchError::File { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(error)?;
    let mut spec: serde_json::Value = serde_json::from_slice(&text).map_err(|source| error(source.into()))?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = args.into();
    std::fs::write(path, spec.to_string()).map_err(error)
}

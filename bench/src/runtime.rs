//! `runc` and `crun` on a prepared bundle: what starting a container costs without images, storage or a client.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::BenchError;
use crate::measure::output_of;

/// A bare runtime and its bundle.
pub(crate) struct Runtime {
    name: &'static str,
    program: &'static str,
    bundle: PathBuf,
}

impl Runtime {
    /// Makes a bundle with busybox below `dir`, and tries whether the runtime works here.
    pub(crate) fn start(name: &'static str, program: &'static str, dir: &Path) -> Result<Self, BenchError> {
        let bundle = dir.join(name);
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
        adjust_spec(&bundle.join("config.json"))?;
        let runtime = Self { name, program, bundle };
        output_of(&mut runtime.start_true())?;
        Ok(runtime)
    }

    /// What it is called in the results.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The command that runs `true` in a container.
    pub(crate) fn start_true(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(["run", "--bundle"]).arg(&self.bundle).arg(format!("bench-{}", self.name));
        command
    }
}

/// The default specification runs a shell on a terminal; we want `true` and no terminal.
fn adjust_spec(path: &Path) -> Result<(), BenchError> {
    let error = |source| BenchError::File { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(error)?;
    let mut spec: serde_json::Value = serde_json::from_slice(&text).map_err(|source| error(source.into()))?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = vec!["true"].into();
    std::fs::write(path, spec.to_string()).map_err(error)
}

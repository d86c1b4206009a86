//! Debian's `buildah` as a subject, with overlay storage and a commit for each step.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::builder::{Builder, RESULT};
use crate::error::BenchError;
use crate::measure::output_of;

/// How `buildah` isolates a RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Namespaces and cgroups, made by runc. Debian's default, crun, refuses to work where both cgroup versions
    /// are mounted.
    Runc,
    /// Little more than a changed root.
    Chroot,
}

/// The program with a store of its own.
pub(crate) struct Buildah {
    dir: PathBuf,
    isolation: Isolation,
}

impl Buildah {
    /// A store below `dir` with the base image from `base`, after a try whether a RUN works here.
    pub(crate) fn start(
        dir: PathBuf,
        isolation: Isolation,
        base: &Path,
        trial: &Path,
    ) -> Result<Self, BenchError> {
        let buildah = Self { dir, isolation };
        output_of(buildah.command().arg("pull").arg(format!("docker-archive:{}", base.display())))?;
        output_of(&mut buildah.build(trial))?;
        Ok(buildah)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "overlay"]);
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &str {
        match self.isolation {
            Isolation::Runc => "buildah, runc",
            Isolation::Chroot => "buildah, chroot",
        }
    }

    fn build(&self, context: &Path) -> Command {
        let mut command = self.command();
        command.args(["build", "--quiet", "--layers", "--pull-never", "-t", RESULT]);
        match self.isolation {
            Isolation::Runc => {
                command.args(["--isolation", "oci", "--runtime", "/usr/sbin/runc", "--network", "none"])
            }
            // It has no network namespaces.
            Isolation::Chroot => command.args(["--isolation", "chroot", "--network", "host"]),
        };
        command.arg(context);
        command
    }

    fn commits_each_step(&self) -> bool {
        true
    }

    /// `buildah run` keeps its container, and so is no match for a command that makes and removes one.
    fn start_true(&self) -> Option<Command> {
        None
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        testkit::env::unmount_below(&self.dir);
    }
}

//! Everything that is measured, started and tried once.

use std::path::{Path, PathBuf};

use testkit::{Context, images};

use crate::buildah::{Buildah, Isolation};
use crate::builder::{BASE, Builder};
use crate::docker::Docker;
use crate::error::BenchError;
use crate::lap::Lap;
use crate::runtime::Runtime;

/// The builders and runtimes that work on this machine, `lap` first.
pub(crate) struct Subjects {
    pub(crate) builders: Vec<Box<dyn Builder>>,
    pub(crate) runtimes: Vec<Runtime>,
    left_out: Vec<String>,
}

impl Subjects {
    /// Starts `lap`, which has to work, and each peer that does.
    pub(crate) fn start(dir: &Path, lap: &Path) -> Result<Self, BenchError> {
        let base = dir.join("base.tar");
        images::busybox_as(BASE).write_archive(&base);
        let trial = Context::create(dir);
        trial.dockerfile(&format!("FROM {BASE}\nRUN true\n"));
        let place = |name: &str| -> PathBuf { dir.join(name) };

        let lap = Lap::start(lap, place("lap"), &base)?;
        let mut subjects = Self { builders: vec![Box::new(lap)], runtimes: Vec::new(), left_out: Vec::new() };
        let buildah = |isolation, name| Buildah::start(place(name), isolation, &base, trial.path());
        subjects.add_builder("buildah, chroot", buildah(Isolation::Chroot, "buildah-chroot"));
        subjects.add_builder("buildah, runc", buildah(Isolation::Runc, "buildah-runc"));
        subjects.add_builder("docker, BuildKit", Docker::start(place("docker"), &base, trial.path()));
        for (name, program) in [("runc", "/usr/sbin/runc"), ("crun", "/usr/bin/crun")] {
            match Runtime::start(name, program, dir) {
                Ok(runtime) => subjects.runtimes.push(runtime),
                Err(error) => subjects.leave_out(name, &error),
            }
        }
        Ok(subjects)
    }

    /// Who is missing, and why.
    pub(crate) fn left_out(&self) -> Vec<String> {
        self.left_out.clone()
    }

    fn add_builder(&mut self, name: &str, builder: Result<impl Builder + 'static, BenchError>) {
        match builder {
            Ok(builder) => self.builders.push(Box::new(builder)),
            Err(error) => self.leave_out(name, &error),
        }
    }

    fn leave_out(&mut self, name: &str, error: &BenchError) {
        eprintln!("left out: {name}: {error}");
        self.left_out.push(format!("{name}: {error}"));
    }
}

//! Everything that is measured, started and tried once.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Context, images};

use crate::buildah::{Buildah, Isolation};
use crate::builder::{BASE, Builder};
use crate::docker::Docker;
use crate::error::BenchError;
use crate::lap::Lap;
use crate::many;
use crate::options::Options;
use crate::runtime::Runtime;

/// The archive of the base image, in the benchmark's directory.
pub(crate) const BASE_ARCHIVE: &str = "base.tar";

/// The builders and runtimes that work on this machine, `lap` first.
pub(crate) struct Subjects {
    pub(crate) builders: Vec<Box<dyn Builder>>,
    pub(crate) runtimes: Vec<Runtime>,
    program: PathBuf,
    alone: bool,
    small: bool,
    left_out: Vec<String>,
}

impl Subjects {
    /// `lap`, which has to work.
    pub(crate) fn lap(dir: &Path, options: &Options) -> Result<Self, BenchError> {
        let program = &options.lap;
        let base = dir.join(BASE_ARCHIVE);
        images::busybox_as(BASE).write_archive(&base);
        let lap = Lap::start(program, dir.join("lap"), &base)?;
        let (builders, runtimes) = (vec![Box::new(lap) as Box<dyn Builder>], Vec::new());
        let (alone, small) = (options.alone, options.small);
        Ok(Self { builders, runtimes, program: program.clone(), alone, small, left_out: Vec::new() })
    }

    /// The `lap` that is measured.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Whether nothing but `lap` is to be measured.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether all is small: to see that everything works, not how fast.
    pub(crate) fn is_small(&self) -> bool {
        self.small
    }

    /// How much of something there is, and how much where all is small.
    pub(crate) fn of_size<T>(&self, full: T, small: T) -> T {
        if self.small { small } else { full }
    }

    /// How many files large contexts and images have.
    pub(crate) fn many_files(&self) -> usize {
        self.of_size(50_000, 500)
    }

    /// `lap` with each form of layers, and stores of their own.
    pub(crate) fn forms(&self, dir: &Path) -> Result<Vec<Box<dyn Builder>>, BenchError> {
        let base = dir.join(BASE_ARCHIVE);
        let of =
            |form: &'static str| Lap::in_form(&self.program, dir.join(format!("lap-{form}")), &base, form);
        many::FORMS.into_iter().map(|form| Ok(Box::new(of(form)?) as Box<dyn Builder>)).collect()
    }

    /// Whether a program is installed and is to be measured. Tells if it is not.
    pub(crate) fn has(&self, program: &str) -> bool {
        !self.alone && testkit::judges::program(program).is_some()
    }

    /// Docker's client without what it is to do, if its daemon works here.
    pub(crate) fn docker_client(&self) -> Option<Command> {
        self.builders.iter().find_map(|builder| builder.docker_client())
    }

    /// Each peer that works here.
    pub(crate) fn add_peers(&mut self, dir: &Path) {
        self.add_runtimes(dir);
        let base = dir.join(BASE_ARCHIVE);
        let trial = Context::create(dir);
        trial.dockerfile(&format!("FROM {BASE}\nRUN true\n"));
        let buildah = |isolation, name| Buildah::start(dir.join(name), isolation, &base, trial.path());
        self.add_builder("buildah, chroot", buildah(Isolation::Chroot, "buildah-chroot"));
        self.add_builder("buildah, runc", buildah(Isolation::Runc, "buildah-runc"));
        self.add_builder("docker, BuildKit", Docker::start(dir.join("docker"), &base, trial.path()));
    }

    fn add_runtimes(&mut self, dir: &Path) {
        // Under this name our program is the runtime alone, like its peers.
        let ours = dir.join("lap-oci-runtime");
        if let Err(source) = std::os::unix::fs::symlink(&self.program, &ours) {
            return self.leave_out("lap oci-runtime", &BenchError::File { path: ours, source });
        }
        let peers = [("runc", Path::new("/usr/sbin/runc")), ("crun", Path::new("/usr/bin/crun"))];
        for (name, program) in [("lap oci-runtime", ours.as_path())].into_iter().chain(peers) {
            match Runtime::start(name, program, dir) {
                Ok(runtime) => self.runtimes.push(runtime),
                Err(error) => self.leave_out(name, &error),
            }
        }
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

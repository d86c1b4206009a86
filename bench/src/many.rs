//! An image of 50,000 files: from a registry to the first process of a container, and away again. Both forms of layers, beside the
//! unpacking and removing of the same files without an image.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Layer, LayerTar, images};

use crate::error::BenchError;
use crate::measure::output_of;
use crate::registry::{Kind, Results, Source, add, lap};
use crate::subject::Subjects;
use crate::work::{FILE_SIZE, Samples};

/// How many rounds are enough: each writes the files several times.
const ROUNDS: usize = 3;

/// The forms in which `lap` keeps layers.
pub(crate) const FORMS: [&str; 2] = ["dir", "packed"];

/// The image in its registry, and its large layer as an archive.
struct Many {
    source: Source,
    archive: PathBuf,
}

impl Many {
    fn start(subjects: &Subjects, dir: &Path) -> Result<Option<Self>, BenchError> {
        let archive = dir.join("many.tar");
        if !archive.exists() {
            std::fs::write(&archive, tar(subjects.many_files()))
                .map_err(|source| BenchError::File { path: archive.clone(), source })?;
        }
        let image = || {
            let tar = std::fs::read(&archive)
                .map_err(|source| BenchError::File { path: archive.clone(), source })?;
            Ok(images::busybox_as(KIND.local).layer(Layer::gzip(&tar)))
        };
        Ok(Source::of(subjects, dir, &KIND, image)?.map(|source| Self { source, archive }))
    }

    /// The archive unpacked into a new directory.
    fn unpack(&self, into: &Path) -> Result<Command, BenchError> {
        std::fs::create_dir(into).map_err(|source| BenchError::File { path: into.to_owned(), source })?;
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&self.archive).arg("-C").arg(into);
        Ok(tar)
    }

    /// From nothing to the end of `true`.
    fn first_process(&self, subjects: &Subjects, root: &Path, form: &str) -> Command {
        let mut command = in_form(subjects, root, form);
        command.args(["run", "--rm", "--quiet", "--network", "none", &self.name(), "true"]);
        command
    }

    fn name(&self) -> String {
        self.source.reference()
    }
}

const KIND: Kind = Kind { local: "localhost/bench-many:latest", name: "bench/many:1", files: "many-image" };

/// From a registry to the first process, with an empty store. The layer is compressed there; `tar` gets it as it is and decompressed.
pub(crate) fn pull(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let Some(many) = Many::start(subjects, dir)? else { return Ok(Samples::new()) };
    let mut samples = Samples::new();
    for _ in 0..rounds.min(ROUNDS) {
        let results = Results::below(dir)?;
        for form in FORMS {
            let command = many.first_process(subjects, &results.0.join(form), form);
            add(&mut samples, &format!("lap, {form}"), &command)?;
        }
        add(&mut samples, "tar -x of its files", &many.unpack(&results.0.join("tar"))?)?;
        if let (Some(mut remove), Some(mut run)) = (subjects.docker_client(), subjects.docker_client()) {
            let name = many.name();
            // There is nothing to remove the first time.
            let _ = output_of(remove.args(["rmi", "-f", &name]));
            run.args(["run", "--rm", "--quiet", "--network", "none", &name, "true"]);
            add(&mut samples, "docker run", &run)?;
        }
    }
    Ok(samples)
}

/// The image and all its files removed, with what they were in.
pub(crate) fn prune(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let Some(many) = Many::start(subjects, dir)? else { return Ok(Samples::new()) };
    let mut samples = Samples::new();
    for _ in 0..rounds.min(ROUNDS) {
        let results = Results::below(dir)?;
        for form in FORMS {
            let root = results.0.join(form);
            output_of(&mut many.first_process(subjects, &root, form))?;
            let mut prune = in_form(subjects, &root, form);
            prune.args(["system", "prune", "--all", "--force"]);
            add(&mut samples, &format!("lap, {form}"), &prune)?;
        }
        let unpacked = results.0.join("tar");
        output_of(&mut many.unpack(&unpacked)?)?;
        let mut remove = Command::new("rm");
        remove.arg("-rf").arg(&unpacked);
        add(&mut samples, "rm -rf of its files", &remove)?;
        if let (Some(mut pull), Some(mut remove)) = (subjects.docker_client(), subjects.docker_client()) {
            let name = many.name();
            output_of(pull.args(["pull", "-q", &name]))?;
            remove.args(["rmi", "-f", &name]);
            add(&mut samples, "docker rmi", &remove)?;
        }
    }
    Ok(samples)
}

fn in_form(subjects: &Subjects, root: &Path, form: &str) -> Command {
    let mut command = lap(subjects, root);
    // Nothing is at work in a store any more when its command is over.
    command.env("LAPSTRAKE_GC", "off").args(["--layer-form", form]);
    command
}

/// So many files as the large context has, half of each noise.
fn tar(files: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut tar = LayerTar::new();
    for number in 0..files {
        if number % 500 == 0 {
            tar = tar.dir(&format!("many/part{}/", number / 500), 0o755);
        }
        let mut content = Vec::with_capacity(FILE_SIZE);
        while content.len() < FILE_SIZE / 2 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            content.extend_from_slice(&state.to_be_bytes());
        }
        content.resize(FILE_SIZE, b'.');
        tar = tar.file(&format!("many/part{}/file{number}", number / 500), 0o644, content);
    }
    tar.finish()
}

//! Images in and out of archives: `lap load` and `lap save` beside `skopeo` and `buildah`, and beside the work that
//! nobody can avoid.
//!
//! The image has one layer of 1 GiB that is not compressed, as `docker save` writes it. Every run has a store of its
//! own, so that nothing is there before.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Image, Layer};

use crate::error::BenchError;
use crate::measure::{Sample, measure, output_of};
use crate::subject::Subjects;
use crate::work::Samples;

/// The image's name.
pub(crate) const NAME: &str = "localhost/bench-large:latest";

/// How many files the layer has, and how long each is.
const FILES: usize = 64;
const FILE_SIZE: usize = 16 << 20;

/// From an archive to an unpacked image: the blob is copied and hashed, and its files are written.
pub(crate) fn load(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let files = Files::make(subjects, dir)?;
    let archive = format!("docker-archive:{}", files.archive.display());
    take_turns(rounds, dir, |results| {
        let place = |who: &str| results.join(who);
        let mut commands = vec![("lap", lap(subjects, &place("lap")))];
        commands[0].1.args(["load", "-i"]).arg(&files.archive);
        commands.push(("cp, sha256sum and tar -x", files.unavoidable(&place("floor"), true)?));
        if !subjects.is_alone() {
            let mut skopeo = Command::new("skopeo");
            skopeo.args(["copy", "--quiet", "--insecure-policy", &archive, &storage(&place("skopeo"))]);
            commands.push(("skopeo copy", skopeo));
            let mut buildah = Command::new("buildah");
            let (root, run) = (place("buildah"), place("buildah-run"));
            buildah.args(["--storage-driver", "overlay", "--root"]).arg(root).arg("--runroot").arg(run);
            buildah.args(["pull", "--quiet", &archive]);
            commands.push(("buildah pull", buildah));
        }
        Ok(commands)
    })
}

/// From a store to an archive: the blob is copied and hashed.
pub(crate) fn save(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let files = Files::make(subjects, dir)?;
    let store = dir.join("save-lap");
    output_of(lap(subjects, &store).args(["load", "-i"]).arg(&files.archive))?;
    let others = dir.join("save-skopeo");
    if !subjects.is_alone() {
        let archive = format!("docker-archive:{}", files.archive.display());
        output_of(Command::new("skopeo").args(["copy", "--insecure-policy", &archive, &storage(&others)]))?;
    }
    take_turns(rounds, dir, |results| {
        let place = |who: &str| results.join(who);
        let mut commands = vec![("lap", lap(subjects, &store))];
        commands[0].1.arg("save").arg("-o").arg(place("lap.tar")).arg(NAME);
        commands.push(("cp and sha256sum", files.unavoidable(&place("floor"), false)?));
        if !subjects.is_alone() {
            let target = format!("docker-archive:{}", place("skopeo.tar").display());
            let mut skopeo = Command::new("skopeo");
            skopeo.args(["copy", "--quiet", "--insecure-policy", &storage(&others), &target]);
            commands.push(("skopeo copy", skopeo));
        }
        Ok(commands)
    })
}

fn lap(subjects: &Subjects, root: &Path) -> Command {
    let mut command = Command::new(subjects.program());
    command.arg("--root").arg(root);
    command
}

/// A store of `skopeo`'s below `dir`.
fn storage(dir: &Path) -> String {
    format!("containers-storage:[overlay@{0}/root+{0}/run]{NAME}", dir.display())
}

/// Runs the commands of each round one after the other, with nothing left to be written to disk before each. The
/// results of a round are removed at its end, since they take some GB.
fn take_turns<'a>(
    rounds: usize,
    dir: &Path,
    commands: impl Fn(&Path) -> Result<Vec<(&'a str, Command)>, BenchError>,
) -> Result<Samples, BenchError> {
    let mut samples: Samples = Vec::new();
    for _ in 0..rounds {
        let results = dir.join("results");
        let failed = |source| BenchError::File { path: results.clone(), source };
        std::fs::create_dir(&results).map_err(failed)?;
        for (index, (name, command)) in commands(&results)?.into_iter().enumerate() {
            nix::unistd::sync();
            let sample: Sample = measure(&command)?;
            match samples.get_mut(index) {
                Some((_, of_this)) => of_this.push(sample),
                None => samples.push((name.to_owned(), vec![sample])),
            }
        }
        testkit::env::unmount_below(&results);
        std::fs::remove_dir_all(&results).map_err(failed)?;
    }
    Ok(samples)
}

/// The image as files.
struct Files {
    /// The layer's tar.
    layer: PathBuf,
    /// The archive of the image.
    archive: PathBuf,
}

/// The archive of the image, made once.
pub(crate) fn large_archive(subjects: &Subjects, dir: &Path) -> Result<PathBuf, BenchError> {
    Ok(Files::make(subjects, dir)?.archive)
}

impl Files {
    fn make(subjects: &Subjects, dir: &Path) -> Result<Self, BenchError> {
        let files = Self { layer: dir.join("large-layer.tar"), archive: dir.join("large.tar") };
        if !files.archive.exists() {
            let failed = |source| BenchError::File { path: files.layer.clone(), source };
            write_layer(&files.layer, subjects.of_size(FILES, 1)).map_err(failed)?;
            let layer = Layer::file(&files.layer).map_err(failed)?;
            Image::new(NAME).layer(layer).write_archive(&files.archive);
        }
        Ok(files)
    }

    /// What nobody can avoid: copying and hashing, and writing the files where they are wanted.
    fn unavoidable(&self, into: &Path, unpack: bool) -> Result<Command, BenchError> {
        std::fs::create_dir(into).map_err(|source| BenchError::File { path: into.to_owned(), source })?;
        let (layer, into) = (self.layer.display(), into.display());
        let mut script = format!("cp {layer} {into}/copy && sha256sum {layer} >{into}/sum");
        if unpack {
            // Writing to a string cannot fail.
            let _ = write!(script, " && mkdir {into}/files && tar -C {into}/files -xf {layer}");
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        Ok(command)
    }
}

/// Files of noise: nothing about them can be made small or is the same twice.
fn write_layer(path: &Path, files: usize) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(std::io::BufWriter::new(std::fs::File::create(path)?));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..files {
        let mut content = Vec::with_capacity(FILE_SIZE);
        while content.len() < FILE_SIZE {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            content.extend_from_slice(&state.to_le_bytes());
        }
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("file{number}"), content.as_slice())?;
    }
    tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    Ok(())
}

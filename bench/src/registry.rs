//! Images from and to a registry on loopback, Debian's `docker-registry`: `lap` beside `skopeo` and docker's daemon.
//!
//! The image has twelve layers of 84 MiB, half of each noise and half text that repeats, compressed with gzip. What is pulled is pulled
//! into an empty store and unpacked; what is pushed goes to an empty registry. All have the layers compressed before they push but docker,
//! which keeps none.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{DockerRegistry, Image, Layer, LayerTar};

use crate::error::BenchError;
use crate::measure::{measure, output_of};
use crate::subject::Subjects;
use crate::work::Samples;

/// How many layers the image has.
const LAYERS: usize = 12;

/// How much of each kind of content a layer has, in bytes, and in the small variant.
const HALF: usize = 42 << 20;
const SMALL_HALF: usize = 1 << 20;

/// How many rounds are enough: each takes some GB of disk.
const ROUNDS: usize = 3;

/// The image.
const KIND: Kind =
    Kind { local: "localhost/bench-registry:latest", name: "bench/image:1", files: "registry-image" };

/// From a registry to an unpacked image in an empty store.
pub(crate) fn pull(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let Some(source) = start(subjects, dir)? else { return Ok(Samples::new()) };
    let name = source.reference();
    let mut samples = Samples::new();
    for _ in 0..rounds.min(ROUNDS) {
        let results = Results::below(dir)?;
        let mut pull = lap(subjects, &results.0.join("lap"));
        pull.args(["pull", "-q", &name]);
        add(&mut samples, "lap", &pull)?;
        if subjects.has("skopeo") {
            let storage = results.0.join("skopeo").display().to_string();
            let to = format!("containers-storage:[overlay@{storage}/root+{storage}/run]{name}");
            add(&mut samples, "skopeo copy to its storage", &copy(&format!("docker://{name}"), &to))?;
        }
        if let (Some(mut remove), Some(mut pull)) = (subjects.docker_client(), subjects.docker_client()) {
            // There is nothing to remove the first time.
            let _ = output_of(remove.args(["rmi", "-f", &name]));
            pull.args(["pull", "-q", &name]);
            add(&mut samples, "docker pull", &pull)?;
        }
    }
    Ok(samples)
}

/// From a store to an empty registry.
pub(crate) fn push(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let Some(source) = start(subjects, dir)? else { return Ok(Samples::new()) };
    let from = source.reference();
    let layout = format!("oci:{}:1", dir.join("registry-layout").display());
    if subjects.has("skopeo") {
        output_of(&mut copy(&format!("docker://{from}"), &layout))?;
    }
    if let Some(mut docker) = subjects.docker_client() {
        output_of(docker.args(["pull", "-q", &from]))?;
    }
    let mut samples = Samples::new();
    for _ in 0..rounds.min(ROUNDS) {
        to_empty(&mut samples, "lap", |name| {
            output_of(lap(subjects, &source.store).args(["tag", &from, name]))?;
            let mut push = lap(subjects, &source.store);
            push.args(["push", "-q", name]);
            Ok(push)
        })?;
        if subjects.has("skopeo") {
            to_empty(&mut samples, "skopeo copy from an OCI layout", |name| {
                Ok(copy(&layout, &format!("docker://{name}")))
            })?;
        }
        if let (Some(mut tag), Some(mut push)) = (subjects.docker_client(), subjects.docker_client()) {
            to_empty(&mut samples, "docker push", |name| {
                output_of(tag.args(["tag", &from, name]))?;
                push.args(["push", "-q", name]);
                Ok(push)
            })?;
        }
    }
    Ok(samples)
}

/// To a registry that has all of it under the name.
pub(crate) fn push_again(subjects: &Subjects, dir: &Path, rounds: usize) -> Result<Samples, BenchError> {
    let Some(source) = start(subjects, dir)? else { return Ok(Samples::new()) };
    let name = source.reference();
    let layout = format!("oci:{}:again", dir.join("registry-layout").display());
    if subjects.has("skopeo") {
        output_of(&mut copy(&format!("docker://{name}"), &layout))?;
    }
    let mut samples = Samples::new();
    for _ in 0..rounds {
        let mut push = lap(subjects, &source.store);
        push.args(["push", "-q", &name]);
        add(&mut samples, "lap", &push)?;
        if subjects.has("skopeo") {
            let again = copy(&layout, &format!("docker://{name}"));
            add(&mut samples, "skopeo copy from an OCI layout", &again)?;
        }
    }
    Ok(samples)
}

/// Measures a push to a registry that has nothing, which is told its name there.
fn to_empty(
    samples: &mut Samples,
    who: &str,
    push: impl FnOnce(&str) -> Result<Command, BenchError>,
) -> Result<(), BenchError> {
    match DockerRegistry::start() {
        Some(registry) => add(samples, who, &push(&registry.reference(KIND.name))?),
        None => Ok(()),
    }
}

/// Measures a command, with nothing left to be written to disk before.
pub(crate) fn add(samples: &mut Samples, who: &str, command: &Command) -> Result<(), BenchError> {
    nix::unistd::sync();
    let sample = measure(command)?;
    match samples.iter_mut().find(|(name, _)| name == who) {
        Some((_, of_this)) => of_this.push(sample),
        None => samples.push((who.to_owned(), vec![sample])),
    }
    Ok(())
}

/// `skopeo copy` between places on this machine.
fn copy(from: &str, to: &str) -> Command {
    let mut command = Command::new("skopeo");
    command.args([
        "copy",
        "--quiet",
        "--insecure-policy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ]);
    command.args([from, to]);
    command
}

/// An image that lies in a registry of its own.
pub(crate) struct Kind {
    /// What it is called in the store that pushes it.
    pub(crate) local: &'static str,
    /// Its name, without the registry.
    pub(crate) name: &'static str,
    /// What its archive and its store are called.
    pub(crate) files: &'static str,
}

/// A registry with the image, and a store of `lap`'s that has it from there.
pub(crate) struct Source {
    registry: DockerRegistry,
    store: PathBuf,
    name: &'static str,
}

impl Source {
    /// None, with the reason told, without Debian's registry. The image is made once.
    pub(crate) fn of(
        subjects: &Subjects,
        dir: &Path,
        kind: &Kind,
        image: impl FnOnce() -> Result<Image, BenchError>,
    ) -> Result<Option<Self>, BenchError> {
        let Some(registry) = DockerRegistry::start() else { return Ok(None) };
        let source = Self { registry, store: dir.join(format!("{}-lap", kind.files)), name: kind.name };
        let archive = dir.join(format!("{}.tar", kind.files));
        if !archive.exists() {
            image()?.write_archive(&archive);
            output_of(lap(subjects, &source.store).arg("load").arg("-i").arg(&archive))?;
        }
        let name = source.reference();
        output_of(lap(subjects, &source.store).args(["tag", kind.local, &name]))?;
        output_of(lap(subjects, &source.store).args(["push", "-q", &name]))?;
        Ok(Some(source))
    }

    /// The image's name with its registry.
    pub(crate) fn reference(&self) -> String {
        self.registry.reference(self.name)
    }
}

/// The registry with the image of large layers.
fn start(subjects: &Subjects, dir: &Path) -> Result<Option<Source>, BenchError> {
    Source::of(subjects, dir, &KIND, || Ok(image(subjects.of_size(HALF, SMALL_HALF))))
}

/// `lap` with a store.
pub(crate) fn lap(subjects: &Subjects, root: &Path) -> Command {
    let mut command = Command::new(subjects.program());
    command.arg("--root").arg(root);
    command
}

fn image(half: usize) -> Image {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut image = Image::new(KIND.local);
    for layer in 0..LAYERS {
        let mut noise = Vec::with_capacity(half);
        while noise.len() < half {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise.extend_from_slice(&state.to_be_bytes());
        }
        let line = format!("a line of layer {layer} that is repeated\n");
        let text = line.repeat(half / line.len());
        let tar = LayerTar::new().file(&format!("noise{layer}"), 0o644, noise).file(
            &format!("text{layer}"),
            0o644,
            text,
        );
        image = image.layer(Layer::gzip(&tar.finish()));
    }
    image
}

/// What a round writes. Dropped, it is removed, since it takes some GB.
pub(crate) struct Results(pub(crate) PathBuf);

impl Results {
    /// An empty directory.
    pub(crate) fn below(dir: &Path) -> Result<Self, BenchError> {
        let path = dir.join("results");
        std::fs::create_dir(&path).map_err(|source| BenchError::File { path: path.clone(), source })?;
        Ok(Self(path))
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        testkit::env::unmount_below(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! `lap` as a subject: every case gets a store of its own, a copy of one that has the base images.

use std::collections::BTreeMap;
use std::path::Path;

use base::Platform;
use testkit::{Image, Layer, Output, TestEnv, images};

use crate::subject::Subject;

/// A store with the base images, to be copied.
pub struct Seed(TestEnv);

impl Seed {
    /// Loads the base images into a new store.
    #[allow(clippy::new_without_default, reason = "making a store writes to the disk")]
    pub fn new() -> Self {
        let env = TestEnv::new();
        for image in base_images() {
            env.load(&image);
        }
        Self(env)
    }
}

/// One store.
pub struct Lap(TestEnv);

impl Lap {
    /// A fresh store with the base images.
    pub fn new(seed: &Seed) -> Self {
        let (from, env) = (seed.0.root(), TestEnv::new());
        let copied = std::process::Command::new("cp").arg("-a").arg(&from).arg(env.root()).status();
        assert!(copied.is_ok_and(|status| status.success()), "copy the store {}", from.display());
        Self(env)
    }
}

/// The images that every subject has: `busybox`, and `foreign`, the same for a platform that is not ours.
pub fn base_images() -> Vec<Image> {
    let foreign = if Platform::host().architecture == "arm64" { "linux/amd64" } else { "linux/arm64" };
    let foreign: Platform = foreign.parse().expect("a platform");
    let tar = Layer::tar(images::busybox_tar().to_vec());
    vec![images::busybox(), Image::new("foreign:latest").layer(tar).platform(&foreign)]
}

impl Subject for Lap {
    fn build(&self, args: &[String], env: &BTreeMap<String, String>, stdin: Vec<u8>) -> Output {
        let command = self.0.lap(["build", "--progress", "plain"]).args(args).stdin(stdin);
        env.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
    }

    fn prune(&self, args: &[String]) -> Output {
        self.0.lap(["builder", "prune", "--force"]).args(args).run()
    }

    fn why(&self, step: &str) -> Option<String> {
        Some(self.0.lap(["why", step]).ok().stdout_text())
    }

    fn save(&self, image: &str, to: &Path) -> Output {
        self.0.lap(["save", image, "-o"]).arg(to).run()
    }

    fn run(&self, args: &[String]) -> Output {
        self.0.lap(["run", "--rm", "--network", "none"]).args(args).run()
    }

    fn is_lap(&self) -> bool {
        true
    }
}

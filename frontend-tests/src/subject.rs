//! What a case needs of a builder, so that `lap` and its judges run the same cases.

use std::collections::BTreeMap;
use std::path::Path;

use testkit::Output;

/// A builder with a store in which `busybox` and the other base images are.
pub trait Subject {
    /// Runs `build --progress plain ARGS` with these variables and this standard input.
    fn build(&self, args: &[String], env: &BTreeMap<String, String>, stdin: Vec<u8>) -> Output;

    /// Runs `builder prune --force ARGS`.
    fn prune(&self, args: &[String]) -> Output;

    /// What the builder says afterwards about why a step of the last build ran, if it can say it.
    fn why(&self, step: &str) -> Option<String>;

    /// Writes an image of the store as a Docker archive.
    fn save(&self, image: &str, to: &Path) -> Output;

    /// Starts a container without network and waits for its end.
    fn run(&self, args: &[String]) -> Output;

    /// Whether its messages are ours: texts of errors and warnings are compared only then.
    fn is_lap(&self) -> bool;
}

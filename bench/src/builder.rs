//! What every builder can do here.

use std::path::Path;
use std::process::Command;

/// The base image that every builder has.
pub(crate) const BASE: &str = "localhost/bench-base:latest";

/// The name of what is built.
pub(crate) const RESULT: &str = "localhost/bench-result:latest";

/// A builder of images, with a store of its own that is empty but for [`BASE`].
pub(crate) trait Builder {
    /// What it is called in the results.
    fn name(&self) -> &str;

    /// Docker's client, without what it is to do, if this is docker.
    fn docker_client(&self) -> Option<Command> {
        None
    }

    /// The command that builds `context` and calls the result [`RESULT`]. It may use whatever it built before.
    fn build(&self, context: &Path) -> Command;

    /// The same without a record of the build, if there is one otherwise.
    fn build_unremembered(&self, _context: &Path) -> Option<Command> {
        None
    }

    /// Whether each step becomes an image that is committed before the next one, so that hundreds of steps take minutes.
    fn commits_each_step(&self) -> bool {
        false
    }

    /// The command that runs `true` in a container of [`BASE`] without a network and removes the container, or none
    /// if this is no runtime.
    fn start_true(&self) -> Option<Command>;

    /// The same with these flags about its network, if that is to be measured.
    fn start_connected(&self, _flags: &[&str]) -> Option<Command> {
        None
    }

    /// The command that runs `true` in so many containers at once, if that is to be measured.
    fn start_many(&self, _count: usize) -> Option<Command> {
        None
    }
}

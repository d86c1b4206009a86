//! What every builder can do here.

use std::path::Path;
use std::process::Command;

use crate::error::BenchError;

/// The base image that every builder has.
pub(crate) const BASE: &str = "localhost/bench-base:latest";

/// The name of what is built.
pub(crate) const RESULT: &str = "localhost/bench-result:latest";

/// A builder of images, with a store of its own that is empty but for [`BASE`].
pub(crate) trait Builder {
    /// What it is called in the results.
    fn name(&self) -> &str;

    /// The command that builds `context` and calls the result [`RESULT`]. With `cached` it may use what it
    /// built before.
    fn build(&self, context: &Path, cached: bool) -> Command;

    /// The command that runs `true` in a container of [`BASE`] without a network and removes the container, or none
    /// if this is no runtime.
    fn start_true(&self) -> Option<Command>;

    /// Forgets everything built and every file seen, so that the next build is the first. [`BASE`] stays.
    fn forget(&self) -> Result<(), BenchError>;
}

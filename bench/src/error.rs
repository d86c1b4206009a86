//! What keeps a benchmark from being run.

use std::path::PathBuf;

/// Why something could not be measured or prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A file or directory of the benchmark's own.
    #[error("write {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("start {command}: {source}")]
    Start {
        command: String,
        #[source]
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{command}: {status}: {output}")]
    Failed { command: String, status: String, output: String },
    /// A daemon did not say that it is ready.
    #[error("{command} did not get ready; its last words: {output}")]
    NotReady { command: String, output: String },
    /// The process that looks after a detached container is not there.
    #[error("container {id} has no shim")]
    NoShim { id: String },
    /// It takes more memory than it may.
    #[error("a shim takes {memory} KiB of memory, and {most} KiB are the most")]
    LargeShim { memory: u64, most: u64 },
    /// The measuring process answered with something else than a sample.
    #[error("measuring {command} gave no figures: {output}")]
    NoSample { command: String, output: String },
}

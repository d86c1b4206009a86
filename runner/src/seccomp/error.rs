//! Why a system call profile cannot be used.

use base::{Fault, Faulty};
use oci_spec::runtime::LinuxSeccompAction;
use sys::seccomp::FilterSizeError;

/// A profile that cannot be read, or that asks for what no filter can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// It is no JSON, or not of the form of a profile.
    #[error("the seccomp profile is not of the form that Docker reads: {0}")]
    Form(String),
    /// Two fields say the same thing.
    #[error("the seccomp profile has both \"{0}\" and \"{1}\"; write one of them")]
    Both(&'static str, &'static str),
    /// A kernel version that is none.
    #[error("the seccomp profile has the kernel version \"{0}\"; write, for example, 4.8")]
    KernelVersion(String),
    /// An error number that no call has.
    #[error("the seccomp profile has the error number {0}; the largest is {1}")]
    ErrorNumber(u32, u32),
    /// An argument that no call has.
    #[error("the seccomp profile compares argument {0} of a system call; they are numbered from 0 to 5")]
    Argument(usize),
    /// An action that needs another process.
    #[error("the seccomp profile has the action {0}, which needs a process that answers; there is none")]
    Action(LinuxSeccompAction),
    /// One rule has more comparisons than a filter can jump over.
    #[error("the seccomp profile has a rule with {0} comparisons, which are too many")]
    Comparisons(usize),
    /// The filter is larger than the kernel takes.
    #[error("the seccomp profile is too large")]
    Size(#[from] FilterSizeError),
}

impl Faulty for SeccompError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

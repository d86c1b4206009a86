//! How many files this process may have open at once.
//!
//! The usual limit of 1024 is kept small for programs that call `select(2)`, which we do not; the kernel lets
//! every process raise it to its hard limit. A view of an image of 500 layers alone holds a thousand directories
//! open. Processes that we start for others get the limit back that we were started with.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number of the limit (`RLIMIT_NOFILE` in `asm-generic/resource.h`).
pub const RESOURCE: u32 = 7;

/// The limit of a process: what is in force, and what it may be raised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// In force.
    pub soft: u64,
    /// The most that it may be.
    pub hard: u64,
}

static ORIGINAL: OnceLock<OpenFiles> = OnceLock::new();

/// Raises the limit of this process as far as it goes. Where the kernel refuses, it stays as it is.
pub fn raise_limit() {
    ORIGINAL.get_or_init(|| {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // Failing is no harm to most work; what needs more files says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        // No number means no limit.
        OpenFiles { soft: current.unwrap_or(u64::MAX), hard: maximum.unwrap_or(u64::MAX) }
    });
}

/// The limit before it was raised; `None` when it was not.
pub fn original_limit() -> Option<OpenFiles> {
    ORIGINAL.get().copied()
}

/// The hard limit of a resource of this process (`RLIMIT_…` number), `u64::MAX` for none; `None` if there is no such
/// resource.
pub fn ceiling(resource: u32) -> Option<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit64, which lives until the call returns.
    let result = unsafe { libc::prlimit64(0, resource, std::ptr::null(), &raw mut limit) };
    (result == 0).then_some(limit.rlim_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_remembered() {
        let before = getrlimit(Resource::Nofile);
        raise_limit();
        raise_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!((after.current, after.maximum), (before.maximum, before.maximum));
        assert_eq!(original_limit().map(|limit| limit.soft), before.current);
    }
}

//! What this machine and this process can do, asked once.
//!
//! Used to say clearly what is missing, not to guard each step: a step that fails reports itself.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

/// The kernel that containers need: `mount_setattr(2)` came with 5.12.
const MINIMUM_KERNEL: (u32, u32) = (5, 12);

/// Number of `CAP_SYS_ADMIN`.
const SYS_ADMIN: u32 = 21;

/// Something that containers need and that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The kernel is older than what containers need.
    #[error("Linux {}.{} or newer is needed, this is {found}", MINIMUM_KERNEL.0, MINIMUM_KERNEL.1)]
    Kernel {
        /// The release, as `uname -r` prints it.
        found: String,
    },
    /// This process may not create namespaces and mounts.
    #[error(
        "the capability CAP_SYS_ADMIN is needed: run as root, or give the surrounding container that capability"
    )]
    Privilege,
}

/// What stands in the way of starting containers; `None` when nothing is known to.
pub fn missing_for_containers() -> Option<Missing> {
    let without_rights = || (effective_capabilities() & (1 << SYS_ADMIN) == 0).then_some(Missing::Privilege);
    missing_kernel().or_else(without_rights)
}

/// Whether the kernel is too old.
pub fn missing_kernel() -> Option<Missing> {
    let release = kernel_release();
    let is_old = parse_release(release).is_some_and(|version| version < MINIMUM_KERNEL);
    is_old.then(|| Missing::Kernel { found: release.to_owned() })
}

/// The kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> &'static str {
    static RELEASE: OnceLock<String> = OnceLock::new();
    RELEASE.get_or_init(|| rustix::system::uname().release().to_string_lossy().into_owned())
}

/// The capabilities in force for this thread; bit `n` is capability number `n`. Zero when the kernel
/// does not say.
pub fn effective_capabilities() -> u64 {
    rustix::thread::capabilities(None).map_or(0, |sets| sets.effective.bits())
}

/// Whether a filter decides about the system calls of this thread (`seccomp(2)`).
pub fn has_system_call_filter() -> bool {
    !matches!(rustix::thread::secure_computing_mode(), Ok(rustix::thread::SecureComputingMode::Disabled))
}

/// Whether control groups are all version 2 and mounted at the usual place.
pub fn has_unified_cgroups() -> bool {
    static UNIFIED: OnceLock<bool> = OnceLock::new();
    *UNIFIED.get_or_init(|| Path::new("/sys/fs/cgroup/cgroup.controllers").exists())
}

/// How gladly the kernel kills this process when memory is short (`proc_pid_oom_score_adj(5)`).
pub fn memory_score() -> io::Result<i32> {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    text.trim().parse().map_err(|_| io::Error::other("the file has no number"))
}

/// The major and minor number that a release starts with.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(parse_release("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse_release("5.9-rc1"), Some((5, 9)));
        assert_eq!(parse_release("4.19+"), Some((4, 19)));
        assert!(parse_release("5.9.1") < Some(MINIMUM_KERNEL));
        assert_eq!(parse_release("unknown"), None);
    }
}

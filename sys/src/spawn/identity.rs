//! Who the new process is and what it may do: limits, user, capabilities, filter.
//!
//! Credentials belong to one task in the kernel, so changing them here does not touch the parent,
//! although memory is shared. The C library is not asked: it would change all threads it knows of.
//! Runs in the new process; see [`super::raw`].

use super::plan::CapabilitySets;
use super::raw::{self, Failure, invoke};
use crate::seccomp::Filter;

/// Sets a resource limit.
pub(super) fn limit(resource: u32, soft: u64, hard: u64) -> Result<(), Failure> {
    let limit = [soft, hard];
    // SAFETY: an rlimit64 is two words; the kernel reads one.
    unsafe { invoke!(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), 0usize) }.map(drop)
}

/// Changes the owner of the marked standard streams.
pub(super) fn own_streams(streams: [bool; 3], uid: u32) -> Result<(), Failure> {
    for (fd, owned) in (0..).zip(streams) {
        if owned {
            // SAFETY: no pointers; -1 leaves the group.
            unsafe { invoke!(libc::SYS_fchown, fd, uid, -1) }?;
        }
    }
    Ok(())
}

/// Drops the capabilities that are not in `keep` from the bounding set.
pub(super) fn bounding_set(keep: u64) -> Result<(), Failure> {
    for capability in 0..64 {
        if keep & (1 << capability) == 0 {
            match raw::prctl(libc::PR_CAPBSET_DROP, capability, 0) {
                // The kernel knows no capability of this number, nor of higher ones.
                Err(Failure { errno: libc::EINVAL, .. }) => break,
                other => other?,
            };
        }
    }
    Ok(())
}

/// Loads a filter for this process and its descendants.
pub(super) fn load_filter(filter: &Filter) -> Result<(), Failure> {
    let instructions = filter.instructions();
    let program =
        libc::sock_fprog { len: instructions.len() as u16, filter: instructions.as_ptr().cast_mut().cast() };
    // Speculative store bypass stays as it is, as in other runtimes: forbidding it costs every program.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the program points to live instructions of the kernel's layout, which it only reads.
    unsafe { invoke!(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) }.map(drop)
}

/// Becomes a user. For any user but root the kernel empties the effective set on the way; the permitted one is
/// kept for [`set_capabilities`], which decides.
pub(super) fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<(), Failure> {
    if let Some(groups) = groups {
        // SAFETY: the pointer and count are those of a live slice.
        unsafe { invoke!(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }?;
    }
    // Executing the program undoes this.
    raw::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
    // SAFETY: both calls take numbers.
    unsafe {
        invoke!(libc::SYS_setresgid, gid, gid, gid)?;
        invoke!(libc::SYS_setresuid, uid, uid, uid)?;
    }
    Ok(())
}

/// Becomes user and group 0 of the user namespace. Where a namespace denies changing groups, those that we
/// have stay: nobody can tell them from the one that nothing is mapped to.
pub(super) fn become_root() -> Result<(), Failure> {
    // SAFETY: an empty list; the other calls take numbers.
    unsafe {
        match invoke!(libc::SYS_setgroups, 0, 0usize) {
            Ok(_) | Err(Failure { errno: libc::EPERM, .. }) => {}
            Err(failure) => return Err(failure),
        }
        invoke!(libc::SYS_setresgid, 0, 0, 0)?;
        invoke!(libc::SYS_setresuid, 0, 0, 0)?;
    }
    Ok(())
}

/// Sets all capabilities of the process.
pub(super) fn set_capabilities(sets: &CapabilitySets) -> Result<(), Failure> {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    // The low words of all sets, then the high ones.
    let words =
        |shift: u32| [sets.effective, sets.permitted, sets.inheritable].map(|set| (set >> shift) as u32);
    let data = [words(0), words(32)];
    // SAFETY: both arrays are live and have the layout of version 3 of capset(2).
    unsafe { invoke!(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }?;
    // Ambient ones have gone with the user or the inheritable set, whose members they must be.
    for capability in (0..u64::BITS).filter(|one| sets.ambient & (1 << one) != 0) {
        raw::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability))?;
    }
    Ok(())
}

/// Joins a new session keyring. A failure changes nothing: a kernel without keyrings has none to leave, and where
/// too many are in use, or somebody's filter forbids to make more, ours does forbid their use.
pub(super) fn leave_session_keyring() {
    // SAFETY: a null name asks for a new one without name.
    let _ = unsafe { invoke!(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0usize) };
}

//! What containers need of the kernel, tried out in a child that is gone afterwards.
//!
//! Rights alone do not say it: a system call filter, a security module or a limit of the kernel may refuse what
//! a capability allows. So the thing itself is done, where it leaves no trace. Taking such mounts down waits for all
//! processors, which is milliseconds; so where nothing speaks against it, [`shows_all_of_proc`] saves the trial.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::pipe::{PipeFlags, pipe_with};

/// Something that containers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Namespaces of mounts, processes, IPC, names and control groups.
    Namespaces,
    /// Mounting a filesystem in memory.
    Mounts,
    /// Mounting a `/proc` of one's own, which the kernel refuses where the visible one has parts hidden.
    Proc,
}

/// A need that is not met, or nothing, as the child says it.
type Outcome = Result<(), (Need, i32)>;

/// The first need, in their order, that is not met, with the kernel's answer. `None`: all are.
///
/// # Errors
/// Not even the attempt could be made.
pub fn first_unmet_need() -> io::Result<Option<(Need, io::Error)>> {
    let (answer, say) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = fork_to(&say, || {
        attempt()?;
        // Only a new process is in the namespace of processes whose /proc is wanted.
        let child = fork_to(&say, || filesystem("proc").map_err(because(Need::Proc)))
            .map_err(|_| (Need::Namespaces, libc::EPERM))?;
        let _ = waitpid(child, None);
        end()
    })?;
    drop(say);
    let mut outcome = [0u8; 2];
    let length = rustix::io::read(&answer, &mut outcome);
    waitpid(child, None)?;
    let [need, errno] = outcome;
    let need = match (length?, need) {
        (2, 0) => return Ok(None),
        (2, 1) => Need::Namespaces,
        (2, 2) => Need::Mounts,
        (2, _) => Need::Proc,
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    Ok(Some((need, io::Error::from_raw_os_error(i32::from(errno)))))
}

/// Whether nothing is mounted over a part of `/proc`, given `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`). Then the
/// kernel lets the root of a user namespace mount another one. Over `binfmt_misc`, which is made for that, something may
/// be.
pub fn shows_all_of_proc(mountinfo: &str) -> bool {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let hides = |point: &str| point.starts_with("/proc/") && point != "/proc/sys/fs/binfmt_misc";
    !points.into_iter().any(hides)
}

/// Forks a child that does `work` and says how it went.
fn fork_to(say: &OwnedFd, work: impl FnOnce() -> Outcome) -> nix::Result<Pid> {
    // SAFETY: the child only makes system calls, on memory that it has a copy of; it neither allocates nor
    // takes locks, and never returns to the code around.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let [need, errno] = match work() {
                Ok(()) => [0, 0],
                // Error numbers below 256 are all that these calls give.
                Err((need, errno)) => [need as u8 + 1, u8::try_from(errno).unwrap_or(u8::MAX)],
            };
            let _ = rustix::io::write(say, &[need, errno]);
            end()
        }
    }
}

/// Ends a child without running what its parent has registered for its own end.
fn end() -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(0) }
}

fn because<E: Into<ErrorNumber>>(need: Need) -> impl Fn(E) -> (Need, i32) {
    move |error| (need, error.into().0)
}

/// The number of an error of either library.
struct ErrorNumber(i32);

impl From<nix::Error> for ErrorNumber {
    fn from(error: nix::Error) -> Self {
        Self(error as i32)
    }
}

impl From<rustix::io::Errno> for ErrorNumber {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

fn attempt() -> Outcome {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).map_err(because(Need::Namespaces))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(because(Need::Mounts))?;
    filesystem("tmpfs").map_err(because(Need::Mounts))
}

/// Mounts a new instance of a filesystem, attached nowhere.
fn filesystem(kind: &str) -> rustix::io::Result<()> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_parts_of_proc_is_seen() {
        let whole =
            "22 1 0:20 / /proc rw - proc proc rw\n23 22 0:3 / /proc/sys/fs/binfmt_misc rw - autofs x rw\n";
        assert!(shows_all_of_proc(whole) && shows_all_of_proc(""));
        assert!(!shows_all_of_proc("24 22 0:5 /null /proc/kcore rw - devtmpfs devtmpfs rw\n"));
        assert!(shows_all_of_proc("24 22 0:5 / /proceedings rw - tmpfs tmpfs rw\n"));
    }

    #[test]
    fn the_answer_fits_our_rights() {
        let unmet = first_unmet_need().unwrap();
        if !rustix::process::geteuid().is_root() {
            assert!(unmet.is_some());
        }
        if let Some((_, error)) = unmet {
            assert!(error.raw_os_error().is_some_and(|number| number > 0));
        }
    }
}

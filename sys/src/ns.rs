//! Namespaces and process file descriptors.
//!
//! [`Namespaces`] is the set of namespaces that a new process gets of its own (`namespaces(7)`).
//! [`PidFd`] names a child process without the races of numbers: it signals and waits. Creating the
//! process is [`crate::spawn`]'s business.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::fs::PathContext as _;
use crate::path_error::PathError;

/// A set of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u32);

impl Namespaces {
    /// None: everything is shared with the parent.
    pub const NONE: Self = Self(0);
    /// Mount points.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// Network devices, addresses, ports.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u32);
    /// The root of the cgroup view.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u32);

    /// Users, groups and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// Offsets of the monotonic and boot time clocks (`time_namespaces(7)`).
    pub const TIME: Self = Self(0x80);

    /// Every kind with its name and that of its file in `/proc/PID/ns`.
    const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::MOUNT, "mount", "mnt"),
        (Self::UTS, "uts", "uts"),
        (Self::IPC, "ipc", "ipc"),
        (Self::PID, "pid", "pid"),
        (Self::NETWORK, "network", "net"),
        (Self::CGROUP, "cgroup", "cgroup"),
        (Self::USER, "user", "user"),
        (Self::TIME, "time", "time"),
    ];

    /// This set and `other`.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set without `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names of the members, in the order of their constants.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(one, ..)| self.contains(*one)).map(|(_, name, _)| name)
    }

    /// The flags of `clone(2)`, `unshare(2)` and `setns(2)`.
    pub(crate) const fn clone_flags(self) -> i32 {
        self.0 as i32
    }
}

/// The kinds of namespaces that process `pid` has others of than we have. Its process id namespace is the one
/// that it is in, not the one that its children are put into.
pub fn differing(pid: u32) -> Result<Namespaces, PathError> {
    Namespaces::ALL.into_iter().try_fold(Namespaces::NONE, |set, (kind, _, file)| {
        let of = |whose: &str| {
            let path = PathBuf::from(format!("/proc/{whose}/ns/{file}"));
            std::fs::read_link(&path).at("read the link", &path)
        };
        // The kernel may know nothing of a kind.
        match (of("self"), of(&pid.to_string())) {
            (Err(error), _) if error.is_not_found() => Ok(set),
            (ours, its) => Ok(if ours? == its? { set } else { set.with(kind) }),
        }
    })
}

/// Moves the calling thread, and nothing else of the process, into a new network namespace.
///
/// # Errors
/// What `unshare(2)` says.
pub fn unshare_network() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
}

/// What a process and the children it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time on processors in user mode.
    pub user: Duration,
    /// Time on processors in the kernel.
    pub system: Duration,
    /// The largest resident set of any one of them, in bytes.
    pub peak_memory: u64,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices, or to be written.
    pub written_bytes: u64,
}

/// A process. Only a child of ours can be waited for. Dropping it neither kills nor waits.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process that has number `pid` now. Whoever got the number from somewhere checks that it is still the
    /// process that was meant.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        let flags = rustix::process::PidfdFlags::empty();
        Ok(Self(rustix::process::pidfd_open(pid, flags)?))
    }

    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Its number as we see it, which is not the one it has in its own namespace. `None` once it has been
    /// collected.
    pub fn pid(&self) -> io::Result<Option<u32>> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let info = std::fs::read_to_string(path)?;
        let number = info.lines().find_map(|line| line.strip_prefix("Pid:"));
        Ok(number.and_then(|number| number.trim().parse().ok()))
    }

    /// Sends signal `signal`. Sending to a process that has ended is not an error.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: the descriptor is a pidfd that we own, and a null siginfo asks for the default one.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match result {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Waits for the end and collects it. Once collected, a further call fails with `ECHILD`.
    pub fn wait(&self) -> io::Result<(Ending, Usage)> {
        loop {
            match self.wait_with(0) {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Like [`wait`](Self::wait), but `None` while the process lives.
    pub fn try_wait(&self) -> io::Result<Option<(Ending, Usage)>> {
        self.wait_with(libc::WNOHANG)
    }

    fn wait_with(&self, options: i32) -> io::Result<Option<(Ending, Usage)>> {
        // SAFETY: all-zero is a valid value of both plain C structures.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live structures of the kernel's layout. The system call is made
        // directly because the C wrapper of waitid(2) does not pass the usage.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                self.0.as_raw_fd(),
                &raw mut info,
                libc::WEXITED | libc::__WALL | options,
                &raw mut usage,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: waitid(2) filled the SIGCHLD form of the structure, or left it zero (WNOHANG).
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let ending = match info.si_code {
            libc::CLD_EXITED => Ending::Exited(status),
            _ => Ending::Signaled(status),
        };
        Ok(Some((ending, usage_of(&usage))))
    }
}

impl AsFd for PidFd {
    /// Readable (`poll(2)`) once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What `getrusage(2)` counts input and output in, in bytes.
const BLOCK: u64 = 512;

fn usage_of(usage: &libc::rusage) -> Usage {
    let blocks = |count: i64| u64::try_from(count).unwrap_or(0).saturating_mul(BLOCK);
    let duration = |time: libc::timeval| {
        let micros = u64::try_from(time.tv_usec).unwrap_or(0);
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(micros)
    };
    Usage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
        read_bytes: blocks(usage.ru_inblock),
        written_bytes: blocks(usage.ru_oublock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_name_their_members() {
        let set = Namespaces::MOUNT.with(Namespaces::PID);
        assert!(set.contains(Namespaces::PID) && !set.contains(Namespaces::NETWORK));
        assert_eq!(set.names().collect::<Vec<_>>(), ["mount", "pid"]);
        assert_eq!(Namespaces::NONE.names().count(), 0);
    }
}

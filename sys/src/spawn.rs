//! Starting a process in namespaces of its own.
//!
//! A [`Plan`] says everything; [`launch`] makes it happen and returns once the user's program runs or has
//! failed to. The pieces: [`plan`](self) is the data, `launcher` creates the process, `child` interprets
//! the plan in it (with `mounts`, `target`, `terminal`, `identity`), and `report` carries what it has to
//! say back.
//!
//! # Why clone and not re-execute
//!
//! The new process shares our memory until it executes the user's program (`CLONE_VM`) and runs prepared
//! steps, nothing else. Compared with re-executing ourselves as a helper this saves one `execve` and a
//! dynamic start-up per container (about half a millisecond), compared with `fork` the copying of page
//! tables; and there is no protocol to serialise a plan. The price is discipline: code in the new process
//! must not allocate, lock, panic or use thread-local storage (see `raw`).
//!
//! # Our own program is out of reach
//!
//! Until its `execve`, a new process's `/proc/self/exe` is our executable, and an image may name that path
//! as its program to run us inside the container and overwrite us from there (CVE-2019-5736). Three things
//! stand against it: `child` refuses programs and script interpreters that are reached through such a link;
//! no other process exists in the container before that `execve`; and while we live the kernel refuses to
//! open our executable for writing (`ETXTBSY`), and no container outlives us (see `launcher`).
//!
//! # Changing the user
//!
//! A process that changes its user is made undumpable by the kernel, and as memory is shared, so are we,
//! from the first container of another user on. That is what keeps other processes of that user from
//! attaching to memory that is ours too; it is never undone. We lose core dumps, nothing else.

mod child;
mod identity;
mod launcher;
mod mounts;
mod plan;
mod raw;
mod report;
mod target;
mod terminal;

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use base::{Fault, Faulty};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use self::child::Job;
use self::launcher::Stack;
pub use self::plan::{Exec, MountSource, Plan, RootSource, ScratchEntry, Step, TargetKind};
use self::raw::Failure;
pub use self::report::Created;
use self::report::Message;
use crate::ns::PidFd;

/// Descriptors below this are for the new process's own use.
const FIRST_FREE: i32 = 10;

/// A process whose program runs, or has already ended.
#[derive(Debug)]
pub struct Launched {
    /// The process.
    pub process: PidFd,
    /// The other end of its terminal, when the plan opens one.
    pub terminal: Option<OwnedFd>,
    /// Mount targets that were made in its root filesystem, in the order they were made.
    pub created: Vec<Created>,
}

/// A launch that failed. No process is left.
#[derive(Debug, thiserror::Error)]
#[error("the process was not started")]
pub struct LaunchFailure {
    /// Why.
    #[source]
    pub error: LaunchError,
    /// Mount targets that were made in the root filesystem before it failed.
    pub created: Vec<Created>,
}

impl From<LaunchError> for LaunchFailure {
    fn from(error: LaunchError) -> Self {
        Self { error, created: Vec::new() }
    }
}

/// Why a process does not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// We lack something to even begin.
    #[error("cannot prepare a new process: {operation}")]
    Prepare {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel did not make the process.
    #[error("cannot create a process with its own {} namespaces", namespaces.join(", "))]
    Clone {
        /// The namespaces asked for.
        namespaces: Vec<&'static str>,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A step failed in the new process.
    #[error("cannot {what} ({call})")]
    Step {
        /// Its number in the plan.
        number: usize,
        /// What it was to do, and to what.
        what: String,
        /// The system call that failed.
        call: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// All steps succeeded, but the program could not be executed.
    #[error("cannot execute {program:?}")]
    Execute {
        /// The program, as it was named.
        program: CString,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Faulty for LaunchError {
    fn fault(&self) -> Fault {
        match self {
            Self::Prepare { .. } | Self::Clone { .. } => Fault::Environment,
            Self::Step { source, .. } | Self::Execute { source, .. } => base::fault::of_io(source),
        }
    }
}

/// Starts a process and waits until its program runs.
///
/// `streams` become its standard streams; `None` when the plan opens a terminal. The process and all its
/// descendants end with us, whatever ends us, provided that the plan asks for a process id namespace.
pub fn launch(plan: Plan, streams: Option<[BorrowedFd<'_>; 3]>) -> Result<Launched, LaunchFailure> {
    let prepare = |operation| move |source: io::Error| LaunchError::Prepare { operation, source };
    let (ours, theirs) = report_sockets().map_err(prepare("make a pair of sockets"))?;
    let streams = streams
        .map(|[stdin, stdout, stderr]| Ok([raise(stdin)?, raise(stdout)?, raise(stderr)?]))
        .transpose()
        .map_err(prepare("duplicate a descriptor"))?;
    let started = Started::new(plan, &theirs, streams.as_ref())?;
    // From here on only the new process holds its end, so the stream ends with it.
    drop((theirs, streams));
    started.finish(&ours)
}

/// Our end and the new process's end of a connection that keeps message boundaries.
fn report_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((ours, raise(theirs.as_fd())?))
}

/// A duplicate out of the way of the numbers that the new process arranges.
fn raise(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE)?)
}

/// A process that has been created and may still be using our memory.
struct Started {
    process: PidFd,
    terminal: Option<OwnedFd>,
    created: Vec<Created>,
    /// What the process reads and runs on. Freed only when it no longer does.
    memory: Box<(Job, Stack)>,
}

impl Started {
    fn new(plan: Plan, report: &OwnedFd, streams: Option<&[OwnedFd; 3]>) -> Result<Self, LaunchError> {
        let flags = plan.namespaces.clone_flags();
        let job = Job {
            arguments: pointers(&plan.exec.arguments),
            environment: pointers(&plan.exec.environment),
            streams: streams.map(|streams| streams.each_ref().map(AsRawFd::as_raw_fd)),
            report: report.as_raw_fd(),
            plan,
        };
        let mut memory = Box::new((job, Stack::new()));
        let (job, stack) = &mut *memory;
        // SAFETY: the memory is on the heap and owned by the value returned, which frees it only after the
        // end of the report stream or of the process (`finish`).
        let created = unsafe { launcher::create(flags, job, stack) };
        match created {
            Ok(process) => Ok(Self { process, terminal: None, created: Vec::new(), memory }),
            Err(source) => {
                Err(LaunchError::Clone { namespaces: memory.0.plan.namespaces.names().collect(), source })
            }
        }
    }

    /// Listens until the program runs or the process has failed.
    fn finish(mut self, reports: &OwnedFd) -> Result<Launched, LaunchFailure> {
        match self.listen(reports) {
            // The stream ended: the process has executed its program or has ended. Either way the kernel
            // took our memory away from it before it closed its descriptors.
            Ok(None) => {
                let Self { process, terminal, created, memory: _ } = self;
                Ok(Launched { process, terminal, created })
            }
            Ok(Some((step, failure))) => {
                let error = self.explain(step, failure);
                Err(LaunchFailure { error, created: self.end() })
            }
            Err(source) => {
                let error = LaunchError::Prepare { operation: "read the new process's report", source };
                Err(LaunchFailure { error, created: self.end() })
            }
        }
    }

    fn listen(&mut self, reports: &OwnedFd) -> io::Result<Option<(u32, Failure)>> {
        while let Some(message) = report::receive(reports)? {
            match message {
                Message::Created(created) => self.created.push(created),
                Message::Terminal(fd) => self.terminal = Some(fd),
                Message::Failed { step, failure } => return Ok(Some((step, failure))),
            }
        }
        Ok(None)
    }

    fn explain(&self, step: u32, failure: Failure) -> LaunchError {
        let plan = &self.memory.0.plan;
        let source = io::Error::from_raw_os_error(failure.errno);
        let call = call_name(failure.call);
        if step == child::PREPARE {
            return LaunchError::Prepare { operation: call, source };
        }
        let number = step as usize;
        match plan.steps.get(number) {
            Some(step) => LaunchError::Step { number, what: step.describe(), call, source },
            None => {
                let program = plan.exec.arguments.first().cloned().unwrap_or_default();
                LaunchError::Execute { program, source }
            }
        }
    }

    /// Ends the process and frees its memory; leaks the memory should the process not be waited for. Returns
    /// the mount targets that it made.
    fn end(self) -> Vec<Created> {
        let killed = self.process.signal(libc::SIGKILL);
        if killed.and_then(|()| self.process.wait()).is_err() {
            Box::leak(self.memory);
        }
        self.created
    }
}

/// Pointers to the strings, and a null, as `execve(2)` takes them. Moving the vector of strings does not
/// move the strings.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The name of a system call that the new process makes.
fn call_name(number: i32) -> &'static str {
    match i64::from(number) {
        libc::SYS_capset => "capset",
        libc::SYS_chdir | libc::SYS_fchdir => "chdir",
        libc::SYS_close_range => "close_range",
        libc::SYS_dup3 => "dup3",
        libc::SYS_execve => "execve",
        libc::SYS_fchown => "fchown",
        libc::SYS_fsconfig => "fsconfig",
        libc::SYS_fsmount => "fsmount",
        libc::SYS_fsopen => "fsopen",
        libc::SYS_ioctl => "ioctl",
        libc::SYS_mkdirat => "mkdirat",
        libc::SYS_mknodat => "mknodat",
        libc::SYS_mount => "mount",
        libc::SYS_mount_setattr => "mount_setattr",
        libc::SYS_move_mount => "move_mount",
        libc::SYS_open_tree => "open_tree",
        libc::SYS_openat2 => "openat2",
        libc::SYS_pivot_root => "pivot_root",
        libc::SYS_prctl => "prctl",
        libc::SYS_prlimit64 => "prlimit64",
        libc::SYS_readlinkat => "readlinkat",
        libc::SYS_seccomp => "seccomp",
        libc::SYS_sendmsg => "sendmsg",
        libc::SYS_setdomainname => "setdomainname",
        libc::SYS_setgroups => "setgroups",
        libc::SYS_sethostname => "sethostname",
        libc::SYS_setresgid => "setresgid",
        libc::SYS_setresuid => "setresuid",
        libc::SYS_socket => "socket",
        libc::SYS_statx => "statx",
        libc::SYS_symlinkat => "symlinkat",
        libc::SYS_umount2 => "umount2",
        libc::SYS_unshare => "unshare",
        libc::SYS_write => "write",
        _ => "a system call",
    }
}

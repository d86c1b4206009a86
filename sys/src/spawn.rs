//! Starting a process in namespaces of its own.
//!
//! A [`Plan`] says everything; [`launch`] makes it happen and returns once the user's program runs or has
//! failed to. The pieces: [`plan`](self) is the data, `launcher` creates the process, `child` interprets
//! the plan in it (with `mounts`, `target`, `terminal`, `identity`, `hold`), `report` carries what it has
//! to say back, and `number` whom a forerunner has created.
//!
//! # Why clone and not re-execute
//!
//! The new process shares our memory until it executes the user's program (`CLONE_VM`) and runs prepared
//! steps, nothing else. Compared with re-executing ourselves as a helper this saves one `execve` and a
//! dynamic start-up per container (about half a millisecond), compared with `fork` the copying of page
//! tables; and there is no protocol to serialise a plan. The price is discipline: code in the new process
//! must not allocate, lock, panic or use thread-local storage (see `raw`). Where memory may run out before that
//! `execve`, the process has a copy ([`Creation::Copy`]): the kernel ends all that share the memory of whom it chooses.
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
mod copy_up;
mod hold;
mod identity;
mod launcher;
mod maps;
mod mounts;
mod number;
mod plan;
mod private;
mod raw;
mod report;
mod target;
mod terminal;

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::PathBuf;

use base::{Fault, Faulty};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use self::child::Job;
pub use self::hold::{release, socket_at};
use self::launcher::Stack;
use self::number::SharedNumber;
pub use self::plan::{
    CapabilitySets, Checkpoint, Creation, Exec, IdMap, Lifetime, MountSource, NamespacesOf, NodeKind, Plan,
    RootSource, ScratchEntry, Step, TargetKind,
};
pub use self::private::PrivateRoot;
use self::raw::Failure;
pub use self::report::Created;
use self::report::Message;
use crate::ns::PidFd;

/// The descriptors that a new process gets.
#[derive(Debug, Clone, Default)]
pub struct Descriptors<'a> {
    /// Its standard streams; `None` when the plan opens a terminal.
    pub streams: Option<[BorrowedFd<'a>; 3]>,
    /// Further ones that its program finds from number 3 on.
    pub kept: Vec<BorrowedFd<'a>>,
    /// Roots of mounts that nobody sees, by which its filesystems are mounted ([`layer_path`]). Its program does not get
    /// them.
    pub layers: Vec<BorrowedFd<'a>>,
    /// The process whose namespaces are joined ([`NamespacesOf::Target`]).
    pub target: Option<&'a PidFd>,
    /// A listening socket ([`socket_at`]) by which the execution of its program has to be ordered
    /// ([`release`]). [`launch_with`] returns when the process waits there.
    pub hold: Option<BorrowedFd<'a>>,
}

/// The descriptors with the numbers 3 and above that whoever started us has left to us, `count` of them in a row.
///
/// # Errors
/// There are fewer.
pub fn inherited(count: u32) -> io::Result<Vec<OwnedFd>> {
    let first = libc::STDERR_FILENO + 1;
    let duplicate = |number| {
        // SAFETY: no pointers. The number is only looked up; what it stands for stays with its owner.
        let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
        // SAFETY: the kernel has just installed this descriptor for us.
        if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(copy) }) }
    };
    let count = i32::try_from(count).map_err(io::Error::other)?;
    (first..first.saturating_add(count)).map(duplicate).collect()
}

/// By which path a new process that keeps no descriptors finds the layer of this number
/// ([`Descriptors::layers`]).
pub fn layer_path(number: usize) -> PathBuf {
    format!("/proc/self/fd/{}", Job::descriptors(number)).into()
}

/// Does what is to be done at a checkpoint of a new process. `false` ends it.
pub type Observer<'a> = &'a mut dyn FnMut(Checkpoint, &PidFd) -> bool;

/// A process whose program runs or is held, or has already ended.
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
    /// A namespace that is to be joined is not there.
    #[error("cannot open the namespace {file:?}")]
    Namespace {
        /// The file that stands for it.
        file: CString,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The observer ended the start.
    #[error("the start was given up at a checkpoint ({0:?})")]
    Abandoned(Checkpoint),
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
            Self::Prepare { .. } | Self::Clone { .. } | Self::Abandoned(_) => Fault::Environment,
            Self::Step { source, .. } | Self::Execute { source, .. } | Self::Namespace { source, .. } => {
                base::fault::of_io(source)
            }
        }
    }
}

/// Starts a process and waits until its program runs.
///
/// `streams` become its standard streams; `None` when the plan opens a terminal. The process and all its
/// descendants end with us, whatever ends us, provided that the plan asks for a process id namespace and for
/// no other lifetime.
pub fn launch(plan: Plan, streams: Option<[BorrowedFd<'_>; 3]>) -> Result<Launched, LaunchFailure> {
    launch_with(plan, &Descriptors { streams, ..Descriptors::default() }, &mut |_, _| true)
}

/// As [`launch`], for plans with checkpoints and processes with further descriptors.
pub fn launch_with(
    plan: Plan,
    descriptors: &Descriptors<'_>,
    observer: Observer<'_>,
) -> Result<Launched, LaunchFailure> {
    let (ours, started) = Started::new(plan, descriptors)?;
    started.finish(&ours, observer)
}

/// Our duplicates of what a new process gets; all out of the way of the numbers that it arranges.
struct Sources {
    streams: Option<[OwnedFd; 3]>,
    kept: Vec<OwnedFd>,
    layers: Vec<OwnedFd>,
    report: OwnedFd,
    joined: Vec<OwnedFd>,
    hold: Option<OwnedFd>,
}

impl Sources {
    fn new(plan: &Plan, descriptors: &Descriptors<'_>, report: &OwnedFd) -> Result<Self, LaunchError> {
        let prepare = |operation| move |source: io::Error| LaunchError::Prepare { operation, source };
        let joined = plan.namespaces_used().map(|of| match (of, descriptors.target) {
            (None, _) => File::open("/dev/null").map(OwnedFd::from).map_err(prepare("open /dev/null")),
            (Some(NamespacesOf::File(file)), _) => open_namespace(file),
            (Some(NamespacesOf::Maps { users, groups }), _) => {
                launcher::user_namespace(users, groups).map_err(prepare("make a user namespace"))
            }
            (Some(NamespacesOf::Mount { namespace, path }), _) => {
                let namespace = open_namespace(namespace)?;
                crate::mount::copy_of(namespace.as_fd(), path)
                    .map_err(prepare("take a mount of another container"))
            }
            (Some(NamespacesOf::Target), Some(target)) => {
                target.as_fd().try_clone_to_owned().map_err(prepare("duplicate a descriptor"))
            }
            (Some(NamespacesOf::Target), None) => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                Err(LaunchError::Prepare { operation: "find the container to join", source })
            }
        });
        let joined = joined.collect::<Result<Vec<_>, _>>()?;
        let placed = descriptors.kept.len() + descriptors.layers.len() + joined.len();
        let free = Job::descriptors(placed + 2);
        let raise = |fd: BorrowedFd<'_>| -> Result<OwnedFd, LaunchError> {
            let raised = rustix::io::fcntl_dupfd_cloexec(fd, free);
            raised.map_err(|error| prepare("duplicate a descriptor")(error.into()))
        };
        let streams = descriptors.streams;
        let streams = streams.map(|[a, b, c]| Ok::<_, LaunchError>([raise(a)?, raise(b)?, raise(c)?]));
        Ok(Self {
            streams: streams.transpose()?,
            kept: descriptors.kept.iter().copied().map(raise).collect::<Result<_, _>>()?,
            layers: descriptors.layers.iter().copied().map(raise).collect::<Result<_, _>>()?,
            report: raise(report.as_fd())?,
            joined: joined.iter().map(|fd| raise(fd.as_fd())).collect::<Result<_, _>>()?,
            hold: descriptors.hold.map(raise).transpose()?,
        })
    }

    fn job(&self, plan: Plan, number: Option<&SharedNumber>) -> Job {
        let numbers = |fds: &[OwnedFd]| fds.iter().map(AsRawFd::as_raw_fd).collect();
        Job {
            number: number.map_or(std::ptr::null_mut(), SharedNumber::address),
            arguments: pointers(&plan.exec.arguments),
            environment: pointers(&plan.exec.environment),
            streams: self.streams.as_ref().map(|streams| streams.each_ref().map(AsRawFd::as_raw_fd)),
            kept: numbers(&self.kept),
            layers: numbers(&self.layers),
            report: self.report.as_raw_fd(),
            joined: numbers(&self.joined),
            hold: self.hold.as_ref().map(AsRawFd::as_raw_fd),
            plan,
        }
    }
}

fn open_namespace(file: &CString) -> Result<OwnedFd, LaunchError> {
    use rustix::fs::{Mode, OFlags, open};
    open(file.as_c_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| LaunchError::Namespace { file: file.clone(), source: error.into() })
}

/// What a new process has told us before the end.
enum Report {
    /// Its program runs, or it was killed.
    Over,
    /// It waits for the order to execute its program.
    Holding,
    /// A step failed.
    Failed(u32, Failure),
    /// We did not do our part at a checkpoint.
    Abandoned(LaunchError),
}

/// A process that has been created and may still be using our memory.
struct Started {
    /// The process, or its forerunner.
    first: PidFd,
    /// The process, once we know that its forerunner has created it.
    second: Option<PidFd>,
    /// Where the forerunner leaves its number.
    number: Option<SharedNumber>,
    terminal: Option<OwnedFd>,
    created: Vec<Created>,
    /// What the process reads and runs on. Freed only when it no longer does.
    memory: Box<(Job, Stack)>,
}

impl Started {
    /// Creates the process. Returns our end of its report with it; from then on only it holds the other end,
    /// so the stream ends with it.
    fn new(plan: Plan, descriptors: &Descriptors<'_>) -> Result<(OwnedFd, Self), LaunchError> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(
                |error| LaunchError::Prepare { operation: "make a pair of sockets", source: error.into() },
            )?;
        let sources = Sources::new(&plan, descriptors, &theirs)?;
        let number = match plan.creation {
            Creation::Direct | Creation::Copy => None,
            Creation::Forerunner => {
                let prepare = |source| LaunchError::Prepare { operation: "make shared memory", source };
                Some(SharedNumber::new().map_err(prepare)?)
            }
        };
        let mut memory = Box::new((sources.job(plan, number.as_ref()), Stack::new()));
        let (job, stack) = &mut *memory;
        // SAFETY: the memory is on the heap and owned by the value returned, which frees it only after the
        // end of the report stream or of the process (`finish`).
        match unsafe { launcher::create(job, stack) } {
            Ok(first) => {
                let created = Vec::new();
                Ok((ours, Self { first, second: None, number, terminal: None, created, memory }))
            }
            Err(source) => {
                Err(LaunchError::Clone { namespaces: memory.0.plan.namespaces.names().collect(), source })
            }
        }
    }

    /// Listens until the program runs or is held, or the process has failed.
    fn finish(mut self, reports: &OwnedFd, observer: Observer<'_>) -> Result<Launched, LaunchFailure> {
        let report = self.listen(reports, observer).unwrap_or_else(|source| {
            Report::Abandoned(LaunchError::Prepare { operation: "read the new process's report", source })
        });
        let error = match report {
            Report::Failed(step, failure) => self.explain(step, failure),
            Report::Abandoned(error) => error,
            Report::Over | Report::Holding => match self.collect_forerunner() {
                Ok(()) => return Ok(self.launched(matches!(report, Report::Holding))),
                Err(error) => error,
            },
        };
        Err(LaunchFailure { error, created: self.end(reports) })
    }

    /// The running process. When the stream has ended, it has executed its program or has ended: either way
    /// the kernel took our memory away from it before it closed its descriptors. A held one goes on using it.
    fn launched(self, held: bool) -> Launched {
        let Self { first, second, number: _, terminal, created, memory } = self;
        if held {
            Box::leak(memory);
        }
        Launched { process: second.unwrap_or(first), terminal, created }
    }

    fn listen(&mut self, reports: &OwnedFd, observer: Observer<'_>) -> io::Result<Report> {
        while let Some(message) = report::receive(reports)? {
            match message {
                Message::Created(created) => self.created.push(created),
                Message::Terminal(fd) => self.terminal = Some(fd),
                Message::Holding => return Ok(Report::Holding),
                Message::Failed { step, failure } => return Ok(Report::Failed(step, failure)),
                Message::Reached { step } => {
                    match self.find_second().and_then(|()| self.reached(step as usize, observer)) {
                        Ok(()) => drop(rustix::io::write(reports, &[1])?),
                        Err(error) => return Ok(Report::Abandoned(error)),
                    }
                }
            }
        }
        Ok(Report::Over)
    }

    /// Looks whether the forerunner has created the process.
    fn find_second(&mut self) -> Result<(), LaunchError> {
        if let (None, Some(number)) = (&self.second, self.number.as_ref().and_then(SharedNumber::get)) {
            let failed =
                |source| LaunchError::Prepare { operation: "find the process that was created", source };
            self.second = Some(PidFd::open(number).map_err(failed)?);
        }
        Ok(())
    }

    /// Does our part at a step where the process waits.
    fn reached(&self, number: usize, observer: Observer<'_>) -> Result<(), LaunchError> {
        let step = self.memory.0.plan.steps.get(number);
        match step {
            Some(Step::MapIds { users, groups }) => {
                maps::write(&self.first, users, groups).map_err(|source| LaunchError::Step {
                    number,
                    what: step.map(Step::describe).unwrap_or_default(),
                    call: "write",
                    source,
                })
            }
            Some(Step::Checkpoint(at)) if !observer(*at, self.second.as_ref().unwrap_or(&self.first)) => {
                Err(LaunchError::Abandoned(*at))
            }
            _ => Ok(()),
        }
    }

    /// Waits for a forerunner, which ends right after it has created the process. One that ended without
    /// having done so was killed.
    fn collect_forerunner(&mut self) -> Result<(), LaunchError> {
        if self.memory.0.plan.creation != Creation::Forerunner {
            return Ok(());
        }
        let failed = |operation| move |source| LaunchError::Prepare { operation, source };
        self.first.wait().map_err(failed("wait for a forerunner"))?;
        self.find_second()?;
        match self.second {
            Some(_) => Ok(()),
            None => Err(failed("create the process")(io::Error::other("the forerunner was killed"))),
        }
    }

    fn explain(&self, step: u32, failure: Failure) -> LaunchError {
        let plan = &self.memory.0.plan;
        let source = io::Error::from_raw_os_error(failure.errno);
        let call = call_name(failure.call);
        let number = step as usize;
        match step {
            child::PREPARE => return LaunchError::Prepare { operation: call, source },
            child::CREATE => {
                let number = plan.steps.len();
                return LaunchError::Step { number, what: Step::CreateProcess.describe(), call, source };
            }
            _ => {}
        }
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
    fn end(self, reports: &OwnedFd) -> Vec<Created> {
        let Self { first, second: _, number, terminal: _, mut created, memory } = self;
        // Without an answer it ends at the latest.
        let _ = shutdown(reports.as_raw_fd(), Shutdown::Write);
        let mut ended = first.signal(libc::SIGKILL).and_then(|()| match first.wait() {
            // A forerunner that has been collected.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(()),
            waited => waited.map(drop),
        });
        // It creates nobody any more. Whom it has created is not left: its process id namespace would never end
        // (`zap_pid_ns_processes` of the kernel waits until everybody there is collected).
        if let Some(number) = number.as_ref().and_then(SharedNumber::get) {
            ended = ended.and(number::end(number));
        }
        if ended.is_err() {
            Box::leak(memory);
            return created;
        }
        // What it has made is told before the stream ends.
        while let Ok(Some(message)) = report::receive(reports) {
            if let Message::Created(made) = message {
                created.push(made);
            }
        }
        created
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
        libc::SYS_accept4 => "accept4",
        libc::SYS_capset => "capset",
        libc::SYS_chdir | libc::SYS_fchdir => "chdir",
        libc::SYS_clone => "clone",
        libc::SYS_chroot => "chroot",
        libc::SYS_close_range => "close_range",
        libc::SYS_dup3 => "dup3",
        libc::SYS_execve => "execve",
        libc::SYS_faccessat2 => "faccessat2",
        libc::SYS_fchown => "fchown",
        libc::SYS_fchmod => "fchmod",
        libc::SYS_fchownat => "fchownat",
        libc::SYS_fsconfig => "fsconfig",
        libc::SYS_fsmount => "fsmount",
        libc::SYS_fsopen => "fsopen",
        libc::SYS_fstatfs => "fstatfs",
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
        libc::SYS_sendfile => "sendfile",
        libc::SYS_setdomainname => "setdomainname",
        libc::SYS_setgroups => "setgroups",
        libc::SYS_sethostname => "sethostname",
        libc::SYS_setns => "setns",
        libc::SYS_setresgid => "setresgid",
        libc::SYS_setresuid => "setresuid",
        libc::SYS_setsid => "setsid",
        libc::SYS_socket => "socket",
        libc::SYS_statx => "statx",
        libc::SYS_symlinkat => "symlinkat",
        libc::SYS_umount2 => "umount2",
        libc::SYS_unshare => "unshare",
        libc::SYS_write => "write",
        _ => "a system call",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of a forerunner that has come to its checkpoint, and whom we have not looked for yet.
    fn waiting() -> (OwnedFd, Started) {
        let steps = vec![Step::CreateProcess, Step::Checkpoint(Checkpoint::Mounts)];
        let plan = Plan { creation: Creation::Forerunner, steps, ..Plan::default() };
        let null = File::open("/dev/null").unwrap();
        let descriptors = Descriptors { streams: Some([null.as_fd(); 3]), ..Descriptors::default() };
        let (reports, started) = Started::new(plan, &descriptors).unwrap();
        assert!(matches!(report::receive(&reports), Ok(Some(Message::Reached { step: 1 }))));
        assert!(started.second.is_none());
        (reports, started)
    }

    fn created(started: &Started) -> PidFd {
        PidFd::open(started.number.as_ref().unwrap().get().unwrap()).unwrap()
    }

    #[track_caller]
    fn is_collected(process: &PidFd) {
        assert_eq!(process.try_wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn a_process_that_fails_before_we_know_it_is_collected() {
        let (reports, started) = waiting();
        let process = created(&started);
        assert!(started.end(&reports).is_empty());
        is_collected(&process);
    }

    #[test]
    fn a_process_cannot_change_its_number() {
        let (reports, started) = waiting();
        let number = started.number.as_ref().unwrap();
        // The line of a mapping begins with its first address.
        let mapping = format!("{:x}-", number.address().addr());
        let has = |maps: &str| maps.lines().any(|line| line.starts_with(&mapping));
        let maps = |of: &str| std::fs::read_to_string(format!("/proc/{of}/maps"));
        assert!(has(&maps("self").unwrap()));
        match maps(&number.get().unwrap().to_string()) {
            Ok(theirs) => assert!(!theirs.is_empty() && !has(&theirs)),
            Err(error) => println!("skipped: the process's memory is not shown: {error}"),
        }
        started.end(&reports);
    }

    #[test]
    fn what_a_killed_forerunner_has_created_is_found() {
        let (reports, started) = waiting();
        started.first.signal(libc::SIGKILL).unwrap();
        let process = created(&started);
        rustix::io::write(&reports, &[1]).unwrap();
        let failure = started.finish(&reports, &mut |_, _| true).unwrap_err();
        assert!(matches!(failure.error, LaunchError::Execute { .. }), "{failure:?}");
        is_collected(&process);
    }
}

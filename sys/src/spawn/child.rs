//! The life of a new process from `clone` to `execve`: an interpreter of a [`Plan`].
//!
//! It shares or copies the parent's memory and runs beside the parent's threads, so it never allocates, locks,
//! panics or calls the C library; it reads the plan and makes system calls ([`super::raw`]).
//!
//! What protects the host before the user's program runs:
//! * All descriptors but the standard streams and the report socket are closed before anything of the
//!   image is touched, and the working directory is checked to lie inside the root, so no directory of
//!   the host can be reached through one (the way of CVE-2024-21626).
//! * The program executed must not be reached through a link of `/proc` that jumps, nor may the
//!   interpreter that a script names: `/proc/self/exe` is still our own program at this moment (the way
//!   of CVE-2019-5736). See [`super`] for why our program could not be overwritten anyway.
//! * The filter, the user and the capabilities are set last.
//! * A forerunner ([`Creation::Forerunner`]) is never inside the process id namespace that it joins.
//!
//! Descriptors of a new process, from 0 on: the three streams, those that the program keeps, the report
//! socket, the namespaces to join in the order of their steps, the socket that it is held at.

use std::ffi::{CStr, c_char, c_int};

use super::hold;
use super::identity;
use super::mounts;
use super::number;
use super::plan::{Checkpoint, Creation, Lifetime, MountSource, Plan, Step};
use super::raw::{self, Failure, Fd, HERE, invoke};
use super::report::Reporter;
use super::target::{self, PathBuffer, Root};
use super::terminal;
use crate::ns::Namespaces;

/// The first descriptor after the standard streams.
const AFTER_STREAMS: Fd = 3;

/// Number of the failing "step" when preparing failed, before the first one.
pub(super) const PREPARE: u32 = u32::MAX;

/// Number of the failing "step" when a forerunner has taken all steps, and the process could not be created or begin.
pub(super) const CREATE: u32 = PREPARE - 1;

/// How many scripts may name a script as interpreter; the kernel's limit.
const MAX_INTERPRETERS: usize = 5;

/// All that a new process reads. It stays unchanged until the process has executed its program or ended.
pub(super) struct Job {
    pub(super) plan: Plan,
    /// Where the kernel writes the number of the process that a forerunner creates ([`super::number`]).
    pub(super) number: *mut c_int,
    /// Descriptors that become 0, 1 and 2. `None` leaves them to a terminal. All descriptors here are above
    /// those that they become.
    pub(super) streams: Option<[Fd; 3]>,
    /// Descriptors that the program gets too, from 3 on.
    pub(super) kept: Vec<Fd>,
    /// Mounts that filesystems are made of, after those.
    pub(super) layers: Vec<Fd>,
    /// Our end of the report socket.
    pub(super) report: Fd,
    /// The namespaces that the plan's steps use, in their order.
    pub(super) joined: Vec<Fd>,
    /// A listening socket by which the execution of the program is ordered.
    pub(super) hold: Option<Fd>,
    /// Pointers to the arguments in the plan, and a null.
    pub(super) arguments: Vec<*const c_char>,
    /// Pointers to the environment in the plan, and a null.
    pub(super) environment: Vec<*const c_char>,
}

impl Job {
    /// The number of the report socket once descriptors are in order.
    fn report_number(&self) -> Fd {
        AFTER_STREAMS + (self.kept.len() + self.layers.len()) as Fd
    }

    fn hold_number(&self) -> Option<Fd> {
        self.hold.map(|_| self.report_number() + 1 + self.joined.len() as Fd)
    }

    /// How many descriptors a new process arranges; sources have to be above.
    pub(super) fn descriptors(streams_and_others: usize) -> Fd {
        AFTER_STREAMS + streams_and_others as Fd
    }

    fn tied(&self) -> bool {
        self.plan.lifetime == Lifetime::Ours
    }
}

/// Runs the job; does not return.
pub(super) fn run(job: &Job) -> ! {
    let mut reporter = Reporter(job.report);
    match prepare(job) {
        Ok(()) => reporter = Reporter(job.report_number()),
        Err(failure) => {
            reporter.failed(PREPARE, failure);
            raw::exit(1);
        }
    }
    let is_process = job.plan.creation != Creation::Forerunner;
    let root = Root { fd: -1, prefix: 0, reporter };
    let mut child = Child {
        root,
        scratch: -1,
        next_namespace: job.report_number() + 1,
        prepared: None,
        is_process,
        number: job.number,
    };
    for (number, step) in (0u32..).zip(&job.plan.steps) {
        if let Err(failure) = child.perform(number, step) {
            reporter.failed(number, failure);
            raw::exit(1);
        }
    }
    if let Err(failure) = finish(job, &child) {
        reporter.failed(CREATE, failure);
        raw::exit(1);
    }
    let (reporter, failure) = become_program(job, reporter);
    reporter.failed(job.plan.steps.len() as u32, failure);
    raw::exit(1)
}

/// Puts streams, descriptors, signals and session in order.
fn prepare(job: &Job) -> Result<(), Failure> {
    if job.tied() {
        die_with_parent()?;
    }
    if !job.number.is_null() {
        number::keep_to_ourselves(job.number)?;
    }
    for (from, to) in job.streams.into_iter().flatten().zip(0..) {
        raw::duplicate(from, to, 0)?;
    }
    let kept = job.kept.iter().map(|from| (from, 0));
    let layers = job.layers.iter().map(|from| (from, libc::O_CLOEXEC));
    for ((from, flags), to) in kept.chain(layers).zip(AFTER_STREAMS..) {
        raw::duplicate(*from, to, flags)?;
    }
    let ours = [job.report].into_iter().chain(job.joined.iter().copied()).chain(job.hold);
    let mut end = job.report_number();
    for from in ours {
        raw::duplicate(from, end, libc::O_CLOEXEC)?;
        end += 1;
    }
    // SAFETY: no pointers; setsid fails only for a group leader, which a new process is not.
    unsafe {
        invoke!(libc::SYS_close_range, end, u32::MAX, 0)?;
        invoke!(libc::SYS_umask, 0)?;
        invoke!(libc::SYS_setsid)?;
    }
    // Killed between our creation and the first line? Then nobody would ever end us.
    if job.tied() && Reporter(job.report_number()).is_alone() {
        raw::exit(1);
    }
    reset_signals()
}

/// Asks to be killed when the thread that made us ends, which is when our parent does. Changing the user
/// undoes this, so it is asked for again before the program is executed.
fn die_with_parent() -> Result<(), Failure> {
    raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map(drop)
}

/// Sets every signal's disposition to the default. Handlers must go before signals are unblocked: they
/// are our parent's code, on memory that we share.
fn reset_signals() -> Result<(), Failure> {
    // A zero kernel sigaction: default handler, no flags, no restorer, empty mask.
    let default = [0u64; 4];
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: the structure is live and at least as large as the kernel's; no old one is asked for.
            unsafe { invoke!(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize) }?;
        }
    }
    Ok(())
}

pub(super) struct Child {
    pub(super) root: Root,
    scratch: Fd,
    next_namespace: Fd,
    /// The next prepared mount: they take the numbers of the namespaces that they were made with.
    prepared: Option<Fd>,
    /// Not a forerunner, or not any more.
    is_process: bool,
    number: *mut c_int,
}

impl Child {
    /// What carries out steps that mount, and nothing else.
    pub(super) fn that_mounts(reporter: Reporter) -> Self {
        let root = Root { fd: -1, prefix: 0, reporter };
        Self {
            root,
            scratch: -1,
            next_namespace: -1,
            prepared: None,
            is_process: true,
            number: std::ptr::null_mut(),
        }
    }

    pub(super) fn perform(&mut self, number: u32, step: &Step) -> Result<(), Failure> {
        let root = &self.root;
        match step {
            Step::Join { kinds, .. } => self.join(*kinds),
            Step::Unshare(kinds) => {
                // SAFETY: no pointers.
                unsafe { invoke!(libc::SYS_unshare, kinds.clone_flags()) }.map(drop)
            }
            // Whoever joins the mounts now would begin in what is mounted over the root.
            Step::Checkpoint(Checkpoint::Mounts) => {
                self.detach_scratch()?;
                self.root.reporter.reached(number)
            }
            Step::MapIds { .. } | Step::Checkpoint(_) => root.reporter.reached(number),
            Step::CreateProcess => {
                create_process(self.number)?;
                self.is_process = true;
                Ok(())
            }
            Step::BecomeRoot => identity::become_root(),
            // Zero stands for the writer (`cgroups(7)`).
            Step::EnterGroup { file } => write_file(file, b"0"),
            Step::PrivateMounts { receive } => mounts::cut_off(*receive),
            Step::Scratch { entries } => {
                self.scratch = mounts::scratch(entries)?;
                Ok(())
            }
            Step::Root { at, source, attributes } => {
                let directory = mounts::root(at, source, *attributes)?;
                self.root.set(directory)
            }
            Step::PrepareMount { path, recursive, attributes, map } => {
                let slot = self.take_namespace();
                self.prepared.get_or_insert(slot);
                mounts::prepare(path, *recursive, *attributes, (slot, map.is_some()))
            }
            Step::TakeMount { .. } => {
                let mount = self.take_namespace();
                self.prepared.get_or_insert(mount);
                Ok(())
            }
            Step::Mount { target, kind, source, attributes } => {
                let prepared = match (source, &mut self.prepared) {
                    (MountSource::Prepared, Some(next)) => {
                        *next += 1;
                        *next - 1
                    }
                    _ => -1,
                };
                mounts::mount(&self.root, (self.scratch, prepared), (target, *kind), source, *attributes)
            }
            Step::Attributes { target, set, clear } => mounts::change(root, target, *set, *clear),
            Step::Propagation { target, kind, recursive } => {
                mounts::propagate(root, target, *kind, *recursive)
            }
            Step::Symlink { content, target } => mounts::symlink(root, content, target),
            Step::Mark { target, link } => {
                mounts::mark(root, target, link.as_deref());
                Ok(())
            }
            Step::Terminal { rows, columns, console } => {
                terminal::open(root, (*rows, *columns), *console)?;
                if self.is_process { terminal::take_control() } else { Ok(()) }
            }
            Step::Mask { target, file, directory } => {
                mounts::mask(root, self.scratch, target, file, directory)
            }
            Step::ReadOnly { target } => mounts::make_read_only(root, target),
            Step::ReadOnlyRoot => mounts::make_root_read_only(root),
            Step::Pivot => self.pivot(),
            Step::ChangeRoot { root } => mounts::change_root(root),
            Step::LoopbackUp => loopback_up(),
            Step::HostName(name) => {
                // SAFETY: the pointer and length are those of a live string.
                unsafe { invoke!(libc::SYS_sethostname, name.as_ptr(), name.count_bytes()) }.map(drop)
            }
            Step::DomainName(name) => {
                // SAFETY: the pointer and length are those of a live string.
                unsafe { invoke!(libc::SYS_setdomainname, name.as_ptr(), name.count_bytes()) }.map(drop)
            }
            Step::Sysctl { file, value } | Step::Attribute { file, value } => {
                write_file(file, value.to_bytes())
            }
            Step::WorkingDirectory { path, create } => enter_working_directory(path, *create),
            Step::Limit { resource, soft, hard } => identity::limit(*resource, *soft, *hard),
            Step::OwnStreams { streams, uid } => identity::own_streams(*streams, *uid),
            Step::BoundingSet { keep } => identity::bounding_set(*keep),
            Step::NoNewPrivileges => raw::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop),
            Step::Seccomp(filter) => identity::load_filter(filter),
            Step::Identity { uid, gid, groups } => identity::become_user(*uid, *gid, groups.as_deref()),
            Step::Capabilities(sets) => identity::set_capabilities(sets),
            Step::OwnKeyring => {
                identity::leave_session_keyring();
                Ok(())
            }
            Step::Umask(mask) => {
                // SAFETY: no pointers.
                unsafe { invoke!(libc::SYS_umask, *mask) }.map(drop)
            }
        }
    }

    fn pivot(&mut self) -> Result<(), Failure> {
        self.detach_scratch()?;
        mounts::pivot(&self.root)?;
        raw::close(std::mem::replace(&mut self.root.fd, -1));
        Ok(())
    }

    fn detach_scratch(&mut self) -> Result<(), Failure> {
        if self.scratch >= 0 {
            mounts::detach_scratch()?;
            raw::close(std::mem::replace(&mut self.scratch, -1));
        }
        Ok(())
    }

    /// The next of the namespaces that steps use.
    fn take_namespace(&mut self) -> Fd {
        let namespace = self.next_namespace;
        self.next_namespace += 1;
        namespace
    }

    /// Joins the next namespaces. A mount namespace brings its root along, in which targets are looked up then.
    fn join(&mut self, kinds: Namespaces) -> Result<(), Failure> {
        let source = self.take_namespace();
        // SAFETY: no pointers.
        unsafe { invoke!(libc::SYS_setns, source, kinds.clone_flags()) }?;
        raw::close(source);
        if kinds.contains(Namespaces::MOUNT) {
            let root = raw::open(HERE, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, 0)?;
            self.root.set(root)?;
        }
        Ok(())
    }
}

/// The end of a forerunner: creates the process, which begins where the forerunner has come to, and leaves its
/// `number` to the parent. Returns in the process only.
fn create_process(number: *mut c_int) -> Result<(), Failure> {
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    // Nobody may look into a copy of our memory, or reach our program through it.
    raw::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
    // SAFETY: without CLONE_VM the process gets a copy of this stack; the third argument is where a number may be
    // written.
    let created = unsafe { invoke!(libc::SYS_clone, flags, 0usize, number, 0usize, 0usize) };
    if created? != 0 {
        raw::exit(0);
    }
    // SAFETY: no pointers.
    unsafe { invoke!(libc::SYS_setsid) }.map(drop)
}

/// What is left to do when all steps are taken.
fn finish(job: &Job, child: &Child) -> Result<(), Failure> {
    if child.is_process {
        return Ok(());
    }
    create_process(child.number)?;
    if job.streams.is_none() { terminal::take_control() } else { Ok(()) }
}

/// Becomes the program; returns why it could not, and whom to tell.
fn become_program(job: &Job, reporter: Reporter) -> (Reporter, Failure) {
    match ready(job, reporter) {
        Ok(reporter) => (reporter, execute_first(job)),
        Err(failure) => (reporter, failure),
    }
}

/// The last moments: ties the process to the parent, waits for the order if there is to be one, and lets
/// signals in.
fn ready(job: &Job, mut reporter: Reporter) -> Result<Reporter, Failure> {
    if job.tied() {
        die_with_parent()?;
        if reporter.is_alone() {
            raw::exit(1);
        }
    }
    if let Some(socket) = job.hold_number() {
        raw::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
        find_program(job)?;
        reporter = hold::wait(reporter, socket)?;
    }
    let none = 0u64;
    // SAFETY: one live word behind the pointer, the size that the kernel expects.
    unsafe { invoke!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0usize, 8usize) }?;
    Ok(reporter)
}

/// Looks for the program without executing it, so that a missing one is known before the process is held.
fn find_program(job: &Job) -> Result<(), Failure> {
    let mut result = Failure { call: libc::SYS_execve as i32, errno: libc::ENOENT };
    for candidate in &job.plan.exec.candidates {
        match check_program(job, candidate).and_then(|()| check_executable(candidate)) {
            Ok(()) => return Ok(()),
            Err(Failure { errno: libc::ENOENT | libc::ENOTDIR, .. }) => {}
            Err(failure) => result.errno = failure.errno,
        }
    }
    Err(result)
}

fn check_executable(program: &CStr) -> Result<(), Failure> {
    let fd = raw::open(HERE, program, libc::O_PATH, 0, libc::RESOLVE_NO_MAGICLINKS)?;
    let mode = raw::mode_of(fd);
    raw::close(fd);
    if mode? & libc::S_IFMT != libc::S_IFREG {
        return Err(Failure { call: libc::SYS_execve as i32, errno: libc::EACCES });
    }
    // SAFETY: the path is a live string.
    unsafe { invoke!(libc::SYS_faccessat2, HERE, program, libc::X_OK, libc::AT_EACCESS) }.map(drop)
}

/// Tries the candidates as `execvp(3)` does: a missing one is skipped, and so is one without permission,
/// but that is remembered.
fn execute_first(job: &Job) -> Failure {
    let mut result = Failure { call: libc::SYS_execve as i32, errno: libc::ENOENT };
    for candidate in &job.plan.exec.candidates {
        let failure = match check_program(job, candidate) {
            Err(failure) => failure,
            // SAFETY: the path and both arrays are live; the arrays end in a null and point to live
            // strings of the plan.
            Ok(()) => match unsafe {
                invoke!(
                    libc::SYS_execve,
                    candidate.as_c_str(),
                    job.arguments.as_ptr(),
                    job.environment.as_ptr()
                )
            } {
                Err(failure) => failure,
                Ok(_) => result,
            },
        };
        match failure.errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => result = failure,
            _ => return failure,
        }
    }
    result
}

/// Refuses a program that is, or whose `#!` line names, something behind a jumping link of `/proc`.
fn check_program(job: &Job, program: &CStr) -> Result<(), Failure> {
    if job.plan.exec.trusted {
        return Ok(());
    }
    let mut path = PathBuffer::new(program.to_bytes())?;
    for _ in 0..MAX_INTERPRETERS {
        let no_jumps = libc::RESOLVE_NO_MAGICLINKS;
        raw::close(raw::open(HERE, path.as_c_str()?, libc::O_PATH, 0, no_jumps)?);
        // A FIFO must not block us; who may not read a program may still execute it.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let Ok(fd) = raw::open(HERE, path.as_c_str()?, flags, 0, no_jumps) else { return Ok(()) };
        let mut start = [0u8; 256];
        // SAFETY: the pointer and length are those of a live buffer.
        let read = unsafe { invoke!(libc::SYS_read, fd, start.as_mut_ptr(), start.len()) };
        raw::close(fd);
        let Some(interpreter) = interpreter_of(start.get(..read.unwrap_or(0)).unwrap_or(&[])) else {
            return Ok(());
        };
        path = PathBuffer::new(interpreter)?;
    }
    Ok(())
}

/// The interpreter that the first line of a script names (`execve(2)`).
fn interpreter_of(start: &[u8]) -> Option<&[u8]> {
    let line = start.strip_prefix(b"#!")?.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())
}

fn enter_working_directory(path: &CStr, create: bool) -> Result<(), Failure> {
    match mounts::change_directory(path) {
        Err(Failure { errno: libc::ENOENT, .. }) if create => {
            create_directories(path)?;
            mounts::change_directory(path)?;
        }
        other => other?,
    }
    // Outside the root the kernel's answer starts with "(unreachable)".
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    match target::current_path(&mut buffer)?.first() {
        Some(b'/') => Ok(()),
        _ => Err(Failure { call: libc::SYS_chdir as i32, errno: libc::EXDEV }),
    }
}

fn create_directories(path: &CStr) -> Result<(), Failure> {
    let mut buffer = PathBuffer::new(path.to_bytes())?;
    let mut end = 0;
    while end < buffer.length() {
        end = buffer.component_end(buffer.skip_slashes(end));
        let made = buffer.with_end(end, |prefix| {
            // SAFETY: the path is a live string.
            unsafe { invoke!(libc::SYS_mkdirat, HERE, prefix, 0o755) }
        })?;
        match made {
            Ok(_) | Err(Failure { errno: libc::EEXIST, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Writes to a file of the kernel.
fn write_file(file: &CStr, content: &[u8]) -> Result<(), Failure> {
    let fd = raw::open(HERE, file, libc::O_WRONLY, 0, 0)?;
    let written = raw::write_all(fd, content);
    raw::close(fd);
    written
}

/// Sets the `IFF_UP` flag of `lo` (`netdevice(7)`).
fn loopback_up() -> Result<(), Failure> {
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = InterfaceRequest { name: [0; 16], flags: libc::IFF_UP as i16, rest: [0; 22] };
    if let Some(name) = request.name.first_chunk_mut() {
        *name = *b"lo";
    }
    // SAFETY: the request is live and has the size and layout of the kernel's `struct ifreq`.
    unsafe {
        let socket =
            invoke!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)? as Fd;
        let result = invoke!(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, &raw const request);
        raw::close(socket);
        result.map(drop)
    }
}

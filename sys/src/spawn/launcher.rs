//! The thread that creates processes, and the keeper that ends them with us.
//!
//! **One thread.** The kernel's "kill me when my parent dies" is tied to the *thread* that created a
//! process. So all processes of a kind are created by one thread that lives as long as we do; callers may come from
//! any thread and end when they like. Creating takes microseconds, and the thread does not wait for the
//! new process's steps, so starts run in parallel.
//!
//! **The keeper.** A program that executes a setuid binary, or simply asks, is no longer killed with its
//! parent. Process id namespaces have no such gap: when the first process of one dies, the kernel kills
//! all others in it and in those nested below. So the launcher first creates the *keeper*, a process that
//! sleeps as the first one of its own namespace and does die with us, for it never executes anything; all
//! containers are nested below it. If we are killed, the keeper is, and every container is.
//!
//! A process that is to outlive us, or that shares our process id namespace, has no keeper. The first goes its
//! own way; of the second the kernel ends only the first process with us.
//!
//! **The middleman.** Only a process inside a namespace can nest another one in it (`pid_namespaces(7)`).
//! For every container the launcher puts a short-lived process into the keeper's namespace, which creates
//! the container's process as *our* child (`CLONE_PARENT`) and ends; the launcher stands still meanwhile
//! (`CLONE_VFORK`). This costs some ten microseconds.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::child::{self, Job};
use super::maps;
use super::number;
use super::plan::{Creation, IdMap, Lifetime, Plan};
use super::raw::{self, Fd, invoke};
use super::report::Reporter;
use crate::ns::{Namespaces, PidFd};

/// Bytes of stack of a new process: a few path buffers deep. Only what is touched takes memory.
const STACK: usize = 256 << 10;

/// Shares our memory until the program is executed, so no page tables are copied however large we are,
/// and returns a process file descriptor. Nobody is signalled when it ends: it is waited for by descriptor.
const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_PIDFD;

/// A copy of our memory.
const COPY_FLAGS: c_int = libc::CLONE_PIDFD;

/// Memory that a new process runs on.
pub(super) struct Stack(Vec<u128>);

impl Stack {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(STACK / size_of::<u128>()))
    }

    /// One past its highest address; stacks grow down.
    fn top(&mut self) -> *mut c_void {
        self.0.spare_capacity_mut().as_mut_ptr_range().end.cast()
    }
}

/// What kind of process is created.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The first of a process id namespace below the keeper's.
    Kept,
    /// One in our own process id namespace, or the first of a namespace that outlives us.
    Free,
}

impl Kind {
    fn of(plan: &Plan) -> Self {
        match (plan.creation, plan.lifetime) {
            // A forerunner is in our own process id namespace.
            (Creation::Direct | Creation::Copy, Lifetime::Ours)
                if plan.namespaces.contains(Namespaces::PID) =>
            {
                Self::Kept
            }
            _ => Self::Free,
        }
    }
}

/// Asks the launcher for a process. Both pointers stay valid until the process has executed its program
/// or ended; whoever asks sees to that.
struct Request {
    kind: Kind,
    creation: Creation,
    /// Of `clone(2)`.
    flags: c_int,
    stack_top: *mut c_void,
    job: *const Job,
    reply: Sender<io::Result<PidFd>>,
}

// SAFETY: the pointers are only passed on to the new process, for which the asker keeps their targets
// alive and unchanged; `Job` itself is only read.
unsafe impl Send for Request {}

/// Creates a process that runs `job` on `stack`.
///
/// # Safety
/// `job` and `stack` must stay alive, in place and unused until the new process has executed its program
/// or ended.
pub(super) unsafe fn create(job: &Job, stack: &mut Stack) -> io::Result<PidFd> {
    let (reply, answer) = channel();
    let (kind, creation) = (Kind::of(&job.plan), job.plan.creation);
    let memory = if creation == Creation::Direct { FLAGS } else { COPY_FLAGS };
    let flags = memory | job.plan.namespaces.clone_flags();
    let request = Request { kind, creation, flags, stack_top: stack.top(), job, reply };
    let gone = || io::Error::other("the launcher thread has ended");
    launcher(kind)?.send(request).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// The thread that creates processes of a kind. Those below the keeper have one of their own: it cannot have children in
/// our own process id namespace again where that belongs to another user namespace than ours.
fn launcher(kind: Kind) -> io::Result<&'static Sender<Request>> {
    static KEPT: OnceLock<Result<Sender<Request>, i32>> = OnceLock::new();
    static OTHERS: OnceLock<Result<Sender<Request>, i32>> = OnceLock::new();
    let launcher = if kind == Kind::Kept { &KEPT } else { &OTHERS };
    let start = || {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("lap-launch".to_owned());
        match thread.spawn(move || serve(&receiver)) {
            Ok(_) => Ok(sender),
            Err(error) => Err(error.raw_os_error().unwrap_or(libc::EAGAIN)),
        }
    };
    launcher.get_or_init(start).as_ref().map_err(|errno| io::Error::from_raw_os_error(*errno))
}

fn serve(requests: &Receiver<Request>) {
    block_signals();
    let mut launcher = Launcher { keeper: None, children_in_keeper: false, stack: Stack::new() };
    for request in requests {
        let created = launcher.create(&request);
        // The asker waits for this answer, so it is there to get it.
        let _ = request.reply.send(created);
    }
}

/// What the launcher thread remembers.
struct Launcher {
    keeper: Option<PidFd>,
    /// Whether the processes that this thread creates are put into the keeper's namespace.
    children_in_keeper: bool,
    /// The middleman's.
    stack: Stack,
}

impl Launcher {
    fn create(&mut self, request: &Request) -> io::Result<PidFd> {
        match request.kind {
            Kind::Kept => self.enter_keeper()?,
            Kind::Free => self.leave_keeper()?,
        }
        let mut create = || match request.kind {
            Kind::Kept => create_nested(request, &mut self.stack),
            Kind::Free => create_free(request),
        };
        match request.creation {
            Creation::Direct => create(),
            Creation::Copy => number::unshared(create),
            // SAFETY: the asker keeps the job alive and does not change it.
            Creation::Forerunner => number::shared(unsafe { (*request.job).number }, create),
        }
    }

    fn enter_keeper(&mut self) -> io::Result<()> {
        // Somebody may have killed the keeper; its containers are dead then, new ones need a new one.
        if self.keeper.as_ref().is_some_and(|keeper| !matches!(keeper.try_wait(), Ok(None))) {
            self.keeper = None;
        }
        match &self.keeper {
            Some(_) if self.children_in_keeper => {}
            Some(keeper) => move_children_into(keeper.as_fd())?,
            None => {
                self.leave_keeper()?;
                let keeper = start_keeper()?;
                move_children_into(keeper.as_fd())?;
                self.keeper = Some(keeper);
            }
        }
        self.children_in_keeper = true;
        Ok(())
    }

    /// Has children in our own process id namespace again.
    fn leave_keeper(&mut self) -> io::Result<()> {
        if self.children_in_keeper {
            let own = File::open("/proc/thread-self/ns/pid")?;
            rustix::thread::move_into_link_name_space(
                own.as_fd(),
                Some(rustix::thread::LinkNameSpaceType::ProcessID),
            )?;
            self.children_in_keeper = false;
        }
        Ok(())
    }
}

/// Makes the namespace of `keeper` the one that this thread's children are put into.
fn move_children_into(keeper: BorrowedFd<'_>) -> io::Result<()> {
    let kind = rustix::thread::ThreadNameSpaceType::PROCESS_ID;
    Ok(rustix::thread::move_into_thread_name_spaces(keeper, kind)?)
}

/// Blocks all signals on this thread. New processes start that way and run no handler of ours.
fn block_signals() {
    // SAFETY: both calls get a pointer to a live set; the old mask is not asked for.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// What the middleman does, and where it leaves the outcome.
struct Order {
    flags: c_int,
    stack_top: *mut c_void,
    job: *const Job,
    /// Zero, or why the process was not created.
    errno: c_int,
    /// The new process, in our table of descriptors.
    pidfd: Fd,
}

/// Creates the process of a request as a child of this thread.
fn create_free(request: &Request) -> io::Result<PidFd> {
    let Request { flags, stack_top, job, .. } = *request;
    // SAFETY: `start_child` makes only system calls; the asker keeps job and stack alive.
    unsafe { clone(start_child, stack_top, flags, job.cast_mut().cast()) }
}

/// Creates the process of a request below the keeper. `stack` is the middleman's.
fn create_nested(request: &Request, stack: &mut Stack) -> io::Result<PidFd> {
    let Request { flags, stack_top, job, .. } = *request;
    let mut order = Order { flags, stack_top, job, errno: 0, pidfd: -1 };
    // SAFETY: this thread stands still until the middleman has ended, so order and stack outlive it, and
    // nobody else uses this thread's `errno`. It shares our descriptors to leave one behind.
    let middleman = unsafe {
        let flags = FLAGS | libc::CLONE_VFORK | libc::CLONE_FILES;
        clone(mediate, stack.top(), flags, (&raw mut order).cast())
    }?;
    middleman.wait()?;
    match order {
        Order { errno: 0, pidfd: 0.., .. } => {
            // SAFETY: the kernel has just installed this descriptor for us.
            Ok(PidFd::new(unsafe { OwnedFd::from_raw_fd(order.pidfd) }))
        }
        Order { errno, .. } => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The middleman: creates the container's process as a sibling of its own.
extern "C" fn mediate(order: *mut c_void) -> c_int {
    // SAFETY: `create_nested` passed a pointer to an order that nobody else uses until we have ended. The
    // asker keeps job and stack alive for the new process.
    unsafe {
        let order = &mut *order.cast::<Order>();
        let flags = libc::CLONE_PARENT | order.flags;
        let job = order.job.cast_mut().cast();
        if libc::clone(start_child, order.stack_top, flags, job, &raw mut order.pidfd) < 0 {
            order.errno = *libc::__errno_location();
        }
    }
    raw::exit(0)
}

extern "C" fn start_child(job: *mut c_void) -> c_int {
    // SAFETY: `create` passed a pointer to a live job that nobody changes.
    child::run(unsafe { &*job.cast::<Job>() })
}

/// Calls `clone(2)`; `CLONE_PIDFD` is among the flags.
///
/// # Safety
/// `entry` must make only system calls, or have this thread stand still; `stack_top` and `argument` stay
/// valid for as long as it runs.
unsafe fn clone(
    entry: extern "C" fn(*mut c_void) -> c_int,
    stack_top: *mut c_void,
    flags: c_int,
    argument: *mut c_void,
) -> io::Result<PidFd> {
    let mut pidfd: Fd = -1;
    // SAFETY: as the caller promises; the kernel writes the descriptor through the last pointer before
    // the call returns.
    let pid = unsafe { libc::clone(entry, stack_top, flags, argument, &raw mut pidfd) };
    match pid {
        // SAFETY: the kernel has just installed this descriptor for us.
        0.. => Ok(PidFd::new(unsafe { OwnedFd::from_raw_fd(pidfd) })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The ends of a pipe by which a sleeper sees whether we live.
struct Lifeline {
    read: Fd,
    write: Fd,
}

/// A process that does nothing but be there. It ends with us at the latest.
struct Sleeper {
    process: PidFd,
    /// What it runs on and reads; its own for as long as it lives.
    memory: Box<(Stack, Lifeline)>,
    /// Kept open to the end of this process: its closing is the sign.
    read: OwnedFd,
}

impl Sleeper {
    /// Starts one in namespaces of its own.
    fn start(namespaces: c_int) -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let lifeline = Lifeline { read: read.as_raw_fd(), write: write.as_raw_fd() };
        let mut memory = Box::new((Stack::new(), lifeline));
        let (stack, lifeline) = &mut *memory;
        // SAFETY: `sleep` makes only system calls; stack and argument are owned by the value returned, which
        // frees them when the process has been waited for.
        let process = unsafe { clone(sleep, stack.top(), FLAGS | namespaces, (&raw mut *lifeline).cast()) }?;
        Ok(Self { process, memory, read })
    }

    /// Lets it live until we end.
    fn keep(self) -> PidFd {
        Box::leak(self.memory);
        std::mem::forget(self.read);
        self.process
    }

    fn end(self) -> io::Result<()> {
        let ended = self.process.signal(libc::SIGKILL).and_then(|()| self.process.wait());
        if ended.is_err() {
            Box::leak(self.memory);
        }
        ended.map(drop)
    }
}

/// Starts the keeper in a process id namespace of its own.
fn start_keeper() -> io::Result<PidFd> {
    Sleeper::start(libc::CLONE_NEWPID).map(Sleeper::keep)
}

/// Makes a user namespace with these maps in which nobody is.
pub(super) fn user_namespace(users: &[IdMap], groups: &[IdMap]) -> io::Result<OwnedFd> {
    let sleeper = Sleeper::start(libc::CLONE_NEWUSER)?;
    let made = maps::write(&sleeper.process, users, groups).and_then(|()| {
        let pid = sleeper.process.pid()?.unwrap_or_default();
        Ok(OwnedFd::from(File::open(format!("/proc/{pid}/ns/user"))?))
    });
    sleeper.end()?;
    made
}

/// A sleeper: arranges to die with us, lets go of everything, and sleeps.
extern "C" fn sleep(lifeline: *mut c_void) -> c_int {
    // SAFETY: `Sleeper::start` passed a pointer to a lifeline that outlives this process.
    let lifeline = unsafe { &*lifeline.cast::<Lifeline>() };
    let _ = raw::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0);
    raw::close(lifeline.read);
    // We may have died before the line above the last one.
    if Reporter(lifeline.write).is_alone() {
        raw::exit(1);
    }
    let _ = raw::prctl(libc::PR_SET_NAME, c"lap-keeper".as_ptr() as u64, 0);
    // SAFETY: strings are live. With all signals blocked, the last call returns only if the kernel is out
    // of memory, and then it is made again.
    unsafe {
        let _ = invoke!(libc::SYS_chdir, c"/");
        let _ = invoke!(libc::SYS_close_range, 0, u32::MAX, 0);
        loop {
            let _ = invoke!(libc::SYS_ppoll, 0usize, 0usize, 0usize, 0usize, 0usize);
        }
    }
}

//! A running container process: its streams, signals, and its end.
//!
//! A [`Process`] owns what it started: dropping it kills the container and collects it. All processes of
//! a container end with its first one, because the kernel ends a process id namespace with its first
//! process, so "the process ended" means that nothing of the container is left.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::Mount;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use sys::ns::{Ending, PidFd, Usage};
use sys::spawn::{Created, Descriptors, Launched, Plan, launch_with};

use crate::cgroup::{ControlGroup, DeviceList};
use crate::chroot::Chroot;
use crate::error::RunError;
use crate::isolation::Mode;
use crate::layers::Layers;
use crate::neighbour;
use crate::network::{self, Attachment};
use crate::plan::{self, Machine};
use crate::request::{ExtraMount, GroupPlace, MountKind, RunRequest, Sharing, Stdio, StreamTarget, TtySize};
use crate::spec::{self, Bundle};
use crate::stubs;

/// How a container's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
}

impl ExitStatus {
    /// The code that a shell gives: the exit code, or 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }

    /// Whether it exited with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// How a run ended, and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// How the first process ended.
    pub status: ExitStatus,
    /// What the container used: what its control group counted, and where it has none or that counts something not,
    /// what its first process and those that it collected used.
    pub usage: Usage,
    /// How many processes of the container the kernel has killed because its memory limit was reached.
    pub memory_kills: u64,
}

impl Finished {
    /// Whether the kernel killed a process of the container because its memory limit was reached.
    pub fn out_of_memory(&self) -> bool {
        self.memory_kills > 0
    }
}

/// A container's first process.
#[derive(Debug)]
pub struct Process {
    handle: Arc<PidFd>,
    streams: OurEnds,
    terminal: Option<OwnedFd>,
    /// Where mount targets were made that are to be removed.
    stubs: Option<(Mount, Vec<Created>)>,
    /// What is to be put right when it is isolated by its root directory alone.
    chroot: Option<Chroot>,
    group: Option<ControlGroup>,
    /// Whether other processes of the container may be left when the first one has ended.
    shares_pids: bool,
    network: Option<Attachment>,
    /// The packed ones of its layers, which others may share while it runs.
    layers: Layers,
    finished: Option<Finished>,
}

/// Our ends of the pipes to the standard streams.
#[derive(Debug, Default)]
struct OurEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Starts the process of a request. Returns when its program runs; a program that cannot be executed is
/// an error, and leaves nothing behind.
pub fn start(request: &RunRequest, stdio: Stdio) -> Result<Process, RunError> {
    let neighbours = neighbour::join(request)?;
    let request = neighbours.as_ref().map_or(request, |joined| &joined.request);
    match network::join(request)? {
        Some((network, joined)) => start_joined(&joined, stdio, Some(network)),
        None => start_joined(request, stdio, None),
    }
}

/// The same with a network that is connected already.
fn start_joined(
    request: &RunRequest,
    stdio: Stdio,
    network: Option<Attachment>,
) -> Result<Process, RunError> {
    let mut bundle = spec::build(request, stdio)?;
    bundle.layers = bundle.mount_layers(request).map_err(RunError::Layers)?.for_new_process();
    leave_memory_score(&mut bundle)?;
    let group = group(request, &bundle)?;
    if let (Some(group), true) = (&group, request.isolation != Mode::Chroot) {
        spec::groups::show(&mut bundle.spec, group);
    }
    let entrances: Vec<PathBuf> = group.iter().flat_map(ControlGroup::entrances).collect();
    let machine = Machine::within(group.as_ref());
    let (chroot, plan) = match request.isolation {
        Mode::Oci | Mode::Rootless => (None, plan::build(&bundle, machine, &entrances)?),
        Mode::Chroot => {
            let (chroot, plan) = Chroot::prepare(request, &bundle, machine, &entrances)?;
            (Some(chroot), plan)
        }
    };
    if request.transient_root {
        stubs::prepare(&request.root).map_err(RunError::CleanUp)?;
    }
    let (streams, theirs) = streams(stdio).map_err(supervise("make the standard streams"))?;
    let borrowed = theirs.as_ref().map(|theirs| theirs.each_ref().map(AsFd::as_fd));
    let layers = bundle.layers.descriptors();
    let descriptors = Descriptors { streams: borrowed, layers, ..Descriptors::default() };
    let launched = launch_with(plan, &descriptors, &mut |_, _| true);
    match launched {
        Ok(Launched { process, terminal, created }) => {
            let stubs = (!request.transient_root).then(|| (request.root.clone(), created));
            let handle = Arc::new(process);
            let shares_pids = request.pids != Sharing::Own;
            let mut process = Process {
                handle,
                streams,
                terminal,
                stubs,
                chroot,
                group,
                network,
                shares_pids,
                layers: bundle.layers.clone(),
                finished: None,
            };
            process.chroot.iter_mut().try_for_each(|chroot| chroot.watch(&process.handle))?;
            Ok(process)
        }
        Err(failed) => {
            stubs::clean_up(&request.root, &failed.created, &bundle.layers).map_err(RunError::CleanUp)?;
            chroot.map_or(Ok(()), Chroot::end)?;
            Err(RunError::of_launch(failed.error))
        }
    }
}

fn group(request: &RunRequest, bundle: &Bundle) -> Result<Option<ControlGroup>, RunError> {
    let Some(resources) = bundle.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) else {
        return Ok(None);
    };
    let inside = match &request.group {
        GroupPlace::WhereLimited => return Ok(ControlGroup::create(resources, device_list(request))?),
        GroupPlace::Everywhere => None,
        GroupPlace::Inside(location) => Some(location),
    };
    let group = ControlGroup::create_everywhere(inside, resources)?;
    Ok((!group.directories().is_empty()).then_some(group))
}

fn device_list(request: &RunRequest) -> DeviceList {
    // A mounted device needs no list to be used; only a list keeps it from being used in some other way.
    let is_limited = |mount: &ExtraMount| match mount.kind {
        MountKind::Device { access, .. } => !(access.read && access.write),
        _ => false,
    };
    match request.device_rules.is_empty() && !request.mounts.iter().any(is_limited) {
        true => DeviceList::Cheap,
        false => DeviceList::Needed,
    }
}

/// Takes the score that tells the kernel how gladly to kill out of a spec if it is ours, so that the process has it
/// anyway: setting it takes a slower start.
pub(crate) fn leave_memory_score(bundle: &mut Bundle) -> Result<(), RunError> {
    let Some(score) = bundle.spec.process().as_ref().and_then(|process| process.oom_score_adj()) else {
        return Ok(());
    };
    let ours = sys::probe::memory_score().map_err(supervise("look up the memory score"))?;
    if ours == score
        && let Some(mut process) = bundle.spec.process().clone()
    {
        process.set_oom_score_adj(None);
        bundle.spec.set_process(Some(process));
    }
    Ok(())
}

fn supervise(operation: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Supervise { operation, source }
}

/// Both ends of the standard streams: ours, and the container's unless it gets a terminal.
fn streams(stdio: Stdio) -> io::Result<(OurEnds, Option<[OwnedFd; 3]>)> {
    let Stdio::Streams { stdin, stdout, stderr } = stdio else { return Ok((OurEnds::default(), None)) };
    let (our_stdin, stdin) = input(stdin)?;
    let (our_stdout, stdout) = output(stdout, io::stdout().as_fd())?;
    let (our_stderr, stderr) = output(stderr, io::stderr().as_fd())?;
    let ours = OurEnds { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr };
    Ok((ours, Some([stdin, stdout, stderr])))
}

fn input(target: StreamTarget) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    match target {
        StreamTarget::Inherit => Ok((None, io::stdin().as_fd().try_clone_to_owned()?)),
        StreamTarget::Null => Ok((None, File::open("/dev/null")?.into())),
        StreamTarget::Piped => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok((Some(write), read))
        }
    }
}

fn output(target: StreamTarget, own: BorrowedFd<'_>) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    match target {
        StreamTarget::Inherit => Ok((None, own.try_clone_to_owned()?)),
        StreamTarget::Null => Ok((None, File::options().write(true).open("/dev/null")?.into())),
        StreamTarget::Piped => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok((Some(read), write))
        }
    }
}

impl Process {
    /// Runs a further process in this container, as `docker exec` does: in its namespaces and control groups.
    /// Of `request` only what concerns the process itself counts (command, environment, working directory,
    /// user, rights, limits of resources); the rest is the container's.
    ///
    /// It ends with the container, and dropping it ends it. The kernel lets the first process of a container
    /// end only when all others have been waited for, so this one has to be, too. A container that has ended is
    /// [`RunError::NotRunning`].
    pub fn exec(&self, request: &RunRequest, stdio: Stdio) -> Result<Process, RunError> {
        let plan = self.plan_further(request, stdio)?;
        let (streams, theirs) = streams(stdio).map_err(supervise("make the standard streams"))?;
        let descriptors = Descriptors {
            streams: theirs.as_ref().map(|theirs| theirs.each_ref().map(AsFd::as_fd)),
            target: Some(&self.handle),
            ..Descriptors::default()
        };
        match launch_with(plan, &descriptors, &mut |_, _| true) {
            Ok(Launched { process, terminal, .. }) => {
                let handle = Arc::new(process);
                Ok(Process {
                    handle,
                    streams,
                    terminal,
                    stubs: None,
                    chroot: None,
                    group: None,
                    shares_pids: false,
                    network: None,
                    layers: Layers::default(),
                    finished: None,
                })
            }
            Err(failed) if self.has_ended() => {
                drop(failed);
                Err(RunError::NotRunning)
            }
            Err(failed) => Err(RunError::of_launch(failed.error)),
        }
    }

    fn plan_further(&self, request: &RunRequest, stdio: Stdio) -> Result<Plan, RunError> {
        let pid = self.pid()?.ok_or(RunError::NotRunning)?;
        let bundle = spec::build(request, stdio)?;
        let entrances: Vec<PathBuf> = self.group.iter().flat_map(ControlGroup::entrances).collect();
        let machine = Machine::within(self.group.as_ref());
        if self.chroot.is_some() {
            return Ok(Chroot::further(request, &bundle, machine, &entrances)?);
        }
        let kinds = sys::ns::differing(pid).map_err(|error| match error.is_not_found() {
            true => RunError::NotRunning,
            false => RunError::Namespaces(error),
        })?;
        Ok(plan::join(&bundle, machine, &entrances, kinds)?)
    }

    /// Whether the first process has ended, which need not have been waited for.
    fn has_ended(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut ended = [PollFd::new(&self.handle, PollFlags::IN)];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ended, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Lets containers that are started later share the packed layers that are mounted for this one.
    pub(crate) fn share_layers(&self) {
        self.layers.tell();
    }

    /// The network that the container is connected to, if it is to one of ours.
    pub fn network(&self) -> Option<&Attachment> {
        self.network.as_ref()
    }

    /// The same, to be changed.
    pub fn network_mut(&mut self) -> Option<&mut Attachment> {
        self.network.as_mut()
    }

    /// The control group of the container, if it has one.
    pub fn group(&self) -> Option<&ControlGroup> {
        self.group.as_ref()
    }

    /// Its process id as this process sees it (inside the container it is 1); `None` once it has ended and
    /// been waited for.
    pub fn pid(&self) -> Result<Option<u32>, RunError> {
        self.handle.pid().map_err(supervise("look up the process id"))
    }

    /// A descriptor that is readable (`poll(2)`) once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The writing end of its standard input, once, if that is a pipe. Dropping it is the end of input.
    pub fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.streams.stdin.take()
    }

    /// The reading end of its standard output, once, if that is a pipe.
    pub fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.streams.stdout.take()
    }

    /// The reading end of its standard error, once, if that is a pipe.
    pub fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.streams.stderr.take()
    }

    /// The other end of its terminal, once, if it has one.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Sends a signal to the first process. The kernel drops signals for which that process has no handler,
    /// except SIGKILL, which ends the whole container.
    pub fn signal(&self, signal: i32) -> Result<(), RunError> {
        self.handle.signal(signal).map_err(supervise("signal the first process"))
    }

    /// Kills the container.
    pub fn kill(&self) -> Result<(), RunError> {
        self.signal(Signal::KILL.as_raw())
    }

    /// Something that kills the container from another thread, also when this value is borrowed.
    pub(crate) fn killer(&self) -> impl FnOnce() + Send + 'static {
        let handle = Arc::clone(&self.handle);
        // It can only fail for a process that does not exist any more, which is what was wanted.
        move || drop(handle.signal(Signal::KILL.as_raw()))
    }

    /// Waits for the end of the container and takes what mounting left out of its root filesystem.
    pub fn wait(&mut self) -> Result<Finished, RunError> {
        if let Some(finished) = self.finished {
            return Ok(finished);
        }
        let (ending, usage) = match self.handle.wait() {
            // With the first process of a container that has no process ids of its own, the others are killed and
            // collected.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => {
                (Ending::Signaled(Signal::KILL.as_raw()), Usage::default())
            }
            ended => ended.map_err(supervise("wait for the first process"))?,
        };
        self.finish(ending, usage)
    }

    /// Like [`wait`](Self::wait), but `None` while the container lives.
    pub fn try_wait(&mut self) -> Result<Option<Finished>, RunError> {
        if self.finished.is_some() {
            return Ok(self.finished);
        }
        match self.handle.try_wait().map_err(supervise("wait for the first process"))? {
            Some((ending, usage)) => self.finish(ending, usage).map(Some),
            None => Ok(None),
        }
    }

    fn finish(&mut self, ending: Ending, usage: Usage) -> Result<Finished, RunError> {
        let status = match ending {
            Ending::Exited(code) => ExitStatus::Exited(code),
            Ending::Signaled(signal) => ExitStatus::Signaled(signal),
        };
        let counted = self.group.as_ref().and_then(|group| group.statistics().ok());
        let usage = counted.map_or(usage, |counted| counted.refine(usage));
        let kills = self.group.as_ref().map_or(Ok(0), ControlGroup::memory_kills);
        let finished = Finished { status, usage, memory_kills: *kills.as_ref().unwrap_or(&0) };
        self.finished = Some(finished);
        self.chroot.take().map_or(Ok(()), Chroot::end)?;
        if let (true, Some(group)) = (self.shares_pids, &self.group) {
            // The kernel ends the rest only where the first process had process ids of its own.
            group.kill_all()?;
        }
        if let Some((root, created)) = self.stubs.take() {
            stubs::clean_up(&root, &created, &self.layers).map_err(RunError::CleanUp)?;
        }
        self.network.take().map_or(Ok(()), Attachment::disconnect)?;
        kills?;
        self.group.take().map_or(Ok(()), ControlGroup::remove)?;
        Ok(finished)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.finished.is_none() {
            // Nobody is left to tell of a failure; the kernel ends the container with us at the latest.
            let _ = self.kill().and_then(|()| self.wait());
        }
    }
}

/// Waits until the process that `pidfd` refers to has ended (`pidfd_open(2)`), or so long. Answers whether it has; it still has to
/// be waited for.
///
/// # Errors
/// The descriptor is none of a process.
pub fn wait_for_end(pidfd: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref()) {
            Err(Errno::INTR) => {}
            ended => return Ok(ended? > 0),
        }
    }
}

/// Tells a terminal its size.
pub fn resize(terminal: impl AsFd, size: TtySize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

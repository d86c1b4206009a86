//! From a bundle to a process that waits to be started, and from there to one that runs.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use base::time::Clock as _;
use oci_spec::runtime::{Hooks, Process, Spec};
use rustix::process::Signal;
use sys::clock::SystemClock;
use sys::fs::Durability;
use sys::ns::PidFd;
use sys::path_error::PathError;
use sys::spawn::{Checkpoint, Descriptors, Launched, Lifetime, launch_with};

use super::config::Config;
use super::error::OciError;
use super::hooks::{self, Place};
use super::record::{Record, Stat, Status};
use super::{Known, Runtime, absolute, console, process_of};
use crate::cgroup::ControlGroup;
use crate::error::RunError;
use crate::plan::{self, Machine};
use crate::request::{Stdio, StreamTarget, TtySize};

/// What `create` is given.
#[derive(Debug, Clone)]
pub struct CreateRequest<'a> {
    /// The container's name.
    pub id: &'a str,
    /// The directory with `config.json`.
    pub bundle: &'a Path,
    /// Where the terminal is handed over, if the container has one.
    pub console_socket: Option<&'a Path>,
    /// A file that gets the number of the first process.
    pub pid_file: Option<&'a Path>,
    /// Descriptors that the program gets from number 3 on.
    pub kept: Vec<BorrowedFd<'a>>,
    /// Whether we stay in the foreground, and take its terminal if it has one.
    pub stays: bool,
}

/// A container whose process waits.
#[derive(Debug)]
pub struct Created {
    /// Its first process, our child.
    pub process: PidFd,
    /// Its terminal, if it has one that nobody has taken.
    pub terminal: Option<OwnedFd>,
}

impl Created {
    /// Ends the process, which nobody else knows of.
    pub fn end(&self) -> Result<(), OciError> {
        let failed = |source| RunError::Supervise { operation: "end the process", source };
        self.process.signal(Signal::KILL.as_raw()).map_err(failed)?;
        self.process.wait().map_err(failed)?;
        Ok(())
    }
}

impl Runtime {
    /// Creates a container. Its process waits for [`start`](Self::start), also when we have ended.
    ///
    /// # Errors
    /// Nothing is left of a container that could not be created.
    pub fn create(&self, request: &CreateRequest<'_>) -> Result<Created, OciError> {
        let config = Config::read(&absolute(request.bundle)?)?;
        console::check(has_terminal(&config.spec), request.console_socket, request.stays)?;
        let directory = self.directory(request.id)?;
        sys::fs::create_dir_all(&self.root, 0o711)?;
        if let Err(error) = sys::fs::create_dir(&directory, 0o711) {
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => OciError::Exists { id: request.id.to_owned() },
                _ => error.into(),
            });
        }
        let created = self.create_in(&directory, request, &config);
        if created.is_err() {
            // The first error says more than what failing to clean up could add.
            let _ = remove_all(&directory);
        }
        created
    }

    fn create_in(
        &self,
        directory: &Path,
        request: &CreateRequest<'_>,
        config: &Config,
    ) -> Result<Created, OciError> {
        let linux = config.spec.linux().clone().unwrap_or_default();
        let resources = linux.resources().clone().unwrap_or_default();
        let group = ControlGroup::create_at(&config.location(request.id)?, &resources)?;
        let created = self.launch(directory, request, config, &group)?;
        let pid = created.process.pid().map_err(supervise)?.unwrap_or_default();
        let finished = record(request, config, &group, pid).and_then(|record| {
            record.write(directory)?;
            let terminal = created.terminal.as_ref();
            if let (Some(socket), Some(terminal)) = (request.console_socket, terminal) {
                console::hand_over(terminal, socket)?;
            }
            write_pid(request.pid_file, pid)
        });
        if let Err(error) = finished {
            // The first error says more.
            let _ = created.end();
            return Err(error);
        }
        group.leave();
        Ok(created)
    }

    fn launch(
        &self,
        directory: &Path,
        request: &CreateRequest<'_>,
        config: &Config,
        group: &ControlGroup,
    ) -> Result<Created, OciError> {
        let mut bundle = config.bundle(stdio(&config.spec));
        crate::process::leave_memory_score(&mut bundle)?;
        crate::spec::groups::show(&mut bundle.spec, group);
        let mut plan =
            plan::build(&bundle, Machine::within(Some(group)), &group.entrances().collect::<Vec<_>>())?;
        plan.lifetime = Lifetime::Independent;
        let hold = sys::spawn::socket_at(&directory.join("start"))?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let descriptors = Descriptors {
            streams: (!has_terminal(&config.spec)).then_some(streams),
            kept: request.kept.clone(),
            hold: Some(hold.as_fd()),
            ..Descriptors::default()
        };
        let mut failure = None;
        let mut at_checkpoint = |at: Checkpoint, process: &PidFd| {
            let done = run_create_hooks(at, process, request, config, group);
            done.map_err(|error| failure = Some(error)).is_ok()
        };
        match launch_with(plan, &descriptors, &mut at_checkpoint) {
            Ok(Launched { process, terminal, .. }) => Ok(Created { process, terminal }),
            Err(launch) => Err(failure.unwrap_or_else(|| RunError::of_launch(launch.error).into())),
        }
    }

    /// Starts the program of a created container.
    pub fn start(&self, id: &str) -> Result<(), OciError> {
        let Known { record, status } = self.look_up(id)?;
        if status != Status::Created {
            return Err(OciError::Status { id: id.to_owned(), status, operation: "started" });
        }
        let config = Config::read(&record.bundle)?;
        let hooks = config.spec.hooks().clone().unwrap_or_default();
        if let Some(process) = process_of(&record)? {
            let place = Place::Container(&process, record.pid);
            hooks::run("startContainer", hooks.start_container(), &record, Status::Created.name(), place)?;
        }
        let socket = self.hold_socket(id)?;
        let released = sys::spawn::release(&socket, program(&config.spec));
        sys::fs::remove_file(&socket)?;
        released.map_err(RunError::of_launch)?;
        let status = Status::Running.name();
        hooks::run("poststart", hooks.poststart(), &record, status, Place::Runtime)
    }

    /// Deletes a container that has ended, or was never started; with `force` one that runs, too.
    pub fn delete(&self, id: &str, force: bool) -> Result<(), OciError> {
        let directory = self.directory(id)?;
        let Known { record, status } = match self.look_up(id) {
            Err(OciError::Record { .. }) if force => return Ok(remove_all(&directory)?),
            known => known?,
        };
        if matches!(status, Status::Running | Status::Paused) && !force {
            return Err(OciError::Status { id: id.to_owned(), status, operation: "deleted without --force" });
        }
        self.end(&record)?;
        record.group().remove()?;
        remove_all(&directory)?;
        // The hooks of a bundle that has gone meanwhile cannot be run.
        let Ok(config) = Config::read(&record.bundle) else { return Ok(()) };
        let hooks = config.spec.hooks().clone().unwrap_or_default();
        let status = Status::Stopped.name();
        hooks::run("poststop", hooks.poststop(), &record, status, Place::Runtime)
    }
}

/// Hooks that are to be run before the container's root is its root.
fn run_create_hooks(
    at: Checkpoint,
    process: &PidFd,
    request: &CreateRequest<'_>,
    config: &Config,
    group: &ControlGroup,
) -> Result<(), OciError> {
    let hooks: Hooks = config.spec.hooks().clone().unwrap_or_default();
    let pid = process.pid().map_err(supervise)?.unwrap_or_default();
    let record = record(request, config, group, pid)?;
    let status = "creating";
    match at {
        Checkpoint::Namespaces => {
            hooks::run("prestart", plan::prestart(&hooks), &record, status, Place::Runtime)?;
            hooks::run("createRuntime", hooks.create_runtime(), &record, status, Place::Runtime)
        }
        Checkpoint::Mounts => {
            let place = Place::Container(process, pid);
            hooks::run("createContainer", hooks.create_container(), &record, status, place)
        }
    }
}

fn record(
    request: &CreateRequest<'_>,
    config: &Config,
    group: &ControlGroup,
    pid: u32,
) -> Result<Record, OciError> {
    let namespaces = config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let owns_processes = namespaces
        .into_iter()
        .flatten()
        .any(|one| one.typ() == oci_spec::runtime::LinuxNamespaceType::Pid && one.path().is_none());
    let annotations = config.spec.annotations().clone().unwrap_or_default();
    Ok(Record {
        id: request.id.to_owned(),
        bundle: config.bundle.clone(),
        rootfs: config.rootfs(),
        pid,
        process_started: Stat::of(pid)?.map_or(0, |stat| stat.started),
        created: SystemClock.now().to_string(),
        annotations: annotations.into_iter().collect(),
        group: group.directories().to_vec(),
        owns_processes,
    })
}

pub(super) fn has_terminal(spec: &Spec) -> bool {
    spec.process().as_ref().and_then(Process::terminal).unwrap_or(false)
}

/// The streams of a process: those that we have, or a terminal.
pub(super) fn stdio(spec: &Spec) -> Stdio {
    let inherit = StreamTarget::Inherit;
    if !has_terminal(spec) {
        return Stdio::Streams { stdin: inherit, stdout: inherit, stderr: inherit };
    }
    let size = spec.process().as_ref().and_then(Process::console_size);
    let number = |number: u64| u16::try_from(number).unwrap_or(0);
    let size = size.map(|size| TtySize { rows: number(size.height()), columns: number(size.width()) });
    // Whoever takes a terminal later tells its size later.
    let size = size.or_else(crate::interactive::own_size).unwrap_or(TtySize { rows: 0, columns: 0 });
    Stdio::Terminal(size)
}

/// The name of the program, for messages.
fn program(spec: &Spec) -> CString {
    let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
    let name = args.and_then(|args| args.first()).cloned().unwrap_or_default();
    CString::new(name).unwrap_or_default()
}

/// Writes a process id for the caller. It looks at the file as soon as it is there, so it is complete then.
pub(super) fn write_pid(file: Option<&Path>, pid: u32) -> Result<(), OciError> {
    let Some(file) = file else { return Ok(()) };
    let file: PathBuf = absolute(file)?;
    Ok(sys::fs::write_atomic(&file, pid.to_string().as_bytes(), 0o644, Durability::Cached)?)
}

pub(super) fn supervise(source: io::Error) -> OciError {
    RunError::Supervise { operation: "look up the process id", source }.into()
}

/// Removes a container's directory and what is in it, unless somebody else has done so meanwhile.
fn remove_all(directory: &Path) -> Result<(), PathError> {
    let names = match sys::fs::list(directory) {
        Err(error) if error.is_not_found() => return Ok(()),
        names => names?,
    };
    for name in names {
        sys::fs::remove_file(&directory.join(name))?;
    }
    sys::fs::remove_dir(directory).map(drop)
}

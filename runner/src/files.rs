//! The files of a container as its processes see them, volumes included: through the root directory of its first process
//! while that runs, else through mounts that only we see.
//!
//! The root is not ours: whatever a path leads to is looked up below its descriptor ([`RootDir`]), and the container
//! may change it at any moment.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use base::Mount;
use rustix::fs::{Mode as Permissions, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sys::path_error::{PathContext as _, PathError};
use sys::rootdir::RootDir;
use sys::spawn::PrivateRoot;

use crate::error::{RequestError, RunError};
use crate::isolation::Mode;
use crate::layers::Layers;
use crate::plan::{self, Machine};
use crate::process::Process;
use crate::request::{ExtraMount, MountKind, RunRequest, Stdio, StreamTarget};
use crate::shim::{Client, Request, ShimError};
use crate::{spec, stubs};

/// What messages call the root of a container.
const ROOT: &str = "/";

/// A process that is never started has none.
const NO_STREAMS: Stdio =
    Stdio::Streams { stdin: StreamTarget::Null, stdout: StreamTarget::Null, stderr: StreamTarget::Null };

/// The root of a container.
#[derive(Debug)]
pub struct Files {
    // Closed first, so that nothing below the root is open when it is unmounted.
    root: RootDir,
    mounted: Option<Mounted>,
}

/// What has to be put right in the end. Dropping it does that, too.
#[derive(Debug)]
struct Mounted {
    root: Option<PrivateRoot>,
    source: Mount,
    layers: Layers,
}

impl Files {
    /// The files of a container that runs, from its supervisor.
    ///
    /// # Errors
    /// It does not run any more, or its supervisor cannot be reached.
    pub fn of_running(client: &mut Client) -> Result<Self, ShimError> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(ShimError::system("make a pair of sockets"))?;
        client.ask_with(&Request::Files, &[theirs.as_fd()])?;
        drop(theirs);
        let root = Client::over(ours).receive_descriptor()?;
        Ok(Self { root: RootDir::of_open(root, ROOT), mounted: None })
    }

    /// The files of a container whose first process is ours; `None` once that has ended.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn of_process(process: &Process) -> Result<Option<Self>, RunError> {
        let Some(pid) = process.pid()? else { return Ok(None) };
        match root_of(pid) {
            Ok(root) => Ok(Some(Self { root: RootDir::of_open(root, ROOT), mounted: None })),
            // It ends just now.
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(RunError::Files(error)),
        }
    }

    /// The files of a container that does not run, and that nobody starts meanwhile. What was only in memory is not
    /// there, nor are files that the container gets when it starts.
    ///
    /// # Errors
    /// They cannot be mounted.
    pub fn of_stopped(request: &RunRequest) -> Result<Self, RunError> {
        if let (Mode::Chroot, Mount::Bind { source, .. }) = (request.isolation, &request.root) {
            let root = RootDir::open(source).map_err(RunError::Files)?;
            return Ok(Self { root, mounted: None });
        }
        let request = RunRequest { mounts: lasting(&request.mounts), ..request.clone() };
        let mut bundle = spec::build(&request, NO_STREAMS)?;
        bundle.layers = bundle.mount_layers(&request).map_err(RunError::Layers)?;
        let steps = plan::files(&bundle, Machine::this(), request.mounts.len())?;
        stubs::prepare(&request.root).map_err(RunError::CleanUp)?;
        match PrivateRoot::mount(steps) {
            Ok(mounted) => {
                let root = mounted.as_fd().try_clone_to_owned().at("open", Path::new(ROOT));
                let root = RootDir::of_open(root.map_err(RunError::Files)?, ROOT);
                let mounted = Mounted { root: Some(mounted), source: request.root, layers: bundle.layers };
                Ok(Self { root, mounted: Some(mounted) })
            }
            Err(failed) => {
                stubs::clean_up(&request.root, &failed.created, &bundle.layers).map_err(RunError::CleanUp)?;
                Err(RunError::of_launch(failed.error))
            }
        }
    }

    /// The root directory.
    pub fn root(&self) -> &RootDir {
        &self.root
    }

    /// Ends the use of the files, and takes away what only that needed.
    ///
    /// # Errors
    /// Mount targets cannot be removed.
    pub fn close(self) -> Result<(), RunError> {
        let Self { root, mounted } = self;
        drop(root);
        mounted.map_or(Ok(()), |mut mounted| mounted.end())
    }
}

impl Mounted {
    fn end(&mut self) -> Result<(), RunError> {
        let Some(root) = self.root.take() else { return Ok(()) };
        stubs::clean_up(&self.source, &root.unmount(), &self.layers).map_err(RunError::CleanUp)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure.
        let _ = self.end();
    }
}

/// Where something is mounted in a container while it runs: what is there in its root filesystem is only a target.
///
/// # Errors
/// The request makes no sense.
pub fn mounted_paths(request: &RunRequest) -> Result<Vec<PathBuf>, RequestError> {
    let bundle = spec::build(request, NO_STREAMS)?;
    let mounts = bundle.spec.mounts().iter().flatten().map(|mount| mount.destination().clone());
    let files = bundle.files.iter().map(|file| PathBuf::from(&file.destination));
    let devices = bundle.spec.linux().iter().flat_map(|linux| linux.devices().iter().flatten());
    let devices = devices.map(|device| device.path().clone());
    Ok(mounts.chain(files).chain(devices).collect())
}

/// What is there whether the container runs or not: volumes, and what it has of the host.
fn lasting(mounts: &[ExtraMount]) -> Vec<ExtraMount> {
    let lasting = |mount: &ExtraMount| {
        let kind = match &mount.kind {
            // Nobody mounts anything in it meanwhile.
            MountKind::Connected { source, read_only, .. } => {
                MountKind::Bind { source: source.clone(), read_only: *read_only, recursive: true }
            }
            MountKind::Filesystem { kind, .. } if kind == "tmpfs" => return None,
            kind @ (MountKind::Bind { .. } | MountKind::Part { .. } | MountKind::Filesystem { .. }) => {
                kind.clone()
            }
            MountKind::Device { .. } | MountKind::Tmpfs { .. } | MountKind::File { .. } => return None,
        };
        Some(ExtraMount { kind, ..mount.clone() })
    };
    mounts.iter().filter_map(lasting).collect()
}

/// The root directory of a process, as it sees it.
pub(crate) fn root_of(pid: u32) -> Result<OwnedFd, PathError> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Permissions::empty()).at("open", Path::new(&path))
}

//! Containers where the kernel grants neither namespaces nor mounts: another root directory, fewer rights, and
//! nothing else.
//!
//! What other containers get by mounts is put into the root filesystem itself for the life of the process, and
//! taken out again ([`loans`]). What cannot be given is refused by name. As processes are in no namespace of their
//! own, they are found and ended as descendants of ours; so there is one such container at a time in a process of
//! ours, and others wait.
//!
//! The process may not change its root directory again, nor make devices, whatever was asked for: with either right
//! it could leave.

mod loans;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use base::Mount;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use sys::ns::PidFd;

use self::loans::Loans;
use crate::error::{RequestError, RunError};
use crate::plan::{self, Machine};
use crate::request::{MountKind, Network, RunRequest, Sharing, Stdio};
use crate::spec::Bundle;

/// What has to be put right when the process has ended. Dropping it does that, too.
#[derive(Debug)]
pub(crate) struct Chroot {
    loans: Loans,
    /// Ends the other processes when the first one has ended, so that nobody holds its streams.
    watcher: Option<JoinHandle<io::Result<()>>>,
    _turn: Turn,
}

impl Chroot {
    /// Makes the root filesystem ready, and a plan. Waits for another such container to end.
    pub(crate) fn prepare(
        request: &RunRequest,
        bundle: &Bundle,
        machine: Machine,
        entrances: &[PathBuf],
    ) -> Result<(Self, sys::spawn::Plan), RunError> {
        let root = check(request, bundle.stdio)?;
        let plan = plan::chroot(bundle, root, machine, entrances)?;
        let turn = Turn::take();
        sys::strays::adopt().map_err(adopting)?;
        let mut chroot = Self { loans: Loans::of(root).map_err(RunError::Lend)?, watcher: None, _turn: turn };
        chroot.loans.lend(&bundle.files, machine.may_make_devices()).map_err(RunError::Lend)?;
        Ok((chroot, plan))
    }

    /// The plan of a further process in this container. It is ended with what the first one leaves behind.
    pub(crate) fn further(
        request: &RunRequest,
        bundle: &Bundle,
        machine: Machine,
        entrances: &[PathBuf],
    ) -> Result<sys::spawn::Plan, RequestError> {
        plan::chroot(bundle, check(request, bundle.stdio)?, machine, entrances)
    }

    /// Has what the first process leaves behind ended as soon as it has ended itself.
    pub(crate) fn watch(&mut self, first: &Arc<PidFd>) -> Result<(), RunError> {
        let first = Arc::clone(first);
        let watch = move || {
            while rustix::event::poll(&mut [PollFd::new(&*first, PollFlags::IN)], None) == Err(Errno::INTR) {}
            sys::strays::end()
        };
        let thread = std::thread::Builder::new().name("lap-chroot".to_owned()).spawn(watch);
        self.watcher = Some(thread.map_err(ending)?);
        Ok(())
    }

    /// Ends what the first process, which has ended, left behind and takes out of the root filesystem what was put into it.
    pub(crate) fn end(mut self) -> Result<(), RunError> {
        let ended = self.end_strays().map_err(ending);
        self.loans.take_back().map_err(RunError::CleanUp)?;
        ended
    }

    fn end_strays(&mut self) -> io::Result<()> {
        // A thread that panicked is a bug of ours, and the processes are to be ended all the same.
        self.watcher.take().and_then(|thread| thread.join().ok()).unwrap_or_else(sys::strays::end)
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure; a root filesystem that is not committed goes as a whole.
        let _ = self.end_strays();
        let _ = self.loans.take_back();
    }
}

fn adopting(source: io::Error) -> RunError {
    RunError::Supervise { operation: "adopt the processes", source }
}

fn ending(source: io::Error) -> RunError {
    RunError::Supervise { operation: "end the processes", source }
}

/// Refuses what needs a mount or a namespace; gives the root directory.
fn check(request: &RunRequest, stdio: Stdio) -> Result<&Path, RequestError> {
    let needs = |what: &str| Err(RequestError::NeedsMounts { what: what.to_owned() });
    let mount = request.mounts.iter().find(|mount| !matches!(mount.kind, MountKind::File { .. }));
    if let Some(mount) = mount {
        return needs(&format!("the mount at {}", mount.destination));
    }
    let refused = [
        (request.network != Network::Host, "a network other than the host's"),
        (matches!(request.pids, Sharing::Namespace(_)), "sharing the process ids of another container"),
        (matches!(request.ipc, Sharing::Namespace(_)), "sharing the memory of another container"),
        (request.privileged, "a privileged container"),
        (request.read_only_root, "a read-only root filesystem"),
        (!request.sysctls.is_empty(), "a kernel setting"),
        (request.domainname.is_some(), "a domain name"),
        (matches!(stdio, Stdio::Terminal(_)), "a terminal"),
    ];
    if let Some((_, what)) = refused.iter().find(|(asked, _)| *asked) {
        return needs(what);
    }
    match &request.root {
        Mount::Bind { source, read_only: false } => Ok(source),
        Mount::Bind { .. } | Mount::Overlay { .. } => {
            needs("a root filesystem of layers (storage driver overlay)")
        }
    }
}

/// The right to be the only one.
#[derive(Debug)]
struct Turn;

static TAKEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

impl Turn {
    fn take() -> Self {
        let (taken, given_back) = &TAKEN;
        let mut taken: MutexGuard<'_, bool> = taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            taken = given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (taken, given_back) = &TAKEN;
        *taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ExtraMount;

    fn request() -> RunRequest {
        let root = Mount::Bind { source: PathBuf::from("/root"), read_only: false };
        RunRequest { network: Network::Host, ..RunRequest::new(root, vec!["true".to_owned()]) }
    }

    #[test]
    fn what_needs_a_mount_or_a_namespace_is_refused_by_name() {
        assert_eq!(check(&request(), Stdio::CAPTURED).unwrap(), Path::new("/root"));
        let tmpfs = ExtraMount {
            destination: "/t".to_owned(),
            kind: MountKind::Tmpfs { size: None, mode: 0o1777, options: Vec::new() },
        };
        let overlay = Mount::Overlay { lower: vec![PathBuf::from("/1")], upper: None, userxattr: false };
        let cases: [(RunRequest, &str); 6] = [
            (RunRequest { mounts: vec![tmpfs], ..request() }, "the mount at /t"),
            (RunRequest { network: Network::None, ..request() }, "network"),
            (RunRequest { privileged: true, ..request() }, "privileged"),
            (RunRequest { read_only_root: true, ..request() }, "read-only"),
            (RunRequest { sysctls: vec![("a".to_owned(), "1".to_owned())], ..request() }, "kernel setting"),
            (RunRequest { root: overlay, ..request() }, "driver overlay"),
        ];
        for (request, said) in cases {
            let error = check(&request, Stdio::CAPTURED).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("chroot"), "{error}");
        }
    }
}

//! A root filesystem that is mounted for a thread and nobody else: to work on the files of a container that does not
//! run, volumes included.
//!
//! The mounts are in a mount namespace that only this thread is in. So the host's table never shows them, and the kernel
//! takes them away with the thread, whatever ends us. Others work with them by the root directory's descriptor: a walk
//! that begins there crosses mounts like any other.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::child::Child;
use super::plan::Step;
use super::raw::{self, Failure, invoke};
use super::report::{self, Created, Message, Reporter};
use super::{LaunchError, LaunchFailure, call_name};

/// A mounted root filesystem. Dropping it unmounts.
#[derive(Debug)]
pub struct PrivateRoot {
    root: Option<OwnedFd>,
    created: Vec<Created>,
    keeper: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl PrivateRoot {
    /// Carries out steps that mount: the first [`Step::PrivateMounts`], then a [`Step::Root`] and what belongs into it.
    ///
    /// # Errors
    /// The thread, its namespace or a mount cannot be had. Targets that were made until then come with the error.
    pub fn mount(steps: Vec<Step>) -> Result<Self, LaunchFailure> {
        let prepare = |operation| move |source: io::Error| LaunchError::Prepare { operation, source };
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|error| prepare("make a pair of sockets")(error.into()))?;
        let (ready, is_ready) = sync_channel(1);
        let (end, until) = sync_channel(1);
        let names: Vec<String> = steps.iter().map(Step::describe).collect();
        let keep = move || keep(&steps, theirs, &ready, &until);
        let keeper = std::thread::Builder::new().name("lap-files".to_owned()).spawn(keep);
        let keeper = keeper.map_err(prepare("start a thread"))?;
        let mut mounted = Self { root: None, created: Vec::new(), keeper: Some((end, keeper)) };
        let mut failed = None;
        while let Ok(Some(message)) = report::receive(&ours) {
            match message {
                Message::Created(created) => mounted.created.push(created),
                Message::Failed { step, failure } => failed = Some((step as usize, failure)),
                _ => {}
            }
        }
        match (is_ready.recv(), failed) {
            (Ok(Ok(root)), None) => {
                mounted.root = Some(root);
                Ok(mounted)
            }
            (_, Some((number, failure))) => {
                let source = io::Error::from_raw_os_error(failure.errno);
                let what = names.get(number).cloned().unwrap_or_default();
                let error = LaunchError::Step { number, what, call: call_name(failure.call), source };
                Err(LaunchFailure { error, created: mounted.unmount() })
            }
            (result, None) => {
                let lost = || io::Error::other("the thread panicked");
                let source = result.map_or_else(|_| lost(), |result| result.err().unwrap_or_else(lost));
                let error = prepare("make a mount namespace")(source);
                Err(LaunchFailure { error, created: mounted.unmount() })
            }
        }
    }

    /// Unmounts, and answers the mount targets that were made in the root filesystem. No descriptor below the root may be
    /// open any more, or the filesystem stays for as long as it is.
    pub fn unmount(mut self) -> Vec<Created> {
        self.end();
        std::mem::take(&mut self.created)
    }

    fn end(&mut self) {
        drop(self.root.take());
        if let Some((end, keeper)) = self.keeper.take() {
            drop(end);
            // A thread that panicked has ended, too.
            let _ = keeper.join();
        }
    }
}

impl AsFd for PrivateRoot {
    /// The root directory, open for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // It is missing only while this is being made or dropped.
        self.root.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd)
    }
}

impl Drop for PrivateRoot {
    fn drop(&mut self) {
        self.end();
    }
}

/// The life of the thread: mounts, hands the root over, and unmounts when `until` says so.
fn keep(steps: &[Step], reports: OwnedFd, ready: &SyncSender<io::Result<OwnedFd>>, until: &Receiver<()>) {
    let reporter = Reporter(reports.as_raw_fd());
    let mut child = Child::that_mounts(reporter);
    // The working directory and the umask are this thread's alone from here on.
    let alone = unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(io::Error::from);
    let root = alone.and_then(|()| {
        // SAFETY: no pointers.
        let _ = unsafe { invoke!(libc::SYS_umask, 0) };
        for (number, step) in (0u32..).zip(steps) {
            if let Err(failure) = child.perform(number, step) {
                reporter.failed(number, failure);
                return Err(io::Error::from_raw_os_error(failure.errno));
            }
        }
        raw::open(child.root.fd, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0, 0).map_err(of_failure)
    });
    // SAFETY: the descriptor has just been opened, and nobody else owns it.
    let _ = ready.send(root.map(|root| unsafe { OwnedFd::from_raw_fd(root) }));
    // The end of the reports is what the other side waits for.
    drop(reports);
    let _ = until.recv();
    if child.root.fd >= 0 {
        raw::close(child.root.fd);
    }
    unmount(steps);
}

/// Unmounts before the thread ends: the kernel does the rest of it later, and somebody may be about to mount the same.
fn unmount(steps: &[Step]) {
    let at = |step: &Step| match step {
        Step::Root { at, .. } => Some(at.clone()),
        _ => None,
    };
    let Some(at): Option<CString> = steps.iter().find_map(at) else { return };
    // SAFETY: the paths are live strings.
    unsafe {
        let _ = invoke!(libc::SYS_chdir, c"/");
        let _ = invoke!(libc::SYS_umount2, at.as_c_str(), libc::MNT_DETACH);
    }
}

fn of_failure(failure: Failure) -> io::Error {
    io::Error::from_raw_os_error(failure.errno)
}

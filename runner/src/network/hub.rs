//! The network namespace that holds an ordinary user's bridges.
//!
//! Such a user may not change the machine's interfaces, but may do everything in a network namespace of the user namespace
//! that all of that user's processes share ([`sys::userns`]). So there is one, the *hub*: bridges, cables and rules are
//! made there exactly as root makes them on the machine, and one program leads packets out ([`super::user_mode`]).
//!
//! ```text
//! hub/lock         held while somebody enters the hub or makes it
//! hub/users        held shared by everybody who has the hub open; the keeper waits to have it alone
//! hub/keeper       the keeper's note, locked by it
//! hub/members/PID  the note of a process with containers in the hub, locked by it
//! ```
//!
//! The [`keeper`] is a process that has the hub and the program, and ends with the last user. If it is killed the hub is
//! still there, since every user has it open: the next one that enters starts another keeper, which takes the hub over.
//! Sockets that others connect to are the machine's, and so are those by which names are asked for.

pub(super) mod keeper;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use sys::lock::{FileLock, LockMode};
use sys::path_error::PathContext as _;

use super::error::NetworkError;

/// No note is longer, in bytes.
const LONGEST: u64 = 64 << 10;

/// Where a process has the hub open.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    pid: u32,
    descriptor: i32,
    /// The number of its user namespace.
    users: u64,
    /// Of the keeper: why nothing leads out of the hub, if so.
    #[serde(default)]
    closed: Option<String>,
}

impl Note {
    /// Writes where this process has the hub open.
    fn write(lock: &FileLock, hub: &OwnedFd, closed: Option<String>) -> Result<(), NetworkError> {
        let descriptor = hub.as_fd().as_raw_fd();
        let note = Self { pid: std::process::id(), descriptor, users: sys::userns::number(), closed };
        let text = serde_json::to_string(&note)
            .map_err(|source| NetworkError::Record { path: lock.path().to_owned(), source })?;
        Ok(lock.write_note(&text)?)
    }

    /// Opens the hub of the process that holds `path` locked; `None` if nobody does.
    fn follow(path: &Path) -> Result<Option<(OwnedFd, Self)>, NetworkError> {
        if !FileLock::is_held(path)? {
            return Ok(None);
        }
        let bytes = sys::fs::read_limited(path, LONGEST)?.unwrap_or_default();
        let note: Self = serde_json::from_slice(&bytes)
            .map_err(|source| NetworkError::Record { path: path.to_owned(), source })?;
        if note.users != sys::userns::number() {
            return Err(NetworkError::OtherUsers);
        }
        let link = PathBuf::from(format!("/proc/{}/fd/{}", note.pid, note.descriptor));
        let opened = File::open(&link).at("open", &link);
        // A process number in a file proves nothing. If the lock is still held, it was its.
        match FileLock::is_held(path)? {
            true => Ok(Some((opened?.into(), note))),
            false => Ok(None),
        }
    }
}

/// The hub, which is there at least as long as this is.
#[derive(Debug)]
pub(super) struct Hub {
    namespace: OwnedFd,
    closed: Option<String>,
    _member: Option<FileLock>,
    _users: FileLock,
}

/// Where the files about the hub are.
fn directory(runtime: &Path) -> PathBuf {
    runtime.join("hub")
}

impl Hub {
    /// Enters the hub, which is made if it is not there.
    pub(super) fn enter(runtime: &Path) -> Result<Self, NetworkError> {
        let directory = directory(runtime);
        let members = directory.join("members");
        sys::fs::create_dir_all(&members, 0o700)?;
        let changing = FileLock::acquire(&directory.join("lock"), LockMode::Exclusive)?;
        // A keeper that is about to end is waited for.
        let users = FileLock::acquire(&directory.join("users"), LockMode::Shared)?;
        let (namespace, note) = match Note::follow(&directory.join("keeper"))? {
            Some(found) => found,
            None => keeper::start(runtime, changing)?,
        };
        // A process with several containers in the hub is written down once.
        let member = members.join(std::process::id().to_string());
        let member = FileLock::try_acquire(&member, LockMode::Exclusive)?;
        if let Some(member) = &member {
            Note::write(member, &namespace, None)?;
        }
        Ok(Self { namespace, closed: note.closed, _member: member, _users: users })
    }

    /// The hub, if it is there.
    pub(super) fn find(runtime: &Path) -> Result<Option<Self>, NetworkError> {
        let directory = directory(runtime);
        if !sys::fs::exists(&directory)? {
            return Ok(None);
        }
        let _changing = FileLock::acquire(&directory.join("lock"), LockMode::Exclusive)?;
        let users = FileLock::acquire(&directory.join("users"), LockMode::Shared)?;
        let found = match Note::follow(&directory.join("keeper")) {
            // It is nothing of ours then.
            Err(NetworkError::OtherUsers) => None,
            found => found?,
        };
        Ok(found.map(|(namespace, _)| Self { namespace, closed: None, _member: None, _users: users }))
    }

    /// Refuses a network that leads out where nothing leads out of the hub.
    pub(super) fn check_way_out(&self) -> Result<(), NetworkError> {
        match &self.closed {
            Some(why) => Err(NetworkError::NoWayOut { why: why.clone() }),
            None => Ok(()),
        }
    }
}

/// Does something inside a network namespace, on a thread that ends.
pub(super) fn inside<T: Send>(
    namespace: &OwnedFd,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    let failed = |source| NetworkError::Namespace { operation: "enter", source };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("lap-hub".to_owned());
        let entered = thread.spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| failed(errno.into()))?;
            work()
        });
        let panicked = |_| Err(failed(io::Error::other("its thread panicked")));
        entered.map_err(failed)?.join().unwrap_or_else(panicked)
    })
}

/// Where bridges are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the network namespace of this process, whose interfaces it may change.
    Here,
    /// In the user's hub.
    Hub(Arc<Hub>),
}

impl Place {
    /// Where bridges of a runtime directory are, if there can be any at the moment: an ordinary user's hub may not be there.
    pub(super) fn find(runtime: &Path) -> Result<Option<Self>, NetworkError> {
        match super::may_administer_networks()? {
            true => Ok(Some(Self::Here)),
            false => Ok(Hub::find(runtime)?.map(|hub| Self::Hub(Arc::new(hub)))),
        }
    }

    /// The same; the hub is made if it is not there.
    pub(super) fn enter(runtime: &Path) -> Result<Self, NetworkError> {
        match super::may_administer_networks()? {
            true => Ok(Self::Here),
            false => Ok(Self::Hub(Arc::new(Hub::enter(runtime)?))),
        }
    }

    /// Whether it is a hub.
    pub(super) fn is_hub(&self) -> bool {
        matches!(self, Self::Hub(_))
    }

    /// Refuses a network that leads out where nothing does.
    pub(super) fn check_way_out(&self) -> Result<(), NetworkError> {
        match self {
            Self::Here => Ok(()),
            Self::Hub(hub) => hub.check_way_out(),
        }
    }

    /// Does something there.
    pub(super) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, NetworkError> + Send,
    ) -> Result<T, NetworkError> {
        match self {
            Self::Here => work(),
            Self::Hub(hub) => inside(&hub.namespace, work),
        }
    }
}

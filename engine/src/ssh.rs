//! The caller's ssh agent for a step: a socket that speaks to it, and lets through only what a step may ask.
//!
//! A step may list keys and have something signed. It may not add, remove or lock keys, and it never sees
//! the agent's own socket, which would judge the step's user. Source: draft-ietf-sshm-ssh-agent, "SSH Agent
//! Protocol".

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use base::CancelToken;
use snapshotter::{Lease, ScratchDir, Store};
use sys::path_error::PathError;
use sys::rootdir::RootDir;

use self::keys::KeyAgent;
use crate::caller::{AgentWay, Caller};
use crate::error::EngineError;
use crate::request::SshSource;

/// The name of the socket in its directory.
const SOCKET: &str = "agent";
/// A message is never longer, in bytes; OpenSSH has the same limit.
const LONGEST_MESSAGE: u32 = 256 * 1024;
/// `SSH_AGENTC_REQUEST_IDENTITIES`
const LIST_KEYS: u8 = 11;
/// `SSH_AGENTC_SIGN_REQUEST`
const SIGN: u8 = 13;
/// An answer that only says `SSH_AGENT_FAILURE`.
const REFUSED: [u8; 5] = [0, 0, 0, 1, 5];

mod keys;

/// A socket for one step. It is gone when this is dropped.
pub(crate) struct Agent {
    socket: PathBuf,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// Holds the socket.
    _directory: ScratchDir,
    /// The agent behind it, if it is ours.
    _keys: Option<KeyAgent>,
}

/// What all threads of one socket know.
struct Shared {
    upstream: Upstream,
    stopped: AtomicBool,
    /// Every open connection, to be shut down at the end.
    connections: Mutex<Vec<UnixStream>>,
}

/// What is behind a socket.
enum Upstream {
    Socket(PathBuf),
    /// An agent of somebody who is asked for connections to it, by id.
    Caller(Arc<dyn Caller>, String),
}

impl Upstream {
    fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Socket(path) => UnixStream::connect(path),
            Self::Caller(caller, id) => caller.agent(id).map_err(io::Error::other),
        }
    }
}

impl Agent {
    /// Opens a socket that leads to the agent that `way` says.
    ///
    /// # Errors
    /// The agent cannot be reached, a key cannot be used, or the socket cannot be made.
    pub(crate) fn start(
        store: &Store,
        lease: &Lease,
        way: &AgentWay,
        mode: u32,
        owner: (u32, u32),
        cancel: &CancelToken,
    ) -> Result<Self, EngineError> {
        let (upstream, keys) = match way {
            AgentWay::Asked(caller, id) => (Upstream::Caller(Arc::clone(caller), id.clone()), None),
            AgentWay::Given(SshSource::Agent(socket)) => (Upstream::Socket(socket.clone()), None),
            AgentWay::Given(SshSource::Keys(files)) => {
                let keys = KeyAgent::start(store, lease, files, cancel)?;
                (Upstream::Socket(keys.socket().to_owned()), Some(keys))
            }
        };
        let directory = store.scratch(lease)?;
        let failed =
            |operation, path: &Path, source| EngineError::from(PathError::new(operation, path, source));
        if let Upstream::Socket(path) = &upstream {
            UnixStream::connect(path).map_err(|error| failed("connect to the ssh agent", path, error))?;
        }
        let socket = directory.path().join(SOCKET);
        let listener = bind(directory.path()).map_err(|error| failed("listen at", &socket, error))?;
        own(&socket, owner, mode)?;
        let (stopped, connections) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { upstream, stopped, connections });
        let of_thread = shared.clone();
        let acceptor = thread("ssh-agent", move || accept(&listener, &of_thread))
            .map_err(|source| EngineError::Threads { source })?;
        Ok(Self { socket, shared, acceptor: Some(acceptor), _directory: directory, _keys: keys })
    }

    /// Where the socket is on this machine.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees that it is over.
        let woken = connect(&self.socket).is_ok();
        for connection in self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
    }
}

fn own(socket: &Path, (uid, gid): (u32, u32), mode: u32) -> Result<(), PathError> {
    let directory = RootDir::open(socket.parent().unwrap_or(Path::new("/")))?;
    directory.set_owner(SOCKET, uid, gid)?;
    directory.set_mode(SOCKET, mode)
}

/// Listens in a directory whose path may be longer than the address of a socket.
fn bind(directory: &Path) -> io::Result<UnixListener> {
    let directory = std::fs::File::open(directory)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let directory = std::fs::File::open(socket.parent().unwrap_or(Path::new("/")))?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while let Ok((client, _)) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        let shared = shared.clone();
        // A step that is cut off, or finds no thread to serve it, sees its connection end, as with any agent.
        threads.extend(thread("ssh-agent-client", move || {
            let _ = serve(client, &shared);
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Hands requests on and answers back until one side ends.
fn serve(mut client: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut agent = shared.upstream.connect()?;
    {
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push(client.try_clone()?);
        connections.push(agent.try_clone()?);
    }
    if shared.stopped.load(Ordering::SeqCst) {
        return Ok(());
    }
    while let Some(request) = message(&mut client)? {
        if matches!(request.get(4), Some(&(LIST_KEYS | SIGN))) {
            agent.write_all(&request)?;
            let Some(answer) = message(&mut agent)? else { break };
            client.write_all(&answer)?;
        } else {
            client.write_all(&REFUSED)?;
        }
    }
    Ok(())
}

/// The next message with its length in front; `None` at the end.
fn message(from: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let size = u32::from_be_bytes(length);
    if size == 0 || size > LONGEST_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; 4 + size as usize];
    message[..4].copy_from_slice(&length);
    from.read_exact(&mut message[4..])?;
    Ok(Some(message))
}

//! An agent that holds the keys of files for one step: OpenSSH's own, started for it and ended with it.
//!
//! So every kind of key that the user's ssh can read works, and no key is ever read here.

use std::ffi::OsString;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use base::CancelToken;
use snapshotter::{Lease, ScratchDir, Store};

use crate::error::EngineError;
use crate::remote::host_program::{HostProgram, Server};

/// The name of the socket in its directory.
const SOCKET: &str = "keys";

/// The agent. It is gone when this is dropped.
pub(super) struct KeyAgent {
    socket: PathBuf,
    _server: Server,
    _directory: ScratchDir,
    /// Keeps the directory reachable by a short path: the address of a socket holds only 108 bytes.
    _open: std::fs::File,
}

impl KeyAgent {
    /// Starts an agent and gives it the keys.
    ///
    /// # Errors
    /// OpenSSH is not installed, or a key cannot be read or needs a passphrase.
    pub(super) fn start(
        store: &Store,
        lease: &Lease,
        keys: &[PathBuf],
        cancel: &CancelToken,
    ) -> Result<Self, EngineError> {
        let directory = store.scratch(lease)?;
        let open = sys::fs::open(directory.path())?;
        let socket = format!("/proc/{}/fd/{}/{SOCKET}", std::process::id(), open.as_raw_fd());
        let socket = PathBuf::from(socket);
        let agent = HostProgram { store, lease, name: "ssh-agent", environment: Vec::new() };
        let server = agent.serve(&["-D".into(), "-a".into(), socket.clone().into()])?;
        let environment = vec![("SSH_AUTH_SOCK".to_owned(), OsString::from(&socket))];
        let add = HostProgram { store, lease, name: "ssh-add", environment };
        for key in keys {
            let finished = add.run(&["-q".into(), "--".into(), key.into()], cancel)?;
            if !finished.success {
                let reason = finished.stderr.trim().to_owned();
                return Err(EngineError::SshKey { path: key.clone(), reason });
            }
        }
        Ok(Self { socket, _server: server, _directory: directory, _open: open })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

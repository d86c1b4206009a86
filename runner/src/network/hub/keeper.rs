//! The process that keeps the hub open and leads out of it, until nobody uses it any more.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use sys::detached::Given;
use sys::lock::{FileLock, LockMode};

use super::super::error::NetworkError;
use super::super::namespace::{self, Namespace};
use super::super::record::Directory;
use super::super::{setting, user_mode};
use super::{Note, directory, inside};

/// The hidden command that is a keeper.
pub const COMMAND: &str = "network-hub";

/// What the process is called in lists of processes.
const NAME: &str = "lap-network";

/// Our own program, also when its file was replaced since.
const OURSELVES: &str = "/proc/self/exe";

/// What a keeper says when it is ready; anything else says why it is not.
const READY: &str = "ready";

/// Starts a keeper and opens its hub. The lock goes over to it, so nobody enters until it is ready, whatever becomes of us.
pub(super) fn start(runtime: &Path, changing: FileLock) -> Result<(OwnedFd, Note), NetworkError> {
    let args: [OsString; 2] = [COMMAND.into(), runtime.into()];
    let lock = changing.into_file()?.into();
    let socket = sys::detached::start_connected(Path::new(OURSELVES), NAME, &args, lock)?;
    let mut said = String::new();
    // A keeper that is killed says nothing.
    let _ = File::from(socket).read_to_string(&mut said);
    if said != READY {
        let why = if said.is_empty() { "its keeper ended".to_owned() } else { said };
        return Err(NetworkError::Hub { why });
    }
    let found = Note::follow(&directory(runtime).join("keeper"))?;
    found.ok_or_else(|| NetworkError::Hub { why: "its keeper was killed".to_owned() })
}

/// The whole life of a keeper, whose arguments are those that it was started with.
///
/// # Errors
/// The hub cannot be made, which is told to who started it, too.
pub fn run(args: &[OsString]) -> Result<(), NetworkError> {
    let [runtime] = args else { return Err(NetworkError::Hub { why: "it has no directory".to_owned() }) };
    let Given { starter, file } =
        sys::detached::detach().map_err(|source| NetworkError::Start { program: NAME, source })?;
    let mut starter = File::from(starter);
    let runtime = Path::new(runtime);
    let kept = match Kept::make(runtime) {
        Ok(kept) => kept,
        Err(error) => {
            // Who does not listen any more has ended.
            let _ = starter.write_all(base::fault::chain(&error).as_bytes());
            return Err(error);
        }
    };
    // Who enters now finds the note.
    drop(file);
    let _ = starter.write_all(READY.as_bytes());
    drop(starter);
    let alone = FileLock::acquire(&directory(runtime).join("users"), LockMode::Exclusive)?;
    kept.end(runtime)?;
    drop(alone);
    Ok(())
}

/// What a keeper has.
struct Kept {
    namespace: Namespace,
    program: Option<user_mode::UserMode>,
    note: FileLock,
}

impl Kept {
    fn make(runtime: &Path) -> Result<Self, NetworkError> {
        let directory = directory(runtime);
        let note = FileLock::acquire(&directory.join("keeper"), LockMode::Exclusive)?;
        let ipv6 = setting::has_ipv6()?;
        let mut namespace = match orphaned(&directory)? {
            Some(namespace) => Namespace::of(namespace)?,
            None => namespace::begin(ipv6)?.finish()?,
        };
        let descriptor =
            namespace.descriptor().map_err(|source| NetworkError::Namespace { operation: "keep", source })?;
        if !ipv6 {
            inside(&descriptor, || setting::write("ipv6/conf/all/disable_ipv6", "1"))?;
        }
        // Another name than that of a killed keeper's, which may be about to go.
        let card = format!("out{}", sys::random::hex(5)?);
        let (program, closed) = match user_mode::connect(&mut namespace, &card, None) {
            Ok(program) => (Some(program), None),
            Err(error) => (None, Some(base::fault::chain(&error))),
        };
        Note::write(&note, namespace.as_owned(), closed)?;
        Ok(Self { namespace, program, note })
    }

    /// Ends, after everybody else has.
    fn end(self, runtime: &Path) -> Result<(), NetworkError> {
        let Self { namespace, program, note } = self;
        drop((program, namespace));
        // Bridges and rules went with the namespace.
        for network in Directory::names(runtime)? {
            let locked = Directory::new(runtime, &network).lock()?;
            if locked.leases()?.0.is_empty() {
                locked.forget()?;
            }
        }
        let members = directory(runtime).join("members");
        for member in sys::fs::list(&members)? {
            sys::fs::remove_file(&members.join(member))?;
        }
        Ok(note.remove()?)
    }
}

/// The hub whose keeper was killed, if anybody uses it still.
fn orphaned(directory: &Path) -> Result<Option<OwnedFd>, NetworkError> {
    let members = directory.join("members");
    for member in sys::fs::list(&members)? {
        let path = members.join(member);
        // Who ends at this moment has nothing to say.
        if let Ok(Some((namespace, _))) = Note::follow(&path) {
            return Ok(Some(namespace));
        }
    }
    Ok(None)
}

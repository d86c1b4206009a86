//! The life of a shim, the process that a detached container has as its parent.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use runner::shim::Client;
use snapshotter::{HeldDir, Store};
use sys::detached::Given;

use super::log_drivers;
use super::remove::destroy;
use crate::Engine;
use crate::error::EngineError;
use crate::events_log::ContainerTeller;

/// The hidden command that is a shim.
pub const COMMAND: &str = "container-shim";

/// What the process is called in lists of processes.
const NAME: &str = "lap-shim";

/// Our own program, also when its file was replaced since.
const OURSELVES: &str = "/proc/self/exe";

impl Engine {
    /// Starts a shim for a container, which goes over to it: at no time nobody has it. It waits for requests.
    pub(super) fn start_shim(&self, id: &str, name: &str, dir: HeldDir) -> Result<Client, EngineError> {
        if let Some(record) = self.store.container(id)? {
            self.store.check_container_layers(&record)?;
        }
        let directory = dir.path().as_os_str().to_owned();
        let way = self.store.layer_way().name();
        let args: [OsString; 6] =
            [COMMAND.into(), directory, self.root().into(), id.into(), name.into(), way.into()];
        let lock = dir.into_lock().into_file()?.into();
        let socket: OwnedFd = sys::detached::start_connected(Path::new(OURSELVES), NAME, &args, lock)?;
        Ok(Client::over(socket))
    }
}

/// The whole life of a shim, whose arguments are those that [`COMMAND`] was started with. What goes wrong before
/// the container runs is told to the starter; there is nobody to tell the rest.
///
/// # Errors
/// The container cannot be supervised, or not be removed at its end.
pub fn run_shim(args: &[OsString]) -> Result<(), EngineError> {
    let [directory, root, id, name, way] = args else {
        return Err(EngineError::NoSuchContainer(String::new()));
    };
    let Given { starter, file } = sys::detached::detach()
        .map_err(|error| sys::path_error::PathError::new("detach", directory, error))?;
    let (root, directory) = (Path::new(root), Path::new(directory));
    let way = way.to_str().and_then(|way| way.parse().ok()).unwrap_or_default();
    let teller = ContainerTeller::new(root, &id.to_string_lossy(), &name.to_string_lossy(), directory);
    let (lock, remove, mut waiters) =
        runner::shim::run(directory, starter, file, way, log_drivers::surroundings(teller))?;
    if remove {
        let store = Store::open(root, snapshotter::Options::default())?;
        if let Some(record) = store.container(&id.to_string_lossy())? {
            destroy(&store, &record, HeldDir::of_lock(lock), true)?;
        }
    } else {
        // Who is told of the end may take the container at once.
        waiters.hide();
        drop(lock);
    }
    // Those who wait for the end or the removal are told by this.
    drop(waiters);
    Ok(())
}

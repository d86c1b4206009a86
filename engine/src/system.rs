//! The machine and the store as a whole.

use base::Platform;

use crate::Engine;
use crate::error::EngineError;
use crate::report::{Info, Usage, UsageLine};

impl Engine {
    /// The machine and the store, for people.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn info(&self) -> Result<Info, EngineError> {
        let machine = sys::machine::machine();
        Ok(Info {
            root: self.store.root().to_owned(),
            driver: self.store.driver_kind()?.to_string(),
            images: self.images()?.len(),
            kernel: machine.kernel,
            operating_system: machine.distribution,
            platform: Platform::host(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: machine.memory,
            hostname: machine.hostname,
            root_user: machine.root_user,
        })
    }

    /// How much space is used, and by what.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Usage, EngineError> {
        let usage = self.store.usage()?;
        let line = |part: &snapshotter::UsagePart| UsageLine {
            total: part.total,
            active: part.active,
            size: part.bytes,
            reclaimable: part.reclaimable,
        };
        Ok(Usage {
            images: line(&usage.images),
            containers: line(&usage.containers),
            build_cache: line(&usage.build_cache),
            cache_mounts: line(&usage.cache_mounts),
        })
    }
}

//! The machine and the store as a whole.

use base::{CancelToken, Platform};
use runner::cgroup::hierarchy::{Hierarchies, Version};
use snapshotter::Findings;

use crate::Engine;
use crate::error::EngineError;
use crate::report::{ImageSummary, ImageUsage, Info, Usage, UsageDetails, UsageLine};

impl Engine {
    /// Bytes of memory that the machine has.
    pub fn machine_memory(&self) -> u64 {
        sys::machine::memory()
    }

    /// The machine and the store, for people.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn info(&self) -> Result<Info, EngineError> {
        let machine = sys::machine::machine();
        let groups = Hierarchies::discover().unwrap_or_default();
        let limits = groups.usable().into_iter().map(|one| one.name(Version::Two)).collect();
        let ids = sys::userns::IdMaps::of_this_process();
        Ok(Info {
            proxies: self.proxies.clone(),
            root: self.store.root().to_owned(),
            driver: self.store.driver_kind()?.to_string(),
            images: self.images()?.len(),
            kernel: machine.kernel,
            operating_system: machine.distribution,
            platform: Platform::host(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: machine.memory,
            hostname: machine.hostname,
            runtime_directory: self.runtime_directory.clone(),
            isolation: self.isolation.clone().map_err(|error| error.to_string()),
            user_ids: ids.map_or(0, |ids| ids.users.len()),
            cgroup_version: groups.version(),
            limits,
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
            volumes: line(&usage.volumes),
            build_cache: line(&usage.build_cache),
            cache_mounts: line(&usage.cache_mounts),
            temporary: line(&usage.temporary),
            metadata: usage.metadata_bytes,
            total: usage.total_bytes(),
        })
    }

    /// How much space is used by every image and part of the build cache.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage_details(&self) -> Result<UsageDetails, EngineError> {
        let details = self.store.usage_details()?;
        let usage = |summary: ImageSummary| {
            let of_image = details.images.iter().find(|image| image.target == summary.digest);
            let (bytes, unique_bytes) = of_image.map_or((0, 0), |image| (image.bytes, image.unique_bytes));
            let in_use = of_image.is_some_and(|image| image.in_use);
            ImageUsage { summary, bytes, unique_bytes, in_use }
        };
        Ok(UsageDetails { images: self.images()?.into_iter().map(usage).collect(), cache: details.cache })
    }

    /// Looks for damage in the store: rows and files that do not fit together, and blobs whose content is
    /// not what their digest says. Changes nothing.
    ///
    /// # Errors
    /// When the store cannot be read, or the token is cancelled.
    pub fn check_store(&self, cancel: &CancelToken) -> Result<Findings, EngineError> {
        Ok(self.store.verify(cancel)?)
    }

    /// Forgets what is damaged, and removes what nothing needs. Gives the bytes of disk that this freed.
    ///
    /// # Errors
    /// When the store cannot be written, or the token is cancelled.
    pub fn repair_store(&self, findings: &Findings, cancel: &CancelToken) -> Result<u64, EngineError> {
        Ok(self.store.repair(findings, cancel)?.bytes)
    }
}

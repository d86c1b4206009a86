//! Changing the limits of a container.

use oci_spec::runtime::LinuxResources;

use super::error::OciError;
use super::{Known, Runtime};
use crate::request::Limits;

impl Runtime {
    /// Changes limits of a container; those that `resources` does not name stay.
    pub fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), OciError> {
        let Known { record, .. } = self.look_up(id)?;
        Ok(record.group().set(resources)?)
    }
}

/// Limits as the `resources` of a spec in JSON.
pub fn limits_from_json(bytes: &[u8]) -> Result<LinuxResources, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// Limits as flags have them. No limit of swap space is made up for a limit of memory.
pub fn limits_from_flags(limits: &Limits) -> LinuxResources {
    let mut resources = crate::spec::resources::of_limits(limits);
    if let (Some(memory), None) = (resources.memory_mut(), limits.memory_swap) {
        memory.set_swap(None);
    }
    resources
}

//! System call filters: Docker's default profile in effect, and profiles that somebody wrote.
//!
//! `profile` is the default policy as data, a reason with every group; `numbers` gives names their numbers;
//! `compiler` turns rules into a BPF program. What the profile allows depends on the capabilities of the
//! container, so there is one program per set of capabilities, compiled when first asked for and kept.
//! `file` reads Docker's JSON format, `custom` makes filters of any profile of an OCI runtime spec.

mod compiler;
mod custom;
#[cfg(test)]
mod differences;
mod error;
mod file;
#[cfg(test)]
mod interpreter;
mod numbers;
mod profile;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sys::seccomp::{Filter, FilterSizeError};

use crate::capabilities::CapabilitySet;

pub(crate) use self::custom::filter as custom_filter;
pub use self::error::SeccompError;
pub use self::file::ProfileFile;

/// The filter of the default profile for a container with these capabilities.
pub(crate) fn default_filter(capabilities: CapabilitySet) -> Result<Arc<Filter>, FilterSizeError> {
    static FILTERS: OnceLock<Mutex<BTreeMap<CapabilitySet, Arc<Filter>>>> = OnceLock::new();
    let mut filters = FILTERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(filter) = filters.get(&capabilities) {
        return Ok(filter.clone());
    }
    let filter = Arc::new(compiler::compile(capabilities)?);
    filters.insert(capabilities, filter.clone());
    Ok(filter)
}

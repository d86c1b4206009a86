//! Paths of the kernel that a container does not see as they are.

use serde::{Deserialize, Serialize};

/// Paths of `/proc` and `/sys`, or others, that the process does not see or cannot write to. What is not said is as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemPaths {
    /// Those that it does not see.
    pub masked: Option<Vec<String>>,
    /// Those that it cannot write to.
    pub read_only: Option<Vec<String>>,
}

impl SystemPaths {
    /// All of them are there.
    pub fn open() -> Self {
        Self { masked: Some(Vec::new()), read_only: Some(Vec::new()) }
    }
}

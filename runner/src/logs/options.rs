//! Whether and how logs are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether logs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// In files of JSON documents.
    #[default]
    JsonFile,
    /// Nothing is kept.
    None,
}

impl LogDriver {
    /// The name in Docker's documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::None => "none",
        }
    }
}

/// How logs are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogOptions {
    /// Whether at all.
    pub driver: LogDriver,
    /// The bytes after which a file gives way to a new one; `None` never.
    pub max_size: Option<u64>,
    /// How many files there are at most; 0 counts as 1.
    pub max_files: u32,
    /// Names and values that every record carries.
    pub attributes: BTreeMap<String, String>,
}

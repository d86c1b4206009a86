//! Whether and how logs are kept, and where else they go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::remote::{Remote, Source};

/// Where a container's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Into files of JSON documents.
    #[default]
    JsonFile,
    /// The same, with limits to begin with.
    Local,
    /// To a server of syslog.
    Syslog,
    /// To the journal of systemd.
    Journald,
    /// To a server of Graylog's format, for example Logstash.
    Gelf,
    /// To fluentd, or Fluent Bit.
    Fluentd,
    /// Nowhere.
    None,
}

impl LogDriver {
    /// Every driver.
    pub const ALL: [Self; 7] =
        [Self::JsonFile, Self::Local, Self::Syslog, Self::Journald, Self::Gelf, Self::Fluentd, Self::None];

    /// The name in Docker's documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::Syslog => "syslog",
            Self::Journald => "journald",
            Self::Gelf => "gelf",
            Self::Fluentd => "fluentd",
            Self::None => "none",
        }
    }
}

/// Fills the template of a tag with what is known of a container, or says why that cannot be done.
#[derive(Clone, Copy)]
pub struct FillTag(pub fn(&str, &serde_json::Value) -> Result<String, String>);

impl PartialEq for FillTag {
    /// There is one language of templates.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for FillTag {}

impl std::fmt::Debug for FillTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FillTag")
    }
}

/// How logs are kept, and where else they go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogOptions {
    /// Where output goes.
    pub driver: LogDriver,
    /// The bytes after which a file gives way to a new one; `None` never.
    pub max_size: Option<u64>,
    /// How many files there are at most; 0 counts as 1.
    pub max_files: u32,
    /// Names and values that every record carries.
    pub attributes: BTreeMap<String, String>,
    /// Whether files that gave way to a new one are compressed.
    #[serde(default)]
    pub compress: bool,
    /// Bytes that wait for a slow driver until more are dropped; `None` has the container wait instead.
    #[serde(default)]
    pub dropping: Option<u64>,
    /// Keep no files of what goes elsewhere, so that it cannot be read here.
    #[serde(default)]
    pub uncached: bool,
    /// Where else it goes.
    #[serde(default)]
    pub remote: Option<Remote>,
    /// What records elsewhere are called (a template of Go); empty for the container's short id.
    #[serde(default)]
    pub tag: String,
    /// What fills it, while the container is made.
    #[serde(skip)]
    pub fill_tag: Option<FillTag>,
    /// The container, for those records. Known when it is made.
    #[serde(default)]
    pub source: Source,
    /// As they were given, for who looks at the container.
    #[serde(default)]
    pub given: BTreeMap<String, String>,
}

impl LogOptions {
    /// Whether there are files to be read.
    pub fn has_files(&self) -> bool {
        self.driver != LogDriver::None && !self.uncached
    }
}

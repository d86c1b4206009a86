//! What a case expects of a build, as written in `case.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Table;

/// Everything that can be asked for. What is not given is not looked at; without `error` the build must succeed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The build fails, and lap's message has these texts.
    pub error: Option<Vec<String>>,
    /// lap's exit code.
    pub code: Option<i32>,
    /// Texts in the progress, for example what RUN printed.
    pub log: Vec<String>,
    /// Texts that are not in the progress.
    pub no_log: Vec<String>,
    /// Texts on lap's standard output.
    pub stdout: Vec<String>,
    /// lap's warnings, each as `Rule:line`, in order.
    pub warnings: Option<Vec<String>>,
    /// The names of all steps that ran rather than being cached. Steps that run side by side come in any order.
    pub ran: Option<Vec<String>>,
    /// Parts of the names of steps that came from the cache.
    pub cached: Vec<String>,
    /// The names of all steps that came from the cache, in any order.
    pub hits: Option<Vec<String>>,
    /// Why steps ran again, by their names: what lap's progress says word for word, and `lap why` as well.
    pub why: BTreeMap<String, String>,
    /// Files of the image by path. `false`: it is not there.
    pub files: BTreeMap<String, FileExpect>,
    /// All paths of the image but those of `busybox`.
    pub paths: Option<Vec<String>>,
    /// Keys of `config` in the image's config, with their whole values.
    pub config: Table,
    /// Keys of the image's config itself.
    pub image: Table,
    /// Keys that `config` must not have, or that are empty.
    pub unset: Vec<String>,
    /// Variables of the image; `false`: it has none of that name.
    pub env: BTreeMap<String, VariableExpect>,
    /// What history says was done, `empty: ` before entries without a layer; those of the base image are left out.
    pub history: Option<Vec<String>>,
    /// How many layers the image has, those of its base included.
    pub layers: Option<usize>,
    /// Containers of the image.
    pub run: Vec<RunExpect>,
    /// Files that the build wrote at `{outside}`.
    pub outside: BTreeMap<String, FileExpect>,
}

/// A variable's value, or that there is none.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum VariableExpect {
    /// The value.
    Value(String),
    /// `false`: not set.
    Absent(bool),
}

/// What is expected at a path.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum FileExpect {
    /// Whether anything is there.
    Exists(bool),
    /// A regular file with this text.
    Text(String),
    /// A table.
    Entry(Box<EntryExpect>),
}

/// What is expected of an entry; what is not given may be anything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EntryExpect {
    /// The text of a regular file.
    pub text: Option<String>,
    /// A text in a regular file.
    pub has: Option<String>,
    /// The size of a regular file.
    pub size: Option<usize>,
    /// `file`, `dir`, `symlink`, `fifo`, `device` or `socket`.
    pub kind: Option<String>,
    /// The text of a symlink.
    pub link: Option<String>,
    /// Octal permission bits.
    pub mode: Option<String>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Extended attributes that must be there.
    pub xattrs: BTreeMap<String, String>,
    /// Another name of the same file.
    pub hard_link: Option<String>,
}

/// A container and what comes of it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunExpect {
    /// Flags before the image.
    pub flags: Vec<String>,
    /// Arguments behind the image.
    pub args: Vec<String>,
    /// All of its standard output.
    pub stdout: Option<String>,
    /// A text on standard error.
    pub stderr: Option<String>,
    /// The exit code.
    pub code: i32,
}

impl Expect {
    /// Whether the image itself must be looked at.
    pub fn needs_image(&self) -> bool {
        !self.files.is_empty()
            || self.paths.is_some()
            || !self.config.is_empty()
            || !self.image.is_empty()
            || !self.unset.is_empty()
            || !self.env.is_empty()
            || self.history.is_some()
            || self.layers.is_some()
    }
}

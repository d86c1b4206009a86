//! The reasons, and how the aspects of two operations differ.

use std::fmt;

use base::{FileChange, Timestamp};
use llb::Aspect;
use serde::{Deserialize, Serialize};

/// How many changed paths the short text names.
const PATHS_SHOWN: usize = 3;

/// A longer value is cut in the short text, in characters.
const VALUE_SHOWN: usize = 160;

/// Why a step has no result that could be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The cache was not to be asked.
    NotAsked,
    /// No earlier build that is remembered has such a step.
    NeverBuilt,
    /// There was a result of the very same, and it has been removed since.
    Removed {
        /// When, if that is known.
        at: Option<Timestamp>,
    },
    /// It failed, or was stopped, the last time.
    Failed,
    /// The earlier build ended before this step was reached.
    NotReached,
    /// Something about the instruction itself.
    Aspects {
        /// What; at least one.
        changes: Vec<AspectChange>,
    },
    /// What it takes from a directory of the caller.
    Files {
        /// The directory's name.
        directory: String,
        /// Which files; empty when that is not known.
        changes: Vec<FileChange>,
    },
    /// The result of another step.
    Input {
        /// Its place in the list of steps.
        step: usize,
        /// Which of the files that are used differ, where that is known.
        changes: Vec<FileChange>,
    },
    /// An input was made again from the same, and came out different.
    OtherResult,
}

impl Reason {
    /// The step whose result this is about.
    pub fn input(&self) -> Option<usize> {
        match self {
            Self::Input { step, .. } => Some(*step),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("the cache was not to be used"),
            Self::NeverBuilt => f.write_str("never built here"),
            Self::Removed { at: None } => f.write_str("its result has been removed"),
            Self::Removed { at: Some(at) } => write!(f, "its result was removed at {at}"),
            Self::Failed => f.write_str("it had no result the last time"),
            Self::NotReached => f.write_str("the last build ended before it"),
            Self::OtherResult => f.write_str("it ran again and left other files"),
            Self::Aspects { changes } => write_list(f, changes, 1, "change"),
            Self::Files { directory, changes } if changes.is_empty() => {
                write!(f, "files of {directory} changed")
            }
            Self::Files { changes, .. } => write_list(f, changes, PATHS_SHOWN, "file"),
            Self::Input { changes, .. } if changes.is_empty() => f.write_str("an input changed"),
            Self::Input { changes, .. } => write_list(f, changes, PATHS_SHOWN, "file"),
        }
    }
}

/// The first `shown` of a list, and how many more there are; `noun` is what one of them is called.
fn write_list(
    f: &mut fmt::Formatter<'_>,
    all: &[impl fmt::Display],
    shown: usize,
    noun: &str,
) -> fmt::Result {
    for (index, item) in all.iter().take(shown).enumerate() {
        write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
    }
    match all.len().saturating_sub(shown) {
        0 => Ok(()),
        1 => write!(f, " and 1 more {noun}"),
        more => write!(f, " and {more} more {noun}s"),
    }
}

/// An aspect that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AspectChange {
    /// Its name.
    pub name: String,
    /// As it was; `None`: there was none.
    pub before: Option<String>,
    /// As it is; `None`: there is none any more.
    pub now: Option<String>,
}

impl fmt::Display for AspectChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, before, now } = self;
        match (before.as_deref().map(cut), now.as_deref().map(cut)) {
            (Some(before), Some(now)) if before == now => write!(f, "{name} changed"),
            (Some(before), Some(now)) => write!(f, "{name} changed from {before} to {now}"),
            (None, Some(now)) => write!(f, "{name} is new: {now}"),
            (Some(before), None) => write!(f, "{name} is gone: {before}"),
            (None, None) => write!(f, "the order of {name} changed"),
        }
    }
}

/// The beginning of a long value, on one line.
fn cut(value: &str) -> String {
    let line: String =
        value.chars().map(|c| if c.is_control() { ' ' } else { c }).take(VALUE_SHOWN + 1).collect();
    match line.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("\"{}…\"", &line[..end]),
        None => format!("\"{line}\""),
    }
}

/// What differs between two lists of aspects, in the order of `now`, what is gone last. Empty when they are equal.
pub(super) fn aspect_changes(before: &[Aspect], now: &[Aspect]) -> Vec<AspectChange> {
    if before.iter().map(key).eq(now.iter().map(key)) {
        return Vec::new();
    }
    let mut gone: Vec<&Aspect> = before.iter().collect();
    let mut changes = Vec::new();
    for aspect in now {
        let was = gone.iter().position(|was| was.name == aspect.name).map(|at| gone.remove(at));
        if was.is_none_or(|was| was.value != aspect.value) {
            changes.push(AspectChange {
                name: aspect.name.clone(),
                before: was.map(shown),
                now: Some(shown(aspect)),
            });
        }
    }
    let gone = gone.into_iter().map(|was| AspectChange {
        name: was.name.clone(),
        before: Some(shown(was)),
        now: None,
    });
    changes.extend(gone);
    if changes.is_empty() {
        changes.push(AspectChange { name: "its parts".to_owned(), before: None, now: None });
    }
    changes
}

fn key(aspect: &Aspect) -> (&str, &str) {
    (&aspect.name, &aspect.value)
}

fn shown(aspect: &Aspect) -> String {
    aspect.shown.as_ref().unwrap_or(&aspect.value).clone()
}

//! Being told at once when the kernel kills a process of a group for lack of memory.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use sys::fs::PathContext as _;

use super::hierarchy::{Controller, Version};
use super::{CgroupError, ControlGroup};

/// No file of counters is longer than this, in bytes.
const LONGEST: usize = 4096;

/// Tells of kills as they happen, to who waits for its descriptor.
#[derive(Debug)]
pub enum Shortage {
    /// Version 1: a counter that the kernel raises whenever a process finds no memory left, and the file that says what
    /// becomes of that.
    Counter(OwnedFd, File),
    /// Version 2: the file of the group's events, which has changed when it can be waited for no longer.
    Events(File),
}

/// What the kernel has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Nothing new.
    Nothing,
    /// Processes may have been killed. They have been counted.
    Killed,
    /// Memory has run out. A process is about to be killed, and counted then; or one has been, and others ran out of memory
    /// before it was gone, which is told as well.
    Killing,
    /// Memory has run out, and processes wait until there is more: killing is switched off.
    Waiting,
}

impl ControlGroup {
    /// Asks the kernel to tell of kills in the group. `None` where nothing counts memory.
    ///
    /// # Errors
    /// The kernel does not tell of them.
    pub fn watch_shortage(&self) -> Result<Option<Shortage>, CgroupError> {
        let Some(directory) = self.directory(Controller::Memory) else { return Ok(None) };
        if directory.version == Version::Two {
            let path = directory.path.join("memory.events");
            let watch = Shortage::Events(File::open(&path).at("open", &path)?);
            // What was read is what later changes are told from.
            watch.take();
            return Ok(Some(watch));
        }
        let path = directory.path.join("memory.oom_control");
        let watched = File::open(&path).at("open", &path)?;
        let path = directory.path.join("cgroup.event_control");
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            .at("make a counter for", &path)?;
        // The kernel keeps what it needs of both (Documentation/admin-guide/cgroup-v1/memory.rst, 9 and 10).
        let words = format!("{} {}", counter.as_raw_fd(), watched.as_raw_fd());
        fs::write(&path, words).at("write", &path)?;
        Ok(Some(Shortage::Counter(counter, watched)))
    }
}

impl Shortage {
    /// What to wait for.
    pub fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            Self::Counter(counter, _) => (counter.as_fd(), PollFlags::IN),
            Self::Events(file) => (file.as_fd(), PollFlags::PRI),
        }
    }

    /// Takes note of what has happened, so that the next one is waited for.
    pub fn take(&self) -> Notice {
        let mut text = [0; LONGEST];
        match self {
            Self::Counter(counter, control) => {
                let mut count = [0; 8];
                if rustix::io::read(counter, &mut count).is_err() {
                    return Notice::Nothing;
                }
                // A group that is gone has no file, and nothing waits in it.
                let length = control.read_at(&mut text, 0).unwrap_or(0);
                match text[..length].starts_with(b"oom_kill_disable 1") {
                    true => Notice::Waiting,
                    false => Notice::Killing,
                }
            }
            Self::Events(file) => {
                // The content does not matter; a group that is gone has none.
                let _ = file.read_at(&mut text, 0);
                Notice::Killed
            }
        }
    }
}

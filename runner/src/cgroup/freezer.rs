//! Stopping all processes of a group for a while.
//!
//! Source: the kernel's `cgroup-v1/freezer-subsystem.rst` and `cgroup-v2.rst` (`cgroup.freeze`).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::fs::PathContext as _;

use super::error::CgroupError;
use super::hierarchy::{Controller, Version};
use super::{ControlGroup, GroupDirectory, read, tree};

/// How long processes have to stop. Only those in the middle of something that cannot be interrupted, as
/// waiting for a disk, take longer than a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two looks where the kernel does not tell.
const PAUSE: Duration = Duration::from_millis(1);

impl ControlGroup {
    /// Stops all processes of the group, and returns once they have. Those that come in later are stopped as
    /// well.
    ///
    /// # Errors
    /// Also when a process cannot be stopped in ten seconds; then all of them go on.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let directory = self.freezer()?;
        let frozen = match directory.version {
            Version::One => freeze_first(&directory.path)?,
            Version::Two => freeze_second(&directory.path)?,
        };
        if frozen {
            return Ok(());
        }
        self.thaw()?;
        Err(CgroupError::TimedOut {
            directory: directory.path.clone(),
            processes: tree::processes(&directory.path)?.len(),
            what: "frozen",
            seconds: PATIENCE.as_secs(),
        })
    }

    /// Lets all processes of the group go on. In a group that is gone, which whoever waits for its end may have removed, there is none.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let directory = self.freezer()?;
        let (file, value) = match directory.version {
            Version::One => ("freezer.state", "THAWED"),
            Version::Two => ("cgroup.freeze", "0"),
        };
        Ok(tree::tell(&directory.path.join(file), value)?)
    }

    /// Whether the group is stopped or about to be. A group that nothing could stop is not.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        let Some(directory) = self.directory(Controller::Freezer) else { return Ok(false) };
        Ok(match directory.version {
            Version::One => read(&directory.path.join("freezer.state"))?.trim() != "THAWED",
            Version::Two => read(&directory.path.join("cgroup.freeze"))?.trim() == "1",
        })
    }

    fn freezer(&self) -> Result<&GroupDirectory, CgroupError> {
        self.directory(Controller::Freezer).ok_or(CgroupError::Ungrouped { what: "frozen" })
    }
}

/// Version 1 has to be asked whether it is done. `false` when it is not in time.
fn freeze_first(directory: &Path) -> Result<bool, CgroupError> {
    let state = directory.join("freezer.state");
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        // Written each time: a process that was made while the others were stopped may have slipped through.
        fs::write(&state, "FROZEN").at("write", &state)?;
        if read(&state)?.trim() == "FROZEN" {
            return Ok(true);
        }
        sys::clock::pause(PAUSE);
    }
    Ok(false)
}

/// Version 2 tells by an event of a file. `false` when it does not in time.
fn freeze_second(directory: &Path) -> Result<bool, CgroupError> {
    let (freeze, path) = (directory.join("cgroup.freeze"), directory.join("cgroup.events"));
    let events = sys::fs::open(&path)?;
    fs::write(&freeze, "1").at("write", &freeze)?;
    let begin = Instant::now();
    loop {
        if read(&path)?.lines().any(|line| line == "frozen 1") {
            return Ok(true);
        }
        let Some(left) = PATIENCE.checked_sub(begin.elapsed()) else { return Ok(false) };
        let left = Timespec::try_from(left.min(Duration::from_secs(1))).unwrap_or_default();
        // Nothing is read of this descriptor, so an event that came before is reported as well. The result
        // is what the file says.
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left));
    }
}

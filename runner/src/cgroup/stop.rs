//! Ending all processes of a group.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sys::path_error::PathError;

use super::error::CgroupError;
use super::hierarchy::{Controller, Version};
use super::{ControlGroup, tree};

/// How long killed processes have to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two looks at the list of processes.
const PAUSE: Duration = Duration::from_millis(1);

/// How many processes are waited for at once: each takes a file descriptor.
const BATCH: usize = 128;

impl ControlGroup {
    /// Kills all processes of the group and of those inside of it, stopped ones too, and returns once none
    /// is left.
    ///
    /// # Errors
    /// Also when a process is still there after ten seconds.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        let directory = self.any_directory("killed")?;
        let begin = Instant::now();
        loop {
            let victims = handles(&directory.path)?;
            if victims.is_empty() && tree::processes(&directory.path)?.is_empty() {
                return Ok(());
            }
            let kill = directory.path.join("cgroup.kill");
            match directory.version {
                Version::Two if kill.exists() => tree::tell(&kill, "1")?,
                _ => self.kill_each(&directory.path, &victims)?,
            }
            if victims.is_empty() {
                // They are just ending, or have no handles: the list is all there is to look at.
                sys::clock::pause(PAUSE);
            }
            let left = PATIENCE.checked_sub(begin.elapsed());
            if !left.is_some_and(|left| wait(&victims, left)) {
                return Err(CgroupError::TimedOut {
                    directory: directory.path.clone(),
                    processes: tree::processes(&directory.path)?.len(),
                    what: "killed",
                    seconds: PATIENCE.as_secs(),
                });
            }
        }
    }

    /// Kills the processes that are still in the group. They are stopped for that moment, where something
    /// can stop them, so that none of them makes another one.
    fn kill_each(&self, directory: &Path, victims: &[(u32, OwnedFd)]) -> Result<(), CgroupError> {
        let stops = self.directory(Controller::Freezer).is_some();
        if stops {
            // What does not stop is killed as well; it only has more time.
            let _ = self.freeze();
        }
        // Who is still listed is who the handle was made for.
        let members = tree::processes(directory)?;
        for (_, handle) in victims.iter().filter(|(pid, _)| members.contains(pid)) {
            // It can only fail for a process that has ended.
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
        if stops { self.thaw() } else { Ok(()) }
    }
}

/// Handles of some processes of a group. Those that end meanwhile are left out.
fn handles(directory: &Path) -> Result<Vec<(u32, OwnedFd)>, PathError> {
    let open = |pid: u32| {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some((pid, pidfd_open(number, PidfdFlags::empty()).ok()?))
    };
    Ok(tree::processes(directory)?.into_iter().filter_map(open).take(BATCH).collect())
}

/// Waits until all of them have ended; `false` when one has not in time.
fn wait(processes: &[(u32, OwnedFd)], time: Duration) -> bool {
    let begin = Instant::now();
    processes.iter().all(|(_, handle)| {
        loop {
            let left = time.saturating_sub(begin.elapsed());
            let Ok(timeout) = Timespec::try_from(left) else { return false };
            match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                ended => break ended.is_ok_and(|count| count > 0),
            }
        }
    })
}

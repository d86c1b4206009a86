//! Signals to a container, and its end.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use rustix::time::Timespec;

use super::error::OciError;
use super::record::{Record, Status};
use super::{Known, Runtime, process_of};

impl Runtime {
    /// Sends a signal to the first process of a container, or to all of them.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), OciError> {
        let Known { record, status } = self.look_up(id)?;
        let is_end = signal == Signal::KILL.as_raw();
        if all {
            // Also when the first process has ended: without a process id namespace of their own the others
            // go on.
            return if is_end { Ok(record.group().kill_all()?) } else { signal_all(&record, signal) };
        }
        let process = match status {
            Status::Stopped => None,
            _ => process_of(&record)?,
        };
        let Some(process) = process else { return Err(OciError::NotRunning { id: id.to_owned() }) };
        process.signal(signal).map_err(|source| self.unreachable(&record, source))?;
        match is_end {
            // Who stands still cannot end.
            true if status == Status::Paused => Ok(record.group().thaw()?),
            true if !record.owns_processes => Ok(record.group().kill_all()?),
            _ => Ok(()),
        }
    }

    fn unreachable(&self, record: &Record, source: std::io::Error) -> OciError {
        OciError::Process { id: record.id.clone(), pid: record.pid, source }
    }

    /// Waits for the end of a container, `most` at most. Whether it still lives.
    pub fn wait_for_end(&self, id: &str, most: Duration) -> Result<bool, OciError> {
        let Known { record, .. } = self.look_up(id)?;
        let Some(process) = process_of(&record)? else { return Ok(false) };
        let timeout = Timespec::try_from(most).map_err(|_| OciError::NotRunning { id: id.to_owned() })?;
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => Ok(true),
            ready => Ok(ready.map_err(|error| self.unreachable(&record, error.into()))? == 0),
        }
    }

    /// Ends all processes of a container and waits until they have.
    pub(super) fn end(&self, record: &Record) -> Result<(), OciError> {
        if let Some(process) = process_of(record)? {
            process.signal(Signal::KILL.as_raw()).map_err(|source| self.unreachable(record, source))?;
            record
                .group()
                .thaw()
                .or_else(|error| if record.group.is_empty() { Ok(()) } else { Err(error) })?;
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            while poll(&mut ended, None) == Err(rustix::io::Errno::INTR) {}
        }
        if record.group.is_empty() { Ok(()) } else { Ok(record.group().kill_all()?) }
    }
}

fn signal_all(record: &Record, signal: i32) -> Result<(), OciError> {
    for pid in record.group().processes()? {
        // One that has ended meanwhile needs no signal any more.
        let Ok(process) = sys::ns::PidFd::open(pid) else { continue };
        process.signal(signal).map_err(|source| OciError::Process { id: record.id.clone(), pid, source })?;
    }
    Ok(())
}

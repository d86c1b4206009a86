//! Stopping the processes of a container for a moment, where no control group can freeze them: by signals, one by one.

use std::collections::HashMap;

use rustix::process::Signal;
use sys::ns::PidFd;

use super::super::connection::ConnectionId;
use super::super::protocol::Reply;
use super::super::state::Status;
use super::requests::refused;
use super::{Phase, Supervisor};
use crate::processes;

/// How often new processes are looked for. Each round stops those that might have made more.
const ROUNDS: usize = 16;

/// Processes that were stopped, until somebody asks for the contrary or goes.
#[derive(Debug)]
pub(super) struct Halted {
    by: ConnectionId,
    processes: HashMap<u32, PidFd>,
}

impl Supervisor {
    /// Stops all processes of the container, for as long as the connection is there.
    pub(super) fn halt(&mut self, by: ConnectionId) -> Reply {
        let Phase::Running(run) = &self.phase else { return refused("it is not running") };
        if self.halted.is_some() || self.state.status != Status::Running {
            return refused("its processes are stopped already");
        }
        let Ok(Some(first)) = run.process.pid() else { return refused("it is not running") };
        let mut halted = Halted { by, processes: HashMap::new() };
        let done = halted.stop_all(first);
        self.halted = Some(halted);
        match done {
            Ok(true) => Reply::Done,
            Ok(false) => {
                self.go_on(by);
                refused("its processes make others faster than they can be stopped")
            }
            Err(why) => {
                self.go_on(by);
                refused(&why)
            }
        }
    }

    /// Lets the processes go on that were stopped over this connection.
    pub(super) fn go_on(&mut self, by: ConnectionId) {
        if let Some(halted) = self.halted.take_if(|halted| halted.by == by) {
            for process in halted.processes.values() {
                // One that has ended needs nothing.
                let _ = process.signal(Signal::CONT.as_raw());
            }
        }
    }
}

impl Halted {
    /// Whether no process is left that was not stopped.
    fn stop_all(&mut self, first: u32) -> Result<bool, String> {
        let list = || processes::of_container(&[], first).map_err(|error| base::fault::chain(&error));
        for _ in 0..ROUNDS {
            let mut found = HashMap::new();
            for pid in list()? {
                if !self.processes.contains_key(&pid) && !processes::is_stopped(pid) {
                    found.extend(PidFd::open(pid).ok().map(|process| (pid, process)));
                }
            }
            if found.is_empty() {
                return Ok(true);
            }
            // A number that still stands for a process of the container is that of the process that was opened.
            let still = list()?;
            for (pid, process) in found.into_iter().filter(|(pid, _)| still.contains(pid)) {
                process.signal(Signal::STOP.as_raw()).map_err(|error| error.to_string())?;
                self.processes.insert(pid, process);
            }
        }
        Ok(false)
    }
}

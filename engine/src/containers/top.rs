//! What runs in a container: the processes as the kernel tells of them, and as the host's `ps` draws them.

use std::ffi::OsString;

use base::CancelToken;
use runner::RunError;
pub use runner::processes::ProcessInfo;

use super::{Container, has_processes};
use crate::Engine;
use crate::error::EngineError;
use crate::remote::host_program::HostProgram;

/// What `ps` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessTable {
    /// The titles of the columns.
    pub titles: Vec<String>,
    /// A cell for each of them.
    pub rows: Vec<Vec<String>>,
}

impl Engine {
    /// The processes of a container that runs, in the order of their ids.
    ///
    /// # Errors
    /// There is no such container, or it does not run.
    pub fn container_processes(&self, name: &str) -> Result<Vec<ProcessInfo>, EngineError> {
        let pids = self.process_ids(&self.container(name)?)?;
        Ok(runner::processes::describe(&pids, self.clock.now())?)
    }

    /// The same, as the host's `ps` shows them with these options.
    ///
    /// # Errors
    /// Also when there is no `ps`, or it does not know the options, or shows no process ids.
    pub fn container_ps(&self, name: &str, options: &[String]) -> Result<ProcessTable, EngineError> {
        let pids = self.process_ids(&self.container(name)?)?;
        let lease = self.store.lease("top")?;
        let ps = HostProgram { store: &self.store, lease: &lease, name: "ps", environment: Vec::new() };
        let arguments: Vec<OsString> = options.iter().map(OsString::from).collect();
        let finished = ps.run(&arguments, &CancelToken::new())?;
        if !finished.success {
            return Err(EngineError::Ps(finished.stderr.trim().to_owned()));
        }
        table(&String::from_utf8_lossy(&finished.stdout), &pids)
    }

    fn process_ids(&self, container: &Container) -> Result<Vec<u32>, EngineError> {
        let state = &container.state;
        if !has_processes(state.status) {
            return Err(EngineError::NotRunning(container.id.clone()));
        }
        let pids = runner::processes::of_container(&state.group, state.pid);
        let pids = pids.map_err(RunError::from)?;
        // It has ended meanwhile.
        if pids.is_empty() { Err(EngineError::NotRunning(container.id.clone())) } else { Ok(pids) }
    }
}

/// The lines of a table about these processes.
fn table(text: &str, pids: &[u32]) -> Result<ProcessTable, EngineError> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(place) = titles.iter().position(|title| title == "PID") else {
        return Err(EngineError::Ps("Couldn't find PID field in ps output".to_owned()));
    };
    let mut rows = Vec::new();
    for line in lines {
        let cells = cells(line, titles.len());
        if cells.get(place).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid)) {
            rows.push(cells);
        }
    }
    Ok(ProcessTable { titles, rows })
}

/// The words of a line, the last cell having all that is left.
fn cells(line: &str, count: usize) -> Vec<String> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    while cells.len() + 1 < count && !rest.is_empty() {
        let (cell, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        cells.push(cell.to_owned());
        rest = after.trim_start();
    }
    cells.push(rest.to_owned());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_the_container_are_kept() {
        let text =
            "F   UID     PID CMD\n4  0       1 init\n0     0      17 sh -c  sleep 9\n0     0     170 x\n";
        let ProcessTable { titles, rows } = table(text, &[17, 18]).unwrap();
        assert_eq!(titles, ["F", "UID", "PID", "CMD"]);
        assert_eq!(rows, [["0", "0", "17", "sh -c  sleep 9"]]);
        for bad in ["", "UID CMD\n0 x\n"] {
            let error = table(bad, &[1]).unwrap_err().to_string();
            assert!(error.contains("Couldn't find PID field in ps output"), "{error}");
        }
    }
}

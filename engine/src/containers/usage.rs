//! All that is counted of a container that runs, once.

use std::time::Duration;

use base::Timestamp;
use runner::RunError;
use runner::cgroup::ControlGroup;
pub use runner::cgroup::statistics::{
    DeviceStatistics, MemoryStatistics, ProcessStatistics, ProcessorStatistics, Statistics,
};
pub use runner::processes::CardFigures;

use super::has_processes;
use crate::Engine;
use crate::error::EngineError;

/// What a container uses, in every detail.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When that was read.
    pub time: Timestamp,
    /// What is counted; `None` of one that does not run.
    pub counted: Option<Counted>,
}

/// What is counted of a container that runs.
#[derive(Debug, Clone)]
pub struct Counted {
    /// By its control group, or where it has none, as sums over its processes.
    pub statistics: Statistics,
    /// Its network cards, where they are its own.
    pub cards: Vec<CardFigures>,
    /// Processor time of the whole machine.
    pub machine_time: Duration,
    /// Processors of the machine.
    pub processors: usize,
    /// Memory of the machine.
    pub machine_memory: u64,
}

impl Engine {
    /// What a container uses now.
    ///
    /// # Errors
    /// There is no such container.
    pub fn container_usage(&self, name: &str) -> Result<Usage, EngineError> {
        let container = self.container(name)?;
        let state = &container.state;
        let counted = has_processes(state.status).then(|| {
            // Of one that has ended meanwhile nothing is known.
            let mut statistics = ControlGroup::open(state.group.clone()).statistics().unwrap_or_default();
            let is_complete = statistics.memory.is_some()
                && statistics.processor.is_some()
                && statistics.processes.is_some();
            if !is_complete {
                let pids =
                    runner::processes::of_container(&state.group, state.pid).map_err(RunError::from)?;
                complete(&mut statistics, &runner::processes::figures(&pids));
            }
            let has_network = state.network.is_some();
            let (machine_time, processors) = runner::processes::machine_time();
            Ok::<_, EngineError>(Counted {
                statistics,
                cards: if has_network { runner::processes::network_cards(state.pid) } else { Vec::new() },
                machine_time,
                processors,
                machine_memory: self.machine_memory(),
            })
        });
        let counted = counted.transpose()?;
        Ok(Usage { time: self.clock.now(), counted, id: container.id, name: container.name })
    }
}

/// Adds what no controller counts.
fn complete(statistics: &mut Statistics, sums: &runner::cgroup::Figures) {
    statistics.memory.get_or_insert_with(|| MemoryStatistics {
        usage: sums.memory.unwrap_or_default(),
        ..MemoryStatistics::default()
    });
    statistics.processor.get_or_insert_with(|| {
        let time = sums.processor_time.unwrap_or_default().as_nanos();
        ProcessorStatistics {
            total: u64::try_from(time).unwrap_or(u64::MAX),
            ..ProcessorStatistics::default()
        }
    });
    let current = sums.processes.unwrap_or_default();
    statistics.processes.get_or_insert(ProcessStatistics { current, limit: None });
}

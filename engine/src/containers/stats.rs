//! What containers use, read again and again. Nothing is looked at twice that has not changed: a container's state only
//! when its file is another one, its settings never, and the files of its control group stay open.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use runner::cgroup::{Figures, Gauge};
use runner::shim::State;
use snapshotter::ContainerRecord;

use super::has_processes;
use crate::Engine;
use crate::error::EngineError;

/// Which containers are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// Those that run, also those that are started later.
    Running,
    /// All.
    All,
    /// These, until they are gone.
    These(Vec<String>),
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How it was named by the caller; its short id where nobody named it.
    pub asked: String,
    /// How much of one processor it has used since the reading before, in percent; `None` at the first one.
    pub processor: Option<f64>,
    /// Bytes of memory, and how many there may be.
    pub memory: (u64, u64),
    /// Bytes received and sent over its own network.
    pub network: (u64, u64),
    /// Bytes read of block devices, and written to them.
    pub block_devices: (u64, u64),
    /// Processes and threads.
    pub processes: u64,
    /// Whether the figures are sums over its processes, because no control group counts them all.
    pub is_estimated: bool,
}

/// Reads what containers use.
pub struct Meter<'a> {
    engine: &'a Engine,
    measured: Measured,
    known: HashMap<String, Known>,
    machine_memory: u64,
}

/// What is remembered of a container between two readings.
struct Known {
    /// The file of its state.
    file: Option<(u64, i64, i64)>,
    state: State,
    gauge: Gauge,
    /// Processor time, and when that was read.
    before: Option<(Duration, Instant)>,
}

impl Engine {
    /// Something that reads what containers use.
    ///
    /// # Errors
    /// One that is named does not exist.
    pub fn meter(&self, measured: Measured) -> Result<Meter<'_>, EngineError> {
        if let Measured::These(names) = &measured {
            names.iter().try_for_each(|name| self.find_container(name).map(drop))?;
        }
        Ok(Meter { engine: self, measured, known: HashMap::new(), machine_memory: self.machine_memory() })
    }
}

impl Meter<'_> {
    /// What they use now. Nothing is left when all that were named are gone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn read(&mut self) -> Result<Vec<Reading>, EngineError> {
        let mut readings = Vec::new();
        let records = self.records()?;
        for (record, asked) in &records {
            match self.read_one(record, asked) {
                Ok(reading) => readings.extend(reading),
                // It is being made or removed.
                Err(EngineError::File(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        self.known.retain(|id, _| records.iter().any(|(record, _)| record.id == *id));
        Ok(readings)
    }

    fn records(&self) -> Result<Vec<(ContainerRecord, String)>, EngineError> {
        let Measured::These(names) = &self.measured else {
            let short = |record: ContainerRecord| {
                let short = record.id.chars().take(12).collect();
                (record, short)
            };
            return Ok(self.engine.store.containers()?.into_iter().map(short).collect());
        };
        let mut records = Vec::new();
        for name in names {
            match self.engine.find_container(name) {
                Ok(record) => records.push((record, name.clone())),
                Err(EngineError::NoSuchContainer(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    fn read_one(&mut self, record: &ContainerRecord, asked: &str) -> Result<Option<Reading>, EngineError> {
        let wants_others = self.measured != Measured::Running;
        let known = self.look_at(&record.id)?;
        let mut reading = Reading {
            id: record.id.clone(),
            name: record.name.clone(),
            asked: asked.to_owned(),
            processor: Some(0.0),
            memory: (0, 0),
            network: (0, 0),
            block_devices: (0, 0),
            processes: 0,
            is_estimated: false,
        };
        let Some((known, machine_memory)) = known else {
            return Ok(wants_others.then_some(reading));
        };
        let begun = Instant::now();
        let mut figures = known.gauge.read();
        if figures.memory.is_none() || figures.processor_time.is_none() || figures.processes.is_none() {
            let pids = runner::processes::of_container(&known.state.group, known.state.pid);
            let sums = runner::processes::figures(&pids.map_err(runner::RunError::from)?);
            figures = completed(figures, sums);
            reading.is_estimated = true;
        }
        let time = figures.processor_time.unwrap_or_default();
        // From before one reading to after the next: time that passes in between never makes a share larger than it can be.
        reading.processor = known.before.replace((time, begun)).map(|(before, then)| {
            let passed = then.elapsed().as_secs_f64();
            time.saturating_sub(before).as_secs_f64() * 100.0 / passed.max(f64::MIN_POSITIVE)
        });
        let limit = figures.memory_limit.unwrap_or(machine_memory).min(machine_memory);
        reading.memory = (figures.memory.unwrap_or_default(), limit);
        // One that shares a network shares its figures, too; they are told of whose it is.
        if known.state.network.is_some() {
            reading.network = runner::processes::network_bytes(known.state.pid).unwrap_or_default();
        }
        reading.block_devices = figures.block_devices.unwrap_or_default();
        reading.processes = figures.processes.unwrap_or_default();
        Ok(Some(reading))
    }

    /// What is known of a container, if it runs.
    fn look_at(&mut self, id: &str) -> Result<Option<(&mut Known, u64)>, EngineError> {
        let directory = self.engine.store.container_path(id);
        let file = State::file(&directory)?.map(|data| (data.ino(), data.mtime(), data.mtime_nsec()));
        let is_same = self.known.get(id).is_some_and(|known| known.file == file);
        if !is_same || self.known.get(id).is_some_and(|known| has_processes(known.state.status)) {
            // Who is killed with his supervisor changes no file.
            let state = if is_same && State::is_supervised(&directory)? {
                None
            } else {
                Some(State::read(&directory)?)
            };
            if let Some(state) = state {
                let is_same_run = |known: &Known| known.state.started_at == state.started_at;
                let before =
                    self.known.get(id).filter(|known| is_same_run(known)).and_then(|known| known.before);
                let gauge = Gauge::open(&state.group);
                self.known.insert(id.to_owned(), Known { file, state, gauge, before });
            }
        }
        let known = self.known.get_mut(id).filter(|known| has_processes(known.state.status));
        Ok(known.map(|known| (known, self.machine_memory)))
    }
}

/// Figures, with those that nobody counts from the other.
fn completed(counted: Figures, sums: Figures) -> Figures {
    Figures {
        processor_time: counted.processor_time.or(sums.processor_time),
        memory: counted.memory.or(sums.memory),
        memory_limit: counted.memory_limit,
        block_devices: counted.block_devices.or(sums.block_devices),
        processes: counted.processes.or(sums.processes),
    }
}

//! Containers that clients and frontends make of results, to run processes in (`NewContainer`, `ExecProcess`).
//!
//! The first process of a container starts it, further ones join it, and it ends with the first.

use std::collections::HashMap;
use std::sync::Arc;

use engine::low_level;
use engine::session::{Session as EngineSession, SessionProcess, Solved};
use tonic::Status;

use super::results::{Found, Results};
use super::steer::Steering;
use crate::errors::{status_of, status_of_engine};
use crate::proto::{frontend, pb};

/// How many containers a build may have at once.
const MOST: usize = 64;

/// The containers of a build, by the names that clients give them.
#[derive(Default)]
pub(super) struct Containers(HashMap<String, MadeContainer>);

/// A container.
struct MadeContainer {
    request: frontend::NewContainerRequest,
    /// The process that started it.
    first: Option<Arc<SessionProcess>>,
}

impl Containers {
    pub(super) fn add(
        &mut self,
        request: frontend::NewContainerRequest,
    ) -> Result<frontend::NewContainerResponse, Status> {
        if self.0.len() >= MOST {
            return Err(Status::resource_exhausted(format!("a build has at most {MOST} containers at once")));
        }
        let id = request.container_id.clone();
        if self.0.contains_key(&id) {
            return Err(Status::already_exists(format!("there is a container {id} already")));
        }
        self.0.insert(id, MadeContainer { request, first: None });
        Ok(frontend::NewContainerResponse {})
    }

    /// Ends a container and all processes in it.
    pub(super) fn release(&mut self, id: &str) -> Result<frontend::ReleaseContainerResponse, Status> {
        let container = self.0.remove(id).ok_or_else(|| unknown(id))?;
        if let Some(first) = container.first {
            // One that has ended cannot be ended.
            let _ = first.kill();
        }
        Ok(frontend::ReleaseContainerResponse {})
    }
}

impl Drop for Containers {
    /// Processes do not outlive their build, whoever listens to them.
    fn drop(&mut self) {
        for first in self.0.values().filter_map(|container| container.first.as_ref()) {
            // One that has ended cannot be ended.
            let _ = first.kill();
        }
    }
}

fn unknown(id: &str) -> Status {
    Status::not_found(format!("no such container {id}"))
}

impl Steering<'_> {
    /// Starts a process in a container.
    pub(super) fn start_process(
        &self,
        session: &EngineSession<'_>,
        results: &mut Results,
        init: &frontend::InitMessage,
    ) -> Result<Arc<SessionProcess>, Status> {
        let container = results.containers.0.get(&init.container_id);
        let MadeContainer { request, first } = container.ok_or_else(|| unknown(&init.container_id))?;
        let mut meta = init.meta.clone().unwrap_or_default();
        meta.hostname.clone_from(&request.hostname);
        meta.extra_hosts.extend(request.extra_hosts.iter().cloned());
        let mut mounts = request.mounts.clone();
        for (number, mount) in (0..).zip(&mut mounts) {
            mount.input = if mount.result_id.is_empty() { -1 } else { number };
            // Nothing of it is a result.
            mount.output = -1;
        }
        let exec = pb::ExecOp {
            meta: Some(meta),
            network: request.network,
            security: init.security,
            secretenv: init.secretenv.clone(),
            mounts,
            cdi_devices: Vec::new(),
        };
        let opening = self.open_definition(&pb::Definition::default(), &HashMap::new(), &[])?.request;
        let planned = low_level::container(&exec, &opening.allow, |slot| slot < 0)
            .map_err(|error| status_of(&error.into()))?;
        if let Some(first) = first.as_ref().filter(|first| first.is_running()) {
            let process = first.further(&planned.op, init.tty);
            return process.map(Arc::new).map_err(|error| status_of_engine(&error));
        }
        let mut inputs: Vec<Option<(&Solved, usize)>> = Vec::new();
        for mount in &request.mounts {
            inputs.push(match mount.result_id.as_str() {
                "" => None,
                id => {
                    let Found { known, image, .. } = results.find(id)?;
                    Some((&known.solved, image))
                }
            });
        }
        let process = session.start(&planned, &inputs, &opening, init.tty);
        let process = Arc::new(process.map_err(|error| status_of_engine(&error))?);
        if let Some(container) = results.containers.0.get_mut(&init.container_id) {
            container.first = Some(Arc::clone(&process));
        }
        Ok(process)
    }
}

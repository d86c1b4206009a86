//! Containers that clients and frontends make of results, to run processes in (`NewContainer`, `ExecProcess`).
//!
//! The first process of a container starts it, further ones join it, and it ends with the first.

use std::collections::HashMap;
use std::sync::Arc;

use engine::low_level;
use engine::session::{Session as EngineSession, SessionProcess, Solved};
use tonic::Status;

use super::results::{Found, Results, entries_of, range_of};
use super::steer::Steering;
use crate::errors::{status_of, status_of_engine};
use crate::proto::{frontend, pb};
use crate::workers;

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

/// Where files of a container are looked for.
enum Place<'a> {
    /// In a container that was started: by its first process, below this path.
    Started(&'a SessionProcess, String),
    /// In the result that it would begin with.
    Result(Found<'a>, &'a str),
}

impl Results {
    /// Where `path` is, below one of the mounts of a container.
    fn place<'a>(&'a self, id: &str, mount: i32, path: &'a str) -> Result<Place<'a>, Status> {
        let MadeContainer { request, first } = self.containers.0.get(id).ok_or_else(|| unknown(id))?;
        let found = usize::try_from(mount).ok().and_then(|number| request.mounts.get(number));
        let found = found
            .ok_or_else(|| Status::invalid_argument(format!("the container {id} has no mount {mount}")))?;
        if let Some(first) = first {
            return Ok(Place::Started(first, format!("{}/{path}", found.dest)));
        }
        if found.result_id.is_empty() {
            let message = format!("{} of the container {id} is empty before it is started", found.dest);
            return Err(Status::not_found(message));
        }
        Ok(Place::Result(self.find(&found.result_id)?, path))
    }

    /// A part of a file of a container.
    pub(super) fn read_file_in(
        &self,
        session: &EngineSession<'_>,
        request: &frontend::ReadFileRequest,
    ) -> Result<frontend::ReadFileResponse, Status> {
        let range = range_of(request);
        let data = match self.place(&request.r#ref, request.mount_index, &request.file_path)? {
            Place::Started(first, path) => first.read_file(&path, range),
            Place::Result(Found { known, image, .. }, path) => {
                session.read_file(&known.solved, image, path, range)
            }
        };
        Ok(frontend::ReadFileResponse { data: data.map_err(|error| status_of_engine(&error))? })
    }

    /// What is in a directory of a container.
    pub(super) fn read_dir_in(
        &self,
        session: &EngineSession<'_>,
        request: &frontend::ReadDirRequest,
    ) -> Result<frontend::ReadDirResponse, Status> {
        let found = match self.place(&request.r#ref, request.mount_index, &request.dir_path)? {
            Place::Started(first, path) => first.read_dir(&path),
            Place::Result(Found { known, image, .. }, path) => session.read_dir(&known.solved, image, path),
        };
        Ok(entries_of(&found.map_err(|error| status_of_engine(&error))?, &request.include_pattern))
    }

    /// What is known of a file of a container.
    pub(super) fn stat_file_in(
        &self,
        session: &EngineSession<'_>,
        request: &frontend::StatFileRequest,
    ) -> Result<frontend::StatFileResponse, Status> {
        let found = match self.place(&request.r#ref, request.mount_index, &request.path)? {
            Place::Started(first, path) => first.stat_file(&path),
            Place::Result(Found { known, image, .. }, path) => session.stat_file(&known.solved, image, path),
        };
        let found = found.map_err(|error| status_of_engine(&error))?;
        Ok(frontend::StatFileResponse { stat: Some(workers::stat(&found)) })
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

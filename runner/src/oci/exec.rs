//! A further process in a container.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::{Capability, Process};
use sys::spawn::{Descriptors, Launched, Lifetime, launch_with};

use super::config::Config;
use super::create::{Created, has_terminal, stdio, supervise, write_pid};
use super::error::OciError;
use super::limits;
use super::record::Status;
use super::{Known, Runtime, console, process_of};
use crate::capabilities::CapabilitySet;
use crate::error::RunError;
use crate::plan::{self, Machine};

/// What `exec` is given.
#[derive(Debug, Clone)]
pub struct ExecRequest<'a> {
    /// The container.
    pub id: &'a str,
    /// The process.
    pub process: ExecProcess<'a>,
    /// Where the terminal is handed over, if the process has one.
    pub console_socket: Option<&'a Path>,
    /// A file that gets the number of the process.
    pub pid_file: Option<&'a Path>,
    /// Descriptors that the program gets from number 3 on.
    pub kept: Vec<BorrowedFd<'a>>,
    /// Whether it goes on when we end.
    pub detached: bool,
}

/// The process to run.
#[derive(Debug, Clone)]
pub enum ExecProcess<'a> {
    /// As this file describes it, a `process` of a spec.
    File(&'a Path),
    /// The container's own one with these changes.
    Like(ExecOptions),
}

/// Changes to a process. What is `None` or empty stays as it is.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Command and arguments.
    pub args: Vec<String>,
    /// Variables, `NAME=value`, that are added.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// User and group id.
    pub user: Option<(u32, Option<u32>)>,
    /// Supplementary groups that are added.
    pub groups: Vec<u32>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Capabilities that are added.
    pub capabilities: Vec<String>,
    /// Whether programs may not gain rights.
    pub no_new_privileges: bool,
}

impl Runtime {
    /// Runs a further process in a container that runs, in its namespaces and control group.
    pub fn exec(&self, request: &ExecRequest<'_>) -> Result<Created, OciError> {
        let Known { record, status } = self.look_up(request.id)?;
        if status != Status::Running {
            return Err(OciError::Status { id: request.id.to_owned(), status, operation: "entered" });
        }
        let mut config = Config::read(&record.bundle)?;
        let process = self.process(request, &config)?;
        config.spec.set_process(Some(process));
        console::check(has_terminal(&config.spec), request.console_socket, !request.detached)?;
        let target = process_of(&record)?.ok_or_else(|| OciError::NotRunning { id: record.id.clone() })?;
        let kinds = sys::ns::differing(record.pid)?;
        let group = record.group();
        let entrances: Vec<_> = group.entrances().collect();
        let bundle = config.bundle(stdio(&config.spec));
        let mut plan = plan::join(&bundle, Machine::this(), &entrances, kinds)?;
        if request.detached {
            plan.lifetime = Lifetime::Independent;
        }
        let terminal = has_terminal(&config.spec);
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let descriptors = Descriptors {
            streams: (!terminal).then_some([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
            kept: request.kept.clone(),
            target: Some(&target),
            hold: None,
            layers: Vec::new(),
        };
        let launched = launch_with(plan, &descriptors, &mut |_, _| true);
        let Launched { process, terminal, .. } =
            launched.map_err(|launch| RunError::of_launch(launch.error))?;
        let created = Created { process, terminal };
        self.hand_over(request, created)
    }

    fn hand_over(&self, request: &ExecRequest<'_>, mut created: Created) -> Result<Created, OciError> {
        let pid = created.process.pid().map_err(supervise)?.unwrap_or_default();
        let done = match (request.console_socket, created.terminal.take()) {
            (Some(socket), Some(terminal)) => console::hand_over(&terminal, socket),
            (_, terminal) => {
                created.terminal = terminal;
                Ok(())
            }
        };
        if let Err(error) = done.and_then(|()| write_pid(request.pid_file, pid)) {
            // The first error says more.
            let _ = created.end();
            return Err(error);
        }
        Ok(created)
    }

    fn process(&self, request: &ExecRequest<'_>, config: &Config) -> Result<Process, OciError> {
        match &request.process {
            ExecProcess::File(path) => {
                let bytes = sys::fs::read(path)?;
                let mut process: Process = serde_json::from_slice(&bytes)
                    .map_err(|source| OciError::Config { path: path.to_path_buf(), source })?;
                limits::make_attainable(&mut process);
                Ok(process)
            }
            ExecProcess::Like(options) => {
                let mut process = config.spec.process().clone().unwrap_or_default();
                options.apply(&mut process)?;
                Ok(process)
            }
        }
    }
}

impl ExecOptions {
    fn apply(&self, process: &mut Process) -> Result<(), OciError> {
        process.set_args(Some(self.args.clone())).set_terminal(Some(self.terminal));
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(self.env.iter().cloned());
        process.set_env(Some(env));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.into());
        }
        let mut user = process.user().clone();
        if let Some((uid, gid)) = self.user {
            user.set_uid(uid).set_gid(gid.unwrap_or(0)).set_additional_gids(None);
        }
        if !self.groups.is_empty() {
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.extend(&self.groups);
            user.set_additional_gids(Some(groups));
        }
        process.set_user(user);
        if self.no_new_privileges {
            process.set_no_new_privileges(Some(true));
        }
        self.add_capabilities(process)
    }

    fn add_capabilities(&self, process: &mut Process) -> Result<(), OciError> {
        if self.capabilities.is_empty() {
            return Ok(());
        }
        let added = CapabilitySet::adjusted(&self.capabilities, &["ALL".to_owned()])
            .map_err(crate::error::RequestError::from)?;
        let added: HashSet<Capability> = added.names().filter_map(|name| name.parse().ok()).collect();
        let with =
            |set: &Option<HashSet<Capability>>| Some(set.iter().flatten().chain(&added).copied().collect());
        let mut sets = process.capabilities().clone().unwrap_or_default();
        let [bounding, effective, permitted] =
            [sets.bounding(), sets.effective(), sets.permitted()].map(with);
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        process.set_capabilities(Some(sets));
        Ok(())
    }
}

//! The exec operation: a process over a filesystem, whose changes become a snapshot.

use base::event::Stream;
use base::{CancelToken, Key, KeyHasher};
use llb::{ExecOp, Rlimit, SecurityMode, VertexIndex};
use runner::etc_files::Resolver;
use runner::isolation::Gap;
use runner::request::DEFAULT_SHM_SIZE;
use runner::{EtcFiles, ExitStatus, ExtraMount, MountKind, RunRequest, Watched};
use snapshotter::{ActiveSnapshot, CommitInfo, Tree};
use solver::Lead;

use super::failed::FailedProcess;
use super::log_limit::LogLimit;
use super::mounts::StepMounts;
use super::outputs::Filesystems;
use super::{BuildOps, Filesystem, Surroundings};
use crate::emulation;
use crate::error::{EngineError, StepError};
use crate::network;
use crate::progress::Onlooker;
use crate::request::{HostAddress, ResourceLimit};
use crate::run::resolve_user;

/// What a step's process sees as its host's name, as in BuildKit.
const HOSTNAME: &str = "buildkitsandbox";

/// With less free space than this, a full disk is the likely reason for a failure.
const LEAST_SPACE: u64 = 1 << 20;

impl BuildOps<'_> {
    /// Runs the process of a step, again if it fails and is to be tried again. Each attempt begins with the same
    /// files.
    pub(super) fn exec(
        &self,
        index: VertexIndex,
        op: &ExecOp,
        inputs: &[Option<Filesystem>],
        lead: &Lead<'_, Onlooker>,
    ) -> Result<Filesystems, StepError> {
        let vertex = self.graph.vertex(index);
        emulation::check(&vertex.platform)?;
        let retries = self.request.steps.rules.retries(&vertex.metadata.name, &vertex.metadata.stage);
        for attempt in 1..=retries {
            match self.attempt(index, op, inputs, false, lead) {
                Err(error) if error.is_of_command() => {
                    let attempts = u64::from(retries) + 1;
                    let told = format!("attempt {attempt} of {attempts} failed: {error}; trying again\n");
                    self.progress.log(vertex.id, Stream::Stderr, told.as_bytes(), told.as_bytes());
                }
                result => return result,
            }
        }
        self.attempt(index, op, inputs, true, lead)
    }

    /// Runs the process once. What the last attempt left when it failed is kept.
    fn attempt(
        &self,
        index: VertexIndex,
        op: &ExecOp,
        inputs: &[Option<Filesystem>],
        is_last: bool,
        lead: &Lead<'_, Onlooker>,
    ) -> Result<Filesystems, StepError> {
        let vertex = self.graph.vertex(index);
        let cancel = lead.cancel();
        let root = if op.has_root { inputs.first().copied().flatten() } else { None };
        let store = &self.engine.store;
        let active = store.prepare(self.lease, root.map(|root| root.snapshot)).map_err(EngineError::from)?;
        let surroundings = self.surroundings();
        let mounts = surroundings.mounts(op, inputs, cancel)?;
        let request = surroundings.process(op, root, &active, &mounts)?;
        let clock = &self.engine.clock;
        let mut limit = LogLimit::new(self.request.steps.log, clock.now());
        let mut log = |stream: Stream, data: &[u8]| {
            let shown = limit.show(data, clock.now());
            self.progress.log(vertex.id, stream, data, &shown);
            lead.waiting().iter().for_each(|onlooker| onlooker.log(stream, data, &shown));
        };
        let time = self.request.steps.rules.time_limits(&vertex.metadata.name, &vertex.metadata.stage);
        let watched = runner::run_watched(&request, time, &mut log, cancel).map_err(EngineError::from)?;
        let Watched { finished, expired } = watched;
        // Others may have the caches from now on.
        let written = mounts.into_written();
        if let Some(recorder) = self.progress.recorder() {
            recorder.used(index, finished.usage);
        }
        let error = match (expired, failure(op, finished.status)) {
            (Some(expired), _) => Some(StepError::TimedOut { command: op.args.join(" "), expired }),
            (None, Some(status)) => {
                let hint = self.hint(finished.out_of_memory())?;
                Some(StepError::Process { command: op.args.join(" "), status, hint })
            }
            (None, None) => None,
        };
        if let Some(error) = error {
            // On a full disk nothing is kept that could go.
            if is_last && !self.is_disk_full()? {
                let process = FailedProcess { error: &error, active, written };
                self.keep_failed(vertex, op, inputs, process);
            }
            return Err(error);
        }
        let mut all = vec![committed(root, active, cancel)?];
        for (index, changes) in written.into_iter().filter(|(index, _)| op.is_kept(*index)) {
            let input =
                op.mounts[index].input().and_then(|slot| inputs.get(slot as usize).copied().flatten());
            all.push(committed(input, changes, cancel)?);
        }
        Ok(all.into())
    }

    /// A likely reason for a failure that the command did not tell.
    fn hint(&self, out_of_memory: bool) -> Result<Option<String>, EngineError> {
        if out_of_memory {
            return Ok(Some(
                "a process of the step reached the memory limit and was killed; raise --memory or --total-resource memory"
                    .to_owned(),
            ));
        }
        let root = self.engine.store.root().display();
        let full = || format!("the disk of the store, {root}, is full");
        Ok(self.is_disk_full()?.then(full).or_else(|| self.users_hint()))
    }

    /// A command that changes owners or users fails where there is no other than root.
    fn users_hint(&self) -> Option<String> {
        let gaps = self.engine.isolation.iter().flat_map(|isolation| &isolation.gaps);
        let why = gaps.filter(|gap| matches!(gap, Gap::Users(_))).map(Gap::why).next()?;
        Some(format!(
            "if it needs other users or owners than root: {why}; lap system doctor tells what to do"
        ))
    }

    /// A command that fails on a full disk often says something else.
    fn is_disk_full(&self) -> Result<bool, EngineError> {
        Ok(sys::fs::free_space(self.engine.store.root())? < LEAST_SPACE)
    }
}

impl Surroundings<'_> {
    /// The process of `op` over `active`, which is on top of `root`.
    pub(crate) fn process(
        &self,
        op: &ExecOp,
        root: Option<Filesystem>,
        active: &ActiveSnapshot,
        mounts: &StepMounts,
    ) -> Result<RunRequest, EngineError> {
        let tree = root.map(|root| self.tree(root.snapshot)).transpose()?;
        let runner::passwd::ResolvedUser { user, home } = resolve_user(tree.as_ref(), &op.user)?;
        let mut env = op.env.clone();
        env.extend(op.proxy_env.iter().chain(&mounts.env).cloned());
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            env.push(format!("HOME={home}"));
        }
        let script = |file: &llb::ScriptFile| ExtraMount {
            destination: file.path.clone(),
            kind: MountKind::File {
                content: file.content.clone(),
                mode: file.mode,
                uid: 0,
                gid: 0,
                read_only: true,
            },
        };
        let settings = self.settings;
        let hostname = op.hostname.as_deref().unwrap_or(HOSTNAME);
        let network = self.engine.network_of_step(op.network, settings)?;
        let is_connected = matches!(network, runner::Network::Connected(_));
        let mut hosts = settings.hosts.clone();
        for (name, address) in &op.hosts {
            hosts.push((name.clone(), HostAddress::Given(*address)));
        }
        let mut rlimits = settings.rlimits.clone();
        for limit in &op.rlimits {
            rlimits.push(limit_of(limit)?);
        }
        let etc = EtcFiles {
            resolv_conf: Some(runner::etc_files::resolv_conf(&Resolver::default())?),
            hosts: Some(network::hosts(is_connected, hostname, &hosts)),
            hostname: None,
            read_only: true,
        };
        Ok(RunRequest {
            isolation: self.engine.isolation()?.mode,
            env,
            cwd: op.cwd.clone(),
            create_cwd: true,
            user,
            hostname: Some(hostname.to_owned()),
            network,
            etc,
            mounts: mounts.mounts.iter().cloned().chain(op.files.iter().map(script)).collect(),
            privileged: op.security == SecurityMode::Insecure,
            rlimits,
            read_only_root: op.read_only_root,
            limits: settings.limits.clone(),
            group: self.group.place(settings)?,
            shm_size: settings.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
            layer_way: self.engine.store.layer_way(),
            kept_layers: self.layers.clone(),
            ..RunRequest::new(active.mount()?, op.args.clone())
        })
    }
}

/// A limit, by the name of what it limits.
fn limit_of(limit: &Rlimit) -> Result<ResourceLimit, EngineError> {
    let Rlimit { name, soft, hard } = limit;
    let text = format!("{name}={soft}:{hard}");
    text.parse().map_err(|source| EngineError::StepLimit { text, source })
}

/// A result: what `active` has on top of `root`.
fn committed(
    root: Option<Filesystem>,
    active: ActiveSnapshot,
    cancel: &CancelToken,
) -> Result<Filesystem, EngineError> {
    let content = exec_content(root, &active, cancel)?;
    let info = CommitInfo { content: Some(content), ..CommitInfo::default() };
    Ok(Filesystem { snapshot: active.commit(info)?, content })
}

/// What the process left: the files it began with, and its changes to them.
fn exec_content(
    root: Option<Filesystem>,
    active: &ActiveSnapshot,
    cancel: &CancelToken,
) -> Result<Key, EngineError> {
    let below = match active.lower_dirs() {
        [] => None,
        dirs => Some(Tree::overlay(dirs)?),
    };
    let changes = snapshotter::content_key::diff_key(active.layer_dir(), below.as_ref(), cancel)?;
    let mut hasher = KeyHasher::new("lapstrake/exec-content/v1");
    hasher.add(&root.map(|root| root.content)).bool(active.is_full_copy()).add(&changes);
    Ok(hasher.finish())
}

/// How a process failed, in Docker's words.
fn failure(op: &ExecOp, status: ExitStatus) -> Option<String> {
    match status {
        ExitStatus::Exited(code) if op.is_success(code) => None,
        ExitStatus::Exited(code) => Some(format!("exit code: {code}")),
        ExitStatus::Signaled(signal) => {
            Some(format!("exit code: {} (killed by signal {signal})", 128 + signal))
        }
    }
}

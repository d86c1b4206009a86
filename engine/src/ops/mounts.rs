//! What is mounted for a step's process, and gone when it ends.

use std::path::PathBuf;

use base::CancelToken;
use llb::{BindMount, CacheMount, ExecMount, ExecOp, MountKind, SecretMount, Sharing, SshMount};
use runner::ExtraMount;
use runner::isolation::Mode;
use snapshotter::{ActiveSnapshot, CacheMountRequest, CacheSeed, ScratchDir};

use super::{Filesystem, Surroundings};
use crate::cdi;
use crate::error::EngineError;
use crate::ssh::Agent;

/// The mode of a file system in memory.
const TMPFS_MODE: u32 = 0o1777;

/// The mounts of one process, and what must stay until it has ended.
#[derive(Default)]
pub(crate) struct StepMounts {
    /// In the order in which they are made: what is nearer to the root first.
    pub(crate) mounts: Vec<ExtraMount>,
    /// `NAME=value` of secrets and devices.
    pub(crate) env: Vec<String>,
    /// The directories of the caches, by id.
    caches: Vec<(String, PathBuf)>,
    held: Vec<Held>,
}

/// Caches first, by the name of the directory: steps that lock the same ones take them in the same order, whatever
/// order they are written in, and never wait for each other in a circle. Of several mounts of one cache the strictest
/// is first, and decides who else may use it meanwhile.
fn in_locking_order<'a>(
    mounts: &'a [ExecMount],
    inputs: &[Option<Filesystem>],
) -> Vec<(usize, &'a ExecMount)> {
    let place = |mount: &ExecMount| match &mount.kind {
        MountKind::Cache(cache) => {
            let strictness = match cache.sharing {
                Sharing::Locked => 0,
                Sharing::Private => 1,
                Sharing::Shared => 2,
            };
            (false, cache_id(cache, input_of(mount, inputs)), strictness)
        }
        _ => (true, String::new(), 0),
    };
    let mut ordered: Vec<(usize, &ExecMount)> = mounts.iter().enumerate().collect();
    ordered.sort_by_cached_key(|(_, mount)| place(mount));
    ordered
}

/// What a mount brings along.
fn input_of(mount: &ExecMount, inputs: &[Option<Filesystem>]) -> Option<Filesystem> {
    mount.input().and_then(|slot| inputs.get(slot as usize).copied().flatten())
}

/// What the store calls a cache. Caches that start differently are different caches.
fn cache_id(cache: &CacheMount, seed: Option<Filesystem>) -> String {
    match seed {
        Some(seed) => format!("{} from {}{}", cache.id, seed.content.hex(), cache.source),
        None => cache.id.clone(),
    }
}

impl StepMounts {
    /// What the process wrote to filesystems of inputs, by the places of their mounts. Everything else goes.
    pub(super) fn into_written(self) -> Vec<(usize, ActiveSnapshot)> {
        let written = self.held.into_iter().filter_map(|held| match held {
            Held::Changes(index, changes) => Some((index, changes)),
            _ => None,
        });
        let mut written: Vec<_> = written.collect();
        written.sort_by_key(|(index, _)| *index);
        written
    }
}

/// Goes away with the process.
#[expect(dead_code, reason = "held for what dropping them does")]
enum Held {
    /// Takes what the process wrote, and says by which mount.
    Changes(usize, ActiveSnapshot),
    Cache(snapshotter::CacheMount),
    Empty(ScratchDir),
    Agent(Agent),
}

impl Surroundings<'_> {
    /// Prepares the mounts of a process. Waits for a cache that another process has locked.
    pub(crate) fn mounts(
        &self,
        op: &ExecOp,
        inputs: &[Option<Filesystem>],
        cancel: &CancelToken,
    ) -> Result<StepMounts, EngineError> {
        let mut step = StepMounts::default();
        for (index, mount) in in_locking_order(&op.mounts, inputs) {
            let input = input_of(mount, inputs);
            let kind = match &mount.kind {
                MountKind::Bind(bind) => Some(self.bind((index, bind), input, &mut step)?),
                MountKind::Cache(cache) => Some(self.cache(cache, input, &mut step, cancel)?),
                MountKind::Tmpfs(tmpfs) => {
                    Some(runner::MountKind::Tmpfs { size: tmpfs.size, mode: TMPFS_MODE, options: Vec::new() })
                }
                MountKind::Secret(secret) => self.secret(secret, &mut step)?,
                MountKind::Ssh(ssh) => self.agent(ssh, &mut step, cancel)?,
            };
            if let Some(kind) = kind {
                step.mounts.push(ExtraMount { destination: mount.target.clone(), kind });
            }
        }
        let devices = cdi::edits(&op.devices, &self.settings.device_directories)?;
        step.mounts.extend(devices.mounts);
        step.env.extend(devices.env);
        step.mounts.sort_by_key(|mount| mount.destination.matches('/').count());
        Ok(step)
    }

    fn bind(
        &self,
        (index, bind): (usize, &BindMount),
        input: Option<Filesystem>,
        step: &mut StepMounts,
    ) -> Result<runner::MountKind, EngineError> {
        let store = &self.engine.store;
        let read_only = !bind.writable;
        let source = match input {
            None if read_only || !bind.kept => {
                let empty = store.scratch(self.lease)?;
                let source = empty.path().to_owned();
                step.held.push(Held::Empty(empty));
                return Ok(runner::MountKind::Bind { source, read_only, recursive: false });
            }
            Some(input) if read_only => store.mount_read_only(self.lease, input.snapshot)?,
            input => {
                let changes = store.prepare(self.lease, input.map(|input| input.snapshot))?;
                let mount = changes.mount()?;
                step.held.push(Held::Changes(index, changes));
                mount
            }
        };
        Ok(runner::MountKind::Part { source, path: bind.source.clone(), read_only })
    }

    fn cache(
        &self,
        cache: &CacheMount,
        input: Option<Filesystem>,
        step: &mut StepMounts,
        cancel: &CancelToken,
    ) -> Result<runner::MountKind, EngineError> {
        let id = cache_id(cache, input);
        // A process that mounts a cache twice shares it with itself.
        if let Some((_, source)) = step.caches.iter().find(|(known, _)| *known == id) {
            let source = source.clone();
            return Ok(runner::MountKind::Bind { source, read_only: cache.read_only, recursive: false });
        }
        let request = CacheMountRequest {
            id: &id,
            sharing: match cache.sharing {
                Sharing::Shared => snapshotter::Sharing::Shared,
                Sharing::Private => snapshotter::Sharing::Private,
                Sharing::Locked => snapshotter::Sharing::Locked,
            },
            seed: input.map(|input| CacheSeed { snapshot: input.snapshot, path: &cache.source }),
            mode: cache.mode,
            uid: cache.uid,
            gid: cache.gid,
        };
        if let Some(portable) = self.portable {
            portable.bring(&request, cancel)?;
        }
        let mounted = self.engine.store.cache_mount(self.lease, &request, cancel)?;
        let source = mounted.dir().to_owned();
        step.held.push(Held::Cache(mounted));
        step.caches.push((id, source.clone()));
        Ok(runner::MountKind::Bind { source, read_only: cache.read_only, recursive: false })
    }

    /// A secret as a file, a variable or both; nothing if the caller does not have it and it is not needed.
    fn secret(
        &self,
        secret: &SecretMount,
        step: &mut StepMounts,
    ) -> Result<Option<runner::MountKind>, EngineError> {
        let Some(content) = self.secrets.get(&secret.id)? else {
            return if secret.required { Err(EngineError::NoSecret(secret.id.clone())) } else { Ok(None) };
        };
        if let Some(name) = &secret.env {
            step.env.push(format!("{name}={}", String::from_utf8_lossy(&content)));
        }
        if secret.as_file && self.engine.isolation()?.mode == Mode::Chroot {
            return Err(EngineError::SecretNeedsMount(secret.id.clone()));
        }
        Ok(secret.as_file.then_some(runner::MountKind::File {
            content,
            mode: secret.mode,
            uid: secret.uid,
            gid: secret.gid,
            read_only: true,
        }))
    }

    fn agent(
        &self,
        ssh: &SshMount,
        step: &mut StepMounts,
        cancel: &CancelToken,
    ) -> Result<Option<runner::MountKind>, EngineError> {
        let Some(source) = self.ssh.get(&ssh.id)? else {
            return if ssh.required { Err(EngineError::NoSshAgent(ssh.id.clone())) } else { Ok(None) };
        };
        let (store, owner) = (&self.engine.store, (ssh.uid, ssh.gid));
        let agent = Agent::start(store, self.lease, &source, ssh.mode, owner, cancel)?;
        let source = agent.socket().to_owned();
        step.held.push(Held::Agent(agent));
        Ok(Some(runner::MountKind::Bind { source, read_only: false, recursive: false }))
    }
}

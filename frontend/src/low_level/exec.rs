//! Processes.

use std::net::IpAddr;

use base::Platform;
use bollard_buildkit_proto::pb;
use llb::{
    BindMount, CacheMount, DeviceRequest, ExecMount, ExecOp, Input, MountKind, NetworkMode, Op, Rlimit,
    SecretMount, SecurityMode, Sharing, SshMount, TmpfsMount,
};

use super::error::DefinitionError;
use super::operations::Operation;
use super::{Lowering, Value};
use crate::args::DEFAULT_PATH;
use crate::options::Entitlement;

/// The mode of a secret's file that says none.
const SECRET_MODE: u32 = 0o400;

/// The mode of an agent's socket that says none.
const SOCKET_MODE: u32 = 0o600;

/// The mode of a new cache.
const CACHE_MODE: u32 = 0o755;

/// Where secrets are that are variables alone.
const SECRETS: &str = "/run/secrets";

/// The agent that is meant when none is named.
const DEFAULT_AGENT: &str = "default";

/// What the mounts of a process become.
#[derive(Default)]
struct Mounts {
    inputs: Vec<Input>,
    mounts: Vec<ExecMount>,
    read_only_root: bool,
    /// By number of the result: which of ours it is, or that of an input that nobody writes to.
    results: Vec<(i64, Kept)>,
    kept: u32,
}

/// A result of a process.
#[derive(Clone, Copy)]
enum Kept {
    /// One of the vertex.
    Output(u32),
    /// The input as it is.
    Unchanged(Value),
}

impl Lowering<'_> {
    /// A process and its results.
    pub(super) fn exec(
        &mut self,
        operation: &Operation<'_>,
        exec: &pb::ExecOp,
        platform: &Platform,
    ) -> Result<Vec<Value>, DefinitionError> {
        let meta = exec.meta.as_ref().ok_or_else(|| operation.invalid("it has no command"))?;
        if meta.args.is_empty() {
            return Err(operation.invalid("it has no command"));
        }
        let mounts = self.mounts(operation, exec)?;
        let has_root = self.has_root(operation, exec)?;
        let op = ExecOp {
            has_root,
            args: meta.args.clone(),
            env: environment(&meta.env),
            proxy_env: meta.proxy_env.as_ref().map(proxies).unwrap_or_default(),
            cwd: if meta.cwd.is_empty() { "/".to_owned() } else { absolute(&meta.cwd) },
            user: meta.user.clone(),
            network: self.network(operation, exec)?,
            security: self.security(operation, exec)?,
            hostname: Some(meta.hostname.clone()).filter(|name| !name.is_empty()),
            files: Vec::new(),
            mounts: mounts.mounts,
            devices: self.devices(operation, exec)?,
            read_only_root: mounts.read_only_root,
            hosts: hosts(operation, meta)?,
            rlimits: meta.ulimit.iter().map(rlimit).collect(),
            exit_codes: meta.valid_exit_codes.clone(),
        };
        if !meta.cgroup_parent.is_empty() {
            return Err(operation.unsupported("a control group of its own (cgroupParent)"));
        }
        let vertex = self.add(operation, Op::Exec(op), platform, &mounts.inputs);
        let outputs = mounts.results.iter().map(|(output, _)| *output + 1).max().unwrap_or(0);
        let mut values = vec![Value::Scratch; usize::try_from(outputs).unwrap_or(0)];
        for (output, kept) in mounts.results {
            let value = match kept {
                Kept::Output(output) => Value::Filesystem(Input { output, ..vertex }),
                Kept::Unchanged(value) => value,
            };
            if let Some(place) = usize::try_from(output).ok().and_then(|output| values.get_mut(output)) {
                *place = value;
            }
        }
        Ok(values)
    }

    fn has_root(&self, operation: &Operation<'_>, exec: &pb::ExecOp) -> Result<bool, DefinitionError> {
        let root = exec.mounts.iter().find(|mount| is_root(mount));
        let root = root.ok_or_else(|| operation.invalid("it has no root filesystem"))?;
        Ok(!matches!(self.input(operation, root.input)?, Value::Scratch))
    }

    fn mounts(&mut self, operation: &Operation<'_>, exec: &pb::ExecOp) -> Result<Mounts, DefinitionError> {
        let outputs = exec.mounts.iter().filter(|mount| mount.output >= 0).count();
        let is_too_large = |mount: &&pb::Mount| usize::try_from(mount.output).is_ok_and(|at| at >= outputs);
        if let Some(mount) = exec.mounts.iter().find(is_too_large) {
            return Err(
                operation.invalid(format!("it has result {}, and only {outputs} mounts", mount.output))
            );
        }
        let mut mounts = Mounts::default();
        // The root is the first input, wherever it is named.
        let (roots, others): (Vec<_>, Vec<_>) = exec.mounts.iter().partition(|mount| is_root(mount));
        let [root] = roots.as_slice() else {
            return Err(operation.invalid(format!("it has {} root filesystems, and not one", roots.len())));
        };
        if kind(root) != Some(pb::MountType::Bind) || !plain(&root.selector).is_empty() {
            return Err(operation.unsupported("a root filesystem that is not a whole input"));
        }
        let value = self.input(operation, root.input)?;
        mounts.inputs.extend(self.filesystem(operation, value));
        mounts.read_only_root = root.readonly;
        if root.output >= 0 {
            let kept = if root.readonly { Kept::Unchanged(value) } else { Kept::Output(0) };
            mounts.results.push((root.output, kept));
        }
        for mount in others {
            self.mount(operation, mount, &mut mounts)?;
        }
        for secret in &exec.secretenv {
            let pb::SecretEnv { id, name, optional } = secret;
            let kind = MountKind::Secret(SecretMount {
                id: id.clone(),
                as_file: false,
                env: Some(name.clone()),
                required: !optional,
                mode: SECRET_MODE,
                uid: 0,
                gid: 0,
            });
            mounts.mounts.push(ExecMount { target: format!("{SECRETS}/{id}"), kind });
        }
        Ok(mounts)
    }

    fn mount(
        &mut self,
        operation: &Operation<'_>,
        mount: &pb::Mount,
        mounts: &mut Mounts,
    ) -> Result<(), DefinitionError> {
        let source = absolute(&mount.selector);
        let kind = match kind(mount) {
            Some(pb::MountType::Bind) => {
                let value = self.input(operation, mount.input)?;
                let input = self.slot(operation, value, mounts);
                let kept = mount.output >= 0 && !mount.readonly;
                if mount.output >= 0 {
                    mounts.kept += u32::from(kept);
                    let kept = if kept { Kept::Output(mounts.kept) } else { Kept::Unchanged(value) };
                    mounts.results.push((mount.output, kept));
                }
                MountKind::Bind(BindMount { input, source, writable: !mount.readonly, kept })
            }
            Some(pb::MountType::Cache) => {
                let value = self.input(operation, mount.input)?;
                let input = self.slot(operation, value, mounts);
                let options = mount.cache_opt.clone().unwrap_or_default();
                let sharing = match pb::CacheSharingOpt::try_from(options.sharing) {
                    Ok(pb::CacheSharingOpt::Shared) => Sharing::Shared,
                    Ok(pb::CacheSharingOpt::Private) => Sharing::Private,
                    Ok(pb::CacheSharingOpt::Locked) => Sharing::Locked,
                    Err(_) => return Err(operation.unsupported("another way to share a cache")),
                };
                let id = if options.id.is_empty() { absolute(&mount.dest) } else { options.id };
                let read_only = mount.readonly;
                let (mode, uid, gid) = (CACHE_MODE, 0, 0);
                MountKind::Cache(CacheMount { id, input, source, sharing, read_only, mode, uid, gid })
            }
            Some(pb::MountType::Tmpfs) => {
                let size = mount.tmpfs_opt.as_ref().map_or(0, |options| options.size);
                let size = u64::try_from(size).ok().filter(|size| *size > 0);
                MountKind::Tmpfs(TmpfsMount { size })
            }
            Some(pb::MountType::Secret) => {
                let options = mount.secret_opt.clone().unwrap_or_default();
                let pb::SecretOpt { id, uid, gid, mode, optional } = options;
                let mode = if mode == 0 { SECRET_MODE } else { mode & 0o7777 };
                MountKind::Secret(SecretMount {
                    id,
                    as_file: true,
                    env: None,
                    required: !optional,
                    mode,
                    uid,
                    gid,
                })
            }
            Some(pb::MountType::Ssh) => {
                let pb::SshOpt { id, uid, gid, mode, optional } = mount.ssh_opt.clone().unwrap_or_default();
                let id = if id.is_empty() { DEFAULT_AGENT.to_owned() } else { id };
                let mode = if mode == 0 { SOCKET_MODE } else { mode & 0o7777 };
                MountKind::Ssh(SshMount { id, required: !optional, mode, uid, gid })
            }
            None => return Err(operation.unsupported("another kind of mount")),
        };
        mounts.mounts.push(ExecMount { target: absolute(&mount.dest), kind });
        Ok(())
    }

    /// The slot in which a mount has its input.
    fn slot(&mut self, operation: &Operation<'_>, value: Value, mounts: &mut Mounts) -> Option<u32> {
        let input = self.filesystem(operation, value)?;
        mounts.inputs.push(input);
        u32::try_from(mounts.inputs.len() - 1).ok()
    }

    fn network(&self, operation: &Operation<'_>, exec: &pb::ExecOp) -> Result<NetworkMode, DefinitionError> {
        match pb::NetMode::try_from(exec.network) {
            Ok(pb::NetMode::Unset) => Ok(NetworkMode::Default),
            Ok(pb::NetMode::None) => Ok(NetworkMode::None),
            Ok(pb::NetMode::Host) => {
                self.entitled(operation, Entitlement::NetworkHost)?;
                Ok(NetworkMode::Host)
            }
            Err(_) => Err(operation.unsupported("another kind of network")),
        }
    }

    fn security(
        &self,
        operation: &Operation<'_>,
        exec: &pb::ExecOp,
    ) -> Result<SecurityMode, DefinitionError> {
        match pb::SecurityMode::try_from(exec.security) {
            Ok(pb::SecurityMode::Sandbox) => Ok(SecurityMode::Sandbox),
            Ok(pb::SecurityMode::Insecure) => {
                self.entitled(operation, Entitlement::SecurityInsecure)?;
                Ok(SecurityMode::Insecure)
            }
            Err(_) => Err(operation.unsupported("another security mode")),
        }
    }

    fn devices(
        &self,
        operation: &Operation<'_>,
        exec: &pb::ExecOp,
    ) -> Result<Vec<DeviceRequest>, DefinitionError> {
        let device = |device: &pb::CdiDevice| {
            self.entitled(operation, Entitlement::Device)?;
            Ok(DeviceRequest { name: device.name.clone(), required: !device.optional })
        };
        exec.cdi_devices.iter().map(device).collect()
    }
}

fn is_root(mount: &pb::Mount) -> bool {
    plain(&mount.dest).is_empty() && kind(mount) == Some(pb::MountType::Bind)
}

fn kind(mount: &pb::Mount) -> Option<pb::MountType> {
    pb::MountType::try_from(mount.mount_type).ok()
}

/// A path relative to the root, without `.` and `..`; the root is empty.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The same from the root on.
pub(super) fn absolute(path: &str) -> String {
    format!("/{}", plain(path))
}

/// The variables, with a `PATH` if there is none.
fn environment(env: &[String]) -> Vec<String> {
    let mut env = env.to_vec();
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    env
}

/// The variables that programs take proxies from, in both spellings.
fn proxies(proxies: &pb::ProxyEnv) -> Vec<String> {
    let pb::ProxyEnv { http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy } = proxies;
    let all = [
        ("HTTP_PROXY", http_proxy),
        ("HTTPS_PROXY", https_proxy),
        ("FTP_PROXY", ftp_proxy),
        ("NO_PROXY", no_proxy),
        ("ALL_PROXY", all_proxy),
    ];
    let set = all.into_iter().filter(|(_, value)| !value.is_empty());
    set.flat_map(|(name, value)| [format!("{name}={value}"), format!("{}={value}", name.to_lowercase())])
        .collect()
}

fn hosts(operation: &Operation<'_>, meta: &pb::Meta) -> Result<Vec<(String, IpAddr)>, DefinitionError> {
    let host = |host: &pb::HostIp| {
        let wrong = || operation.invalid(format!("{:?} is no address of the host {:?}", host.ip, host.host));
        if host.host.is_empty() || host.host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(operation.invalid(format!("{:?} is no name of a host", host.host)));
        }
        Ok((host.host.clone(), host.ip.parse().map_err(|_| wrong())?))
    };
    meta.extra_hosts.iter().map(host).collect()
}

fn rlimit(limit: &pb::Ulimit) -> Rlimit {
    Rlimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }
}

//! Processes of a definition: what they see, what they may do, and which filesystems they leave.

use std::collections::BTreeSet;
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
use crate::lower::clean;
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
    /// The numbers of the inputs that fill our slots, the root first.
    inputs: Vec<i64>,
    has_root: bool,
    mounts: Vec<ExecMount>,
    read_only_root: bool,
    /// By number of the result: which of ours it is, or the number of an input that nobody writes to.
    results: Vec<(i64, Kept)>,
    kept: u32,
}

/// A result of a process.
#[derive(Clone, Copy)]
enum Kept {
    /// One of the vertex.
    Output(u32),
    /// The input of this number as it is.
    Unchanged(i64),
}

/// A process that is no operation of a graph: a frontend, or one that somebody starts to look around.
#[derive(Debug)]
pub struct Container {
    /// What runs, and what it sees.
    pub op: ExecOp,
    /// The numbers of the inputs that fill its slots.
    pub inputs: Vec<i64>,
}

/// A process over inputs that the caller has, of which `is_empty` says whether there is nothing in one.
///
/// # Errors
/// It makes no sense, or needs more than `allow` gives it.
pub fn container(
    exec: &pb::ExecOp,
    allow: &BTreeSet<Entitlement>,
    is_empty: impl Fn(i64) -> bool,
) -> Result<Container, DefinitionError> {
    let operation =
        Operation::alone(pb::Op { op: Some(pb::op::Op::Exec(exec.clone())), ..pb::Op::default() });
    let mounts = mounts(&operation, exec, &|slot| Ok(is_empty(slot)))?;
    let (inputs, op) = (mounts.inputs.clone(), process(&operation, exec, mounts, allow)?);
    Ok(Container { op, inputs })
}

impl Lowering<'_> {
    /// A process and its results.
    pub(super) fn exec(
        &mut self,
        operation: &Operation<'_>,
        exec: &pb::ExecOp,
        platform: &Platform,
    ) -> Result<Vec<Value>, DefinitionError> {
        let is_empty = |slot: i64| Ok(matches!(self.input(operation, slot)?, Value::Scratch));
        let mut mounts = mounts(operation, exec, &is_empty)?;
        let results = std::mem::take(&mut mounts.results);
        let mut inputs = Vec::new();
        for slot in &mounts.inputs {
            let value = self.input(operation, *slot)?;
            inputs.extend(self.filesystem(operation, value));
        }
        let op = process(operation, exec, mounts, &self.options.allow)?;
        let vertex = self.add(operation, Op::Exec(op), platform, &inputs);
        let outputs = results.iter().map(|(output, _)| *output + 1).max().unwrap_or(0);
        let mut values = vec![Value::Scratch; usize::try_from(outputs).unwrap_or(0)];
        for (output, kept) in results {
            let value = match kept {
                Kept::Output(output) => Value::Filesystem(Input { output, ..vertex }),
                Kept::Unchanged(slot) => self.input(operation, slot)?,
            };
            if let Some(place) = usize::try_from(output).ok().and_then(|output| values.get_mut(output)) {
                *place = value;
            }
        }
        Ok(values)
    }
}

/// Whether an input has nothing in it.
type IsEmpty<'a> = dyn Fn(i64) -> Result<bool, DefinitionError> + 'a;

fn process(
    operation: &Operation<'_>,
    exec: &pb::ExecOp,
    mounts: Mounts,
    allow: &BTreeSet<Entitlement>,
) -> Result<ExecOp, DefinitionError> {
    let meta = exec.meta.as_ref().ok_or_else(|| operation.invalid("it has no command"))?;
    if meta.args.is_empty() {
        return Err(operation.invalid("it has no command"));
    }
    if !meta.cgroup_parent.is_empty() {
        return Err(operation.unsupported("a control group of its own (cgroupParent)"));
    }
    Ok(ExecOp {
        has_root: mounts.has_root,
        args: meta.args.clone(),
        env: environment(&meta.env),
        proxy_env: meta.proxy_env.as_ref().map(proxies).unwrap_or_default(),
        cwd: clean(&meta.cwd),
        user: meta.user.clone(),
        network: network(operation, exec, allow)?,
        security: security(operation, exec, allow)?,
        hostname: Some(meta.hostname.clone()).filter(|name| !name.is_empty()),
        files: Vec::new(),
        mounts: mounts.mounts,
        devices: devices(operation, exec, allow)?,
        read_only_root: mounts.read_only_root,
        hosts: hosts(operation, meta)?,
        rlimits: meta.ulimit.iter().map(rlimit).collect(),
        exit_codes: meta.valid_exit_codes.clone(),
    })
}

fn mounts(
    operation: &Operation<'_>,
    exec: &pb::ExecOp,
    is_empty: &IsEmpty<'_>,
) -> Result<Mounts, DefinitionError> {
    let outputs = exec.mounts.iter().filter(|mount| mount.output >= 0).count();
    let is_too_large = |mount: &&pb::Mount| usize::try_from(mount.output).is_ok_and(|at| at >= outputs);
    if let Some(mount) = exec.mounts.iter().find(is_too_large) {
        return Err(operation.invalid(format!("it has result {}, and only {outputs} mounts", mount.output)));
    }
    let mut mounts = Mounts::default();
    // The root is the first input, wherever it is named.
    let (roots, others): (Vec<_>, Vec<_>) = exec.mounts.iter().partition(|mount| is_root(mount));
    let [root] = roots.as_slice() else {
        return Err(operation.invalid(format!("it has {} root filesystems, and not one", roots.len())));
    };
    if clean(&root.selector) != "/" {
        return Err(operation.unsupported("a root filesystem that is not a whole input"));
    }
    mounts.has_root = !is_empty(root.input)?;
    if mounts.has_root {
        mounts.inputs.push(root.input);
    }
    mounts.read_only_root = root.readonly;
    if root.output >= 0 {
        let kept = if root.readonly { Kept::Unchanged(root.input) } else { Kept::Output(0) };
        mounts.results.push((root.output, kept));
    }
    for mount in others {
        add_mount(operation, mount, &mut mounts, is_empty)?;
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

fn add_mount(
    operation: &Operation<'_>,
    mount: &pb::Mount,
    mounts: &mut Mounts,
    is_empty: &IsEmpty<'_>,
) -> Result<(), DefinitionError> {
    let source = clean(&mount.selector);
    let kind = match kind(mount) {
        Some(pb::MountType::Bind) => {
            let input = slot(mount, mounts, is_empty)?;
            let kept = mount.output >= 0 && !mount.readonly;
            if mount.output >= 0 {
                mounts.kept += u32::from(kept);
                let kept = if kept { Kept::Output(mounts.kept) } else { Kept::Unchanged(mount.input) };
                mounts.results.push((mount.output, kept));
            }
            MountKind::Bind(BindMount { input, source, writable: !mount.readonly, kept })
        }
        Some(pb::MountType::Cache) => {
            let input = slot(mount, mounts, is_empty)?;
            let options = mount.cache_opt.clone().unwrap_or_default();
            let sharing = match pb::CacheSharingOpt::try_from(options.sharing) {
                Ok(pb::CacheSharingOpt::Shared) => Sharing::Shared,
                Ok(pb::CacheSharingOpt::Private) => Sharing::Private,
                Ok(pb::CacheSharingOpt::Locked) => Sharing::Locked,
                Err(_) => return Err(operation.unsupported("another way to share a cache")),
            };
            let id = if options.id.is_empty() { clean(&mount.dest) } else { options.id };
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
    mounts.mounts.push(ExecMount { target: clean(&mount.dest), kind });
    Ok(())
}

/// The slot in which a mount has its input.
fn slot(
    mount: &pb::Mount,
    mounts: &mut Mounts,
    is_empty: &IsEmpty<'_>,
) -> Result<Option<u32>, DefinitionError> {
    if is_empty(mount.input)? {
        return Ok(None);
    }
    mounts.inputs.push(mount.input);
    Ok(u32::try_from(mounts.inputs.len() - 1).ok())
}

fn network(
    operation: &Operation<'_>,
    exec: &pb::ExecOp,
    allow: &BTreeSet<Entitlement>,
) -> Result<NetworkMode, DefinitionError> {
    match pb::NetMode::try_from(exec.network) {
        Ok(pb::NetMode::Unset) => Ok(NetworkMode::Default),
        Ok(pb::NetMode::None) => Ok(NetworkMode::None),
        Ok(pb::NetMode::Host) => {
            operation.entitled(allow, Entitlement::NetworkHost)?;
            Ok(NetworkMode::Host)
        }
        Err(_) => Err(operation.unsupported("another kind of network")),
    }
}

fn security(
    operation: &Operation<'_>,
    exec: &pb::ExecOp,
    allow: &BTreeSet<Entitlement>,
) -> Result<SecurityMode, DefinitionError> {
    match pb::SecurityMode::try_from(exec.security) {
        Ok(pb::SecurityMode::Sandbox) => Ok(SecurityMode::Sandbox),
        Ok(pb::SecurityMode::Insecure) => {
            operation.entitled(allow, Entitlement::SecurityInsecure)?;
            Ok(SecurityMode::Insecure)
        }
        Err(_) => Err(operation.unsupported("another security mode")),
    }
}

fn devices(
    operation: &Operation<'_>,
    exec: &pb::ExecOp,
    allow: &BTreeSet<Entitlement>,
) -> Result<Vec<DeviceRequest>, DefinitionError> {
    let device = |device: &pb::CdiDevice| {
        operation.entitled(allow, Entitlement::Device)?;
        Ok(DeviceRequest { name: device.name.clone(), required: !device.optional })
    };
    exec.cdi_devices.iter().map(device).collect()
}

fn is_root(mount: &pb::Mount) -> bool {
    clean(&mount.dest) == "/" && kind(mount) == Some(pb::MountType::Bind)
}

fn kind(mount: &pb::Mount) -> Option<pb::MountType> {
    pb::MountType::try_from(mount.mount_type).ok()
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

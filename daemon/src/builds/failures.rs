//! Failed processes, as clients look around in them: `errdefs.Solve` says what ran, and names results of the build that a container can be
//! made of (`NewContainer`).
//!
//! Source: `solver/errdefs/errdefs.proto` in BuildKit's definitions, in the JSON form of protocol buffers.

use engine::error::BuildError;
use engine::low_level::{
    BindMount, CacheMount, ExecMount, ExecOp, MountKind, NetworkMode, SecurityMode, Sharing,
};
use engine::session::{LeftProcess, Session as EngineSession, Solved};
use serde_json::{Map, Value, json};

use super::opening::Opened;
use super::results::Results;

/// The longest description of a process that travels with an error, in bytes: it is in a header.
const LONGEST: usize = 32 << 10;

/// Keeps what a failed process left among the results of its build. Answers what its client is told of it.
pub(super) fn keep(
    session: &EngineSession<'_>,
    results: &mut Results,
    opened: &Opened,
    error: &BuildError,
) -> Option<Value> {
    // That it has been removed meanwhile is no reason for another error.
    let LeftProcess { op, inputs, left } = session.left_process(error, &opened.request).ok().flatten()?;
    let mounts: Vec<usize> = (0..op.mounts.len()).filter(|place| !is_variable(&op.mounts[*place])).collect();
    let operation = set_fields(json!({ "exec": exec(&op, &mounts) }));
    if operation.to_string().len() > LONGEST {
        return None;
    }
    // The root filesystem is the first mount.
    let places: Vec<usize> = std::iter::once(0).chain(mounts.iter().map(|place| place + 1)).collect();
    let mut ids = |all: Vec<Option<Solved>>| -> Vec<String> {
        let mut all: Vec<Option<String>> =
            all.into_iter().map(|one| Some(results.keep(one?, &opened.request))).collect();
        places.iter().map(|place| all.get_mut(*place).and_then(Option::take).unwrap_or_default()).collect()
    };
    Some(json!({ "inputIDs": ids(inputs), "mountIDs": ids(left), "op": operation }))
}

/// Without fields that have the value that they have when nobody sets them. Older clients know fewer fields, and refuse those that they
/// do not know.
fn set_fields(value: Value) -> Value {
    let is_set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !["", "0", "UNSET", "SANDBOX"].contains(&text.as_str()),
        Value::Array(all) => !all.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        Value::Bool(true) | Value::Object(_) => true,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| is_set(value));
            Value::Object(fields.map(|(name, value)| (name, set_fields(value))).collect())
        }
        Value::Array(all) => Value::Array(all.into_iter().map(set_fields).collect()),
        other => other,
    }
}

/// Whether a secret is a variable alone, which is no mount.
fn is_variable(mount: &ExecMount) -> bool {
    matches!(&mount.kind, MountKind::Secret(secret) if !secret.as_file)
}

fn exec(op: &ExecOp, mounts: &[usize]) -> Value {
    let hosts = op.hosts.iter().map(|(host, address)| json!({ "Host": host, "IP": address.to_string() }));
    let limits = op.rlimits.iter().map(
        |limit| json!({ "Name": limit.name, "Soft": limit.soft.to_string(), "Hard": limit.hard.to_string() }),
    );
    let meta = json!({
        "args": op.args,
        "env": op.env,
        "cwd": op.cwd,
        "user": op.user,
        "hostname": op.hostname.clone().unwrap_or_default(),
        "extraHosts": hosts.collect::<Vec<_>>(),
        "ulimit": limits.collect::<Vec<_>>(),
        "validExitCodes": op.exit_codes,
    });
    let root = json!({ "dest": "/", "input": "0", "output": "0", "readonly": op.read_only_root });
    let mounts = mounts.iter().filter_map(|place| Some(mount(op.mounts.get(*place)?)));
    let variables =
        op.mounts.iter().filter(|mount| is_variable(mount)).filter_map(|mount| match &mount.kind {
            MountKind::Secret(secret) => {
                Some(json!({ "ID": secret.id, "name": secret.env, "optional": !secret.required }))
            }
            _ => None,
        });
    json!({
        "meta": meta,
        "mounts": std::iter::once(root).chain(mounts).collect::<Vec<_>>(),
        "secretenv": variables.collect::<Vec<_>>(),
        "network": match op.network {
            NetworkMode::Default => "UNSET",
            NetworkMode::Host => "HOST",
            NetworkMode::None => "NONE",
        },
        "security": match op.security {
            SecurityMode::Sandbox => "SANDBOX",
            SecurityMode::Insecure => "INSECURE",
        },
    })
}

fn mount(mount: &ExecMount) -> Value {
    let mut all = Map::new();
    let mut set = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    set("dest", mount.target.clone().into());
    set("output", "-1".into());
    let file = |id: &str, (uid, gid, mode): (u32, u32, u32), required: bool| json!({ "ID": id, "uid": uid, "gid": gid, "mode": mode, "optional": !required });
    match &mount.kind {
        MountKind::Bind(BindMount { source, writable, .. }) => {
            set("selector", source.clone().into());
            set("readonly", (!writable).into());
        }
        MountKind::Cache(CacheMount { id, source, sharing, read_only, .. }) => {
            let sharing = match sharing {
                Sharing::Shared => "SHARED",
                Sharing::Private => "PRIVATE",
                Sharing::Locked => "LOCKED",
            };
            set("mountType", "CACHE".into());
            set("selector", source.clone().into());
            set("readonly", (*read_only).into());
            set("cacheOpt", json!({ "ID": id, "sharing": sharing }));
        }
        MountKind::Tmpfs(tmpfs) => {
            set("mountType", "TMPFS".into());
            set("TmpfsOpt", json!({ "size": tmpfs.size.unwrap_or(0).to_string() }));
        }
        MountKind::Secret(secret) => {
            set("mountType", "SECRET".into());
            set("secretOpt", file(&secret.id, (secret.uid, secret.gid, secret.mode), secret.required));
        }
        MountKind::Ssh(agent) => {
            set("mountType", "SSH".into());
            set("SSHOpt", file(&agent.id, (agent.uid, agent.gid, agent.mode), agent.required));
        }
    }
    Value::Object(all)
}

//! The flags of `lap build` that have a syntax of their own: secrets, ssh agents, hosts, limits.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use engine::request::{
    Entitlement, HostAddress, Limits, LogLimits, ResourceLimit, SecretSource, Secrets, SshSource, SshSources,
    StepSettings,
};

use crate::args::BuildArgs;
use crate::error::CliError;
use crate::limit_args::LimitArgs;

/// The agent that `--ssh default` means.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// The machine itself, as `--add-host` names it.
const HOST_GATEWAY: &str = "host-gateway";

/// Looks up a variable of our environment.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads every `--secret`.
pub(crate) fn secrets(flags: &[String], environment: Environment<'_>) -> Result<Secrets, CliError> {
    let mut secrets = Secrets::default();
    for flag in flags {
        let (id, source) = secret(flag, environment)?;
        secrets.insert(id, source);
    }
    Ok(secrets)
}

/// `id=ID[,src=FILE][,env=VARIABLE][,type=file|env]`. Without file and variable, the variable that is called
/// like the secret counts if it is set, else the file of that name.
fn secret(flag: &str, environment: Environment<'_>) -> Result<(String, SecretSource), CliError> {
    let invalid = |why: String| {
        let hint = "write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE";
        CliError::usage(format!("invalid secret \"{flag}\": {why}"), hint)
    };
    let mut fields = BTreeMap::new();
    for field in flag.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| invalid(format!("\"{field}\" has no =")))?;
        let key = key.trim().to_lowercase();
        let key = if key == "source" { "src".to_owned() } else { key };
        if !matches!(key.as_str(), "id" | "src" | "env" | "type") {
            return Err(invalid(format!("unknown key \"{key}\"")));
        }
        fields.insert(key, value);
    }
    let Some(id) = fields.get("id").filter(|id| !id.is_empty()) else {
        return Err(invalid("it has no id".to_owned()));
    };
    let variable = match (fields.get("type").copied(), fields.get("env"), fields.get("src")) {
        (Some("env"), env, src) => Some(*env.or(src).unwrap_or(id)),
        (None | Some("file"), Some(env), _) => Some(*env),
        (None, None, None) if environment(id).is_some() => Some(*id),
        (None | Some("file"), None, _) => None,
        (Some(other), ..) => return Err(invalid(format!("unknown type \"{other}\""))),
    };
    let source = match variable {
        Some(name) => {
            let value =
                environment(name).ok_or_else(|| invalid(format!("the variable {name} is not set")))?;
            SecretSource::Value(value.into_bytes())
        }
        None => SecretSource::File(PathBuf::from(fields.get("src").unwrap_or(id))),
    };
    Ok(((*id).to_owned(), source))
}

/// Reads every `--ssh`: `NAME`, `NAME=SOCKET` or `NAME=KEYFILE[,KEYFILE]`.
pub(crate) fn ssh(flags: &[String], environment: Environment<'_>) -> Result<SshSources, CliError> {
    flags.iter().map(|flag| agent(flag, environment)).collect()
}

fn agent(flag: &str, environment: Environment<'_>) -> Result<(String, SshSource), CliError> {
    let (name, paths) = flag.split_once('=').unwrap_or((flag, ""));
    let name = if name.is_empty() { "default" } else { name }.to_owned();
    let invalid = |why: String, hint: &str| CliError::usage(format!("invalid ssh \"{flag}\": {why}"), hint);
    let paths: Vec<PathBuf> = paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    let source = match paths.as_slice() {
        [] => {
            let socket = environment(AGENT_VARIABLE).ok_or_else(|| {
                let why = format!("no agent runs: {AGENT_VARIABLE} is not set");
                invalid(why, "start one with: eval $(ssh-agent); ssh-add")
            })?;
            SshSource::Agent(PathBuf::from(socket))
        }
        [one] if is_socket(one) => SshSource::Agent(one.clone()),
        keys => {
            if let Some(missing) = keys.iter().find(|key| !key.is_file()) {
                let why = format!("there is no file {}", missing.display());
                return Err(invalid(why, "give the socket of an agent, or files with private keys"));
            }
            let absolute = keys.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>();
            SshSource::Keys(absolute.map_err(|error| invalid(error.to_string(), "give absolute paths"))?)
        }
    };
    Ok((name, source))
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Reads every `--allow`.
pub(crate) fn entitlements(flags: &[String]) -> Result<BTreeSet<Entitlement>, CliError> {
    let entitlement = |name: &String| {
        // A device may be named; whoever allows one allows the steps that ask for devices.
        let kind = name.split('=').next().unwrap_or_default();
        Entitlement::from_name(kind).ok_or_else(|| {
            let known = Entitlement::ALL.map(Entitlement::name).join(", ");
            CliError::usage(format!("unknown entitlement \"{name}\""), &format!("use one of {known}"))
        })
    };
    flags.iter().map(entitlement).collect()
}

/// What the processes of all steps get.
pub(crate) fn step_settings(
    args: &BuildArgs,
    environment: Environment<'_>,
) -> Result<StepSettings, CliError> {
    Ok(StepSettings {
        bridge: args.network == "bridge",
        hosts: args.steps.add_hosts.iter().map(|text| host(text)).collect::<Result<_, _>>()?,
        shm_size: args.steps.shm_size,
        limits: with_resources(args.limits.clone(), "--resource", &args.resources)?,
        total: with_resources(LimitArgs::default(), "--total-resource", &args.total_resources)?,
        cgroup_parent: args.limits.cgroup_parent.clone(),
        rlimits: args.steps.ulimits.iter().map(|text| limit(text)).collect::<Result<_, _>>()?,
        rules: args.steps.rules(),
        device_directories: args.steps.cdi_spec_dirs.clone(),
        log: LogLimits {
            size: log_limit("BUILDKIT_STEP_LOG_MAX_SIZE", environment)?,
            speed: log_limit("BUILDKIT_STEP_LOG_MAX_SPEED", environment)?,
        },
    })
}

fn with_resources(mut limits: LimitArgs, flag: &str, resources: &[String]) -> Result<Limits, CliError> {
    resources.iter().try_for_each(|resource| limits.set(flag, resource))?;
    limits.limits()
}

/// BuildKit's limits of a step's log: bytes, or -1 for none.
fn log_limit(name: &str, environment: Environment<'_>) -> Result<Option<u64>, CliError> {
    let Some(text) = environment(name) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(bytes) => Ok(u64::try_from(bytes).ok()),
        Err(_) => {
            let message = format!("{name} is a number of bytes, not \"{text}\"");
            Err(CliError::usage(message, "use -1 for no limit"))
        }
    }
}

/// `name:address`, `name=address`; an IPv6 address may be in brackets.
pub(crate) fn host(text: &str) -> Result<(String, HostAddress), CliError> {
    let invalid = || {
        let hint = "write --add-host name:address, for example db:10.0.0.5";
        CliError::usage(format!("invalid host \"{text}\""), hint)
    };
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(invalid)?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address = bare.unwrap_or(address);
    let address = match address {
        HOST_GATEWAY => HostAddress::Gateway,
        other => HostAddress::Given(other.parse().map_err(|_| invalid())?),
    };
    if name.is_empty() { Err(invalid()) } else { Ok((name.to_owned(), address)) }
}

/// `name=soft[:hard]`; `-1` or `unlimited` is no limit.
pub(crate) fn limit(text: &str) -> Result<ResourceLimit, CliError> {
    text.parse().map_err(|why| {
        let hint = "write --ulimit NAME=SOFT[:HARD], for example nofile=1024:4096";
        CliError::usage(format!("invalid limit \"{text}\": {why}"), hint)
    })
}

#[cfg(test)]
mod tests {
    use engine::request::Resource;

    use super::*;

    fn set(name: &str) -> Option<String> {
        (name == "SET").then(|| "value".to_owned())
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let of = |flag: &str| secret(flag, &set).map(|(_, source)| source);
        let is_file = |flag: &str, path: &str| matches!(of(flag), Ok(SecretSource::File(file)) if file == Path::new(path));
        let is_value = |flag: &str| matches!(of(flag), Ok(SecretSource::Value(value)) if value == b"value");
        assert!(is_file("id=a,src=/f", "/f"));
        assert!(is_file("id=a,source=/f,type=file", "/f"));
        assert!(is_file("id=a", "a"));
        assert!(is_value("id=a,env=SET"));
        assert!(is_value("id=SET"));
        assert!(is_value("type=env,id=a,src=SET"));
        for bad in ["src=/f", "id=", "id=a,env=UNSET", "id=a,file=b", "id=a,type=http", "a"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_agent_is_the_environment_s_unless_a_path_is_given() {
        let none = |_: &str| None;
        assert!(agent("default", &none).is_err());
        let some = |_: &str| Some("/agent".to_owned());
        let (name, source) = agent("default", &some).unwrap_or_else(|_| panic!());
        assert_eq!((name.as_str(), source), ("default", SshSource::Agent("/agent".into())));
        assert!(agent("id=/nowhere/key", &some).is_err());
    }

    #[test]
    fn hosts_have_addresses_of_both_kinds() {
        let address = |text: &str| host(text).ok().map(|(_, address)| address);
        let given = |text: &str| Some(HostAddress::Given(text.parse().unwrap()));
        assert_eq!(address("a:10.0.0.1"), given("10.0.0.1"));
        assert_eq!(address("a=::1"), given("::1"));
        assert_eq!(address("a:[fe80::1]"), given("fe80::1"));
        assert_eq!(address("a:host-gateway"), Some(HostAddress::Gateway));
        for bad in ["a", "a:b", ":1.2.3.4"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn limits_have_a_soft_and_a_hard_value() {
        let of = |text: &str| limit(text).ok().map(|limit| (limit.resource, limit.soft, limit.hard));
        assert_eq!(of("nofile=1:2"), Some((Resource::Nofile, 1, 2)));
        assert_eq!(of("core=-1"), Some((Resource::Core, u64::MAX, u64::MAX)));
        for bad in ["nofile", "nofile=2:1", "files=1", "nofile=x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}

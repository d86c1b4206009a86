//! Which keys there are, and of what kind their values are. Everything is in its long form by now.

use crate::error::ComposeError;
use crate::yaml::{Map, Node, Value};

/// What a value may be. Null is allowed everywhere: it says nothing.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Any scalar, read as text.
    Text,
    Bool,
    Int,
    Number,
    /// Bytes: `64m`.
    Size,
    /// `1m30s`, or a number of seconds.
    Time,
    /// Texts.
    Texts,
    /// Names with texts or nothing.
    Pairs,
    /// These keys.
    Keys(&'static [(&'static str, Kind)]),
    /// Names of one's own with such values.
    Each(&'static Kind),
    /// Such items.
    List(&'static Kind),
    /// Whether it exists already.
    Any,
    /// It is in the specification and does nothing here, which is told.
    Ignored,
}

use Kind::{Any, Bool, Each, Ignored, Int, Keys, List, Number, Pairs, Size, Text, Texts, Time};

const ROOT: Kind = Keys(&[
    ("name", Text),
    ("version", Any),
    ("services", Each(&SERVICE)),
    ("networks", Each(&NETWORK)),
    ("volumes", Each(&VOLUME)),
    ("secrets", Each(&FILE)),
    ("configs", Each(&FILE)),
    ("include", List(&Keys(&[("path", Texts), ("project_directory", Text), ("env_file", Texts)]))),
    ("models", Ignored),
]);

const NETWORK: Kind = Keys(&[
    ("name", Text),
    ("driver", Text),
    ("driver_opts", Pairs),
    ("external", Bool),
    ("internal", Bool),
    ("attachable", Bool),
    ("enable_ipv4", Ignored),
    ("enable_ipv6", Bool),
    ("labels", Pairs),
    (
        "ipam",
        Keys(&[
            ("driver", Text),
            ("options", Ignored),
            (
                "config",
                List(&Keys(&[
                    ("subnet", Text),
                    ("gateway", Text),
                    ("ip_range", Text),
                    ("aux_addresses", Pairs),
                ])),
            ),
        ]),
    ),
]);

const VOLUME: Kind =
    Keys(&[("name", Text), ("driver", Text), ("driver_opts", Pairs), ("external", Bool), ("labels", Pairs)]);

const FILE: Kind = Keys(&[
    ("name", Text),
    ("file", Text),
    ("environment", Text),
    ("content", Text),
    ("external", Bool),
    ("labels", Ignored),
    ("driver", Ignored),
    ("driver_opts", Ignored),
    ("template_driver", Ignored),
]);

const FILE_USE: Kind =
    Keys(&[("source", Text), ("target", Text), ("uid", Text), ("gid", Text), ("mode", Int)]);

const BUILD: Kind = Keys(&[
    ("context", Text),
    ("dockerfile", Text),
    ("dockerfile_inline", Text),
    ("args", Pairs),
    ("additional_contexts", Pairs),
    ("cache_from", Texts),
    ("cache_to", Texts),
    ("entitlements", Texts),
    ("extra_hosts", Texts),
    ("isolation", Ignored),
    ("labels", Pairs),
    ("network", Text),
    ("no_cache", Bool),
    ("platforms", Texts),
    ("privileged", Bool),
    ("provenance", Text),
    ("pull", Bool),
    ("sbom", Text),
    ("secrets", List(&FILE_USE)),
    ("shm_size", Size),
    ("ssh", Texts),
    ("tags", Texts),
    ("target", Text),
    ("ulimits", Each(&Any)),
]);

const RESOURCES: Kind = Keys(&[
    ("cpus", Number),
    ("memory", Size),
    ("pids", Int),
    ("devices", Ignored),
    ("generic_resources", Ignored),
]);

const DEPLOY: Kind = Keys(&[
    ("replicas", Int),
    ("mode", Text),
    ("endpoint_mode", Ignored),
    ("labels", Any),
    ("placement", Ignored),
    ("resources", Keys(&[("limits", RESOURCES), ("reservations", RESOURCES)])),
    (
        "restart_policy",
        Keys(&[("condition", Text), ("delay", Ignored), ("max_attempts", Int), ("window", Ignored)]),
    ),
    ("rollback_config", Ignored),
    ("update_config", Ignored),
]);

const HEALTH: Kind = Keys(&[
    ("test", Texts),
    ("interval", Time),
    ("timeout", Time),
    ("retries", Int),
    ("start_period", Time),
    ("start_interval", Time),
    ("disable", Bool),
]);

const PORT: Kind = Keys(&[
    ("name", Text),
    ("mode", Text),
    ("host_ip", Text),
    ("target", Int),
    ("published", Text),
    ("protocol", Text),
    ("app_protocol", Text),
]);

const MOUNT: Kind = Keys(&[
    ("type", Text),
    ("source", Text),
    ("target", Text),
    ("read_only", Bool),
    ("consistency", Text),
    (
        "bind",
        Keys(&[("propagation", Text), ("create_host_path", Bool), ("selinux", Text), ("recursive", Text)]),
    ),
    ("volume", Keys(&[("nocopy", Bool), ("subpath", Text), ("labels", Pairs)])),
    ("tmpfs", Keys(&[("size", Size), ("mode", Int)])),
    ("image", Keys(&[("subpath", Text)])),
]);

const HOOK: Kind = Keys(&[
    ("command", Texts),
    ("user", Text),
    ("privileged", Bool),
    ("working_dir", Text),
    ("environment", Pairs),
]);

const NETWORK_USE: Kind = Keys(&[
    ("aliases", Texts),
    ("ipv4_address", Text),
    ("ipv6_address", Text),
    ("mac_address", Text),
    ("link_local_ips", Texts),
    ("driver_opts", Pairs),
    ("priority", Int),
    ("gw_priority", Int),
    ("interface_name", Text),
]);

const BLOCKS: Kind = List(&Keys(&[("path", Text), ("rate", Text), ("weight", Int)]));

const SERVICE: Kind = Keys(&[
    ("annotations", Ignored),
    ("attach", Bool),
    ("build", BUILD),
    (
        "blkio_config",
        Keys(&[
            ("weight", Int),
            ("weight_device", BLOCKS),
            ("device_read_bps", BLOCKS),
            ("device_read_iops", BLOCKS),
            ("device_write_bps", BLOCKS),
            ("device_write_iops", BLOCKS),
        ]),
    ),
    ("cap_add", Texts),
    ("cap_drop", Texts),
    ("cgroup", Text),
    ("cgroup_parent", Text),
    ("command", Texts),
    ("configs", List(&FILE_USE)),
    ("container_name", Text),
    ("cpu_count", Ignored),
    ("cpu_percent", Ignored),
    ("cpu_period", Text),
    ("cpu_quota", Int),
    ("cpu_rt_period", Text),
    ("cpu_rt_runtime", Text),
    ("cpu_shares", Int),
    ("cpus", Number),
    ("cpuset", Text),
    ("credential_spec", Ignored),
    ("depends_on", Each(&Keys(&[("condition", Text), ("required", Bool), ("restart", Bool)]))),
    ("deploy", DEPLOY),
    ("develop", Ignored),
    ("device_cgroup_rules", Texts),
    ("devices", Any),
    ("dns", Texts),
    ("dns_opt", Texts),
    ("dns_search", Texts),
    ("domainname", Text),
    ("entrypoint", Texts),
    ("env_file", List(&Keys(&[("path", Text), ("required", Bool), ("format", Text)]))),
    ("environment", Pairs),
    ("expose", Texts),
    ("extends", Keys(&[("service", Text), ("file", Text)])),
    ("external_links", Texts),
    ("extra_hosts", Texts),
    (
        "gpus",
        List(&Keys(&[
            ("driver", Text),
            ("count", Text),
            ("device_ids", Texts),
            ("capabilities", Texts),
            ("options", Any),
        ])),
    ),
    ("group_add", Texts),
    ("healthcheck", HEALTH),
    ("hostname", Text),
    ("image", Text),
    ("init", Bool),
    ("ipc", Text),
    ("isolation", Ignored),
    ("labels", Pairs),
    ("label_file", Texts),
    ("links", Texts),
    ("logging", Keys(&[("driver", Text), ("options", Pairs)])),
    ("mac_address", Text),
    ("mem_limit", Size),
    ("mem_reservation", Size),
    ("mem_swappiness", Int),
    ("memswap_limit", Text),
    ("models", Ignored),
    ("network_mode", Text),
    ("networks", Each(&NETWORK_USE)),
    ("oom_kill_disable", Bool),
    ("oom_score_adj", Int),
    ("pid", Text),
    ("pids_limit", Int),
    ("platform", Text),
    ("ports", List(&PORT)),
    ("post_start", List(&HOOK)),
    ("pre_stop", List(&HOOK)),
    ("privileged", Bool),
    ("profiles", Texts),
    ("pull_policy", Text),
    ("read_only", Bool),
    ("restart", Text),
    ("runtime", Ignored),
    ("scale", Int),
    ("secrets", List(&FILE_USE)),
    ("security_opt", Texts),
    ("shm_size", Size),
    ("stdin_open", Bool),
    ("stop_grace_period", Time),
    ("stop_signal", Text),
    ("storage_opt", Ignored),
    ("sysctls", Pairs),
    ("tmpfs", Texts),
    ("tty", Bool),
    ("ulimits", Each(&Any)),
    ("use_api_socket", Ignored),
    ("user", Text),
    ("userns_mode", Text),
    ("uts", Text),
    ("volumes", List(&MOUNT)),
    ("volumes_from", Texts),
    ("working_dir", Text),
]);

/// What a check found, and how it looks.
struct Checked {
    /// What is known but does nothing.
    ignored: Vec<String>,
    /// Whether variables stand where they are written, which may be of any kind.
    raw: bool,
}

/// Checks a whole file, in which with `raw` variables stay as they are written. Answers what is known but does nothing.
///
/// # Errors
/// A key that there is not, or a value of another kind.
pub(crate) fn check(root: &Node, raw: bool) -> Result<Vec<String>, ComposeError> {
    let mut checked = Checked { ignored: Vec::new(), raw };
    match root.value {
        Value::Map(_) => node(root, "", ROOT, &mut checked).map(|()| checked.ignored),
        _ => Err(shape(root, "the file", "a mapping")),
    }
}

fn shape(node: &Node, path: &str, expected: &'static str) -> ComposeError {
    let found = match &node.value {
        Value::Text(text) if !expected.contains("string") => format!("\"{text}\""),
        other => other.kind().to_owned(),
    };
    ComposeError::Shape { place: node.place.clone(), path: path.to_owned(), expected, found }
}

fn node(node: &Node, path: &str, kind: Kind, checked: &mut Checked) -> Result<(), ComposeError> {
    let is_open = matches!(&node.value, Value::Text(text) if checked.raw && text.contains('$'));
    if node.value == Value::Null || is_open {
        return Ok(());
    }
    let (fits, expected) = match kind {
        Any => return Ok(()),
        Ignored => {
            checked.ignored.push(format!("{}: {path} has no effect here", node.place));
            return Ok(());
        }
        Text => (node.text().is_some(), "a string"),
        Bool => (node.bool().is_some(), "a boolean"),
        Int => (node.int().is_some(), "a whole number"),
        Number => (node.number().is_some(), "a number"),
        Size => (bytes(node).is_some(), "a size such as 64m"),
        Time => (time(node).is_some(), "a time such as 1m30s"),
        Texts => (
            matches!(&node.value, Value::List(items) if items.iter().all(|item| item.text().is_some())),
            "a list of strings",
        ),
        Pairs => match node.map() {
            Some(map) => return pairs(map, path),
            None => (false, "a mapping or a list of NAME=VALUE"),
        },
        Keys(keys) => match node.map() {
            Some(map) => return known(map, node, path, keys, checked),
            None => (false, "a mapping"),
        },
        Each(kind) => match node.map() {
            Some(map) => {
                return map.iter().try_for_each(|(name, entry)| {
                    self::node(entry, &format!("{path}.{name}"), *kind, checked)
                });
            }
            None => (false, "a mapping"),
        },
        List(kind) => match &node.value {
            Value::List(items) => {
                return items.iter().enumerate().try_for_each(|(index, item)| {
                    self::node(item, &format!("{path}.{index}"), *kind, checked)
                });
            }
            _ => (false, "a list"),
        },
    };
    if fits { Ok(()) } else { Err(shape(node, path, expected)) }
}

fn pairs(map: &Map, path: &str) -> Result<(), ComposeError> {
    let wrong = map.iter().find(|(_, entry)| entry.value != Value::Null && entry.text().is_none());
    match wrong {
        Some((name, entry)) => {
            Err(shape(entry, &format!("{path}.{name}"), "a string, a number, a boolean or nothing"))
        }
        None => Ok(()),
    }
}

fn known(
    map: &Map,
    at: &Node,
    path: &str,
    keys: &[(&str, Kind)],
    checked: &mut Checked,
) -> Result<(), ComposeError> {
    for (key, entry) in map.iter().filter(|(key, _)| !key.starts_with("x-")) {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let Some((_, kind)) = keys.iter().find(|(name, _)| name == key) else {
            let place = if entry.place.line > 0 { &entry.place } else { &at.place };
            let path = if path.is_empty() { "the file" } else { path };
            return Err(ComposeError::UnknownKey {
                place: place.clone(),
                path: path.to_owned(),
                key: key.clone(),
            });
        };
        node(entry, &below, *kind, checked)?;
    }
    Ok(())
}

/// A number of bytes.
pub(crate) fn bytes(node: &Node) -> Option<u64> {
    base::bytes::parse_binary(&node.text()?)
}

/// A length of time; a number alone is seconds.
pub(crate) fn time(node: &Node) -> Option<std::time::Duration> {
    match &node.value {
        Value::Int(seconds) => u64::try_from(*seconds).ok().map(std::time::Duration::from_secs),
        Value::Text(text) => {
            base::time::parse_duration(text).or_else(|| text.parse().ok().map(std::time::Duration::from_secs))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Vec<String>, String> {
        let root = crate::yaml::parse(&"f".into(), text).unwrap().swap_remove(0);
        check(&root, false).map_err(|error| error.to_string())
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, message) in [
            ("services:\n  a:\n    imge: x\n", "f:3: services.a: additional property 'imge' is not allowed"),
            ("servces: {}\n", "f:1: the file: additional property 'servces' is not allowed"),
            ("services:\n  a:\n    tty: maybe\n", "f:3: services.a.tty must be a boolean, not \"maybe\""),
            ("services: []\n", "f:1: services must be a mapping, not a list"),
            ("services:\n  a:\n    image: [x]\n", "f:3: services.a.image must be a string, not a list"),
            (
                "services:\n  a: {mem_limit: lots}\n",
                "f:2: services.a.mem_limit must be a size such as 64m, not \"lots\"",
            ),
            ("- a\n", "f:1: the file must be a mapping, not a list"),
            (
                "services: {a: {environment: {A: [1]}}}\n",
                "f:1: services.a.environment.A must be a string, a number, a boolean or nothing, not a list",
            ),
        ] {
            assert_eq!(checked(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn extensions_are_free_and_the_rest_of_the_specification_is_told() {
        let told = checked("x-any: {a: 1}\nservices:\n  a:\n    x-b: 1\n    develop: {}\n").unwrap();
        assert_eq!(told, ["f:5: services.a.develop has no effect here"]);
    }
}

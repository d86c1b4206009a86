//! Docker's `daemon.json`, as the flags that it stands for.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;
use serde_json::{Map, Value};

use super::DockerdCli;
use crate::error::CliError;

/// Settings of `daemon.json` whose names are not those of their flags.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("hosts", "host"),
    ("labels", "label"),
    ("registry-mirrors", "registry-mirror"),
    ("insecure-registries", "insecure-registry"),
    ("dns-opts", "dns-opt"),
    ("log-opts", "log-opt"),
    ("default-ulimits", "default-ulimit"),
    ("storage-opts", "storage-opt"),
    ("exec-opts", "exec-opt"),
    ("features", "feature"),
    ("runtimes", "add-runtime"),
    ("default-address-pools", "default-address-pool"),
    ("cdi-spec-dirs", "cdi-spec-dir"),
    ("host-gateway-ips", "host-gateway-ip"),
];

/// Settings that have no flag. What the build cache keeps is said in `config.toml`.
const ONLY_IN_THE_FILE: [&str; 1] = ["builder"];

/// The flags that a file stands for.
pub(super) fn words(path: &Path, text: &str, typed: &BTreeSet<String>) -> Result<Vec<String>, CliError> {
    let wrong = |why: String| {
        CliError::failed(format!("unable to configure the Docker daemon with file {}: {why}", path.display()))
    };
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let settings: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let command = DockerdCli::command();
    let mut words = Vec::new();
    for (name, value) in settings {
        if ONLY_IN_THE_FILE.contains(&name.as_str()) {
            continue;
        }
        let flag =
            OTHER_NAMES.iter().find(|(known, _)| *known == name).map_or(name.as_str(), |(_, flag)| flag);
        let Some(argument) = command.get_arguments().find(|argument| argument.get_long() == Some(flag))
        else {
            return Err(wrong(format!(
                "the following directives don't match any configuration option: {name}"
            )));
        };
        if typed.contains(&argument.get_id().as_str().replace('_', "-")) {
            return Err(wrong(format!(
                "the following directives are specified both as a flag and in the configuration file: {name}"
            )));
        }
        let values = values(&value).ok_or_else(|| wrong(format!("{name}: {value} is no value for it")))?;
        words.extend(values.into_iter().map(|value| format!("--{flag}={value}")));
    }
    Ok(words)
}

/// The values of a setting, as a flag has them.
fn values(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Bool(value) => Some(vec![value.to_string()]),
        Value::Number(value) => Some(vec![value.to_string()]),
        Value::String(value) => Some(vec![value.clone()]),
        Value::Array(values) => values.iter().map(one).collect(),
        Value::Object(values) => values.iter().map(|(name, value)| pair(name, value)).collect(),
    }
}

/// One of a list: a text, or a map as in `default-address-pools`.
fn one(value: &Value) -> Option<String> {
    match value {
        Value::String(value) => Some(value.clone()),
        Value::Object(values) => {
            let parts: Option<Vec<String>> = values.iter().map(|(name, value)| pair(name, value)).collect();
            parts.map(|parts| parts.join(","))
        }
        _ => None,
    }
}

/// One of a map: a text, or a limit.
fn pair(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(value) => Some(format!("{name}={value}")),
        Value::Bool(value) => Some(format!("{name}={value}")),
        Value::Number(value) => Some(format!("{name}={value}")),
        Value::Object(values) => match (values.get("Soft"), values.get("Hard")) {
            (Some(soft), Some(hard)) => Some(format!("{name}={soft}:{hard}")),
            (None, Some(hard)) => Some(format!("{name}={hard}:{hard}")),
            _ => Some(name.to_owned()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_the_same() {
        let text = r#"{"hosts":["fd://"],"debug":true,"log-opts":{"max-size":"1m"},"max-concurrent-downloads":3,"builder":{"gc":{}},
            "default-ulimits":{"nofile":{"Name":"nofile","Soft":1,"Hard":2}},"default-address-pools":[{"base":"10.0.0.0/8","size":24}]}"#;
        let read = |text: &str, typed: &[&str]| {
            let typed = typed.iter().map(|name| (*name).to_owned()).collect();
            words(Path::new("/d.json"), text, &typed).map_err(|error| error.message().to_owned())
        };
        let mut found = read(text, &[]).unwrap();
        found.sort();
        assert_eq!(
            found,
            [
                "--debug=true",
                "--default-address-pool=base=10.0.0.0/8,size=24",
                "--default-ulimit=nofile=1:2",
                "--host=fd://",
                "--log-opt=max-size=1m",
                "--max-concurrent-downloads=3"
            ]
        );
        assert!(
            read(r#"{"colour":"red"}"#, &[])
                .unwrap_err()
                .contains("don't match any configuration option: colour")
        );
        assert!(
            read(text, &["hosts"])
                .unwrap_err()
                .contains("both as a flag and in the configuration file: hosts")
        );
        for bad in ["[", "[]", r#"{"dns":[7]}"#] {
            assert!(read(bad, &[]).is_err(), "{bad}");
        }
        assert_eq!(read(" ", &[]).unwrap(), [] as [&str; 0]);
    }
}

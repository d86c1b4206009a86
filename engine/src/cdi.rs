//! Devices of the host for `RUN --device` and `lap run --device`, as their vendors describe them.
//!
//! Source: Container Device Interface specification, `SPEC.md`. A description says which device nodes, mounts
//! and variables a device means. Hooks, programs that the host would run, are refused: nothing of a container
//! runs outside a container.

use std::path::{Path, PathBuf};

use llb::DeviceRequest;
use runner::{DeviceAccess, ExtraMount, MountKind};
use serde::Deserialize;

use crate::devices;
use crate::error::EngineError;

/// Where descriptions are; later directories win.
const DIRECTORIES: [&str; 3] = ["/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"];

/// No description is longer, in bytes.
const LARGEST: u64 = 4 << 20;

/// What devices add to a process.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct DeviceEdits {
    pub(crate) mounts: Vec<ExtraMount>,
    /// `NAME=value`
    pub(crate) env: Vec<String>,
}

/// One description of a vendor's devices.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    /// `vendor.com/class`
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    /// For every device of it.
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<HostMount>,
    hooks: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: String,
    host_path: Option<PathBuf>,
    /// Some of `r`, `w` and `m`.
    permissions: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostMount {
    host_path: PathBuf,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

/// What the requested devices add, by the descriptions in `directories`, or in the standard ones. One that is not there is an error only if it is required.
///
/// # Errors
/// A description cannot be read, a required device is unknown, or a device needs a hook.
pub(crate) fn edits(requests: &[DeviceRequest], directories: &[PathBuf]) -> Result<DeviceEdits, EngineError> {
    if requests.is_empty() {
        return Ok(DeviceEdits::default());
    }
    let given: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    let standard = DIRECTORIES.map(Path::new);
    let mut edits = edits_of(requests, &descriptions(if given.is_empty() { &standard } else { &given })?)?;
    for mount in &mut edits.mounts {
        if let MountKind::Device { source, nodes, .. } = &mut mount.kind {
            *nodes = devices::files(source, Path::new(&mount.destination))?;
        }
    }
    Ok(edits)
}

fn edits_of(requests: &[DeviceRequest], known: &[Description]) -> Result<DeviceEdits, EngineError> {
    let mut all = DeviceEdits::default();
    for request in requests {
        let mut found = false;
        for description in known {
            let wanted = |device: &&Device| is_wanted(request, description, device);
            let devices: Vec<&Device> = description.devices.iter().filter(wanted).collect();
            for device in &devices {
                add(&mut all, &device.container_edits, &request.name)?;
            }
            if !devices.is_empty() {
                add(&mut all, &description.container_edits, &request.name)?;
                found = true;
            }
        }
        if !found && request.required {
            return Err(EngineError::NoDevice(request.name.clone()));
        }
    }
    Ok(all)
}

/// `vendor.com/class=name`; `vendor.com/class` and `vendor.com/class=*` mean every device of the kind.
fn is_wanted(request: &DeviceRequest, description: &Description, device: &Device) -> bool {
    let (kind, name) = request.name.split_once('=').unwrap_or((&request.name, "*"));
    kind == description.kind && (name == "*" || name == device.name)
}

fn add(all: &mut DeviceEdits, edits: &Edits, device: &str) -> Result<(), EngineError> {
    if !edits.hooks.is_empty() {
        return Err(EngineError::DeviceHook(device.to_owned()));
    }
    all.env.extend(edits.env.iter().cloned());
    for node in &edits.device_nodes {
        let source = node.host_path.clone().unwrap_or_else(|| PathBuf::from(&node.path));
        let letters = node.permissions.as_deref().unwrap_or("rwm");
        let invalid = || EngineError::DeviceDescription {
            path: source.clone(),
            reason: format!("\"{letters}\" are no permissions"),
        };
        let access = DeviceAccess::parse(letters).ok_or_else(invalid)?;
        push(all, &node.path, MountKind::Device { source, nodes: Vec::new(), access });
    }
    for mount in &edits.mounts {
        let read_only = mount.options.iter().any(|option| option == "ro");
        let kind = MountKind::Bind { source: mount.host_path.clone(), read_only, recursive: true };
        push(all, &mount.container_path, kind);
    }
    Ok(())
}

fn push(all: &mut DeviceEdits, destination: &str, kind: MountKind) {
    let mount = ExtraMount { destination: destination.to_owned(), kind };
    if !all.mounts.contains(&mount) {
        all.mounts.push(mount);
    }
}

/// The descriptions in these directories, those that are not there left out.
fn descriptions(directories: &[&Path]) -> Result<Vec<Description>, EngineError> {
    let mut all: Vec<Description> = Vec::new();
    for directory in directories {
        if !sys::fs::exists(directory)? {
            continue;
        }
        let mut names = sys::fs::list(directory)?;
        names.sort();
        for name in names {
            let path = directory.join(name);
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("json" | "yaml" | "yml")) {
                all.push(description(&path)?);
            }
        }
    }
    Ok(all)
}

/// JSON is YAML too.
fn description(path: &Path) -> Result<Description, EngineError> {
    let bytes = sys::fs::read_limited(path, LARGEST)?;
    let too_large = || EngineError::TooLarge { file: path.display().to_string(), limit: LARGEST };
    let bytes = bytes.ok_or_else(too_large)?;
    serde_saphyr::from_slice(&bytes)
        .map_err(|error| EngineError::DeviceDescription { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "cdiVersion: 0.6.0\nkind: vendor.com/gpu\ncontainerEdits:\n  env: [\"ALL=1\"]\ndevices:\n\
        - name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/gpu0\n    - path: /dev/ctl\n      hostPath: /dev/null\n\
        - name: \"1\"\n  containerEdits:\n    mounts:\n    - hostPath: /lib\n      containerPath: /gpu\n      options: [ro, bind]\n";

    fn known() -> Vec<Description> {
        vec![serde_saphyr::from_str(GPU).unwrap()]
    }

    fn request(name: &str, required: bool) -> [DeviceRequest; 1] {
        [DeviceRequest { name: name.to_owned(), required }]
    }

    fn destinations(name: &str) -> Vec<String> {
        let edits = edits_of(&request(name, true), &known()).unwrap();
        edits.mounts.into_iter().map(|mount| mount.destination).collect()
    }

    #[test]
    fn a_device_is_its_nodes_and_mounts() {
        assert_eq!(destinations("vendor.com/gpu=0"), ["/dev/gpu0", "/dev/ctl"]);
        assert_eq!(destinations("vendor.com/gpu=1"), ["/gpu"]);
        assert_eq!(destinations("vendor.com/gpu").len(), 3);
        let edits = edits_of(&request("vendor.com/gpu=0", true), &known()).unwrap();
        assert_eq!(edits.env, ["ALL=1"]);
        assert_eq!(
            edits.mounts[1].kind,
            MountKind::Device { source: "/dev/null".into(), nodes: Vec::new(), access: DeviceAccess::ALL }
        );
    }

    #[test]
    fn only_a_required_device_must_be_there() {
        assert_eq!(edits_of(&request("vendor.com/gpu=9", false), &known()).unwrap(), DeviceEdits::default());
        let missing = edits_of(&request("vendor.com/gpu=9", true), &known());
        assert!(matches!(missing, Err(EngineError::NoDevice(_))));
    }

    #[test]
    fn hooks_are_refused() {
        let text =
            "kind: v.com/c\ndevices: [{name: a, containerEdits: {hooks: [{hookName: x, path: /x}]}}]\n";
        let known = vec![serde_saphyr::from_str(text).unwrap()];
        assert!(matches!(edits_of(&request("v.com/c=a", true), &known), Err(EngineError::DeviceHook(_))));
    }

    #[test]
    fn json_is_read_and_nonsense_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("a.json"),
            "{\"kind\": \"v.com/c\", \"devices\": [{\"name\": \"x\"}]}",
        )
        .unwrap();
        std::fs::write(directory.path().join("ignored.txt"), "[").unwrap();
        assert_eq!(descriptions(&[directory.path()]).unwrap()[0].devices[0].name, "x");
        std::fs::write(directory.path().join("b.yaml"), "kind: [").unwrap();
        let error = descriptions(&[directory.path()]).unwrap_err().to_string();
        assert!(error.contains("b.yaml"), "{error}");
    }
}

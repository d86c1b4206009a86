//! What a service shows beside its image's files: volumes, other images, directories of the host, secrets and
//! configs.

use super::{FileSpec, Flags, size};
use crate::error::ComposeError;
use crate::model::{FileSource, Project};
use crate::yaml::Node;

pub(super) fn add(
    flags: &mut Flags<'_>,
    project: &Project,
    files: &mut Vec<FileSpec>,
) -> Result<(), ComposeError> {
    for mount in flags.service.entries("volumes") {
        let text = volume(mount, project, &flags.service.name)?;
        flags.add("--mount", text);
    }
    let uses = [("secrets", "/run/secrets/", &project.secrets), ("configs", "/", &project.configs)];
    for (key, directory, sources) in uses {
        for entry in flags.service.entries(key) {
            let text = |name: &str| entry.get(name).and_then(Node::text);
            let name = text("source").unwrap_or_default();
            let target = text("target").unwrap_or_else(|| name.clone());
            let target = if target.starts_with('/') { target } else { format!("{directory}{target}") };
            match sources.get(&name) {
                Some(FileSource::File(path)) => {
                    let fields = [
                        "type=bind".to_owned(),
                        format!("source={}", path.display()),
                        format!("target={target}"),
                        "readonly".to_owned(),
                    ];
                    flags.add("--mount", line(&fields));
                }
                Some(FileSource::Value(content)) => {
                    let number = |name: &str| -> Result<u32, ComposeError> {
                        let Some(text) = text(name) else { return Ok(0) };
                        text.parse().map_err(|_| {
                            let path = format!("services.{}.{key}", flags.service.name);
                            let why = format!("{name} \"{text}\" is no number");
                            ComposeError::Invalid { place: entry.place.clone(), path, why }
                        })
                    };
                    let mode =
                        entry.get("mode").and_then(Node::int).and_then(|mode| u32::try_from(mode).ok());
                    let (uid, gid) = (number("uid")?, number("gid")?);
                    let mode = mode.unwrap_or(0o444) & 0o7777;
                    files.push(FileSpec { target, content: content.0.clone(), mode, uid, gid });
                }
                // Both were refused when the project was read.
                Some(FileSource::Unset(_) | FileSource::External) | None => {}
            }
        }
    }
    Ok(())
}

/// An entry of `volumes` as `--mount` has it.
fn volume(mount: &Node, project: &Project, service: &str) -> Result<String, ComposeError> {
    let invalid = |why: &str| ComposeError::Invalid {
        place: mount.place.clone(),
        path: format!("services.{service}.volumes"),
        why: why.to_owned(),
    };
    let text = |key: &str| mount.get(key).and_then(Node::text);
    let within = |part: &str, key: &str| mount.get(part).and_then(|part| part.get(key)).cloned();
    let is = |part: &str, key: &str| within(part, key).and_then(|node| node.bool()) == Some(true);
    let kind = text("type").ok_or_else(|| invalid("a volume has no type"))?;
    let target = text("target").ok_or_else(|| invalid("a volume has no target"))?;
    let mut fields = vec![format!("type={kind}")];
    match kind.as_str() {
        "volume" => {
            let full = |name: String| project.volumes.get(&name).map_or(name, |volume| volume.name.clone());
            fields.extend(text("source").map(|name| format!("source={}", full(name))));
            fields.extend(is("volume", "nocopy").then(|| "volume-nocopy".to_owned()));
            let labels = crate::model::pairs(within("volume", "labels").as_ref());
            fields.extend(labels.iter().map(|label| format!("volume-label={label}")));
            let subpath = within("volume", "subpath").and_then(|node| node.text());
            fields.extend(subpath.map(|path| format!("volume-subpath={path}")));
        }
        "bind" => {
            let source = text("source").ok_or_else(|| invalid("a bind mount has no source"))?;
            fields.push(format!("source={source}"));
            // The long form makes nothing unless it is said.
            fields.extend(is("bind", "create_host_path").then(|| "bind-create-src".to_owned()));
            for (key, field) in [("propagation", "bind-propagation"), ("recursive", "bind-recursive")] {
                let value = within("bind", key).and_then(|node| node.text());
                fields.extend(value.map(|value| format!("{field}={value}")));
            }
        }
        "tmpfs" => {
            let limit = size(within("tmpfs", "size").as_ref()).filter(|limit| limit != "0");
            fields.extend(limit.map(|limit| format!("tmpfs-size={limit}")));
            let mode = within("tmpfs", "mode").and_then(|node| node.int());
            fields.extend(mode.map(|mode| format!("tmpfs-mode={mode:o}")));
        }
        "image" => {
            let source = text("source").ok_or_else(|| invalid("an image that is shown has no source"))?;
            fields.push(format!("source={source}"));
            let subpath = within("image", "subpath").and_then(|node| node.text());
            fields.extend(subpath.map(|path| format!("image-subpath={path}")));
        }
        other => return Err(invalid(&format!("there are no volumes of type \"{other}\""))),
    }
    fields.push(format!("target={target}"));
    let read_only = mount.get("read_only").and_then(Node::bool) == Some(true);
    fields.extend(read_only.then(|| "readonly".to_owned()));
    Ok(line(&fields))
}

/// Fields as a line of comma-separated values.
fn line(fields: &[String]) -> String {
    let quoted = |field: &String| match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.clone(),
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

//! What a container is to show, as typed: `-v`, `--mount`, `--tmpfs` by its other name, and `--volumes-from`. Names and
//! meanings are Docker's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::request::{MountRequest, MountSource, Peering, Tmpfs, VolumeMount, VolumesFrom};
use engine::volumes::ImageMount;

use crate::error::CliError;
use crate::pairs::pair;
use crate::units;

/// What `--mount` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mounted {
    /// A volume, an image, or something of the host.
    Shown(MountRequest),
    /// A directory in memory.
    Memory(Tmpfs),
}

/// `-v [SOURCE:]TARGET[:OPTIONS]`: a source with a slash or a dot in front is a path of the host, another one a volume.
pub(crate) fn volume(text: &str) -> Result<MountRequest, CliError> {
    let invalid = |why: &str| {
        let hint = "write VOLUME:/container/path, /host/path:/container/path or /container/path, with :ro to protect it";
        CliError::usage(format!("invalid volume specification: '{text}': {why}"), hint)
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(invalid("it has more than three parts")),
    };
    let options = Options::parse(options).map_err(|why| invalid(&why))?;
    let source = match source {
        Some("") => return Err(invalid("the source is empty")),
        Some(path) if path.starts_with(['/', '.']) => {
            let path = absolute(path).map_err(|why| invalid(&why))?;
            MountSource::Host { path, create: true, recursive: true, peering: options.peering }
        }
        name => MountSource::Volume(VolumeMount {
            name: name.map(str::to_owned),
            no_copy: options.no_copy,
            ..VolumeMount::default()
        }),
    };
    Ok(MountRequest {
        source,
        target: checked(target).map_err(|why| invalid(&why))?,
        read_only: options.read_only,
    })
}

/// What follows the target of `-v`.
#[derive(Default)]
struct Options {
    read_only: bool,
    no_copy: bool,
    peering: Option<Peering>,
}

impl Options {
    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in text.split(',') {
            match (option, Peering::named(option)) {
                ("ro" | "readonly", _) => options.read_only = true,
                ("nocopy", _) => options.no_copy = true,
                // Labels of SELinux, and what only Docker Desktop knows.
                ("rw" | "z" | "Z" | "" | "cached" | "delegated" | "consistent", _) => {}
                (_, Some(peering)) => options.peering = peering,
                _ => return Err(format!("unknown option \"{option}\"")),
            }
        }
        Ok(options)
    }
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| error.to_string())
}

fn checked(target: &str) -> Result<String, String> {
    match target.starts_with('/') {
        true => Ok(target.to_owned()),
        false => Err("the path in the container must be absolute".to_owned()),
    }
}

/// `--mount type=bind|volume|tmpfs|image,source=…,target=…`
pub(crate) fn mount(text: &str) -> Result<Mounted, CliError> {
    let invalid = |why: &str| {
        let hint = "write type=volume,source=NAME,target=/path, type=bind,source=/host/path,target=/path, \
                    type=image,source=IMAGE,target=/path or type=tmpfs,target=/path";
        CliError::usage(format!("invalid argument \"{text}\" for --mount: {why}"), hint)
    };
    Fields::parse(text).and_then(Fields::mounted).map_err(|why| invalid(&why))
}

/// The fields of `--mount`.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    /// The names of those that only one type of mount has, for messages.
    special: Vec<String>,
    peering: Option<Peering>,
    flat: bool,
    create: bool,
    volume: VolumeMount,
    image_subpath: Option<String>,
    size: Option<u64>,
    mode: Option<u32>,
}

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Self::default();
        for field in split(text)? {
            let (name, value) =
                field.split_once('=').map_or((field.as_str(), None), |(name, value)| (name, Some(value)));
            fields
                .read(&name.to_ascii_lowercase(), value)
                .map_err(|why| format!("{why} in the field \"{field}\""))?;
        }
        Ok(fields)
    }

    fn read(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let needed =
            || value.filter(|value| !value.is_empty()).map(str::to_owned).ok_or("a value is missing");
        if name.contains('-') {
            self.special.push(name.to_owned());
        }
        match name {
            "type" => self.kind = Some(needed()?.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(needed()?),
            "target" | "destination" | "dst" => self.target = Some(needed()?),
            "readonly" | "ro" => self.read_only = flag(value)?,
            // What only Docker Desktop knows.
            "consistency" => drop(needed()?),
            "bind-propagation" => {
                self.peering = Peering::named(&needed()?).ok_or("an unknown propagation")?
            }
            "bind-nonrecursive" => self.flat = flag(value)?,
            "bind-recursive" => self.flat = recursion(&needed()?)?,
            "bind-create-src" => self.create = flag(value)?,
            "volume-nocopy" => self.volume.no_copy = flag(value)?,
            "volume-subpath" => self.volume.subpath = Some(needed()?),
            "volume-label" => put(&mut self.volume.settings.labels, &needed()?),
            "volume-opt" => put(&mut self.volume.settings.options, &needed()?),
            "volume-driver" => driver(&needed()?)?,
            "image-subpath" => self.image_subpath = Some(needed()?),
            "tmpfs-size" => self.size = Some(units::size(&needed()?)?),
            "tmpfs-mode" => {
                self.mode = Some(u32::from_str_radix(&needed()?, 8).map_err(|_| "a mode that is not octal")?)
            }
            _ => return Err("an unknown name".to_owned()),
        }
        Ok(())
    }

    fn mounted(self) -> Result<Mounted, String> {
        let kind = self.kind.as_deref().unwrap_or("volume");
        match kind {
            "bind" | "volume" | "tmpfs" | "image" => {}
            "npipe" => return Err("named pipes are of Windows, there are none here".to_owned()),
            "cluster" => {
                return Err("volumes of a cluster need Docker's swarm, which there is none of".to_owned());
            }
            other => return Err(format!("there are no mounts of type \"{other}\"")),
        }
        if let Some(other) = self.special.iter().find(|name| !name.starts_with(&format!("{kind}-"))) {
            return Err(format!("\"{other}\" is not for mounts of type \"{kind}\""));
        }
        let target = checked(self.target.as_deref().ok_or("it needs a target")?)?;
        let source = match kind {
            "tmpfs" if self.source.is_some() => return Err("a mount in memory has no source".to_owned()),
            "tmpfs" => {
                let options = if self.read_only { vec!["ro".to_owned()] } else { Vec::new() };
                let mode = self.mode.unwrap_or(0o1777);
                return Ok(Mounted::Memory(Tmpfs { target, size: self.size, mode, options }));
            }
            "bind" => MountSource::Host {
                path: absolute(self.source.as_deref().ok_or("it needs a source")?)?,
                create: self.create,
                recursive: !self.flat,
                peering: self.peering,
            },
            "image" => MountSource::Image(ImageMount {
                image: self.source.ok_or("it needs a source, the name of an image")?,
                subpath: self.image_subpath,
            }),
            _ => MountSource::Volume(VolumeMount { name: self.source, ..self.volume }),
        };
        // As in Docker nobody writes to an image, whatever is asked for.
        let read_only = self.read_only || kind == "image";
        Ok(Mounted::Shown(MountRequest { source, target, read_only }))
    }
}

/// The fields of a line of comma-separated values, of which one with commas is in quotes (RFC 4180).
fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.push(chars.next().unwrap_or('"')),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    if quoted { Err("a quote is not closed".to_owned()) } else { Ok(fields) }
}

fn flag(value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => Err("neither true nor false".to_owned()),
    }
}

/// Whether mounts below the source stay behind. Read-only mounts are so with all that is below them wherever the kernel can.
fn recursion(value: &str) -> Result<bool, String> {
    match value {
        "enabled" | "true" | "1" | "writable" | "readonly" => Ok(false),
        "disabled" | "false" | "0" => Ok(true),
        _ => Err("an unknown value".to_owned()),
    }
}

fn put(map: &mut BTreeMap<String, String>, text: &str) {
    map.extend([pair(text)]);
}

/// Refuses every driver of volumes but the one that there is.
pub(crate) fn driver(name: &str) -> Result<(), String> {
    match name {
        engine::volumes::DRIVER => Ok(()),
        other => Err(format!("plugin \"{other}\" not found: the driver of volumes is \"local\"")),
    }
}

/// `--volumes-from CONTAINER[:ro|rw]`
pub(crate) fn volumes_from(text: &str) -> Result<VolumesFrom, CliError> {
    let (container, read_only) = match text.split_once(':') {
        None => (text, None),
        Some((container, "ro")) => (container, Some(true)),
        Some((container, "rw" | "z" | "Z")) => (container, None),
        Some((_, mode)) => {
            let message = format!("invalid mode for volumes-from: {mode}");
            return Err(CliError::usage(message, "write --volumes-from CONTAINER or CONTAINER:ro"));
        }
    };
    Ok(VolumesFrom { container: container.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(path: &str, create: bool) -> MountSource {
        MountSource::Host { path: path.into(), create, recursive: true, peering: None }
    }

    fn named(name: Option<&str>) -> MountSource {
        MountSource::Volume(VolumeMount { name: name.map(str::to_owned), ..VolumeMount::default() })
    }

    #[test]
    fn short_volumes_are_paths_names_or_nothing() {
        for (text, source, target, read_only) in [
            ("/a:/b", host("/a", true), "/b", false),
            ("/a:/b:ro,z", host("/a", true), "/b", true),
            ("data:/b", named(Some("data")), "/b", false),
            ("data:/b:ro", named(Some("data")), "/b", true),
            ("/b", named(None), "/b", false),
        ] {
            let expected = MountRequest { source, target: target.to_owned(), read_only };
            assert_eq!(volume(text).unwrap(), expected, "{text}");
        }
        let MountSource::Host { path, .. } = volume("./a:/b").unwrap().source else { panic!("a path") };
        assert!(path.is_absolute());
        let MountSource::Volume(empty) = volume("data:/b:nocopy").unwrap().source else { panic!("a volume") };
        assert!(empty.no_copy);
        let MountSource::Host { peering, .. } = volume("/a:/b:rslave").unwrap().source else {
            panic!("a path")
        };
        assert_eq!(peering, Some(Peering { gives: false, recursive: true }));
        for bad in ["", "a", "/a:b", "/a:/b:nope", ":/b", "/a:/b:ro:x"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_mounts_say_the_same_with_names() {
        for (text, source) in [
            ("type=bind,source=/a,target=/b", host("/a", false)),
            ("type=bind,src=/a,dst=/b,bind-create-src", host("/a", true)),
            ("source=data,target=/b", named(Some("data"))),
            ("type=volume,destination=/b", named(None)),
        ] {
            let expected = MountRequest { source, target: "/b".to_owned(), read_only: false };
            assert_eq!(mount(text).unwrap(), Mounted::Shown(expected), "{text}");
        }
        let text = "type=volume,src=v,dst=/b,volume-subpath=in,volume-label=a=b,\"volume-opt=o=size=1m,uid=1\",volume-opt=type=tmpfs";
        let Mounted::Shown(shown) = mount(text).unwrap() else { panic!("a volume") };
        let MountSource::Volume(asked) = shown.source else { panic!("a volume") };
        assert_eq!(asked.subpath.as_deref(), Some("in"));
        assert_eq!(asked.settings.labels["a"], "b");
        assert_eq!(asked.settings.options["o"], "size=1m,uid=1");
        let memory = mount("type=tmpfs,target=/b,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        let expected =
            Tmpfs { target: "/b".to_owned(), size: Some(1 << 20), mode: 0o700, options: Vec::new() };
        assert_eq!(memory, Mounted::Memory(expected));
        let Mounted::Shown(shown) = mount("type=image,src=busybox,dst=/b,image-subpath=etc").unwrap() else {
            panic!("an image")
        };
        let image = ImageMount { image: "busybox".to_owned(), subpath: Some("etc".to_owned()) };
        assert_eq!((shown.source, shown.read_only), (MountSource::Image(image), true));
        for bad in [
            "type=image,target=/b",
            "type=image,source=a,target=/b,volume-subpath=x",
            "type=npipe,source=a,target=/b",
            "type=bind,source=/a",
            "type=bind,target=/b",
            "type=bind,source=/a,target=b",
            "type=bind,source=/a,target=/b,bind-propagation=sideways",
            "type=bind,source=/a,target=/b,colour=red",
            "type=bind,source=/a,target=/b,volume-nocopy",
            "type=tmpfs,source=/a,target=/b",
            "type=cluster,source=a,target=/b",
            "type=volume,target=/b,volume-driver=other",
            "target=/b,\"open",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_come_from_containers() {
        let from = volumes_from("web:ro").unwrap();
        assert_eq!((from.container.as_str(), from.read_only), ("web", Some(true)));
        assert_eq!(volumes_from("web").unwrap().read_only, None);
        assert!(volumes_from("web:x").is_err());
    }
}

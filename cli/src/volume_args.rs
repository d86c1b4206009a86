//! The flags of `lap run` that show something of the host in the container: `-v` and `--mount`. Names and meanings are
//! Docker's.

use std::path::Path;

use engine::request::{BindVolume, Peering};

use crate::error::CliError;

/// What `-v` and `--mount` ask for.
pub(crate) fn volumes(volumes: &[String], mounts: &[String]) -> Result<Vec<BindVolume>, CliError> {
    let volumes = volumes.iter().map(|text| volume(text));
    volumes.chain(mounts.iter().map(|text| mount(text))).collect()
}

/// `host:container[:options]`; a name instead of a host path is a volume, which is not supported yet.
fn volume(text: &str) -> Result<BindVolume, CliError> {
    let invalid = |why: &str| {
        CliError::usage(format!("invalid volume \"{text}\": {why}"), "write /host/path:/container/path[:ro]")
    };
    let mut parts = text.split(':');
    let (source, target) = match (parts.next(), parts.next()) {
        (Some(source), Some(target)) if !source.is_empty() => (source, target),
        _ => return Err(invalid("volumes without a host path are not supported yet")),
    };
    if !source.starts_with('/') && !source.starts_with('.') {
        return Err(invalid("named volumes are not supported yet"));
    }
    let source = std::path::absolute(Path::new(source)).map_err(|error| invalid(&error.to_string()))?;
    let mut volume = BindVolume { source, target: target.to_owned(), read_only: false, peering: None };
    check_target(&volume.target).map_err(invalid)?;
    for option in parts.flat_map(|options| options.split(',')) {
        match (option, propagation(option)) {
            ("ro" | "readonly", _) => volume.read_only = true,
            ("rw" | "z" | "Z" | "", _) => {}
            (_, Some(peering)) => volume.peering = peering,
            _ => return Err(invalid(&format!("unknown option \"{option}\""))),
        }
    }
    Ok(volume)
}

/// `type=bind,source=PATH,target=PATH[,readonly][,bind-propagation=KIND]`
fn mount(text: &str) -> Result<BindVolume, CliError> {
    let invalid = |why: &str| {
        let hint =
            "write type=bind,source=/host/path,target=/container/path[,readonly][,bind-propagation=rslave]";
        CliError::usage(format!("invalid mount \"{text}\": {why}"), hint)
    };
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let (mut read_only, mut peering) = (false, None);
    for field in text.split(',') {
        let (name, value) = field.split_once('=').map_or((field, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("type", Some(value)) => kind = value,
            ("source" | "src", Some(value)) => source = Some(value),
            ("target" | "destination" | "dst", Some(value)) => target = Some(value),
            ("readonly" | "ro", None | Some("true" | "1")) => read_only = true,
            ("readonly" | "ro", Some("false" | "0")) => read_only = false,
            ("bind-propagation", Some(value)) => {
                let known = propagation(value).ok_or_else(|| {
                    invalid(&format!("unknown propagation \"{value}\": use rprivate, rslave or rshared"))
                });
                peering = known?;
            }
            _ => return Err(invalid(&format!("unknown field \"{field}\""))),
        }
    }
    if kind != "bind" {
        return Err(invalid(&format!("mounts of type \"{kind}\" are not supported yet")));
    }
    let (Some(source), Some(target)) = (source, target) else {
        return Err(invalid("it needs a source and a target"));
    };
    check_target(target).map_err(invalid)?;
    let source = std::path::absolute(Path::new(source)).map_err(|error| invalid(&error.to_string()))?;
    Ok(BindVolume { source, target: target.to_owned(), read_only, peering })
}

fn check_target(target: &str) -> Result<(), &'static str> {
    match target.starts_with('/') {
        true => Ok(()),
        false => Err("the path in the container must be absolute"),
    }
}

/// How a mount stays connected with the host's, by the name of its propagation; `None` where that is no name, and
/// nothing within where it stays alone.
fn propagation(name: &str) -> Option<Option<Peering>> {
    let peering = |gives, recursive| Some(Some(Peering { gives, recursive }));
    match name {
        "rprivate" | "private" => Some(None),
        "rslave" => peering(false, true),
        "slave" => peering(false, false),
        "rshared" => peering(true, true),
        "shared" => peering(true, false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_bind_mounts() {
        let parsed = volume("/a:/b:ro").unwrap();
        assert_eq!((parsed.target.as_str(), parsed.read_only, parsed.peering), ("/b", true, None));
        assert!(volume("./a:/b").unwrap().source.is_absolute());
        let connected = volume("/a:/b:rslave,ro").unwrap();
        assert_eq!(connected.peering, Some(Peering { gives: false, recursive: true }));
        assert!(connected.read_only);
        for bad in ["/a", "name:/b", "/a:b", "/a:/b:nope", ":/b"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_say_the_same_with_names() {
        let same = volume("/a:/b:rshared,ro").unwrap();
        assert_eq!(mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared").unwrap(), same);
        assert_eq!(mount("type=bind,source=/a,target=/b").unwrap(), volume("/a:/b").unwrap());
        for bad in [
            "source=/a,target=/b",
            "type=bind,source=/a",
            "type=bind,source=/a,target=b",
            "type=bind,source=/a,target=/b,bind-propagation=sideways",
            "type=bind,source=/a,target=/b,colour=red",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}

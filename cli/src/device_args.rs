//! The flags of devices. Names and meanings are Docker's.

use std::path::PathBuf;

use engine::request::{DeviceAccess, DeviceKind, DeviceNode, DeviceRule};

use crate::error::CliError;

/// What `--device` names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// A file.
    Node(DeviceNode),
    /// What a vendor describes under `vendor.com/class=name`.
    Described(String),
}

/// A path, or the name of a described device.
pub(crate) fn device(text: &str) -> Result<Device, CliError> {
    let is_name = |text: &str| {
        let (kind, name) = text.split_once('=')?;
        let (vendor, class) = kind.split_once('/')?;
        let mut parts = [vendor, class, name].into_iter();
        parts.all(|part| !part.is_empty() && !part.contains(['/', ':'])).then_some(())
    };
    match is_name(text) {
        Some(()) => Ok(Device::Described(text.to_owned())),
        None => node(text).map(Device::Node),
    }
}

/// `--device /dev/host[:/dev/container[:rwm]]`, the path in the container or the permissions left out.
fn node(text: &str) -> Result<DeviceNode, CliError> {
    let invalid = |why: &str| {
        let hint = "write --device /dev/host[:/dev/container[:rwm]]";
        CliError::usage(format!("invalid device \"{text}\": {why}"), hint)
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, letters) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, letters] if DeviceAccess::parse(letters).is_some() => (source, source, letters),
        [source, target] => (source, target, "rwm"),
        [source, target, letters] => (source, target, letters),
        _ => return Err(invalid("it has too many parts")),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(invalid("both paths must be absolute"));
    }
    let access =
        DeviceAccess::parse(letters).ok_or_else(|| invalid("the permissions are some of r, w and m"))?;
    Ok(DeviceNode { source: PathBuf::from(source), target: target.to_owned(), access })
}

/// `--device-cgroup-rule "c 13:* rwm"`: a kind (a, b or c), a major and a minor number, and what is allowed.
pub(crate) fn rule(text: &str) -> Result<DeviceRule, CliError> {
    let invalid = |why: &str| {
        let hint = "write a kind, two numbers and permissions, for example \"c 13:* rwm\"";
        CliError::usage(format!("invalid device rule \"{text}\": {why}"), hint)
    };
    let [kind, numbers, letters] = text.split(' ').collect::<Vec<_>>()[..] else {
        return Err(invalid("it has three parts, with one blank between them"));
    };
    let kind = match kind {
        "a" => None,
        "b" => Some(DeviceKind::Block),
        "c" => Some(DeviceKind::Character),
        _ => return Err(invalid("the kind is a, b or c")),
    };
    let number = |number: &str| match number {
        "*" => Ok(None),
        number => number.parse().map(Some).map_err(|_| invalid("a number is neither a number nor *")),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(|| invalid("the numbers are as 13:* or 1:3"))?;
    let access =
        DeviceAccess::parse(letters).ok_or_else(|| invalid("the permissions are some of r, w and m"))?;
    Ok(DeviceRule { kind, major: number(major)?, minor: number(minor)?, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_same_name_and_all_permissions_unless_said() {
        let parsed = |text: &str| {
            let DeviceNode { source, target, access } = node(text).unwrap();
            (source.to_str().unwrap().to_owned(), target, access.read, access.write)
        };
        let is =
            |source: &str, target: &str, read, write| (source.to_owned(), target.to_owned(), read, write);
        assert_eq!(parsed("/dev/kvm"), is("/dev/kvm", "/dev/kvm", true, true));
        assert_eq!(parsed("/dev/kvm:/dev/x:rwm"), is("/dev/kvm", "/dev/x", true, true));
        assert_eq!(parsed("/dev/kvm:/dev/x:r"), is("/dev/kvm", "/dev/x", true, false));
        assert_eq!(parsed("/dev/kvm:w"), is("/dev/kvm", "/dev/kvm", false, true));
        for bad in
            ["kvm", "/dev/kvm:x", "/dev/kvm:/dev/x:z", "/dev/kvm:/dev/x:", "/dev/kvm:/dev/x:rr", "/a:/b:r:c"]
        {
            assert!(node(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn described_devices_have_a_vendor_a_class_and_a_name() {
        for name in ["vendor.com/gpu=0", "v/c=all", "vendor.com/net=eth0=1"] {
            assert_eq!(device(name).unwrap(), Device::Described(name.to_owned()));
        }
        assert!(matches!(device("/dev/by=name").unwrap(), Device::Node(_)));
        for bad in ["gpu=0", "vendor.com/gpu", "vendor.com/gpu=", "/gpu=0", "vendor.com/a/b=0"] {
            assert!(device(bad).is_err() || matches!(device(bad), Ok(Device::Node(_))), "{bad}");
        }
    }

    #[test]
    fn rules_are_kind_numbers_and_permissions() {
        let parsed = rule("c 13:* rm").unwrap();
        assert_eq!((parsed.kind, parsed.major, parsed.minor), (Some(DeviceKind::Character), Some(13), None));
        assert_eq!((parsed.access.read, parsed.access.write, parsed.access.make), (true, false, true));
        assert_eq!(rule("a *:* rwm").unwrap().kind, None);
        for bad in
            ["", "c 13:*", "d 1:1 r", "c 1 r", "c x:1 r", "c 1:1 rwx", "c  1:1 r", "c -1:1 r", "c 1:1 "]
        {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}

//! What a container sees of its control groups where they are of version 1.
//!
//! Version 2 is one filesystem, which is mounted as it is. In version 1 each hierarchy is another one, and a
//! mount of it begins at the root of all groups for whoever has no view of its own. So, as in Docker,
//! `/sys/fs/cgroup` is a small filesystem with a directory for each hierarchy, and that shows the container's
//! own group there: programs read their memory limit from it. All of it is read-only, and the files of the
//! root of a hierarchy, above all `release_agent` (CVE-2022-0492), are not in it.

use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use super::mount;
use crate::cgroup::hierarchy::Version;
use crate::cgroup::{ControlGroup, GroupDirectory};

/// Where control groups are seen.
const PLACE: &str = "/sys/fs/cgroup";

/// Replaces the mount of control groups by mounts of the container's own ones, if they are of version 1 and
/// something but its devices is limited by them.
pub(crate) fn show(spec: &mut Spec, group: &ControlGroup) {
    let first = group.directories().iter().filter(|directory| directory.version == Version::One);
    let shown: Vec<&GroupDirectory> = first.collect();
    if shown.iter().all(|directory| directory.controllers == ["devices"]) {
        return;
    }
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let is_it = |one: &Mount| one.typ().as_deref() == Some("cgroup") && one.destination() == Path::new(PLACE);
    let Some(index) = mounts.iter().position(is_it) else { return };
    let read_only = mounts[index].options().iter().flatten().any(|option| option == "ro");
    let access = if read_only { "ro" } else { "rw" };
    let base = mount(PLACE, "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=755", "size=64k"]);
    let own = shown.iter().map(|directory| {
        let name = directory.controllers.join(",");
        let name = name.strip_prefix("name=").unwrap_or(&name);
        let options = ["bind", access, "nosuid", "noexec", "nodev"];
        let mut own = mount(&format!("{PLACE}/{name}"), "bind", "", &options);
        own.set_source(Some(directory.path.clone()));
        own
    });
    let all: Vec<Mount> = [base].into_iter().chain(own).collect();
    mounts.splice(index..=index, all);
    spec.set_mounts(Some(mounts));
    if let (true, Some(linux)) = (read_only, spec.linux_mut().as_mut()) {
        let mut paths = linux.readonly_paths().clone().unwrap_or_default();
        paths.push(PLACE.to_owned());
        linux.set_readonly_paths(Some(paths));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::request::{RunRequest, Stdio};

    fn destinations(version: Version, controllers: &[&[&str]]) -> (Vec<String>, bool) {
        let directory = |controllers: &&[&str]| GroupDirectory {
            version,
            path: PathBuf::from("/groups/own"),
            controllers: controllers.iter().map(|one| (*one).to_owned()).collect(),
        };
        let group = ControlGroup::open(controllers.iter().map(directory).collect());
        let root = base::Mount::Bind { source: "/".into(), read_only: true };
        let request = RunRequest::new(root, vec!["true".to_owned()]);
        let mut spec = crate::spec::build(&request, Stdio::CAPTURED).unwrap().spec;
        show(&mut spec, &group);
        let paths = spec.linux().as_ref().unwrap().readonly_paths().clone().unwrap();
        let mounts = spec.mounts().iter().flatten();
        let places = mounts.map(|one| one.destination().to_string_lossy().into_owned());
        let places = places.filter(|place| place.starts_with(PLACE)).collect();
        (places, paths.iter().any(|path| path == PLACE))
    }

    #[test]
    fn each_hierarchy_of_version_1_has_its_directory() {
        let shown = destinations(Version::One, &[&["memory"], &["cpu", "cpuacct"], &["name=systemd"]]);
        let expected = ["", "/memory", "/cpu,cpuacct", "/systemd"].map(|name| format!("{PLACE}{name}"));
        assert_eq!(shown, (expected.to_vec(), true));
        assert_eq!(destinations(Version::One, &[&["devices"]]), (vec![PLACE.to_owned()], false));
        assert_eq!(destinations(Version::Two, &[&["memory"]]), (vec![PLACE.to_owned()], false));
    }
}

//! Where a group is to be: from the words of an OCI spec or a flag to a path in the hierarchies.
//!
//! Source: OCI runtime-spec `config-linux.md`, "Cgroups Path"; `systemd.slice(5)` for the names of slices.

use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

use super::error::CgroupError;
use super::hierarchy::Hierarchy;

/// The place of a group, the same in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// Below the mount point of the hierarchy.
    Absolute(PathBuf),
    /// Below the group that we are in, or in version 2 beside it: in a group that has processes no other can
    /// be limited there.
    Relative(PathBuf),
}

impl Location {
    /// Reads a path, absolute or not, or systemd's form `slice:prefix:name`. That form becomes the directory
    /// that systemd would make: nobody is asked, the groups are ours.
    pub fn parse(text: &str) -> Result<Self, CgroupError> {
        let invalid = |problem| CgroupError::Location { path: text.to_owned(), problem };
        let path = match text.split(':').collect::<Vec<_>>().as_slice() {
            [slice, prefix, name] if !text.contains('/') => {
                systemd_path(slice, prefix, name).map_err(invalid)?
            }
            _ => PathBuf::from(text),
        };
        let below = plain(&path).map_err(invalid)?;
        if below.as_os_str().is_empty() {
            return Err(invalid("it has no name"));
        }
        Ok(if path.is_absolute() { Self::Absolute(below) } else { Self::Relative(below) })
    }

    /// The group `name` inside of this one.
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Absolute(path) => Self::Absolute(path.join(name)),
            Self::Relative(path) => Self::Relative(path.join(name)),
        }
    }

    /// The directory that is there already, and the path to be made in it.
    pub(super) fn within<'a>(&'a self, hierarchy: &'a Hierarchy) -> (&'a Path, &'a Path) {
        match self {
            Self::Absolute(path) => (&hierarchy.mount, path),
            Self::Relative(path) => (hierarchy.parent_of_groups(), path),
        }
    }
}

/// A path without anything that is not a name.
fn plain(path: &Path) -> Result<PathBuf, &'static str> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err("it has a \"..\""),
        }
    }
    Ok(plain)
}

/// The directory of a scope in a slice. A slice `a-b.slice` is inside of `a.slice`.
fn systemd_path(slice: &str, prefix: &str, name: &str) -> Result<PathBuf, &'static str> {
    if name.is_empty() {
        return Err("the unit has no name");
    }
    let mut path = PathBuf::from("/");
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").ok_or("the name of a slice ends in \".slice\"")?;
    // The root slice is called "-".
    if stem != "-" {
        if stem.split('-').any(str::is_empty) {
            return Err("the name of the slice has an empty part");
        }
        let ends = stem.match_indices('-').map(|(end, _)| end).chain([stem.len()]);
        path.extend(ends.map(|end| format!("{}.slice", &stem[..end])));
    }
    path.push(match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    });
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_or_relative() {
        assert_eq!(Location::parse("/docker/./abc/").unwrap(), Location::Absolute("docker/abc".into()));
        assert_eq!(Location::parse("abc").unwrap(), Location::Relative("abc".into()));
        assert_eq!(Location::parse("abc").unwrap().join("d"), Location::Relative("abc/d".into()));
        for bad in ["", "/", ".", "/a/../b", "..", "../x"] {
            let error = Location::parse(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{bad}\"")), "{error}");
        }
    }

    #[test]
    fn slices_become_directories() {
        let path = |text| match Location::parse(text).unwrap() {
            Location::Absolute(path) => path.to_str().unwrap().to_owned(),
            Location::Relative(path) => panic!("{} is relative", path.display()),
        };
        assert_eq!(path("system.slice:docker:1f"), "system.slice/docker-1f.scope");
        assert_eq!(path(":libpod:1f"), "system.slice/libpod-1f.scope");
        assert_eq!(path("user-1000-a.slice::x"), "user.slice/user-1000.slice/user-1000-a.slice/x.scope");
        assert_eq!(path("-.slice:p:a-b.slice"), "a-b.slice");
        for bad in ["system:docker:1f", "a--b.slice:p:n", "-a.slice:p:n", "system.slice:p:"] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Location::parse("/a:b:c").unwrap(), Location::Absolute("a:b:c".into()));
    }

    #[test]
    fn a_relative_place_is_below_us_or_beside_us() {
        use super::super::hierarchy::Version;
        let hierarchy = |version| Hierarchy {
            version,
            controllers: Vec::new(),
            mount: "/m".into(),
            own: "/m/a/own".into(),
        };
        let (one, two) = (hierarchy(Version::One), hierarchy(Version::Two));
        let (absolute, relative) = (Location::parse("/x").unwrap(), Location::parse("x").unwrap());
        let joined = |location: &Location, hierarchy: &Hierarchy| {
            let (base, below) = location.within(hierarchy);
            base.join(below).to_str().unwrap().to_owned()
        };
        assert_eq!([joined(&absolute, &one), joined(&absolute, &two)], ["/m/x", "/m/x"]);
        assert_eq!([joined(&relative, &one), joined(&relative, &two)], ["/m/a/own/x", "/m/a/x"]);
    }
}

//! Directory trees written down as text, and patterns and filters over them, for the tests of this crate.
//!
//! One entry a line: a letter, a path, and what it holds.
//!
//! ```text
//! d dir            a directory (those on the way are made)
//! f file content   a regular file
//! l link target    a symbolic link
//! h name existing  a hard link
//! p pipe           a named pipe
//! w name           a whiteout
//! o dir            an opaque directory
//! ```

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sys::rootdir::RootDir;
use sys::stat::Kind;
use sys::xattr::{self, Target};

use crate::select::{BadPattern, PatternLanguage};
use crate::tree::{DirectoryFilter, Entry, Filter, Tree};

/// Whether this process is root, and so may use `trusted.` attributes and mount.
pub(crate) fn is_root() -> bool {
    sys::rootdir::own_ids().0 == 0
}

/// Makes what `spec` says below `dir`, which is created.
pub(crate) fn build(dir: &Path, spec: &str) {
    std::fs::create_dir_all(dir).unwrap();
    for line in spec.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (what, path) = (words.next().unwrap(), dir.join(words.next().unwrap()));
        let rest = words.next().unwrap_or_default();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (holder, name) = (RootDir::open(path.parent().unwrap()).unwrap(), path.file_name().unwrap());
        match what {
            "d" => std::fs::create_dir_all(&path).unwrap(),
            "f" => std::fs::write(&path, rest).unwrap(),
            "l" => symlink(rest, &path).unwrap(),
            "h" => std::fs::hard_link(dir.join(rest), &path).unwrap(),
            "p" => holder.create_node(name, Kind::Fifo, 0o644, 0).unwrap(),
            "w" => holder.create_node(name, Kind::CharDevice, 0, 0).unwrap(),
            "o" => {
                std::fs::create_dir_all(&path).unwrap();
                let mark = if is_root() { c"trusted.overlay.opaque" } else { c"user.overlay.opaque" };
                xattr::set(Target::Name(&holder, name), &path, mark, b"y").unwrap();
            }
            other => panic!("unknown kind {other:?} in {line:?}"),
        }
    }
}

/// What a tree shows, in the form of a specification, sorted.
pub(crate) fn describe(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    describe_below(tree, &tree.root().unwrap(), &mut lines);
    lines.sort();
    lines
}

fn describe_below(tree: &Tree, dir: &Entry, lines: &mut Vec<String>) {
    for entry in tree.read_dir(dir).unwrap() {
        let path = entry.path().to_str().unwrap();
        match entry.kind() {
            Kind::Directory => {
                lines.push(format!("d {path}"));
                describe_below(tree, &entry, lines);
            }
            Kind::File => {
                let content = String::from_utf8(tree.read(&entry, 1 << 20).unwrap()).unwrap();
                lines.push(format!("f {path} {content}").trim_end().to_owned());
            }
            Kind::Symlink => {
                lines.push(format!("l {path} {}", tree.read_link(&entry).unwrap().to_str().unwrap()));
            }
            other => lines.push(format!("{other:?} {path}")),
        }
    }
}

/// The lines of a specification, sorted, as [`describe`] gives them.
pub(crate) fn lines(spec: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        spec.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A pattern language with `*`, and `**` for any number of directories.
pub(crate) struct Stars;

impl PatternLanguage for Stars {
    fn matches_name(&self, pattern: &str, name: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == name,
            Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
                (0..=rest.len()).any(|at| rest.is_char_boundary(at) && self.matches_name(after, &rest[at..]))
            }),
        }
    }

    fn only(&self, pattern: &str) -> Result<Arc<dyn Filter>, BadPattern> {
        if pattern.contains('[') {
            return Err("brackets mean nothing here".into());
        }
        Ok(Arc::new(Only(pattern.split('/').map(str::to_owned).collect())))
    }
}

/// Excludes what neither matches a pattern nor lies below a match.
struct Only(Vec<String>);

impl Only {
    /// Whether a path matches, or if `partly`, could when something is added to it.
    fn matches(pattern: &[String], path: &[&str], partly: bool) -> bool {
        match (pattern, path) {
            ([], rest) => rest.is_empty(),
            (_, []) => partly,
            ([stars, after @ ..], [_, rest @ ..]) if stars == "**" => {
                Self::matches(after, path, partly) || Self::matches(pattern, rest, partly)
            }
            ([name, after @ ..], [first, rest @ ..]) => {
                Stars.matches_name(name, first) && Self::matches(after, rest, partly)
            }
        }
    }

    fn includes(&self, path: &[&str]) -> bool {
        (1..=path.len()).any(|end| Self::matches(&self.0, &path[..end], false))
    }
}

fn components(path: &Path) -> Vec<&str> {
    path.iter().map(|name| name.to_str().unwrap()).collect()
}

/// A filter that looks at whole paths, at one directory.
pub(crate) struct ByPath<'a> {
    pub(crate) dir: PathBuf,
    pub(crate) excludes: Box<dyn Fn(&Path) -> bool + Send + Sync + 'a>,
}

impl DirectoryFilter for ByPath<'_> {
    fn excludes(&self, name: &OsStr) -> bool {
        (self.excludes)(&self.dir.join(name))
    }
}

impl Filter for Only {
    fn directory<'a>(&'a self, dir: &Path) -> Box<dyn DirectoryFilter + 'a> {
        let excludes = |path: &Path| !self.includes(&components(path));
        Box::new(ByPath { dir: dir.to_owned(), excludes: Box::new(excludes) })
    }

    fn prunes(&self, dir: &Path) -> bool {
        let path = components(dir);
        !self.includes(&path) && !Self::matches(&self.0, &path, true)
    }
}

/// Excludes what has one name, wherever it is, and what is below it, except what has another name.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) but: &'static str,
}

impl Filter for Named {
    fn directory<'a>(&'a self, dir: &Path) -> Box<dyn DirectoryFilter + 'a> {
        let excludes = |path: &Path| {
            let is_named = path.iter().any(|part| Stars.matches_name(self.name, part.to_str().unwrap()));
            is_named && path.file_name().is_none_or(|last| last != self.but)
        };
        Box::new(ByPath { dir: dir.to_owned(), excludes: Box::new(excludes) })
    }

    fn prunes(&self, _dir: &Path) -> bool {
        self.but.is_empty()
    }
}

/// A temporary directory with a tree in it, and the tree.
pub(crate) fn tree_of(spec: &str) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), spec);
    let tree = Tree::directory(dir.path(), None).unwrap();
    (dir, tree)
}

/// What the kernel shows when it mounts the layers, in [`describe`]'s form. In a mount namespace of its own.
pub(crate) fn mounted(dirs: &[PathBuf], dir: &Path) -> Result<Vec<String>, String> {
    std::fs::create_dir_all(dir.join("mnt")).unwrap();
    std::fs::create_dir_all(dir.join("empty")).unwrap();
    // The kernel wants two lower directories when there is no upper one.
    let all: Vec<&str> = dirs.iter().map(|dir| dir.to_str().unwrap()).chain(["empty"]).collect();
    let script = r#"mount -t overlay overlay -o "ro,lowerdir=$1" mnt && cd mnt &&
        find . -mindepth 1 -type d -printf 'd %P\n' -o -type l -printf 'l %P %l\n' -o -printf 'f %P ' -exec cat {} \; -printf '\n'"#;
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", &all.join(":")])
        .current_dir(dir)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(lines(std::str::from_utf8(&output.stdout).unwrap()))
}

/// Names the reason when the kernel cannot be asked here.
pub(crate) fn cannot_mount() -> Option<String> {
    if !is_root() {
        return Some("not root".to_owned());
    }
    let dir = tempfile::tempdir().unwrap();
    build(&dir.path().join("layer"), "f a 1");
    mounted(&[dir.path().join("layer")], dir.path()).err()
}

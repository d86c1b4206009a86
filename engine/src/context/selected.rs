//! Parts of a directory, as frontends ask for them: patterns of what is wanted and what is not, and paths whose links are
//! followed. What is not asked for is not looked at.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parser::ignore::IgnoreFile;
use snapshotter::Tree;
use snapshotter::tree::{DirectoryFilter, Entry, Filter, Follow};
use sys::stat::Kind;

use super::IgnoreRules;
use crate::error::{BuildError, EngineError};
use crate::request::SelectedFiles;

/// How many links one path may lead through.
const MOST_LINKS: usize = 255;

/// The files of a directory that are asked for.
pub(super) fn tree(wanted: &SelectedFiles) -> Result<Tree, BuildError> {
    let SelectedFiles { directory, include, exclude, follow } = wanted;
    let all = Tree::directory(directory, None).map_err(EngineError::from)?;
    let mut patterns: Vec<String> = include.iter().map(|pattern| format!("!{pattern}")).collect();
    for path in follow {
        let mut found = BTreeSet::new();
        followed(&all, Path::new(""), path, &mut found, &mut 0)?;
        // The root is everything.
        if found.contains(Path::new("")) {
            patterns.push("!**".to_owned());
        }
        let below = found.iter().filter(|path| !path.as_os_str().is_empty());
        patterns.extend(below.map(|path| format!("!{}", literally(path))));
    }
    let only = (!include.is_empty() || !follow.is_empty()).then(|| {
        patterns.insert(0, "**".to_owned());
        rules(&patterns)
    });
    let without = (!exclude.is_empty()).then(|| rules(exclude));
    let filter: Arc<dyn Filter> = match (only.transpose()?, without.transpose()?) {
        (None, None) => return Ok(all),
        (Some(one), None) | (None, Some(one)) => Arc::new(one),
        (Some(only), Some(without)) => Arc::new(Both(only, without)),
    };
    Ok(Tree::directory(directory, Some(filter)).map_err(EngineError::from)?)
}

fn rules(patterns: &[String]) -> Result<IgnoreRules, EngineError> {
    let compiled = IgnoreFile::from_patterns(patterns.iter().map(String::as_str));
    compiled.map(IgnoreRules).map_err(|error| EngineError::WantedPattern(error.to_string()))
}

/// A path as a pattern that means nothing else.
fn literally(path: &Path) -> String {
    let special = |letter: char| matches!(letter, '*' | '?' | '[' | ']' | '\\' | '!');
    path.to_string_lossy()
        .chars()
        .flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter]))
        .collect()
}

/// Collects what `rest` means below `base`, which has no links: itself, and all links on the way.
fn followed(
    tree: &Tree,
    base: &Path,
    rest: &str,
    found: &mut BTreeSet<PathBuf>,
    links: &mut usize,
) -> Result<(), EngineError> {
    let mut parts = rest.split('/').filter(|part| !part.is_empty() && *part != ".");
    let Some(part) = parts.next() else {
        found.insert(base.to_owned());
        return Ok(());
    };
    let rest: Vec<&str> = parts.collect();
    let rest = rest.join("/");
    if part == ".." {
        // Nothing is above the root.
        return followed(tree, base.parent().unwrap_or(Path::new("")), &rest, found, links);
    }
    for path in named(tree, base, part)? {
        match tree.lookup(&path, Follow::NoLast)? {
            Some(entry) if entry.kind() == Kind::Symlink => {
                *links += 1;
                found.insert(path.clone());
                if *links <= MOST_LINKS {
                    let (start, target) = leads_to(tree, base, &entry)?;
                    followed(tree, &start, &format!("{target}/{rest}"), found, links)?;
                }
            }
            // What is not there is asked for all the same: it is found to be missing where it is used.
            _ => followed(tree, &path, &rest, found, links)?,
        }
    }
    Ok(())
}

/// Where a link leads: from the root or from where it is.
fn leads_to(tree: &Tree, base: &Path, link: &Entry) -> Result<(PathBuf, String), EngineError> {
    let target = PathBuf::from(tree.read_link(link)?);
    let is_absolute = matches!(target.components().next(), Some(Component::RootDir));
    let start = if is_absolute { PathBuf::new() } else { base.to_owned() };
    Ok((start, target.to_string_lossy().into_owned()))
}

/// The entries of a directory that a part of a path means.
fn named(tree: &Tree, base: &Path, part: &str) -> Result<Vec<PathBuf>, EngineError> {
    if !part.contains(['*', '?', '[', '\\']) {
        return Ok(vec![base.join(part)]);
    }
    let Some(directory) = tree.lookup(base, Follow::NoLast)?.filter(Entry::is_dir) else {
        return Ok(Vec::new());
    };
    let fits = |name: &OsStr| crate::matches_name(part, &name.to_string_lossy());
    let entries = tree.read_dir(&directory)?.into_iter();
    Ok(entries.filter(|entry| fits(entry.name())).map(|entry| base.join(entry.name())).collect())
}

/// What two sets of rules both leave.
struct Both(IgnoreRules, IgnoreRules);

impl Filter for Both {
    fn directory<'a>(&'a self, dir: &Path) -> Box<dyn DirectoryFilter + 'a> {
        Box::new(BothHere(self.0.directory(dir), self.1.directory(dir)))
    }

    fn prunes(&self, dir: &Path) -> bool {
        let parent = dir.parent().unwrap_or(Path::new(""));
        let name = dir.file_name().unwrap_or_default();
        let gone = |rules: &IgnoreRules| rules.directory(parent).excludes(name) && rules.prunes(dir);
        gone(&self.0) || gone(&self.1)
    }
}

/// The same at one directory.
struct BothHere<'a>(Box<dyn DirectoryFilter + 'a>, Box<dyn DirectoryFilter + 'a>);

impl DirectoryFilter for BothHere<'_> {
    fn excludes(&self, name: &OsStr) -> bool {
        self.0.excludes(name) || self.1.excludes(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &SelectedFiles) -> Vec<String> {
        fn walk(tree: &Tree, dir: &Entry, found: &mut Vec<String>) {
            for entry in tree.read_dir(dir).unwrap() {
                found.push(entry.path().display().to_string());
                if entry.is_dir() {
                    walk(tree, &entry, found);
                }
            }
        }
        let tree = tree(wanted).unwrap();
        let mut found = Vec::new();
        walk(&tree, &tree.lookup("", Follow::NoLast).unwrap().unwrap(), &mut found);
        found
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn only_what_is_asked_for_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["a/one.txt", "a/two.log", "b/deep/x.txt", "empty/none", "Dockerfile", "st*r/x"] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), name).unwrap();
        }
        std::fs::remove_file(root.join("empty/none")).unwrap();
        std::os::unix::fs::symlink("b/deep", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/a/../link/x.txt", root.join("a/out")).unwrap();
        let found = |include: &[&str], exclude: &[&str], follow: &[&str]| {
            names(&SelectedFiles {
                directory: root.to_owned(),
                include: list(include),
                exclude: list(exclude),
                follow: list(follow),
            })
        };
        assert_eq!(found(&["Dockerfile"], &[], &[]), ["Dockerfile"]);
        assert_eq!(found(&["**/*.txt"], &["b"], &[]), ["a", "a/one.txt"]);
        assert_eq!(found(&["a"], &["**/*.log", "a/out"], &[]), ["a", "a/one.txt"]);
        let followed = ["a", "a/out", "b", "b/deep", "b/deep/x.txt", "link"];
        assert_eq!(found(&[], &[], &["a/out"]), followed);
        assert_eq!(found(&[], &[], &["li*"]), ["b", "b/deep", "b/deep/x.txt", "link"]);
        assert_eq!(found(&[], &[], &["missing", "st*r"]), ["st*r", "st*r/x"]);
        assert!(found(&[], &["a"], &["."]).contains(&"empty".to_owned()));
    }
}

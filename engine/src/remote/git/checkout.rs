//! Laying out the files of one commit.

use std::path::Path;

use base::git_url::without_password;
use llb::GitSource;
use snapshotter::tree::{Entry, Follow};
use snapshotter::{ScratchDir, Tree};
use sys::rootdir::RootDir;
use sys::stat::FileTime;

use super::{Git, GitError, refs};
use crate::error::EngineError;

/// The files of a commit. They go away with this value.
pub(crate) struct Checkout {
    /// What was asked for: the repository, or a directory of it.
    pub(crate) tree: Tree,
    /// When the commit was made, in seconds since 1970.
    pub(crate) committed: i64,
    /// Where they are.
    pub(crate) directory: ScratchDir,
}

/// Fetches the commit of `source` into an empty directory and lays out its files. `told` gets lines for
/// people.
pub(super) fn checkout(
    git: &Git<'_>,
    source: &GitSource,
    directory: ScratchDir,
    told: &mut dyn FnMut(&str),
) -> Result<Checkout, EngineError> {
    let root = directory.path();
    fetch(git, root, &source.commit, told)?;
    git.run_in(root, "check out a commit of", &["checkout", "-q", "--force", "--detach", &source.commit])?;
    if source.submodules && sys::fs::exists(&root.join(".gitmodules"))? {
        submodules(git, root, told)?;
    }
    let committed = commit_time(git, root)?;
    if !source.keep_git_dir {
        remove_git_files(root)?;
    }
    if source.commit_times {
        set_times(root, committed)?;
    }
    Ok(Checkout { tree: subdirectory(source, root)?, committed, directory })
}

/// Fetches only the commit where the server gives it out by its id, else all branches and tags.
fn fetch(git: &Git<'_>, root: &Path, commit: &str, told: &mut dyn FnMut(&str)) -> Result<(), GitError> {
    let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    git.run_in(root, "make a repository for", &["init", "-q", format])?;
    git.run_in(root, "name the origin of", &["remote", "add", "--", "origin", &git.remote])?;
    let fetch = ["fetch", "-q", "--no-tags", "--no-recurse-submodules"];
    let one = [&fetch[..], &["--depth=1", "--", "origin", commit]].concat();
    match git.run_in(root, "fetch a commit of", &one) {
        Err(GitError::Failed { message, .. }) => {
            told(&format!("fetching all branches and tags, because the commit alone was refused: {message}"));
            let all = ["--", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
            git.run_in(root, "fetch", &[&fetch[..], &all].concat()).map(drop)
        }
        other => other.map(drop),
    }
}

fn submodules(git: &Git<'_>, root: &Path, told: &mut dyn FnMut(&str)) -> Result<(), GitError> {
    let action = "fetch the submodules of";
    let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
    match git.run_in(root, action, &[&update[..], &["--depth=1"]].concat()) {
        Err(GitError::Failed { message, .. }) => {
            told(&format!("fetching submodules as a whole, because single commits were refused: {message}"));
            git.run_in(root, action, &update).map(drop)
        }
        other => other.map(drop),
    }
}

fn commit_time(git: &Git<'_>, root: &Path) -> Result<i64, GitError> {
    let action = "read the time of a commit of";
    let output = git.run_in(root, action, &["show", "-s", "--no-show-signature", "--format=%ct", "HEAD"])?;
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    text.parse().map_err(|_| GitError::failed(action, &git.remote, &text))
}

/// Removes `.git` here and in submodules. Git allows no file of a repository to have this name.
fn remove_git_files(root: &Path) -> Result<(), EngineError> {
    let tree = Tree::directory(root, None)?;
    each_below(&tree, &mut |entry| {
        if entry.name() == ".git" {
            sys::fs::remove_tree(&root.join(entry.path()))?;
            return Ok(false);
        }
        Ok(true)
    })
}

fn set_times(root: &Path, seconds: i64) -> Result<(), EngineError> {
    let time = FileTime { seconds, nanoseconds: 0 };
    let opened = RootDir::open(root)?;
    each_below(&Tree::directory(root, None)?, &mut |entry| {
        opened.set_times(entry.path(), time)?;
        Ok(true)
    })
}

/// Visits everything in a tree, and enters the directories for which `visit` says so.
fn each_below(
    tree: &Tree,
    visit: &mut dyn FnMut(&Entry) -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let mut waiting = vec![tree.root()?];
    while let Some(directory) = waiting.pop() {
        for entry in tree.read_dir(&directory)? {
            if visit(&entry)? && entry.is_dir() {
                waiting.push(entry);
            }
        }
    }
    Ok(())
}

/// The part of the files that was asked for. Links on the way are followed inside the repository.
fn subdirectory(source: &GitSource, root: &Path) -> Result<Tree, EngineError> {
    let all = Tree::directory(root, None)?;
    if source.subdir.is_empty() {
        return Ok(all);
    }
    match all.lookup(&source.subdir, Follow::Last)?.filter(|entry| entry.is_dir()) {
        Some(entry) => Ok(Tree::directory(root.join(entry.path()), None)?),
        None => {
            let entries = all.read_dir(&all.root()?)?;
            let directories = entries.iter().filter(|entry| entry.is_dir());
            let names = directories.map(|entry| entry.name().to_string_lossy().into_owned()).collect();
            Err(GitError::NoDirectory {
                remote: without_password(&source.remote),
                commit: source.commit.clone(),
                subdir: source.subdir.clone(),
                existing: refs::closest(names, &source.subdir),
            }
            .into())
        }
    }
}

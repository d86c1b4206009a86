//! What a container has changed, and all its files as an archive.

use std::path::{Path, PathBuf};

use base::CancelToken;
use runner::shim::Config;
use snapshotter::diff::{Hidden, PathChange};
use snapshotter::pack::{PackOptions, pack};
use snapshotter::tree::{Entry, Follow};
use snapshotter::{ContainerRecord, Tree};

use super::FilesError;
use crate::Engine;
use crate::error::EngineError;
use crate::request::Destination;

/// What every container has mounted, also one of which nothing more is known.
const USUAL: [&str; 6] = ["/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys"];

/// Where a container has an empty file by which programs know Docker's.
const MARK: &str = ".dockerenv";

/// Where it has a link, and what the link says.
const MOUNTS_LINK: (&str, &str) = ("etc/mtab", "/proc/mounts");

impl Engine {
    /// The paths that a container has changed in the files of its image, in tree order. What is mounted in it, and what it
    /// needed for that, is not among them.
    ///
    /// # Errors
    /// There is no such container, or its files cannot be read.
    pub fn container_changes(
        &self,
        name: &str,
        cancel: &CancelToken,
    ) -> Result<Vec<PathChange>, EngineError> {
        let record = self.find_container(name)?;
        let hidden = self.hidden(&record)?;
        Ok(self.store.container_changes(&record, &hidden, cancel)?)
    }

    /// Writes all files of a container as a tar archive, without those that are mounted in it.
    ///
    /// # Errors
    /// There is no such container, its files cannot be read, or the archive cannot be written.
    pub fn export_container(
        &self,
        name: &str,
        destination: &Destination,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let record = self.find_container(name)?;
        let tree = Tree::overlay(self.store.container_view(&record.id)?)?;
        let top = tree.root()?;
        let options = PackOptions { plain: false, enter: &|_| true };
        crate::export::archive::to(destination, |out| {
            pack(&tree, &top, Path::new(""), options, out, cancel).map_err(FilesError::from)?;
            Ok(())
        })?;
        self.tell_of_container(&record.id, "export", []);
        Ok(())
    }

    /// The paths of a container that are there for its mounts: their targets, and directories that were made for nothing
    /// else.
    pub(super) fn hidden(&self, record: &ContainerRecord) -> Result<Hidden, EngineError> {
        let directory = self.store.container_path(&record.id);
        let mut targets: Vec<PathBuf> = USUAL.iter().map(PathBuf::from).collect();
        let document = self.container(&record.id)?.document;
        targets.extend(document.mounts.iter().map(|point| PathBuf::from(&point.target)));
        if Config::is_written(&directory)? {
            let request = Config::read(&directory)?.request;
            targets.extend(runner::mounted_paths(&request).map_err(runner::RunError::from)?);
        }
        let tree = Tree::overlay(self.store.container_view(&record.id)?)?;
        let base = self.store.container_base(record)?;
        let base =
            base.map(|base| Ok::<_, EngineError>(Tree::overlay(self.store.view_dirs(base)?)?)).transpose()?;
        let mut hidden = Hidden::new();
        for target in targets {
            if let Some(found) = tree.lookup(&target, Follow::Last)? {
                hidden.insert(found.path().to_owned());
            }
        }
        for path in hidden.iter().cloned().collect::<Vec<_>>() {
            hide_around(&path, &tree, base.as_ref(), &mut hidden)?;
        }
        hide_marks(&tree, &mut hidden)?;
        Ok(hidden)
    }
}

/// Hides the new directories around a path that have nothing else in them.
fn hide_around(
    path: &Path,
    tree: &Tree,
    base: Option<&Tree>,
    hidden: &mut Hidden,
) -> Result<(), EngineError> {
    for around in path.ancestors().skip(1).filter(|around| !around.as_os_str().is_empty()) {
        let was_there = match base {
            Some(base) => base.lookup(around, Follow::NoLast)?.is_some(),
            None => false,
        };
        let Some(directory) = tree.lookup(around, Follow::NoLast)?.filter(Entry::is_dir) else { break };
        if was_there || !tree.read_dir(&directory)?.iter().all(|entry| hidden.contains(entry.path())) {
            break;
        }
        hidden.insert(around.to_owned());
    }
    Ok(())
}

/// Hides what containers get beside mounts, as long as it is what they got.
fn hide_marks(tree: &Tree, hidden: &mut Hidden) -> Result<(), EngineError> {
    let mark = tree.lookup(MARK, Follow::NoLast)?;
    if mark.is_some_and(|mark| !mark.is_dir() && mark.stat().size == 0) {
        hidden.insert(PathBuf::from(MARK));
    }
    let (path, content) = MOUNTS_LINK;
    let link = tree.lookup(path, Follow::NoLast)?.filter(|link| link.kind() == sys::stat::Kind::Symlink);
    if let Some(link) = link
        && tree.read_link(&link)? == content
    {
        hidden.insert(link.path().to_owned());
    }
    Ok(())
}

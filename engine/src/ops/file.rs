//! The file operation: COPY, ADD, WORKDIR and heredoc files, written straight into a layer's directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use base::{CancelToken, FileChange, Key, KeyHasher};
use llb::{
    ChmodMode, CopyAction, FileAction, FileOp, MkdirAction, MkfileAction, Owner, RmAction, SymlinkAction,
    UserName, VertexIndex,
};
use snapshotter::copy::CopyOptions;
use snapshotter::mode_change::ModeChange;
use snapshotter::select::{SelectError, Selected, Selection, SourcePattern};
use snapshotter::tree::Follow;
use snapshotter::writer::{Attributes, LayerWriter};
use snapshotter::{ActiveSnapshot, CommitInfo, Layering, ScratchDir, StoreError, Tree};
use sys::stat::FileTime;

use super::selection::{DockerPatterns, Source, or_changed};
use super::{BuildOps, Filesystem};
use crate::error::{EngineError, StepError};
use crate::run::passwd_files;

/// One run of a file operation.
struct FileStep<'a> {
    ops: &'a BuildOps<'a>,
    vertex: VertexIndex,
    active: &'a ActiveSnapshot,
    writer: LayerWriter,
    /// Whether there is only one action.
    is_alone: bool,
    inputs: &'a [Option<Filesystem>],
    cancel: &'a CancelToken,
}

/// Where something is copied to.
#[derive(Clone, Copy)]
struct To<'a> {
    path: &'a Path,
    /// Whether that becomes a copy of the directory that is copied.
    is_copy: bool,
    /// Whether it is all that is copied.
    is_all: bool,
}

impl<'a> To<'a> {
    /// All into a place that stays what it is.
    fn all(path: &'a Path) -> Self {
        Self { path, is_copy: false, is_all: true }
    }
}

impl BuildOps<'_> {
    pub(super) fn file(
        &self,
        vertex: VertexIndex,
        op: &FileOp,
        inputs: &[Option<Filesystem>],
        content_key: &Key,
        cancel: &CancelToken,
    ) -> Result<Filesystem, StepError> {
        let write = || self.write_files(vertex, op, inputs, content_key, cancel);
        let written = match write()? {
            // What it shares with became a directory at that moment, which is not so the next time.
            Err(StoreError::LayerConverted { .. }) => write()?,
            written => written,
        };
        Ok(written.map_err(EngineError::from)?)
    }

    /// Does what the step says. The inner error is that of the commit.
    fn write_files(
        &self,
        vertex: VertexIndex,
        op: &FileOp,
        inputs: &[Option<Filesystem>],
        content_key: &Key,
        cancel: &CancelToken,
    ) -> Result<Result<Filesystem, StoreError>, StepError> {
        let base = if op.has_base { inputs.first().copied().flatten() } else { None };
        let store = &self.engine.store;
        let active = store.prepare(self.lease, base.map(|base| base.snapshot)).map_err(EngineError::from)?;
        let parent = base.map(|base| self.tree(base.snapshot)).transpose()?;
        let writer = self.writer(&active, parent.as_ref())?;
        let is_alone = op.actions.len() == 1;
        let step = FileStep { ops: self, vertex, active: &active, writer, is_alone, inputs, cancel };
        for action in &op.actions {
            step.apply(action)?;
        }
        active.pack_directory(cancel).map_err(EngineError::from)?;
        let content = KeyHasher::new("lapstrake/file-content/v1").add(content_key).finish();
        let info = CommitInfo { content: Some(content), ..CommitInfo::default() };
        Ok(active.commit(info).map(|snapshot| Filesystem { snapshot, content }))
    }
}

impl FileStep<'_> {
    fn apply(&self, action: &FileAction) -> Result<(), StepError> {
        match action {
            FileAction::Copy(copy) => self.copy(copy),
            FileAction::Mkfile(file) => Ok(self.mkfile(file)?),
            FileAction::Mkdir(directory) => Ok(self.mkdir(directory)?),
            FileAction::Rm(rm) => self.rm(rm),
            FileAction::Symlink(link) => Ok(self.symlink(link)?),
        }
    }

    fn copy(&self, copy: &CopyAction) -> Result<(), StepError> {
        let source = match self.inputs.get(copy.input as usize).copied().flatten() {
            Some(input) => Source::Filesystem(self.ops.tree(input.snapshot)?),
            None => self.ops.local(self.vertex, copy.input as usize)?,
        };
        let selection = self.ops.select(copy, &source)?;
        self.check_required(copy, source.tree(), &selection)?;
        if copy.unpack_archives {
            return self.add(copy, &source, &selection);
        }
        if !copy.rules.contents_only {
            return self.copy_directories(copy, &source, &selection);
        }
        let to = Path::new(&copy.destination);
        let copied = self.copy_selection(copy, To::all(to), &source, source.tree(), &selection)?;
        self.check_unchanged(copy, copied)
    }

    /// Copies directories themselves, not what is in them: into a destination that exists, or as it.
    fn copy_directories(
        &self,
        copy: &CopyAction,
        source: &Source<'_>,
        selection: &Selection,
    ) -> Result<(), StepError> {
        let to = Path::new(&copy.destination);
        let existing = self.writer.tree().lookup(to, Follow::Last).map_err(EngineError::from)?;
        let is_into = copy.destination.ends_with('/')
            || selection.items().len() > 1
            || existing.is_some_and(|entry| entry.is_dir());
        let is_all = selection.items().len() == 1;
        for item in selection.split() {
            match item.items() {
                [only] if only.entry.is_dir() => {
                    // The root has no name: what is in it is copied.
                    let into = is_into && !only.name.is_empty();
                    let to = if into { to.join(&only.name) } else { to.to_owned() };
                    let is_copy = !only.name.is_empty();
                    self.copy_selection(
                        copy,
                        To { path: &to, is_copy, is_all },
                        source,
                        source.tree(),
                        &item,
                    )?;
                }
                _ => {
                    self.copy_selection(copy, To { is_all, ..To::all(to) }, source, source.tree(), &item)?;
                }
            }
        }
        self.check_context(copy, source)
    }

    /// What must be among the sources is.
    fn check_required(&self, copy: &CopyAction, tree: &Tree, selection: &Selection) -> Result<(), StepError> {
        for path in &copy.rules.required {
            let below = |item: &Selected| tree.lookup(item.entry.path().join(path), Follow::NoLast);
            let found = selection.items().iter().map(below).find_map(|found| found.transpose());
            if found.transpose().map_err(EngineError::from)?.is_none() {
                let place = " among what is copied".to_owned();
                return Err(StepError::NotFound { pattern: path.clone(), place, hint: String::new() });
            }
        }
        Ok(())
    }

    fn rm(&self, rm: &RmAction) -> Result<(), StepError> {
        let pattern = SourcePattern {
            allow_wildcard: rm.allow_wildcards,
            follow_last: false,
            ..SourcePattern::of_copy(rm.path.as_str())
        };
        let found = Selection::resolve(self.writer.tree(), &[pattern], None, &DockerPatterns);
        let paths: Vec<PathBuf> = match &found {
            Ok(selection) => selection.items().iter().map(|item| item.entry.path().to_owned()).collect(),
            Err(SelectError::NotFound { .. }) => Vec::new(),
            Err(_) => {
                return Err(found
                    .map(drop)
                    .map_or_else(EngineError::from, |()| EngineError::Cancelled)
                    .into());
            }
        };
        if paths.is_empty() && !rm.allow_missing {
            return Err(EngineError::NothingToRemove(rm.path.clone()).into());
        }
        for path in paths {
            self.writer.remove(&path).map_err(EngineError::from)?;
        }
        Ok(())
    }

    fn symlink(&self, link: &SymlinkAction) -> Result<(), EngineError> {
        let (uid, gid) = self.owner_or_root(link.owner.as_ref())?;
        let attributes = Attributes { mtime: time(link.time), ..Attributes::new(0o777, uid, gid) };
        Ok(self.writer.symlink(Path::new(&link.path), OsStr::new(&link.target), &attributes)?)
    }

    /// Copies like COPY, but unpacks what is an archive. Each source on its own, in order.
    fn add(&self, copy: &CopyAction, source: &Source<'_>, selection: &Selection) -> Result<(), StepError> {
        let to = To { is_all: selection.items().len() == 1, ..To::all(Path::new(&copy.destination)) };
        for item in selection.split() {
            match self.unpacked(source.tree(), &item)? {
                Some(directory) => {
                    let tree = Tree::directory(directory.path(), None).map_err(EngineError::from)?;
                    let all = Selection::all(&tree).map_err(EngineError::from)?;
                    let unpacked = Source::Filesystem(tree);
                    self.copy_selection(copy, to, &unpacked, unpacked.tree(), &all)?;
                }
                None => {
                    self.copy_selection(copy, to, source, source.tree(), &item)?;
                }
            }
        }
        // What an archive held when it was unpacked has no key of its own, so all is looked at once more.
        self.check_context(copy, source)
    }

    /// Looks at what was to be copied of a context once more: it must be what the keys were made of.
    fn check_context(&self, copy: &CopyAction, source: &Source<'_>) -> Result<(), StepError> {
        let slot = copy.input as usize;
        match source {
            Source::Context(..) => {
                let now = self.ops.local_selection_key(self.vertex, slot, self.cancel)?;
                self.check_unchanged(copy, Some(now))
            }
            Source::Filesystem(_) => Ok(()),
        }
    }

    /// The content of a selected archive, in a directory that goes away with its owner. `None` for
    /// everything that is not an archive.
    fn unpacked(&self, tree: &Tree, item: &Selection) -> Result<Option<ScratchDir>, EngineError> {
        let [selected] = item.items() else { return Ok(None) };
        if selected.entry.kind() != sys::stat::Kind::File {
            return Ok(None);
        }
        let shown = tree.shown(&selected.entry);
        let failed = |source| EngineError::from(sys::path_error::PathError::new("read", &shown, source));
        if !snapshotter::archive::is_archive(tree.open(&selected.entry)?).map_err(failed)? {
            return Ok(None);
        }
        let directory = self.ops.engine.store.scratch(self.ops.lease)?;
        let options = self.ops.engine.store.apply_options(Layering::Plain);
        let archive = tree.open(&selected.entry)?;
        snapshotter::archive::extract_archive(archive, directory.path(), &options, self.cancel)?;
        Ok(Some(directory))
    }

    /// Copies to a destination, which may become a copy of a directory itself.
    fn copy_selection(
        &self,
        copy: &CopyAction,
        to: To<'_>,
        source: &Source<'_>,
        tree: &Tree,
        selection: &Selection,
    ) -> Result<Option<Key>, StepError> {
        let given = copy.owner.as_ref().map(|owner| self.owner(owner)).transpose()?;
        // The owner of a file of the context is whoever checked it out, which is nobody's business.
        let from_context = matches!(source, Source::Context(..));
        let chown = given.or(from_context.then_some((0, 0)));
        let chmod = copy.mode.as_ref().map(mode_change).transpose()?;
        let options = CopyOptions {
            destination: to.path,
            dest_is_dir: copy.destination.ends_with('/') || copy.sources.len() > 1,
            create_destination: copy.rules.make_parents,
            destination_is_copy: to.is_copy,
            replace: copy.rules.replace,
            time: time(copy.rules.time),
            chown,
            parent_owner: given.unwrap_or((0, 0)),
            modes: source.modes(),
            chmod: chmod.as_ref(),
            xattrs: true,
            key: from_context.then(|| source.key_options()),
            stat_cache: source.stat_cache(),
        };
        let copied = match self.is_alone && to.is_all {
            true => self.active.copy_alone(&self.writer, tree, selection, &options, self.cancel),
            false => snapshotter::copy::copy(&self.writer, tree, selection, &options, self.cancel),
        };
        match copied.map_err(|error| StepError::from(EngineError::from(error))) {
            Ok(copied) => Ok(copied.content_key),
            Err(error) if from_context => Err(match or_changed(error) {
                // It stopped at the first that was gone.
                StepError::Changed { files } => self.changed(copy, files),
                error => error,
            }),
            Err(error) => Err(error),
        }
    }

    /// A context may change while it is read. What was copied must be what the keys were made of, or the
    /// result would be saved under the name of another.
    fn check_unchanged(&self, copy: &CopyAction, copied: Option<Key>) -> Result<(), StepError> {
        let expected = self.ops.expected_context_key(self.vertex, copy.input as usize);
        match (copied, expected) {
            (Some(copied), Some(expected)) if copied != expected => Err(self.changed(copy, Vec::new())),
            _ => Ok(()),
        }
    }

    /// The context is not what the keys were made of: all that is different there now, or what was `found` if nobody can
    /// tell.
    fn changed(&self, copy: &CopyAction, found: Vec<FileChange>) -> StepError {
        let slot = copy.input as usize;
        let changes = |before: Key| self.ops.context_changes(self.vertex, slot, &before, self.cancel);
        let all = self.ops.expected_context_key(self.vertex, slot).map(changes);
        StepError::Changed { files: all.filter(|all| !all.is_empty()).unwrap_or(found) }
    }

    fn mkfile(&self, file: &MkfileAction) -> Result<(), EngineError> {
        let owner = self.owner_or_root(file.owner.as_ref())?;
        let path = Path::new(&file.path);
        let existing = self.writer.tree().lookup(path, Follow::Last)?;
        let into_directory = file.path.ends_with('/') || existing.is_some_and(|entry| entry.is_dir());
        let path = if into_directory { path.join(&file.name) } else { path.to_owned() };
        if let Some(parent) = path.parent() {
            self.writer.mkdir_all(parent, &Attributes::new(0o755, owner.0, owner.1))?;
        }
        let mode = match &file.chmod {
            Some(change) => mode_change(change)?.apply(file.mode, false),
            None => file.mode,
        };
        let attributes = Attributes { mtime: time(file.time), ..Attributes::new(mode, owner.0, owner.1) };
        Ok(self.writer.put_file(&path, &attributes, &mut file.content.as_slice())?)
    }

    fn mkdir(&self, directory: &MkdirAction) -> Result<(), EngineError> {
        let (uid, gid) = self.owner_or_root(directory.owner.as_ref())?;
        let attributes =
            Attributes { mtime: time(directory.time), ..Attributes::new(directory.mode, uid, gid) };
        let path = Path::new(&directory.path);
        if directory.make_parents {
            self.writer.mkdir_all(path, &attributes)?;
        } else {
            self.writer.mkdir(path, &attributes)?;
        }
        Ok(())
    }

    fn owner_or_root(&self, owner: Option<&Owner>) -> Result<(u32, u32), EngineError> {
        owner.map_or(Ok((0, 0)), |owner| self.owner(owner))
    }

    /// The numbers of an owner; names are looked up in the filesystem that is written to, or in another input.
    fn owner(&self, owner: &Owner) -> Result<(u32, u32), EngineError> {
        if let (UserName::Id(uid), None) = (&owner.user, &owner.group) {
            return Ok((*uid, *uid));
        }
        if let (UserName::Id(uid), Some(UserName::Id(gid))) = (&owner.user, &owner.group) {
            return Ok((*uid, *gid));
        }
        let user = self.numbers(&owner.user, |user| user.to_owned())?;
        match &owner.group {
            Some(group) => Ok((user.0, self.numbers(group, |group| format!("0:{group}"))?.1)),
            None => Ok(user),
        }
    }

    /// The numbers that a name means as part of what `asked` makes of it.
    fn numbers(&self, name: &UserName, asked: impl Fn(&str) -> String) -> Result<(u32, u32), EngineError> {
        let (asked, (passwd, group)) = match name {
            UserName::Id(id) => (asked(&id.to_string()), passwd_files(Some(self.writer.tree()))?),
            UserName::Name(name) => (asked(name), passwd_files(Some(self.writer.tree()))?),
            UserName::NameIn { name, input } => {
                let input = self.inputs.get(*input as usize).copied().flatten();
                let tree = input.map(|input| self.ops.tree(input.snapshot)).transpose()?;
                (asked(name), passwd_files(tree.as_ref())?)
            }
        };
        let user = runner::passwd::resolve(&asked, &passwd, &group)?.user;
        Ok((user.uid, user.gid))
    }
}

/// A time in nanoseconds since 1970.
fn time(nanoseconds: Option<i64>) -> Option<FileTime> {
    nanoseconds.map(FileTime::from_nanoseconds)
}

fn mode_change(mode: &ChmodMode) -> Result<ModeChange, EngineError> {
    match mode {
        ChmodMode::Bits(bits) => Ok(ModeChange::Exact(*bits)),
        ChmodMode::Symbolic(text) => Ok(text.parse()?),
    }
}

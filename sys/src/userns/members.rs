//! Who is in a user namespace that an ordinary user's commands share.
//!
//! Containers of one user can only be connected with each other, or join each other's namespaces, inside one user
//! namespace. Nothing keeps it but the processes in it. Each of them has a file in a directory, named after its process
//! number and locked as long as it lives, that says what the namespace is like:
//!
//! ```text
//! users/lock   held while somebody joins or makes a namespace
//! users/PID    the namespace's number, its kind, and who refused to map ranges; locked by the process
//! ```
//!
//! So a process number that is found under a held lock is right, and a file without a lock is removed by whoever comes
//! next. Processes of the same directory are in the same namespace unless the ids that they get differ, as when an
//! administrator has changed `/etc/subuid` meanwhile.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sched::{CloneFlags, setns};

use crate::fs::PathError;
use crate::lock::{FileLock, LockMode};

/// No note is longer, in bytes.
const LONGEST: u64 = 64 << 10;

/// The lock that says that this process is a member; it ends with it.
static OURS: OnceLock<FileLock> = OnceLock::new();

/// What a namespace has to be like, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind(String);

impl Kind {
    pub(super) fn new(text: String) -> Self {
        Self(text.replace('\n', ","))
    }
}

/// What others are told of the namespace that a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// What was asked for.
    pub(super) kind: Kind,
    /// The program that refused to map ranges, and what it said.
    pub(super) refused: Option<(&'static str, String)>,
}

/// A directory of members that nobody else changes.
#[derive(Debug)]
pub(super) struct Members {
    directory: PathBuf,
    _lock: FileLock,
}

/// A note of a process that lives.
struct Note {
    pid: u32,
    namespace: u64,
    /// Its lines after the first.
    rest: String,
}

impl Members {
    pub(super) fn lock(directory: &Path) -> Result<Self, PathError> {
        crate::fs::create_dir_all(directory, 0o700)?;
        let lock = FileLock::acquire(&directory.join("lock"), LockMode::Exclusive)?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Joins the namespace of a member that is of this kind. `None` if there is none that can be joined; else by which
    /// program its maker was refused ranges, and why, if so.
    pub(super) fn join(&self, kind: &Kind) -> Option<Option<(String, String)>> {
        for note in self.living() {
            let mut lines = note.rest.split('\n');
            if lines.next() != Some(&kind.0) {
                continue;
            }
            let path = format!("/proc/{}/ns/user", note.pid);
            let Ok(namespace) = fs::File::open(path) else { continue };
            // A number of another process id namespace would be somebody else's here.
            let is_it = namespace.metadata().is_ok_and(|found| found.ino() == note.namespace);
            if is_it && setns(namespace.as_fd(), CloneFlags::CLONE_NEWUSER).is_ok() {
                self.write(&note.rest);
                let refused = lines.next().and_then(|line| line.split_once(' '));
                return Some(refused.map(|(name, why)| (name.to_owned(), why.to_owned())));
            }
        }
        None
    }

    /// Tells others of the namespace that this process has made and is in now.
    pub(super) fn add(&self, member: Member) {
        let refused = member.refused.map(|(name, why)| format!("{name} {}", why.replace('\n', " ")));
        self.write(&format!("{}\n{}", member.kind.0, refused.unwrap_or_default()));
    }

    /// Writes the file of this process. Where that fails others do not find us, and have a namespace of their own.
    fn write(&self, rest: &str) {
        let path = self.directory.join(std::process::id().to_string());
        let Ok(Some(lock)) = FileLock::try_acquire(&path, LockMode::Exclusive) else { return };
        if lock.write_note(&format!("{}\n{rest}", super::number())).is_ok() {
            let _ = OURS.set(lock);
        }
    }

    /// The notes of the processes that live. The files of others are removed.
    fn living(&self) -> Vec<Note> {
        let names = crate::fs::list(&self.directory).unwrap_or_default();
        let numbers = names.iter().filter_map(|name| name.to_str()?.parse::<u32>().ok());
        numbers.filter_map(|pid| self.note(pid)).collect()
    }

    fn note(&self, pid: u32) -> Option<Note> {
        let path = self.directory.join(pid.to_string());
        if !FileLock::is_held(&path).ok()? {
            // Left there it would only be looked at again.
            let _ = crate::fs::remove_file(&path);
            return None;
        }
        let text = String::from_utf8(crate::fs::read_limited(&path, LONGEST).ok()??).ok()?;
        let (number, rest) = text.split_once('\n')?;
        Some(Note { pid, namespace: number.parse().ok()?, rest: rest.to_owned() })
    }
}

/// Makes this process a member, which was started inside the namespace of one that lives still. Does nothing for a
/// process that is no member's child, or is one already.
pub fn be_member(directory: &Path) {
    if OURS.get().is_some() || super::is_initial() || !directory.exists() {
        return;
    }
    let Ok(members) = Members::lock(directory) else { return };
    let ours = super::number();
    if let Some(note) = members.living().into_iter().find(|note| note.namespace == ours) {
        members.write(&note.rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let members = Members::lock(dir.path()).unwrap();
        fs::write(dir.path().join("1"), "5\none\n").unwrap();
        let lives = FileLock::acquire(&dir.path().join("2"), LockMode::Exclusive).unwrap();
        lives.write_note("7\none\nnewuidmap why not").unwrap();
        let living = members.living();
        let shown: Vec<_> =
            living.iter().map(|note| (note.pid, note.namespace, note.rest.as_str())).collect();
        assert_eq!(shown, [(2, 7, "one\nnewuidmap why not")]);
        assert!(!dir.path().join("1").exists());
        // The namespace of process 2 is another one than the note says, and so is not joined.
        assert_eq!(members.join(&Kind::new("one".to_owned())), None);
    }
}

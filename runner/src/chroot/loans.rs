//! Files and devices that a root filesystem has only while a process runs in it.
//!
//! What is put in place is remembered with what was there. Afterwards everything is as it was, but for what the
//! process has made its own: a file that it removed or replaced stays as it left it. Directories are held open, and
//! links in paths are followed inside the root only.

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use sys::path_error::{PathContext as _, PathError};
use sys::rootdir::{RootDir, set_mode_of, set_owner_of, set_times_of, stat_of};
use sys::stat::{FileTime, Kind, Stat};

use crate::plan::device_numbers;
use crate::spec::ProvidedFile;

type Result<T> = std::result::Result<T, PathError>;

/// No file that is replaced for a while is larger, in bytes.
const LARGEST: u64 = 1 << 20;

/// Everything that was put in place, in that order.
#[derive(Debug)]
pub(super) struct Loans {
    root: RootDir,
    lent: Vec<Loan>,
}

/// Something that was put in place.
#[derive(Debug)]
struct Loan {
    directory: RootDir,
    name: OsString,
    /// What it looked like when it had been put in place.
    put: Stat,
    before: Before,
    /// When the directory had last been modified, and when it had been put in place.
    times: [FileTime; 2],
}

/// What was there before.
#[derive(Debug)]
enum Before {
    Nothing,
    File { content: Vec<u8>, modified: FileTime },
    Link { target: OsString, modified: FileTime },
}

impl Loans {
    /// None yet.
    pub(super) fn of(root: &Path) -> Result<Self> {
        Ok(Self { root: RootDir::open(root)?, lent: Vec::new() })
    }

    /// Puts files in place, and the standard devices unless they are there or may not be made.
    pub(super) fn lend(&mut self, files: &[ProvidedFile], devices: bool) -> Result<()> {
        for file in files {
            let path = Path::new(&file.destination);
            let directory = self.directory(path.parent().unwrap_or(Path::new("/")))?;
            let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
            self.lend_file(directory, name, file)?;
        }
        if devices && self.devices_work()? {
            for (path, major, minor) in device_numbers() {
                let directory = self.directory(path.parent().unwrap_or(Path::new("/")))?;
                let name = path.file_name().unwrap_or_default();
                self.lend_device(directory, name, rustix::fs::makedev(major, minor))?;
            }
        } else {
            // What is written there is gone afterwards; that is most of what it is for.
            let directory = self.directory(Path::new("/dev"))?;
            if directory.stat("null")?.is_none() {
                let null = ProvidedFile { mode: 0o666, ..empty_file() };
                self.lend_file(directory, "null".into(), &null)?;
            }
        }
        Ok(())
    }

    /// Whether devices of this file system can be used: not where it is mounted without.
    fn devices_work(&self) -> Result<bool> {
        let root = rustix::fs::fstatvfs(&self.root).at("inspect the file system of", self.root.path())?;
        Ok(!root.f_flag.contains(StatVfsMountFlags::NODEV))
    }

    /// Opens a directory; what is missing of it is lent.
    fn directory(&mut self, path: &Path) -> Result<RootDir> {
        let mut sofar = PathBuf::new();
        for component in path.strip_prefix("/").unwrap_or(path).components() {
            let around = self.root.open_dir(&sofar)?;
            sofar.push(component);
            let name = component.as_os_str();
            if around.stat(name)?.is_none() {
                let before = modified(&around)?;
                around.create_dir(name, 0o755)?;
                self.remember(around, name.to_owned(), Before::Nothing, before)?;
            }
        }
        self.root.open_dir(&sofar)
    }

    fn lend_file(&mut self, directory: RootDir, name: OsString, file: &ProvidedFile) -> Result<()> {
        let time = modified(&directory)?;
        let before = match directory.stat(&name)? {
            Some(stat) if stat.kind == Kind::File => {
                let mut open = directory.open_file_for_writing(&name)?;
                let content = content(&open, &directory.shown(&name))?;
                overwrite(&mut open, &file.content, &directory.shown(&name))?;
                let before = Before::File { content, modified: stat.mtime };
                return self.remember(directory, name, before, time);
            }
            Some(stat) if stat.kind == Kind::Symlink => {
                let target = directory.read_link(&name)?;
                directory.remove_file(&name)?;
                Before::Link { target, modified: stat.mtime }
            }
            None => Before::Nothing,
            // Creating it says that it exists.
            Some(_) => Before::Nothing,
        };
        let mut open = directory.create_file(&name, 0o600)?;
        let shown = directory.shown(&name);
        overwrite(&mut open, &file.content, &shown)?;
        set_owner_of(&open, &shown, file.uid, file.gid)?;
        set_mode_of(&open, &shown, file.mode)?;
        self.remember(directory, name, before, time)
    }

    fn lend_device(&mut self, directory: RootDir, name: &OsStr, rdev: u64) -> Result<()> {
        if directory.stat(name)?.is_some() {
            return Ok(());
        }
        let time = modified(&directory)?;
        directory.create_node(name, Kind::CharDevice, 0o666, rdev)?;
        directory.set_mode(name, 0o666)?;
        self.remember(directory, name.to_owned(), Before::Nothing, time)
    }

    fn remember(&mut self, directory: RootDir, name: OsString, before: Before, time: FileTime) -> Result<()> {
        let times = [time, modified(&directory)?];
        if let Some(put) = directory.stat(&name)? {
            self.lent.push(Loan { directory, name, put, before, times });
        }
        Ok(())
    }

    /// Takes everything back, the last first. Goes on after a failure, and reports the first.
    pub(super) fn take_back(&mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(loan) = self.lent.pop() {
            result = result.and(loan.take_back());
        }
        result
    }
}

impl Loan {
    fn take_back(&self) -> Result<()> {
        let (directory, name) = (&self.directory, &self.name);
        let now = directory.stat(name)?;
        let Some(now) = now.filter(|now| {
            (now.inode, now.device, now.kind) == (self.put.inode, self.put.device, self.put.kind)
        }) else {
            return Ok(());
        };
        let time = modified(directory)?;
        match &self.before {
            Before::File { content, modified } => {
                let mut open = directory.open_file_for_writing(name)?;
                overwrite(&mut open, content, &directory.shown(name))?;
                set_times_of(&open, &directory.shown(name), *modified)?;
            }
            Before::Nothing if now.is_dir() => match directory.remove_dir(name) {
                // The process put something into it.
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => return Ok(()),
                other => other?,
            },
            Before::Nothing => directory.remove_file(name)?,
            Before::Link { target, modified } => {
                directory.remove_file(name)?;
                directory.create_symlink(name, target)?;
                directory.set_times(name, *modified)?;
            }
        }
        let [before, after] = self.times;
        set_times_of(directory, directory.path(), if time == after { before } else { time })
    }
}

fn empty_file() -> ProvidedFile {
    let (uid, gid) = sys::rootdir::own_ids();
    let destination = String::new();
    ProvidedFile { destination, content: Vec::new(), mode: 0o644, uid, gid, read_only: false }
}

fn modified(directory: &RootDir) -> Result<FileTime> {
    Ok(stat_of(directory.as_fd(), directory.path())?.mtime)
}

fn content(file: &std::fs::File, shown: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content).at("read", shown)?;
    if content.len() as u64 > LARGEST {
        return Err(PathError::new(
            "replace for a while the large file",
            shown,
            std::io::ErrorKind::FileTooLarge,
        ));
    }
    Ok(content)
}

fn overwrite(file: &mut std::fs::File, content: &[u8], shown: &Path) -> Result<()> {
    file.rewind().at("rewind", shown)?;
    file.set_len(0).at("empty", shown)?;
    file.write_all(content).at("write", shown)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn provided(destination: &str) -> ProvidedFile {
        let (uid, gid) = sys::rootdir::own_ids();
        ProvidedFile {
            destination: destination.to_owned(),
            content: b"lent".to_vec(),
            mode: 0o644,
            uid,
            gid,
            read_only: false,
        }
    }

    fn loans(root: &Path, paths: &[&str]) -> Loans {
        let mut loans = Loans::of(root).unwrap();
        let files: Vec<ProvidedFile> = paths.iter().map(|path| provided(path)).collect();
        loans.lend(&files, false).unwrap();
        loans
    }

    #[test]
    fn everything_is_as_before_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/hosts"), "the image's").unwrap();
        symlink("../run/no/such", root.join("etc/resolv.conf")).unwrap();
        let look = || {
            let directory = RootDir::open(root.join("etc")).unwrap();
            let stat =
                |name: &str| directory.stat(name).unwrap().map(|stat| (stat.mtime, stat.mode, stat.size));
            (modified(&directory).unwrap(), stat("hosts"), stat("resolv.conf"))
        };
        let before = look();
        let mut loans = loans(root, &["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/new/dir/script"]);
        for name in ["etc/hosts", "etc/resolv.conf", "etc/hostname", "new/dir/script"] {
            assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "lent", "{name}");
        }
        loans.take_back().unwrap();
        assert_eq!(look(), before);
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "the image's");
        assert_eq!(fs::read_link(root.join("etc/resolv.conf")).unwrap(), Path::new("../run/no/such"));
        assert!(!root.join("etc/hostname").exists() && !root.join("new").exists());
    }

    #[test]
    fn what_the_process_replaced_or_filled_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mut loans = loans(root, &["/etc/hosts", "/etc/hostname"]);
        fs::write(root.join("other"), "mine").unwrap();
        fs::rename(root.join("other"), root.join("etc/hosts")).unwrap();
        fs::write(root.join("etc/hostname"), "written to").unwrap();
        loans.take_back().unwrap();
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "mine");
        assert!(!root.join("etc/hostname").exists());
    }

    #[test]
    fn links_lead_nowhere_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("outside")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink("../../../../outside", root.join("etc")).unwrap();
        let mut loans = loans(&root, &["/etc/hosts"]);
        assert_eq!(fs::read_to_string(root.join("outside/hosts")).unwrap(), "lent");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        loans.take_back().unwrap();
        assert_eq!(fs::read_dir(root.join("outside")).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/hosts")).unwrap();
        let mut loans = Loans::of(dir.path()).unwrap();
        let error = loans.lend(&[provided("/etc/hosts")], false).unwrap_err();
        assert!(error.to_string().contains("etc/hosts"), "{error}");
        loans.take_back().unwrap();
        assert!(dir.path().join("etc/hosts").is_dir());
    }
}

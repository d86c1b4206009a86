//! Mounts a snapshot for the time that a test looks at it or works in it.
//!
//! The mount lives in the mount namespace of one thread, so the machine never sees it, several tests may mount
//! at the same time, and a test that fails leaves nothing behind. Programs that are started meanwhile see it too.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base::Mount;
use nix::sched::CloneFlags;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};
use sys::erofs::Backing;
use sys::mount::{Overlay, OverlayForm};

/// Mounts, and runs `work` with the path of the root. Panics with what went wrong.
pub fn with<T: Send>(mount: &Mount, work: impl FnOnce(&Path) -> T + Send) -> T {
    let target = tempfile::tempdir().expect("a temporary directory");
    alone(|| {
        attach(mount, target.path()).unwrap_or_else(|error| panic!("{mount:?}: {error}"));
        let result = work(target.path());
        // Not left to the end of the thread, which nobody can wait for. Detached, because a program that
        // another test starts holds for a moment what is open here.
        rustix::mount::unmount(target.path(), UnmountFlags::DETACH).expect("it is mounted");
        result
    })
}

/// Runs `work` in a thread with a mount namespace of its own: what is mounted in it, nobody else sees, and it ends
/// with it, even when the process is killed.
pub fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).expect("mounts of its own");
            work()
        });
        thread.join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn attach(mount: &Mount, target: &Path) -> std::io::Result<()> {
    let mut packed = Vec::new();
    let mut found = |layer: &PathBuf| -> std::io::Result<PathBuf> {
        let Some(root) = mount_layer(layer)? else { return Ok(layer.clone()) };
        let path = sys::erofs::path_of(&root);
        packed.push(root);
        Ok(path)
    };
    match mount {
        Mount::Bind { source, read_only } => {
            rustix::mount::mount_bind(found(source)?, target)?;
            if *read_only { make_read_only(target) } else { Ok(()) }
        }
        Mount::Overlay { lower, upper, userxattr } => {
            let upper = upper.as_ref().map(|upper| (upper.upper.clone(), upper.work.clone()));
            let mut lower = lower.iter().map(found).collect::<std::io::Result<Vec<_>>>()?;
            if upper.is_none() && lower.len() == 1 {
                // The kernel wants two directories when it may not write.
                lower.push(lower[0].clone());
            }
            attach_overlay(&Overlay { lower, upper, userxattr: *userxattr, volatile: false }, target)
        }
    }
}

/// On older kernels from loop devices.
fn mount_layer(directory: &Path) -> std::io::Result<Option<OwnedFd>> {
    match sys::erofs::mount_layer(directory, Backing::File) {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOTBLK as i32) => {
            sys::erofs::mount_layer(directory, Backing::Loop)
        }
        mounted => mounted,
    }
}

/// A user namespace may not take away what the mount below was given, so all of that is said again.
fn make_read_only(target: &Path) -> std::io::Result<()> {
    let kept = rustix::fs::statvfs(target)?.f_flag;
    let kept = MountFlags::from_bits_truncate(u32::try_from(kept.bits()).unwrap_or(0));
    let kept = kept & (MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC);
    Ok(rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY | kept, c"")?)
}

/// The paths of the options start from their base, which must be the current directory of this thread alone.
fn attach_overlay(overlay: &Overlay, target: &Path) -> std::io::Result<()> {
    let options = overlay.options().map_err(std::io::Error::other)?;
    rustix::process::chdir(options.base.as_c_str())?;
    match &options.form {
        OverlayForm::Text(text) => {
            rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), text.as_c_str())?;
        }
        OverlayForm::Parameters(parameters) => {
            let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            for (name, value) in parameters {
                match value {
                    Some(value) => {
                        rustix::mount::fsconfig_set_string(&context, name.as_c_str(), value.as_c_str())?;
                    }
                    None => rustix::mount::fsconfig_set_flag(&context, name.as_c_str())?,
                }
            }
            rustix::mount::fsconfig_create(&context)?;
            let tree =
                rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            let from_tree = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(&tree, "", rustix::fs::CWD, target, from_tree)?;
        }
    }
    Ok(rustix::process::chdir("/")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_work_sees_the_mount_and_a_read_only_one_refuses_to_be_written() {
        if crate::privilege::root().is_none() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "content").unwrap();
        let mount = Mount::Bind { source: dir.path().to_owned(), read_only: true };
        let target = with(&mount, |root| {
            assert_eq!(std::fs::read(root.join("file")).unwrap(), b"content");
            let error = std::fs::write(root.join("new"), "").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            assert!(!mounts.contains(root.to_str().unwrap()), "the process sees it");
            root.to_owned()
        });
        assert!(!target.exists());
    }
}

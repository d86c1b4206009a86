//! Finds out how packed layers are mounted here, with one of one file.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::erofs::{Backing, Way};
use sys::fs::{PathContext as _, PathError};
use sys::mount::{MountAttributes, Overlay};
use sys::spawn::{PrivateRoot, RootSource, ScratchEntry, Step};

use crate::driver;
use crate::erofs::{Attributes, BlockBits, Content, ROOT, Tree, WriteError};
use crate::tar_entry::BLOCK;

/// The name of the file, and what it holds.
const FILE: &str = "file";

/// Makes a packed layer below `scratch`, a path that does not exist and is gone again afterwards, and mounts an overlay on
/// top of it: in the way that is `asked` for, else in the best way that there is.
pub(super) fn probe(scratch: &Path, asked: Option<Way>) -> Result<Way, PathError> {
    let result = probe_in(scratch, asked);
    sys::fs::remove_tree(scratch)?;
    result
}

fn probe_in(scratch: &Path, asked: Option<Way>) -> Result<Way, PathError> {
    let [index, tar, detached, attached] =
        ["index", "tar", "detached", "attached"].map(|name| scratch.join(name));
    for directory in [&detached, &attached] {
        sys::fs::create_dir_all(directory, 0o700)?;
    }
    let image = image().map_err(io::Error::other).at("write", &index)?;
    // The kernel reads whole blocks.
    let mut data = FILE.as_bytes().to_vec();
    data.resize(BLOCK, 0);
    for (path, content) in [(&index, &image), (&tar, &data)] {
        io::Write::write_all(&mut sys::fs::create_new(path, 0o600)?, content).at("write", path)?;
    }
    let (image, device) = (sys::fs::open(&index)?, sys::fs::open(&tar)?);
    let mount = |backing| sys::erofs::mount(image.as_fd(), &[device.as_fd()], backing).at("mount", &index);
    let (backing, root) = match asked {
        Some(way) => (way.backing, mount(way.backing)?),
        None => match mount(Backing::File) {
            // The kernel wants block devices.
            Err(error) if Errno::from_io_error(&error.source) == Some(Errno::NOTBLK) => {
                (Backing::Loop, mount(Backing::Loop)?)
            }
            root => (Backing::File, root?),
        },
    };
    let read = |content: Result<Vec<u8>, PathError>| match content? == FILE.as_bytes() {
        true => Ok(()),
        false => Err(PathError::new("read what was written to", &tar, io::ErrorKind::InvalidData)),
    };
    let as_it_is = || read(driver::read_through_overlay(&sys::erofs::path_of(&root), FILE, &detached));
    let when_attached = || read(read_attached(&root, &attached));
    let attached = match asked.map(|way| way.attached) {
        Some(true) => when_attached().map(|()| true)?,
        Some(false) => as_it_is().map(|()| false)?,
        // Overlays are not made of mounts that are attached nowhere.
        None if as_it_is().is_err() => when_attached().map(|()| true)?,
        None => false,
    };
    Ok(Way { backing, attached })
}

/// What the file holds, read through an overlay on top of a layer that is attached meanwhile, as the runner does it.
fn read_attached(layer: &OwnedFd, scratch: &Path) -> Result<Vec<u8>, PathError> {
    let [upper, work] = ["upper", "work"].map(|name| scratch.join(name));
    for directory in [&upper, &work] {
        sys::fs::create_dir_all(directory, 0o700)?;
    }
    let mounting = "mount an overlay on an attached layer below";
    let lower = sys::erofs::path_of(layer);
    let text = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).at(mounting, scratch);
    let overlay = Overlay {
        lower: vec![lower.clone()],
        upper: Some((upper.clone(), work)),
        userxattr: false,
        volatile: true,
    };
    let entries = vec![ScratchEntry::Layer { name: c"layer".to_owned(), mount: text(&lower)? }];
    let steps = vec![
        Step::PrivateMounts { receive: false },
        Step::Scratch { entries },
        Step::Root {
            at: text(&upper)?,
            source: RootSource::Overlay(overlay.options().map_err(io::Error::other).at(mounting, scratch)?),
            attributes: MountAttributes::NONE,
        },
    ];
    let root =
        PrivateRoot::mount(steps).map_err(|failed| io::Error::other(failed.error)).at(mounting, scratch)?;
    let file = rustix::fs::openat(&root, FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut content = Vec::new();
    File::from(file.at("open a file of", &lower)?).read_to_end(&mut content).at("read a file of", &lower)?;
    Ok(content)
}

fn image() -> Result<Vec<u8>, WriteError> {
    let mut tree = Tree::new(Attributes { mode: 0o700, ..Attributes::default() });
    let content = Content::File { size: FILE.len() as u64, offset: 0 };
    let file = tree.add(content, Attributes { mode: 0o600, ..Attributes::default() })?;
    tree.insert(ROOT, FILE.as_bytes(), file)?;
    let mut out = Vec::new();
    tree.write(BlockBits::TAR, &(BLOCK as u64), &mut out)?;
    Ok(out)
}

//! Finds out whether packed layers can be mounted here, with one of one file.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use sys::fs::{PathContext as _, PathError};

use crate::driver;
use crate::erofs::{Attributes, BlockBits, Content, ROOT, Tree, WriteError};
use crate::tar_entry::BLOCK;

/// The name of the file, and what it holds.
const FILE: &str = "file";

/// Makes a packed layer below `scratch`, a path that does not exist and is gone again afterwards, and mounts an overlay on
/// top of it: older kernels take no mount for that which is attached nowhere.
pub(super) fn probe(scratch: &Path) -> Result<(), PathError> {
    let result = probe_in(scratch);
    sys::fs::remove_tree(scratch)?;
    result
}

fn probe_in(scratch: &Path) -> Result<(), PathError> {
    let [index, tar, overlay] = ["index", "tar", "overlay"].map(|name| scratch.join(name));
    sys::fs::create_dir_all(&overlay, 0o700)?;
    let image = image().map_err(io::Error::other).at("write", &index)?;
    // The kernel reads whole blocks.
    let mut data = FILE.as_bytes().to_vec();
    data.resize(BLOCK, 0);
    for (path, content) in [(&index, &image), (&tar, &data)] {
        io::Write::write_all(&mut sys::fs::create_new(path, 0o600)?, content).at("write", path)?;
    }
    let (image, device) = (sys::fs::open(&index)?, sys::fs::open(&tar)?);
    let root = sys::erofs::mount(image.as_fd(), device.as_fd()).at("mount", &index)?;
    let root = sys::erofs::path_of(&root);
    let content = driver::read_through_overlay(&root, FILE, &overlay)?;
    match content == FILE.as_bytes() {
        true => Ok(()),
        false => Err(PathError::new("read what was written to", tar, io::ErrorKind::InvalidData)),
    }
}

fn image() -> Result<Vec<u8>, WriteError> {
    let mut tree = Tree::new(Attributes { mode: 0o700, ..Attributes::default() });
    let content = Content::File { size: FILE.len() as u64, offset: 0 };
    let file = tree.add(content, Attributes { mode: 0o600, ..Attributes::default() })?;
    tree.insert(ROOT, FILE.as_bytes(), file)?;
    let mut out = Vec::new();
    tree.write(BlockBits::TAR, BLOCK as u64, &mut out)?;
    Ok(out)
}

//! The open files of a packed layer.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use base::Digest;
use sys::erofs::{Backing, LayerFiles};
use sys::fs::{PathContext as _, PathError};

use super::pieces::{Archive, Pieces};
use crate::layout::SnapshotDirs;

/// The longest list of pieces that is read: an index has at most some millions of files.
const LONGEST_LIST: u64 = 256 << 20;

/// All files that a packed layer consists of, and where in them its archive lies.
pub(super) struct Files {
    files: LayerFiles,
    pieces: Pieces,
}

impl Files {
    /// Opens them; `None` when one is missing, or does not say what it should.
    pub(super) fn open(dirs: &SnapshotDirs) -> Result<Option<Self>, PathError> {
        let Some(files) = there(LayerFiles::open_beside(&dirs.fs()), dirs)? else { return Ok(None) };
        let pieces = pieces_of(&files.data, files.pieces.as_ref(), dirs)?;
        Ok(pieces.map(|pieces| Self { files, pieces }))
    }

    pub(super) fn mount(&self, dirs: &SnapshotDirs, backing: Backing) -> Result<OwnedFd, PathError> {
        self.files.mount(backing).at("mount", &dirs.index())
    }

    /// Which files they are. What is written to a file, or put in its place, shows in this.
    pub(super) fn identity(&self, dirs: &SnapshotDirs, boot: &str) -> Result<String, PathError> {
        let files = self.files.identity().at("inspect", &dirs.top)?;
        Ok(format!("{boot} {files}"))
    }

    /// Where the archive lies.
    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Reads the archive.
    pub(super) fn archive(&self, dirs: &SnapshotDirs) -> Result<Archive, PathError> {
        let files: io::Result<_> = self.files.data.iter().map(File::try_clone).collect();
        Ok(Archive::new(files.at("open", &dirs.tar())?, self.pieces.clone()))
    }

    pub(super) fn into_archive(self) -> Archive {
        Archive::new(self.files.data, self.pieces)
    }

    /// The files with the archive, in their order.
    pub(super) fn into_data(self) -> Vec<File> {
        self.files.data
    }
}

impl Archive {
    /// Opens the archive of a layer, whether its index is there or not; `None` when a file is missing, or does not say what it
    /// should.
    pub(super) fn open(dirs: &SnapshotDirs) -> Result<Option<Self>, PathError> {
        let Some((files, list)) = there(LayerFiles::open_data(&dirs.fs()), dirs)? else { return Ok(None) };
        let pieces = pieces_of(&files, list.as_ref(), dirs)?;
        Ok(pieces.map(|pieces| Self::new(files, pieces)))
    }
}

fn there<T>(opened: io::Result<T>, dirs: &SnapshotDirs) -> Result<Option<T>, PathError> {
    match opened {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            Ok(None)
        }
        opened => opened.map(Some).at("open", &dirs.top),
    }
}

/// Where the archive lies in these files; `None` when the list does not say that, or the files are too short.
fn pieces_of(data: &[File], list: Option<&File>, dirs: &SnapshotDirs) -> Result<Option<Pieces>, PathError> {
    let lengths: io::Result<Vec<u64>> = data.iter().map(|file| file.metadata().map(|is| is.len())).collect();
    let lengths = lengths.at("inspect", &dirs.tar())?;
    let pieces = match list {
        None => Pieces::whole(lengths[0]),
        Some(list) => match read_pieces(list, dirs)? {
            Some(pieces) => pieces,
            None => return Ok(None),
        },
    };
    let fits = pieces.extents().iter().zip(&lengths).all(|(needed, length)| needed <= length);
    Ok((fits && pieces.parts().len() + 1 == lengths.len()).then_some(pieces))
}

/// Reads a list of pieces; `None` when it is none.
fn read_pieces(list: &File, dirs: &SnapshotDirs) -> Result<Option<Pieces>, PathError> {
    match io::read_to_string(io::Read::take(list, LONGEST_LIST)) {
        Ok(text) => Ok(text.parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error).at("read", &dirs.pieces()),
    }
}

/// Where the archive of a layer lies, whether its files are there or not; `None` when there is no list with this digest.
pub(super) fn kept_pieces(dirs: &SnapshotDirs, digest: &Digest) -> Result<Option<Pieces>, PathError> {
    let list = match sys::fs::read_limited(&dirs.pieces(), LONGEST_LIST) {
        Err(error) if error.is_not_found() => return Ok(None),
        list => list?.filter(|list| Digest::of(list) == *digest),
    };
    let text = list.and_then(|list| String::from_utf8(list).ok());
    Ok(text.and_then(|text| text.parse().ok()))
}

//! The files that a packed layer consists of.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base::mount::{PACKED_DATA, PACKED_INDEX, PACKED_PIECES};

use super::{Backing, mount};

/// How many other layers a packed one may need.
pub const MAX_PARTS: usize = 8;

/// The longest line that names them.
const LINE: u64 = 256;

/// The open files of a packed layer.
#[derive(Debug)]
pub struct LayerFiles {
    /// The image.
    pub index: File,
    /// What the image's files hold: its own archive, and those of other layers in the order in which the image numbers them.
    pub data: Vec<File>,
    /// Where the pieces of its archive lie, if not all of them are in its own.
    pub pieces: Option<File>,
}

impl LayerFiles {
    /// Opens those of the packed layer that stands for `directory`; `None` when there is such a directory, or no such layer.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn open(directory: &Path) -> io::Result<Option<Self>> {
        if directory.symlink_metadata().is_ok() {
            return Ok(None);
        }
        match Self::open_beside(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Without an index it is no packed layer; without the rest it is a broken one.
                if directory.with_file_name(PACKED_INDEX).exists() { Err(error) } else { Ok(None) }
            }
            // It may have become a directory meanwhile.
            files => Ok(files.map(Some)?.filter(|_| directory.symlink_metadata().is_err())),
        }
    }

    /// Opens those beside `directory`, whether that is there or not.
    ///
    /// # Errors
    /// One of them is missing, or cannot be opened.
    pub fn open_beside(directory: &Path) -> io::Result<Self> {
        let index = File::open(directory.with_file_name(PACKED_INDEX))?;
        let (data, pieces) = Self::open_data(directory)?;
        Ok(Self { index, data, pieces })
    }

    /// Opens the files with the archive, and the list of its pieces if there is one.
    ///
    /// # Errors
    /// As those of [`open_beside`](Self::open_beside).
    pub fn open_data(directory: &Path) -> io::Result<(Vec<File>, Option<File>)> {
        let mut data = vec![File::open(directory.with_file_name(PACKED_DATA))?];
        let pieces = match File::open(directory.with_file_name(PACKED_PIECES)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(file?),
        };
        if let Some(pieces) = &pieces {
            let layers = directory.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
            for part in parts(pieces)? {
                data.push(File::open(layers.join(part.to_string()).join(PACKED_DATA))?);
            }
        }
        Ok((data, pieces))
    }

    /// Mounts them: see [`mount`].
    ///
    /// # Errors
    /// As those of [`mount`].
    pub fn mount(&self, backing: Backing) -> io::Result<OwnedFd> {
        let data: Vec<BorrowedFd<'_>> = self.data.iter().map(|file| file.as_fd()).collect();
        mount(self.index.as_fd(), &data, backing)
    }

    /// Which files they are. What is written to one of them, or put in its place, shows in this.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn identity(&self) -> io::Result<String> {
        let files = [&self.index].into_iter().chain(&self.data).chain(&self.pieces);
        let each: Vec<String> = files.map(file_identity).collect::<io::Result<_>>()?;
        Ok(each.join(","))
    }
}

fn file_identity(file: &File) -> io::Result<String> {
    let is = file.metadata()?;
    Ok(format!("{}:{}:{}.{}", is.ino(), is.len(), is.ctime(), is.ctime_nsec()))
}

/// The layers that the second line of a list of pieces names.
fn parts(pieces: &File) -> io::Result<Vec<u64>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "its list of pieces names no layers");
    let mut lines = BufReader::with_capacity(2 * LINE as usize, pieces.take(2 * LINE)).lines();
    let line = lines.nth(1).ok_or_else(wrong)??;
    let parts: Option<Vec<u64>> = line.split(' ').skip(1).map(|word| word.parse().ok()).collect();
    let parts = parts.filter(|parts| line.starts_with("of") && (1..=MAX_PARTS).contains(&parts.len()));
    // It is read again by others.
    io::Seek::rewind(&mut &*pieces)?;
    parts.ok_or_else(wrong)
}

/// Mounts the packed layer that stands for `directory`; `None` when there is such a directory, or no such layer.
///
/// # Errors
/// Its files cannot be opened or mounted.
pub fn mount_layer(directory: &Path, backing: Backing) -> io::Result<Option<OwnedFd>> {
    LayerFiles::open(directory)?.map(|files| files.mount(backing)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Vec<u64>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        parts(&File::open(file.path()).unwrap())
    }

    #[test]
    fn layers_are_named_in_the_second_line() {
        assert_eq!(read("pieces\nof 12 7\n0 0 512\n").unwrap(), [12, 7]);
        let long = format!("pieces\nof {}\n", "9".repeat(300));
        for wrong in
            ["", "pieces\n", "pieces\nof\n", "pieces\nof x\n", "pieces\nof -1\n", "pieces\nof ../1\n", &long]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(read(&format!("pieces\nof{}\n", " 1".repeat(MAX_PARTS + 1))).is_err());
    }

    #[test]
    fn files_are_those_of_the_layers_that_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("2/fs");
        assert!(LayerFiles::open(&layer).unwrap().is_none());
        for (path, text) in
            [("1/tar", "other"), ("2/index", ""), ("2/tar", "own"), ("2/pieces", "pieces\nof 1\n")]
        {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let files = LayerFiles::open(&layer).unwrap().unwrap();
        let texts = files.data.iter().map(|file| io::read_to_string(file).unwrap());
        assert_eq!(texts.collect::<Vec<_>>(), ["own", "other"]);
        let identity = files.identity().unwrap();
        assert_eq!(identity.split(',').count(), 4);
        std::fs::write(dir.path().join("1/tar"), "changed").unwrap();
        assert_ne!(LayerFiles::open(&layer).unwrap().unwrap().identity().unwrap(), identity);
        std::fs::remove_file(dir.path().join("1/tar")).unwrap();
        assert!(LayerFiles::open(&layer).is_err(), "a layer that is needed is missing");
        std::fs::create_dir(&layer).unwrap();
        assert!(LayerFiles::open(&layer).unwrap().is_none(), "it is a directory");
    }
}

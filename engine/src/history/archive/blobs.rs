//! The blobs of an archive while it is put together: compressed, hashed, and kept until they are written.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::PathBuf;

use base::Digest;
use base::digest::Digester;
use base::image::Descriptor;
use sys::path_error::PathContext as _;

use crate::error::EngineError;

/// Good for what is written once and sent.
const LEVEL: i32 = 6;

/// The blobs of an archive that is to be written, in files without names.
pub(super) struct Blobs {
    directory: PathBuf,
    files: HashMap<Digest, File>,
}

impl Blobs {
    /// None yet. They will be below `directory`.
    pub(super) fn in_directory(directory: PathBuf) -> Self {
        Self { directory, files: HashMap::new() }
    }

    /// Keeps what `write` writes.
    pub(super) fn add(
        &mut self,
        media_type: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Descriptor, EngineError> {
        let file = tempfile::tempfile_in(&self.directory).at("make a file in", &self.directory)?;
        let mut out = Hashed { file, digester: Digester::new(), size: 0 };
        write(&mut out).at("write a file in", &self.directory)?;
        let Hashed { file, digester, size } = out;
        let digest = digester.finish();
        self.files.insert(digest, file);
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// The same, compressed with zstd.
    pub(super) fn add_compressed(
        &mut self,
        media_type: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Descriptor, EngineError> {
        self.add(media_type, |out| {
            let mut encoder = zstd::Encoder::new(out, LEVEL)?;
            write(&mut encoder)?;
            encoder.finish().map(drop)
        })
    }

    /// The content of a blob from its beginning.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read>> {
        let mut file = self.files.get(digest).ok_or(io::ErrorKind::NotFound)?.try_clone()?;
        file.rewind()?;
        Ok(Box::new(file))
    }
}

/// Passes bytes on to a file, and hashes them.
struct Hashed {
    file: File,
    digester: Digester,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digester.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

//! The way between the two sides of a copy: an archive that one side writes while the other unpacks it. So both
//! sides obey the same rules, wherever the files come from.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use base::CancelToken;
use snapshotter::Tree;
use snapshotter::apply::{ApplyError, ApplyOptions, Devices, InUse, Layering, Ownership, apply_in_use};
use snapshotter::pack::{PackError, PackOptions, Packed, pack};
use snapshotter::tar_entry::Mtime;
use snapshotter::tree::Entry;
use sys::rootdir::RootDir;

use super::FilesError;
use crate::Engine;
use crate::error::EngineError;

/// How much is written at once.
const BUFFER: usize = 256 << 10;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Bytes, as an archive.
    pub bytes: u64,
    /// Devices that were left out.
    pub skipped_devices: u64,
}

/// What is copied: an entry of a tree under another name, or with an empty name what is in it.
pub(super) struct From<'a> {
    pub(super) tree: &'a Tree,
    pub(super) top: &'a Entry,
    pub(super) name: &'a Path,
    pub(super) options: PackOptions<'a>,
}

/// Where to: below a directory of a root.
pub(super) struct To<'a> {
    pub(super) root: &'a RootDir,
    pub(super) below: &'a Path,
    /// Whose the files are.
    pub(super) ownership: Ownership,
    /// Whether what is there may become of another kind.
    pub(super) replaces: bool,
}

/// Whose files are: as the archive says, or the caller's.
pub(super) fn owners(kept: bool) -> Ownership {
    if kept { Ownership::FromArchive } else { Ownership::Ignore }
}

impl From<'_> {
    /// Writes the archive.
    pub(super) fn write(&self, out: impl Write, cancel: &CancelToken) -> Result<(Packed, u64), PackError> {
        let bytes = AtomicU64::new(0);
        let out = BufWriter::with_capacity(BUFFER, Counted { out, bytes: &bytes });
        let packed = pack(self.tree, self.top, self.name, self.options, out, cancel)?;
        Ok((packed, bytes.into_inner()))
    }
}

impl Engine {
    pub(super) fn transfer(
        &self,
        from: &From<'_>,
        to: &To<'_>,
        cancel: &CancelToken,
    ) -> Result<Copied, EngineError> {
        let system = |operation| move |source: io::Error| FilesError::System { operation, source };
        let (read, write) = io::pipe().map_err(system("make a pipe"))?;
        let (packed, applied) = std::thread::scope(|scope| {
            let work = || from.write(write, cancel);
            let writer = std::thread::Builder::new().name("lap-copy".to_owned()).spawn_scoped(scope, work);
            let writer = writer.map_err(system("start a thread"))?;
            let applied = self.unpack_archive(read, to, cancel);
            let packed = writer.join().unwrap_or(Err(PackError::Cancelled));
            Ok::<_, EngineError>((packed, applied))
        })?;
        match (packed, applied) {
            // The other side has stopped reading, and says why.
            (Err(error), Err(why)) if error.is_unread() => Err(why),
            (Err(PackError::Cancelled), _) => Err(EngineError::Cancelled),
            (Err(error), _) => Err(FilesError::from(error).into()),
            (Ok(_), Err(why)) => Err(why),
            (Ok((packed, bytes)), Ok(())) => Ok(Copied { bytes, skipped_devices: packed.skipped_devices }),
        }
    }

    /// Unpacks an archive in any known compression.
    pub(super) fn unpack_archive(
        &self,
        archive: impl io::Read + Send,
        to: &To<'_>,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let time = Mtime { seconds: self.clock.now().as_second(), nanos: 0 };
        let options = ApplyOptions {
            ownership: to.ownership,
            devices: Devices::Create,
            in_use: Some(InUse { below: to.below.to_owned(), time, replaces: to.replaces }),
            ..self.store.apply_options(Layering::Plain)
        };
        match apply_in_use(archive, to.root, &options, cancel) {
            Ok(_) => Ok(()),
            Err(ApplyError::Cancelled) => Err(EngineError::Cancelled),
            Err(error) => Err(error.into()),
        }
    }
}

/// Counts what is written.
pub(super) struct Counted<'a, W> {
    pub(super) out: W,
    pub(super) bytes: &'a AtomicU64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

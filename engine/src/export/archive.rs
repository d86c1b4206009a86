//! OCI and Docker archives.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use base::Timestamp;
use registry::{ArchiveFormat, ExportedImage, WriteOptions, write_archive};

use crate::Engine;
use crate::error::EngineError;
use crate::request::Destination;

/// How much is gathered before it is written.
const BUFFER: usize = 1 << 20;

/// Writes images whose blobs are all in the store.
pub(crate) fn write(
    engine: &Engine,
    format: ArchiveFormat,
    images: &[ExportedImage],
    epoch: Option<Timestamp>,
    destination: &Destination,
) -> Result<(), EngineError> {
    let mtime = epoch.map_or(0, |at| at.as_second().max(0).unsigned_abs());
    let options = WriteOptions { format, mtime, created: epoch, name: format!("{destination:?}") };
    to(destination, |out| {
        let mut open = |digest: &base::Digest| {
            let file = engine.store.open_blob(digest).map_err(std::io::Error::other)?;
            Ok(Box::new(file) as Box<dyn Read>)
        };
        Ok(write_archive(out, images, &options, &mut open)?)
    })
}

/// Lets `work` write to a destination. A file appears only when all of it is there.
pub(crate) fn to(
    destination: &Destination,
    work: impl FnOnce(&mut dyn Write) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    match destination {
        Destination::Stream(stream) => {
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            let mut out = BufWriter::with_capacity(BUFFER, &mut *stream);
            work(&mut out)?;
            out.flush().map_err(|source| EngineError::Output { what: "the stream".to_owned(), source })
        }
        Destination::File(path) => to_file(path, work),
    }
}

fn to_file(
    path: &Path,
    work: impl FnOnce(&mut dyn Write) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let failed = |source| EngineError::Output { what: path.display().to_string(), source };
    let path = &match place(path).map_err(failed)? {
        Place::Name(path) => path,
        Place::Special(file) => {
            let mut out = BufWriter::with_capacity(BUFFER, file);
            work(&mut out)?;
            return out.flush().map_err(failed);
        }
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let aside = tempfile::Builder::new().prefix(".lap-").tempfile_in(directory).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER, aside);
    work(&mut out)?;
    let aside = out.into_inner().map_err(|error| failed(error.into_error()))?;
    readable(aside.as_file()).map_err(failed)?;
    aside.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// What a path names.
enum Place {
    /// A file, or nothing yet: links are resolved, so that a file takes the place of a file and not of a link.
    Name(PathBuf),
    /// A device, a pipe: it is written to, never replaced.
    Special(File),
}

fn place(path: &Path) -> std::io::Result<Place> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Place::Name(path.canonicalize()?)),
        Ok(_) => Ok(Place::Special(File::options().write(true).open(path)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Place::Name(path.to_owned())),
        Err(error) => Err(error),
    }
}

/// Temporary files are private; results are as readable as any other new file.
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = 0o666 & !sys::rootdir::umask();
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

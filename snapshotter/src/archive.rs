//! Archives that a Dockerfile unpacks with `ADD`: telling them from other files, and extracting them.
//!
//! Extraction goes into a plain directory, by the same in-root rules as layers ([`crate::apply`]), but a
//! name like `.wh.x` is an ordinary name. Where the result belongs in an image is the caller's business.

use std::io::{self, Read};
use std::path::Path;

use base::CancelToken;

use crate::apply::{Applied, ApplyError, ApplyOptions, apply};
use crate::compress;
use crate::tar_entry::BLOCK;
use crate::tar_read::is_header;

/// Whether `file`, read from its beginning, is a tar archive, plain or compressed with gzip, bzip2, xz or
/// zstd. As in Docker, that takes a good first header: a compressed file that is no archive is not one, nor
/// is an empty archive. Reads as little as the compression allows.
pub fn is_archive(file: impl Read + Send) -> io::Result<bool> {
    let mut failure = None;
    let watched = Watched { file, failure: &mut failure };
    let found = first_block(watched).is_some_and(|block| is_header(&block));
    match failure {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// Extracts an archive in any known compression into the existing directory `root`. The layering of
/// `options` should be [`crate::apply::Layering::Plain`].
pub fn extract_archive(
    archive: impl Read + Send,
    root: &Path,
    options: &ApplyOptions,
    cancel: &CancelToken,
) -> Result<Applied, ApplyError> {
    apply(compress::decompressor(archive)?, root, options, cancel)
}

/// The first block of what `file` decompresses to. Data that does not decompress is no archive, which is
/// not an error.
fn first_block(file: impl Read + Send) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    compress::decompressor(file).ok()?.read_exact(&mut block).ok()?;
    Some(block)
}

/// Notes the first error of the file itself, to tell it from bad data.
struct Watched<'a, R> {
    file: R,
    failure: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure.get_or_insert(error);
            }
            kind.into()
        })
    }
}

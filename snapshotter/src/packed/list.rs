//! Lists of contents of archives that came as such: each file is read once for its hash.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base::{CancelToken, Digest};
use rayon::prelude::*;
use sys::fs::PathContext as _;

use super::contents::{Contents, Record, Writer};
use super::mend::mending;
use super::pieces::OWN;
use crate::apply::packed;
use crate::apply::read_ahead::BUFFER;
use crate::content_hash::{self, Hash};
use crate::db::packed::{self as rows, PackedLayer};
use crate::erofs::Tree;
use crate::error::StoreError;
use crate::snapshot::SnapshotId;
use crate::store::Store;
use crate::tar_entry::BLOCK;

/// How many files a thread reads before it takes others.
const FILES: usize = 128;

/// How much of a file is read at a time.
const PIECE: u64 = 1 << 20;

/// How many bytes of headers a file may have for them to be shared with it.
const MOST_HEADERS: u64 = 64 << 10;

/// The longest list of contents that is read.
const LONGEST_LIST: u64 = 256 << 20;

/// A file of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: Hash,
    /// Where its content begins.
    pub(super) offset: u64,
    pub(super) size: u64,
    /// How many bytes are between the file before it and this one, if they may be shared.
    pub(super) headers: u32,
}

impl Listed {
    /// Where what comes next begins.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.size.next_multiple_of(BLOCK as u64)
    }
}

/// The files of an archive, in its order. Those that are empty are left out, and those that are not filled up with zeros
/// as usual.
pub(super) fn list(
    archive: &File,
    path: &Path,
    tree: &Tree,
    cancel: &CancelToken,
) -> Result<Vec<Listed>, StoreError> {
    let length = archive.metadata().at("inspect", path)?.len();
    let files = tree.files().filter(|(_, size, offset)| {
        let end = size.checked_next_multiple_of(BLOCK as u64).and_then(|size| offset.checked_add(size));
        *size > 0 && end.is_some_and(|end| end <= length)
    });
    let mut files: Vec<(u64, u64)> = files.map(|(_, size, offset)| (offset, size)).collect();
    // Of several names each was one.
    files.sort_unstable();
    files.dedup();
    let hashes: Result<Vec<Vec<Option<Hash>>>, StoreError> = files
        .par_chunks(FILES)
        .map(|files| {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let mut buffer = Vec::new();
            let hashes: io::Result<_> =
                files.iter().map(|(offset, size)| hash(archive, *offset, *size, &mut buffer)).collect();
            Ok(hashes.at("read", path)?)
        })
        .collect();
    let mut before = 0;
    let mut listed = Vec::with_capacity(files.len());
    for ((offset, size), id) in files.into_iter().zip(hashes?.into_iter().flatten()) {
        let Some(id) = id else { continue };
        let headers = offset.checked_sub(before).filter(|headers| *headers <= MOST_HEADERS).unwrap_or(0);
        let file = Listed { id, offset, size, headers: headers as u32 };
        before = file.end();
        listed.push(file);
    }
    Ok(listed)
}

/// The hash of a file in an archive; `None` when something else than zeros is behind it.
fn hash(archive: &File, offset: u64, size: u64, buffer: &mut Vec<u8>) -> io::Result<Option<Hash>> {
    let mut hasher = blake3::Hasher::new();
    let padded = size.next_multiple_of(BLOCK as u64);
    let mut done = 0;
    while done < padded {
        let length = (padded - done).min(PIECE) as usize;
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let bytes = &mut buffer[..length];
        archive.read_exact_at(bytes, offset + done)?;
        let (content, padding) = bytes.split_at((size.saturating_sub(done) as usize).min(length));
        content_hash::update(&mut hasher, content);
        if padding.iter().any(|byte| *byte != 0) {
            return Ok(None);
        }
        done += length as u64;
    }
    Ok(Some(hasher.finalize().into()))
}

/// The list of an archive that is one file.
pub(super) fn written(listed: &[Listed]) -> Vec<u8> {
    let mut writer = Writer::new();
    for Listed { id, offset, size, headers } in listed {
        writer.push(&Record { id: *id, file: OWN, headers: *headers, offset: *offset, size: *size });
    }
    writer.into_bytes()
}

impl Store {
    /// The list of what a layer holds, if it is what its row says.
    pub(super) fn kept_contents(&self, layer: SnapshotId, digest: &Digest) -> Option<Contents> {
        let path = self.layout().snapshot(layer).contents();
        let list = sys::fs::read_limited(&path, LONGEST_LIST).ok()??;
        Contents::read(&list).filter(|_| Digest::of(&list) == *digest)
    }

    /// Makes the list of a layer that has none, and keeps it. `None` for one that shares with others, which has a list from the
    /// beginning, and when the layer has become something else meanwhile. The row says what is known afterwards.
    pub(super) fn learn_contents(
        &self,
        layer: SnapshotId,
        row: &mut PackedLayer,
        cancel: &CancelToken,
    ) -> Result<Option<Contents>, StoreError> {
        let dirs = self.layout().snapshot(layer);
        let Some(files) = self.whole_files(layer, row)?.filter(|files| files.pieces().parts().is_empty())
        else {
            return Ok(None);
        };
        let archive = BufReader::with_capacity(BUFFER, files.archive(&dirs)?);
        let tree = packed::index_of(archive, &self.options_of(layer)?, cancel)
            .map_err(|source| self.failed(layer, row.tar, source))?;
        let Some(archive) = files.into_data().into_iter().next() else { return Ok(None) };
        let bytes = written(&list(&archive, &dirs.tar(), &tree, cancel)?);
        let digest = Digest::of(&bytes);
        let _alone = self.claim(&mending(layer), cancel)?;
        let now = self.db().read("look up a packed layer", |c| rows::get(c, layer))?;
        let Some(now) = now.filter(|now| now.index == row.index) else { return Ok(None) };
        if now.contents != Some(digest) {
            self.replace(&dirs.contents(), |file, path| {
                Ok(io::Write::write_all(file, &bytes).at("write", path)?)
            })?;
            *row = PackedLayer { contents: Some(digest), ..now };
            self.db().write("record what a packed layer holds", |c| match rows::get(c, layer)? {
                Some(_) => rows::put(c, layer, row),
                None => Ok(()),
            })?;
        } else {
            *row = now;
        }
        Ok(Contents::read(&bytes))
    }
}

//! The archive of a copy: what of it is written, what another layer holds, and the digest of all of it.

use std::fs::File;
use std::io::{self, Write};

use sys::path_error::PathError;

use super::digesting::{Digesting, SharedDigest};
use super::held::Reader;
use super::{Packing, Stop};
use crate::content_hash::Hash;
use crate::digest_thread::DigestThread;
use crate::packed::bases::Base;
use crate::packed::contents::{self, Record};
use crate::packed::pieces::{OWN, Pieces};
use crate::tar_entry::BLOCK;
use crate::write_back::WriteBack;

/// How much is gathered until it is written.
const BUFFER: usize = 256 << 10;

pub(super) struct Sink<'a> {
    file: WriteBack<'a>,
    /// How much was written to the file.
    written: u64,
    digest: Digesting,
    pieces: Pieces,
    contents: contents::Writer,
    held: Option<Held<'a>>,
}

/// What another layer holds.
struct Held<'a> {
    base: &'a Base,
    reader: Reader<'a>,
    /// The record that was found last.
    last: Option<u32>,
    /// What is the copy's own, and not written yet.
    gathered: Vec<u8>,
}

/// A finished archive.
pub(super) struct Finished {
    pub(super) diff_id: Digesting,
    pub(super) pieces: Pieces,
    pub(super) contents: Vec<u8>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a File, base: Option<&'a Base>) -> Packing<Self> {
        let digest = match base {
            Some(base) => Digesting::Shared(SharedDigest::start(base).map_err(unreadable)?),
            None => Digesting::Own(DigestThread::default()),
        };
        let parts = base.map(Base::layers).unwrap_or_default();
        let held =
            base.map(|base| Held { base, reader: Reader::new(base), last: None, gathered: Vec::new() });
        Ok(Self {
            file: WriteBack::new(file),
            written: 0,
            digest,
            pieces: Pieces::new(parts),
            contents: contents::Writer::new(),
            held,
        })
    }

    /// The length of the archive so far.
    pub(super) fn position(&self) -> u64 {
        self.pieces.size()
    }

    pub(super) fn finish(mut self) -> Packing<Finished> {
        let rest = match (&self.held, &self.digest) {
            (Some(held), _) => held.gathered.as_slice(),
            (None, Digesting::Own(digest)) => digest.pending(),
            (None, Digesting::Shared(_)) => &[],
        };
        self.file.write_all(rest).map_err(archive_failed)?;
        let contents = self.contents.into_bytes();
        Ok(Finished { diff_id: self.digest, pieces: self.pieces, contents })
    }

    /// Adds an entry without content.
    pub(super) fn bare(&mut self, headers: &[u8]) -> Packing<()> {
        let id = *blake3::hash(headers).as_bytes();
        let found = self.held.as_ref().and_then(|held| held.base.contents.find(&id, held.last));
        if let Some(at) = found
            && self.shares_all(headers, at)?
        {
            return Ok(());
        }
        self.write_all(headers).map_err(archive_failed)?;
        self.note(id, headers.len() as u64, 0);
        Ok(())
    }

    /// Adds a file whose content another layer holds, by the number of the record.
    pub(super) fn shared(&mut self, headers: &[u8], at: u32) -> Packing<()> {
        if self.shares_all(headers, at)? {
            return Ok(());
        }
        self.write_all(headers).map_err(archive_failed)?;
        self.share(at, 0)
    }

    /// Notes what was written last: content of this length, and headers, together so long.
    pub(super) fn note(&mut self, id: Hash, length: u64, size: u64) {
        let data = size.next_multiple_of(BLOCK as u64);
        // Longer headers are written again each time.
        let headers = u32::try_from(length - data).unwrap_or(0);
        self.contents.push(&Record { id, file: OWN, headers, offset: self.written - data, size });
    }

    /// Adds what the other layer holds with its headers, if those are the same.
    fn shares_all(&mut self, headers: &[u8], at: u32) -> Packing<bool> {
        let Some(held) = &mut self.held else { return Ok(false) };
        let record = held.base.contents.get(at).filter(|record| record.headers as usize == headers.len());
        let start = record.and_then(|record| record.offset.checked_sub(u64::from(record.headers)));
        let (Some(record), Some(start)) = (record, start) else { return Ok(false) };
        let number = held.base.number(record);
        if held.reader.bytes(number, start, headers.len() as u64).map_err(unreadable)? != headers {
            return Ok(false);
        }
        self.share(at, record.headers).map(|()| true)
    }

    /// Adds what a record of the other layer says, with so many bytes before it.
    fn share(&mut self, at: u32, headers: u32) -> Packing<()> {
        let Self { held, digest, pieces, contents, .. } = self;
        let held = held.as_mut().ok_or(Stop::Unfit)?;
        let record = held.base.contents.get(at).ok_or(Stop::Unfit)?;
        let number = held.base.number(record);
        let file = u16::try_from(number).map_err(|_| Stop::Unfit)?;
        let offset = record.offset - u64::from(headers);
        let length = u64::from(headers) + record.size.next_multiple_of(BLOCK as u64);
        pieces.push(file, offset, length);
        if let Digesting::Shared(digest) = digest {
            digest.share(number, offset, length);
        }
        contents.push(&Record { file, headers, ..*record });
        held.last = Some(at);
        Ok(())
    }
}

impl Write for Sink<'_> {
    /// Writes what is the copy's own.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { file, digest, held, .. } = self;
        if let Some(Held { gathered, reader, .. }) = held {
            gathered.extend_from_slice(bytes);
            if gathered.len() >= BUFFER {
                file.write_all(gathered)?;
                gathered.clear();
                // It may be long until something is read again.
                reader.let_go();
            }
        }
        match digest {
            Digesting::Own(digest) => digest.update_and(bytes, |full| file.write_all(full))?,
            Digesting::Shared(digest) => digest.update(bytes),
        }
        self.pieces.push(OWN, self.written, bytes.len() as u64);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Another layer that cannot be read is no reason for a copy to fail.
fn unreadable(_: io::Error) -> Stop {
    Stop::Unfit
}

/// The copy's own archive.
pub(super) fn archive_failed(source: io::Error) -> Stop {
    PathError::new("write", "the archive of a layer", source).into()
}

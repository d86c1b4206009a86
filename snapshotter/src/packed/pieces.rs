//! Where the archive of a packed layer lies, piece by piece: what other layers hold of it already is not held again.
//!
//! A list of pieces is a file of lines. The first is [`MAGIC`]. The second names the layers whose archives are needed, by the numbers of
//! their snapshots: `of 12 15`. Each further one is a piece: the number of the file that it is in (0 is the layer's own, 1 the
//! first of those named), where it begins there, and its length, in bytes. Put together they are the archive.
//!
//! A layer that needs another one needs all that this one needs, and names it, so a list says all that is kept for its sake.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;

use sys::erofs::MAX_PARTS;

use crate::erofs::Devices;
use crate::snapshot::SnapshotId;

/// The first line of a list.
const MAGIC: &str = "lapstrake pieces 1";

/// The number of a layer's own file.
pub(crate) const OWN: u16 = 0;

/// A part of the archive that lies in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Where in the archive it begins.
    start: u64,
    length: u64,
    file: u16,
    /// Where in the file it begins.
    offset: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// Where all of an archive lies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pieces {
    parts: Vec<SnapshotId>,
    /// In their order, without gaps.
    pieces: Vec<Piece>,
}

impl Pieces {
    /// An archive of which nothing is known yet, that may need those other layers.
    pub(crate) fn new(parts: Vec<SnapshotId>) -> Self {
        Self { parts, pieces: Vec::new() }
    }

    /// An archive of so many bytes that is one file.
    pub(crate) fn whole(size: u64) -> Self {
        let mut pieces = Self::default();
        pieces.push(OWN, 0, size);
        pieces
    }

    /// The other layers.
    pub(crate) fn parts(&self) -> &[SnapshotId] {
        &self.parts
    }

    /// Adds what comes next in the archive.
    pub(crate) fn push(&mut self, file: u16, offset: u64, length: u64) {
        let start = self.size();
        match self.pieces.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.file == file && last.offset + last.length == offset => last.length += length,
            _ => self.pieces.push(Piece { start, length, file, offset }),
        }
    }

    /// The length of the archive.
    pub(crate) fn size(&self) -> u64 {
        self.pieces.last().map_or(0, Piece::end)
    }

    /// How much of each file has to be there: of the layer's own, and of those of the other layers.
    pub(crate) fn extents(&self) -> Vec<u64> {
        let mut sizes = vec![0; self.parts.len() + 1];
        for piece in &self.pieces {
            let size = &mut sizes[usize::from(piece.file)];
            *size = piece.offset.saturating_add(piece.length).max(*size);
        }
        sizes
    }

    /// The pieces in their order, by their lengths, each with where in the layer's own file it lies if it does.
    pub(crate) fn own(&self) -> impl Iterator<Item = (u64, Option<u64>)> {
        self.pieces.iter().map(|piece| (piece.length, (piece.file == OWN).then_some(piece.offset)))
    }

    /// The piece with this byte of the archive.
    fn find(&self, position: u64) -> Option<&Piece> {
        let after = self.pieces.partition_point(|piece| piece.end() <= position);
        self.pieces.get(after)
    }

    /// The list as it is kept.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{MAGIC}\nof");
        for part in &self.parts {
            let _ = write!(text, " {part}");
        }
        text.push('\n');
        for Piece { file, offset, length, .. } in &self.pieces {
            let _ = writeln!(text, "{file} {offset} {length}");
        }
        text
    }
}

/// A list of pieces that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no list of pieces")]
pub(crate) struct NoPieces;

impl FromStr for Pieces {
    type Err = NoPieces;

    fn from_str(text: &str) -> Result<Self, NoPieces> {
        let mut lines = text.strip_suffix('\n').ok_or(NoPieces)?.split('\n');
        if lines.next() != Some(MAGIC) {
            return Err(NoPieces);
        }
        let parts = lines.next().and_then(|line| line.strip_prefix("of ")).ok_or(NoPieces)?;
        let parts: Vec<SnapshotId> =
            numbers(parts).map(|n| n.map(SnapshotId::from_row)).collect::<Result<_, _>>()?;
        if parts.len() > MAX_PARTS {
            return Err(NoPieces);
        }
        let files = parts.len() as i64;
        let mut pieces = Self::new(parts);
        let mut total = 0_i64;
        for line in lines {
            let numbers: Vec<i64> = numbers(line).collect::<Result<_, _>>()?;
            let [file, offset, length] = numbers[..] else { return Err(NoPieces) };
            total = total.checked_add(length).ok_or(NoPieces)?;
            let file = u16::try_from(file).ok().filter(|_| file <= files).ok_or(NoPieces)?;
            offset.checked_add(length).ok_or(NoPieces)?;
            pieces.push(file, offset.unsigned_abs(), length.unsigned_abs());
        }
        Ok(pieces)
    }
}

/// Numbers that are not negative.
fn numbers(line: &str) -> impl Iterator<Item = Result<i64, NoPieces>> {
    line.split(' ').map(|word| word.parse().ok().filter(|number| *number >= 0).ok_or(NoPieces))
}

/// The archive is on the devices that its files are.
impl Devices for Pieces {
    fn sizes(&self) -> Vec<u64> {
        self.extents()
    }

    fn locate(&self, offset: u64, size: u64) -> Option<(u16, u64)> {
        let piece = self.find(offset)?;
        let ends = offset.checked_add(size)?;
        (ends <= piece.end()).then(|| (piece.file, piece.offset + (offset - piece.start)))
    }
}

/// Reads the archive of a layer from its files.
#[derive(Debug)]
pub(crate) struct Archive {
    files: Vec<File>,
    pieces: Pieces,
    position: u64,
}

impl Archive {
    /// `files`: the layer's own, and those of the other layers.
    pub(crate) fn new(files: Vec<File>, pieces: Pieces) -> Self {
        Self { files, pieces, position: 0 }
    }

    /// Where it lies.
    pub(crate) fn pieces(&self) -> &Pieces {
        &self.pieces
    }
}

impl Read for Archive {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.find(self.position) else { return Ok(0) };
        let file = self.files.get(usize::from(piece.file)).ok_or(io::ErrorKind::NotFound)?;
        let most = usize::try_from(piece.end() - self.position).unwrap_or(usize::MAX).min(into.len());
        let count = file.read_at(&mut into[..most], piece.offset + (self.position - piece.start))?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(number: i64) -> SnapshotId {
        SnapshotId::from_row(number)
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        file
    }

    #[test]
    fn pieces_beside_each_other_are_one() {
        let mut pieces = Pieces::new(vec![part(4), part(2)]);
        for (file, offset, length) in
            [(1, 0, 512), (1, 512, 512), (0, 0, 0), (0, 0, 1024), (2, 512, 512), (1, 4096, 1)]
        {
            pieces.push(file, offset, length);
        }
        assert_eq!(pieces.to_text(), "lapstrake pieces 1\nof 4 2\n1 0 1024\n0 0 1024\n2 512 512\n1 4096 1\n");
        assert_eq!((pieces.size(), pieces.extents()), (2561, vec![1024, 4097, 1024]));
        assert_eq!(pieces.locate(1000, 24), Some((1, 1000)));
        assert_eq!(pieces.locate(1000, 25), None, "it is in two pieces");
        assert_eq!(pieces.locate(2048, 512), Some((2, 512)));
        assert_eq!(pieces.locate(2561, 0), None);
    }

    #[test]
    fn what_is_damaged_is_no_list() {
        let good = "lapstrake pieces 1\nof 4\n1 0 512\n0 0 512\n";
        assert!(good.parse::<Pieces>().is_ok());
        for wrong in [
            "",
            "lapstrake pieces 2\nof 4\n1 0 512\n",
            "lapstrake pieces 1\n1 0 512\n",
            "lapstrake pieces 1\nof 4\n1 0 512",
            "lapstrake pieces 1\nof 4\n2 0 512\n",
            "lapstrake pieces 1\nof 4\n-1 0 512\n",
            "lapstrake pieces 1\nof 4\n1 0\n",
            "lapstrake pieces 1\nof 4\n1 9223372036854775807 1\n",
            "lapstrake pieces 1\nof 4\n1 0 9223372036854775807\n0 0 1\n",
            "lapstrake pieces 1\nof 1 2 3 4 5 6 7 8 9\n",
        ] {
            assert_eq!(wrong.parse::<Pieces>(), Err(NoPieces), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_list_is_read_as_it_was_written_and_gives_the_archive(
            choices in proptest::collection::vec((0_u16..3, 0_u64..200, 0_u64..56), 0..40),
            buffer in 1_usize..100,
        ) {
            let contents: Vec<Vec<u8>> = (0..3).map(|file| (0..=255).map(|byte: u8| byte ^ (file * 77)).collect()).collect();
            let mut pieces = Pieces::new(vec![part(7), part(3)]);
            let mut expected = Vec::new();
            for (file, offset, length) in choices {
                pieces.push(file, offset, length);
                let range = offset as usize..(offset + length) as usize;
                expected.extend_from_slice(&contents[usize::from(file)][range]);
            }
            prop_assert_eq!(pieces.to_text().parse::<Pieces>(), Ok(pieces.clone()));
            let files: Vec<File> = contents.iter().map(|bytes| file(bytes)).collect();
            let mut archive = io::BufReader::with_capacity(buffer, Archive::new(files, pieces));
            let mut read = Vec::new();
            archive.read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_text_is_too_strange(text in "(lapstrake pieces 1\n)?(of [0-9 ]{0,8}\n)?([0-9 -]{0,12}\n){0,4}") {
            if let Ok(pieces) = text.parse::<Pieces>() {
                prop_assert_eq!(pieces.extents().len(), pieces.parts().len() + 1);
            }
        }
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error() {
        let mut pieces = Pieces::new(vec![part(1)]);
        pieces.push(1, 2, 4);
        let mut archive = Archive::new(vec![file(b""), file(b"abcd")], pieces);
        let error = archive.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

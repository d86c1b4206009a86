//! Cuts what a container writes into records: lines, and pieces of lines that are longer than a record may
//! be. Pure.

/// The longest record in bytes, as in Docker.
pub(super) const LONGEST: usize = 16 << 10;

/// What one stream has written since its last record.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes what was written, and hands out the records that are complete. Put together, records are what
    /// was written.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut record: impl FnMut(&[u8])) {
        while !self.rest.is_empty() && !bytes.is_empty() {
            let room = LONGEST - self.rest.len();
            let room = room.min(bytes.len());
            let end = memchr::memchr(b'\n', &bytes[..room]).map_or(room, |at| at + 1);
            let (now, later) = bytes.split_at(end);
            self.rest.extend_from_slice(now);
            bytes = later;
            if let Some(length) = complete(&self.rest) {
                record(&self.rest[..length]);
                self.rest.drain(..length);
            }
        }
        while let Some(length) = complete(bytes) {
            let (now, later) = bytes.split_at(length);
            record(now);
            bytes = later;
        }
        self.rest.extend_from_slice(bytes);
    }

    /// Nothing more comes: hands out what is left.
    pub(super) fn finish(&mut self, record: impl FnOnce(&[u8])) {
        if !self.rest.is_empty() {
            record(&std::mem::take(&mut self.rest));
        }
    }
}

/// The length of the record that `bytes` begin with, if it is all there.
fn complete(bytes: &[u8]) -> Option<usize> {
    let start = &bytes[..bytes.len().min(LONGEST)];
    match memchr::memchr(b'\n', start) {
        Some(at) => Some(at + 1),
        None if start.len() == LONGEST => Some(whole_characters(start)),
        None => None,
    }
}

/// The length of `bytes` without a character of UTF-8 that is cut off at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(4)..];
    let is_cut = |start: usize| {
        let wanted = match tail[start] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return false,
        };
        tail.len() - start < wanted && tail[start + 1..].iter().all(|byte| byte & 0xc0 == 0x80)
    };
    match (0..tail.len()).find(|start| is_cut(*start)) {
        Some(start) => bytes.len() - (tail.len() - start),
        None => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut records = Vec::new();
        for piece in pieces {
            splitter.feed(piece, |record| records.push(record.to_vec()));
        }
        splitter.finish(|record| records.push(record.to_vec()));
        records
    }

    #[test]
    fn lines_are_records_whatever_pieces_they_come_in() {
        let records = split(&[b"a\nb", b"c", b"\n\nd\n", b"end"]);
        assert_eq!(records, [&b"a\n"[..], b"bc\n", b"\n", b"d\n", b"end"]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let mut long = vec![b'x'; LONGEST - 1];
        long.extend("é and more\n".bytes());
        let records = split(&[&long]);
        assert_eq!(records[0].len(), LONGEST - 1);
        assert_eq!(records[1], "é and more\n".as_bytes());
        let plain = split(&[&vec![b'x'; 2 * LONGEST]]);
        assert_eq!(plain.iter().map(Vec::len).collect::<Vec<_>>(), [LONGEST, LONGEST]);
    }

    proptest! {
        #[test]
        fn records_are_what_was_written(
            pieces in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'x'), Just(0xc3), Just(0xa9)], 0..40),
                    proptest::collection::vec(any::<u8>(), 9_000..20_000),
                ],
                0..12,
            ),
        ) {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let records = split(&slices);
            prop_assert_eq!(records.concat(), pieces.concat());
            for record in &records {
                prop_assert!(!record.is_empty() && record.len() <= LONGEST);
                prop_assert!(!record[..record.len() - 1].contains(&b'\n'));
            }
        }
    }
}

//! Encodes the header blocks of one entry: a ustar block, preceded by a pax header where it is needed.

use std::ops::Range;

use crate::tar_entry::{BLOCK, Entry, Kind, XATTR_RECORD, checksums, field};

/// The name of a field that cannot be encoded.
type Unrepresentable = &'static str;

/// All blocks that come before the data of `entry`.
pub(super) fn encode(entry: &Entry) -> Result<Vec<u8>, Unrepresentable> {
    let path = stored_path(entry);
    if path.contains(&0) || entry.link.contains(&0) {
        return Err("name with a NUL byte");
    }
    let mut blocks = Vec::with_capacity(BLOCK);
    let records = pax_records(entry, &path);
    if !records.is_empty() {
        blocks.extend_from_slice(&pax_block(&path, records.len())?);
        blocks.extend_from_slice(&records);
        blocks.resize(blocks.len() + padding(records.len() as u64), 0);
    }
    blocks.extend_from_slice(&ustar_block(entry, &path)?);
    Ok(blocks)
}

/// How many zeros follow `size` bytes up to a whole block.
pub(super) fn padding(size: u64) -> usize {
    // The remainder is below 512, so the cast keeps it.
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Directories are stored with a slash at the end.
fn stored_path(entry: &Entry) -> Vec<u8> {
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path
}

fn ustar_block(entry: &Entry, path: &[u8]) -> Result<[u8; BLOCK], Unrepresentable> {
    let mut block = [0; BLOCK];
    match split_path(path) {
        Some((prefix, name)) => {
            put_text(&mut block, field::PREFIX, prefix);
            put_text(&mut block, field::NAME, name);
        }
        None => put_text(&mut block, field::NAME, shortened(path)),
    }
    put_number(&mut block, field::MODE, u64::from(entry.mode & 0o7777)).ok_or("mode")?;
    put_number_or_zero(&mut block, field::UID, Some(u64::from(entry.uid)));
    put_number_or_zero(&mut block, field::GID, Some(u64::from(entry.gid)));
    put_number_or_zero(&mut block, field::SIZE, Some(entry.size));
    put_number_or_zero(&mut block, field::MTIME, u64::try_from(entry.mtime.seconds).ok());
    block[field::TYPE] = type_flag(entry.kind);
    put_text(&mut block, field::LINK, shortened(&entry.link));
    block[field::MAGIC].copy_from_slice(field::USTAR);
    put_number(&mut block, field::MAJOR, u64::from(entry.device.0)).ok_or("device number")?;
    put_number(&mut block, field::MINOR, u64::from(entry.device.1)).ok_or("device number")?;
    seal(&mut block);
    Ok(block)
}

/// The header block of a pax header. Its name is for readers that do not know pax and unpack it as a file.
fn pax_block(path: &[u8], length: usize) -> Result<[u8; BLOCK], Unrepresentable> {
    let mut block = [0; BLOCK];
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let base = trimmed.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = [b"PaxHeaders/", base].concat();
    put_text(&mut block, field::NAME, shortened(&name));
    put_number(&mut block, field::MODE, 0o644).ok_or("mode")?;
    put_number_or_zero(&mut block, field::UID, None);
    put_number_or_zero(&mut block, field::GID, None);
    put_number(&mut block, field::SIZE, length as u64).ok_or("extended header")?;
    put_number_or_zero(&mut block, field::MTIME, None);
    block[field::TYPE] = b'x';
    block[field::MAGIC].copy_from_slice(field::USTAR);
    seal(&mut block);
    Ok(block)
}

fn seal(block: &mut [u8; BLOCK]) {
    let (sum, _) = checksums(block);
    // Six digits, NUL, space: the form every reader knows. The sum is at most 512 * 255.
    let (digits, space) = block[field::CHECKSUM].split_at_mut(7);
    put_octal(digits, sum.unsigned_abs());
    space.copy_from_slice(b" ");
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// The records that ustar fields cannot hold, in a fixed order.
fn pax_records(entry: &Entry, path: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| add_record(&mut records, key, value);
    if split_path(path).is_none() || wants_utf8(path) {
        add(b"path", path);
    }
    if entry.link.len() > field::LINK.len() || wants_utf8(&entry.link) {
        add(b"linkpath", &entry.link);
    }
    if !fits(field::SIZE, entry.size) {
        add(b"size", entry.size.to_string().as_bytes());
    }
    if !fits(field::UID, u64::from(entry.uid)) {
        add(b"uid", entry.uid.to_string().as_bytes());
    }
    if !fits(field::GID, u64::from(entry.gid)) {
        add(b"gid", entry.gid.to_string().as_bytes());
    }
    let whole = u64::try_from(entry.mtime.seconds).is_ok_and(|seconds| fits(field::MTIME, seconds));
    if !whole || entry.mtime.nanos != 0 {
        add(b"mtime", time(entry).as_bytes());
    }
    let mut xattrs: Vec<_> = entry.xattrs.iter().collect();
    xattrs.sort();
    for xattr in xattrs {
        add(&[XATTR_RECORD, &xattr.name].concat(), &xattr.value);
    }
    records
}

/// Names in pax records are UTF-8, names in header blocks are in no stated encoding: so text beyond ASCII
/// goes into a record, and bytes that are not UTF-8 stay in the block while they fit.
fn wants_utf8(name: &[u8]) -> bool {
    !name.is_ascii() && std::str::from_utf8(name).is_ok()
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits too.
fn add_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The time as pax writes it: seconds, and a fraction without zeros at its end.
fn time(entry: &Entry) -> String {
    let (seconds, nanos) = (entry.mtime.seconds, entry.mtime.nanos);
    // Nanoseconds count upwards; a negative decimal number counts away from zero.
    let (sign, seconds, nanos) = match (seconds < 0, nanos) {
        (false, nanos) => ("", seconds.unsigned_abs(), nanos),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, nanos) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    };
    let fraction = format!(".{nanos:09}");
    format!("{sign}{seconds}{}", fraction.trim_end_matches('0').trim_end_matches('.'))
}

/// Splits a path into ustar's prefix and name; `None` when it does not fit.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let longest = field::NAME.len();
    if path.len() <= longest {
        return Some((b"", path));
    }
    // A slash at the very end belongs to the name, so it cannot be where the path is split.
    let from = path.len() - 1 - longest.min(path.len() - 1);
    let cut = (from..path.len() - 1).find(|&at| path[at] == b'/')?;
    (cut <= field::PREFIX.len() && cut > 0).then(|| (&path[..cut], &path[cut + 1..]))
}

/// What stands in a name field whose whole text is in a record. It does not end in a slash, which would
/// make a file a directory to readers of the block alone.
fn shortened(text: &[u8]) -> &[u8] {
    if text.len() <= field::NAME.len() {
        return text;
    }
    let mut cut = &text[..field::NAME.len()];
    while let Some(shorter) = cut.strip_suffix(b"/") {
        cut = shorter;
    }
    cut
}

fn put_text(block: &mut [u8; BLOCK], range: Range<usize>, text: &[u8]) {
    block[range.start..range.start + text.len()].copy_from_slice(text);
}

/// Whether a number fits as octal digits and a NUL.
fn fits(range: Range<usize>, value: u64) -> bool {
    value >> (3 * (range.len() - 1)) == 0
}

fn put_number(block: &mut [u8; BLOCK], range: Range<usize>, value: u64) -> Option<()> {
    if !fits(range.clone(), value) {
        return None;
    }
    put_octal(&mut block[range], value);
    Some(())
}

/// As many octal digits as there is room for, and a NUL behind them.
fn put_octal(field: &mut [u8], value: u64) {
    let Some((end, digits)) = field.split_last_mut() else { return };
    *end = 0;
    let mut left = value;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left & 7) as u8;
        left >>= 3;
    }
}

/// A number, or zero when there is none or a pax record has it.
fn put_number_or_zero(block: &mut [u8; BLOCK], range: Range<usize>, value: Option<u64>) {
    let value = value.filter(|&value| fits(range.clone(), value)).unwrap_or(0);
    // Zero and what was just found to fit do fit.
    let _ = put_number(block, range, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_length_counts_itself() {
        for value in [0, 1, 85, 86, 87, 88, 985, 986, 987] {
            let mut record = Vec::new();
            add_record(&mut record, b"path", &vec![b'x'; value]);
            let digits = record.split(|&byte| byte == b' ').next().unwrap();
            assert_eq!(std::str::from_utf8(digits).unwrap().parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn long_paths_are_split_at_a_slash_or_not_at_all() {
        let path = [b"d".repeat(90), b"/".to_vec(), b"f".repeat(60)].concat();
        let (prefix, name) = split_path(&path).unwrap();
        assert_eq!((prefix.len(), name.len()), (90, 60));
        assert_eq!(split_path(&b"x".repeat(101)), None);
        assert_eq!(split_path(&[b"x".repeat(100), b"/".to_vec()].concat()), None);
        assert_eq!(split_path(&[b"/".to_vec(), b"x".repeat(100)].concat()), None);
        assert_eq!(split_path(&[b"x".repeat(156), b"/y".to_vec()].concat()), None);
    }
}

//! Extended headers in front of an entry: pax records (POSIX.1-2017, `pax`, "pax Extended Header") and
//! GNU long names. It gathers what they override and applies it; it does not read the stream.

use super::TarError;
use super::sparse::Description;
use crate::tar_entry::{Entry, Kind, Mtime, XATTR_RECORD, Xattr};

/// What the extended headers before an entry say about it.
#[derive(Default)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Mtime>,
    xattrs: Vec<Xattr>,
    /// The description of a sparse file, if there is one.
    pub(super) sparse: Option<Description>,
    /// Whether there was any extended header at all.
    present: bool,
}

impl Extension {
    pub(super) fn is_empty(&self) -> bool {
        !self.present
    }

    /// Takes the data of a GNU `L` header: a name that ends at the first NUL.
    pub(super) fn set_path(&mut self, data: Vec<u8>) {
        self.present = true;
        self.path = Some(until_nul(data));
    }

    /// Takes the data of a GNU `K` header: a link target that ends at the first NUL.
    pub(super) fn set_link(&mut self, data: Vec<u8>) {
        self.present = true;
        self.link = Some(until_nul(data));
    }

    /// Takes the records of a pax header whose block lies at `offset`.
    pub(super) fn add_records(&mut self, data: &[u8], offset: u64) -> Result<(), TarError> {
        self.present = true;
        let mut rest = data;
        while !rest.is_empty() {
            let parsed = split_record(rest).and_then(|(key, value, after)| {
                rest = after;
                self.add(key, value)
            });
            parsed.ok_or(TarError::PaxRecord { offset })?;
        }
        Ok(())
    }

    /// Takes one record; `None` when its value is not what its key needs. Unknown keys are comments to us.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, |value| decimal(value)?.try_into().ok())?,
            b"gid" => self.gid = optional(value, |value| decimal(value)?.try_into().ok())?,
            b"mtime" => self.mtime = optional(value, time)?,
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR_RECORD) {
                    self.add_xattr(attribute, value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().add(key, value)?;
                }
            }
        }
        Some(())
    }

    fn add_xattr(&mut self, attribute: &[u8], value: &[u8]) -> Option<()> {
        if attribute.is_empty() || attribute.contains(&0) {
            return None;
        }
        self.xattrs.retain(|present| present.name != attribute);
        self.xattrs.push(Xattr { name: attribute.to_vec(), value: value.to_vec() });
        Some(())
    }

    /// The entry of the header block, with what was said before it.
    pub(super) fn apply(self, mut entry: Entry) -> Entry {
        if let Some(path) = self.path {
            entry.path = path;
        }
        if let (Some(link), Kind::Symlink | Kind::HardLink) = (self.link, entry.kind) {
            entry.link = link;
        }
        if let (Some(size), Kind::File) = (self.size, entry.kind) {
            entry.size = size;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.xattrs = self.xattrs;
        entry
    }
}

/// Splits `LENGTH KEY=VALUE\n` off the front: the key, the value and what follows. `LENGTH` counts the
/// whole record, so a value may hold any byte.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    if length > data.len() {
        return None;
    }
    let (record, rest) = data.split_at(length);
    let (key, value) = {
        let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = body.iter().position(|&byte| byte == b'=')?;
        (&body[..equals], &body[equals + 1..])
    };
    Some((key, value, rest))
}

/// A value that may be absent: an empty one takes back what an earlier record said.
fn optional<T>(value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    if value.is_empty() { Some(None) } else { parse(value).map(Some) }
}

fn name(value: &[u8]) -> Option<Option<Vec<u8>>> {
    optional(value, |value| (!value.contains(&0)).then(|| value.to_vec()))
}

/// Decimal digits, and nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are dropped.
fn time(text: &[u8]) -> Option<Mtime> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let nanos = match parts.next() {
        Some(fraction) => nanoseconds(fraction)?,
        None => 0,
    };
    Some(match (negative, nanos) {
        (false, nanos) => Mtime { seconds, nanos },
        (true, 0) => Mtime { seconds: -seconds, nanos: 0 },
        // Nanoseconds count upwards from the whole second below.
        (true, nanos) => Mtime { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

fn nanoseconds(fraction: &[u8]) -> Option<u32> {
    let mut nanos = 0;
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        nanos = nanos * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    fraction.iter().all(u8::is_ascii_digit).then_some(nanos)
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    data.truncate(end);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_fractions_and_signs() {
        let at = |seconds, nanos| Some(Mtime { seconds, nanos });
        assert_eq!(time(b"12"), at(12, 0));
        assert_eq!(time(b"12.5"), at(12, 500_000_000));
        assert_eq!(time(b"12.1234567899"), at(12, 123_456_789));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn records_may_hold_any_byte_and_lie_about_nothing() {
        let good = b"12 path=a\nb\n";
        assert_eq!(split_record(good), Some((&b"path"[..], &b"a\nb"[..], &b""[..])));
        for bad in [&b"99 path=a\n"[..], b"3 path=a\n", b"8 path=a\n", b"x path=a\n", b"5 ab\n", b"12"] {
            assert_eq!(split_record(bad), None, "{bad:?}");
        }
    }
}

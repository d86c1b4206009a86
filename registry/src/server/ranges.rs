//! Parts of a blob: which one a download asks for, and which one a chunk of an upload is.
//!
//! Source: RFC 9110, section 14; distribution-spec, "Pushing a blob in chunks".

use axum::http::{HeaderMap, header};

/// What part of a blob is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    All,
    /// From the first byte up to the second, which is left out.
    Part(u64, u64),
    /// A part that lies behind its end.
    Beyond,
}

/// The part that a request asks for, of `size` bytes whose entity tag is `tag`. What is not understood, or asks for several
/// parts, is answered with everything, as the RFC allows.
pub(super) fn wanted(headers: &HeaderMap, size: u64, tag: &str) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    if text(header::IF_RANGE).is_some_and(|known| known != tag) {
        return Wanted::All;
    }
    let Some((first, last)) = range.split_once('-') else { return Wanted::All };
    match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => part(first, size, size),
        (Some(first), Some(last)) if first <= last => part(first, last.saturating_add(1).min(size), size),
        (None, Some(0)) if first.is_empty() => Wanted::Beyond,
        (None, Some(length)) if first.is_empty() => part(size.saturating_sub(length), size, size),
        _ => Wanted::All,
    }
}

fn part(from: u64, to: u64, size: u64) -> Wanted {
    if from < size { Wanted::Part(from, to) } else { Wanted::Beyond }
}

/// The bytes that a chunk says it is, both included: `Content-Range: 0-99`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) first: u64,
    pub(super) length: u64,
}

/// Which chunk a request carries; `None` when it does not say. The error is that it says nonsense.
pub(super) fn chunk(headers: &HeaderMap) -> Result<Option<Chunk>, ()> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ())?;
    let (first, last) = text.trim().split_once('-').ok_or(())?;
    let (first, last) = (number(first).ok_or(())?, number(last).ok_or(())?);
    let length = last.checked_sub(first).and_then(|length| length.checked_add(1)).ok_or(())?;
    Ok(Some(Chunk { first, length }))
}

/// Digits alone: no sign, no space.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn range(text: &str) -> Wanted {
        let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(text).unwrap())]);
        wanted(&headers, 100, "\"tag\"")
    }

    #[test]
    fn ranges_are_cut_to_the_blob() {
        assert_eq!(range("bytes=0-9"), Wanted::Part(0, 10));
        assert_eq!(range("bytes=90-"), Wanted::Part(90, 100));
        assert_eq!(range("bytes=90-900"), Wanted::Part(90, 100));
        assert_eq!(range("bytes=-5"), Wanted::Part(95, 100));
        assert_eq!(range("bytes=-500"), Wanted::Part(0, 100));
        assert_eq!(range("bytes=100-"), Wanted::Beyond);
        assert_eq!(range("bytes=-0"), Wanted::Beyond);
        assert_eq!(range(&format!("bytes=0-{}", u64::MAX)), Wanted::Part(0, 100));
        assert_eq!(wanted(&HeaderMap::new(), 0, ""), Wanted::All);
    }

    #[test]
    fn what_is_not_understood_is_everything() {
        for text in ["bytes=9-1", "bytes=a-b", "bytes=0-1,5-6", "bytes=-", "lines=0-1", "bytes=+1-2"] {
            assert_eq!(range(text), Wanted::All, "{text}");
        }
    }

    #[test]
    fn another_entity_is_sent_whole() {
        let with = |tag: &'static str| {
            let range = HeaderValue::from_static("bytes=5-");
            let headers = [(header::RANGE, range), (header::IF_RANGE, HeaderValue::from_static(tag))];
            wanted(&HeaderMap::from_iter(headers), 100, "\"tag\"")
        };
        assert_eq!((with("\"tag\""), with("\"other\"")), (Wanted::Part(5, 100), Wanted::All));
    }

    #[test]
    fn chunks_say_what_they_are_or_nonsense() {
        let of = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            chunk(&HeaderMap::from_iter([(header::CONTENT_RANGE, value)]))
        };
        assert_eq!(of("5-9"), Ok(Some(Chunk { first: 5, length: 5 })));
        assert_eq!(chunk(&HeaderMap::new()), Ok(None));
        for text in ["9-5", "5", "-5", "bytes 5-9", "5-x", &format!("0-{}", u64::MAX)] {
            assert_eq!(of(text), Err(()), "{text}");
        }
    }
}

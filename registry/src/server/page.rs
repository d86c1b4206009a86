//! Lists in pieces: `n` entries after `last`, and a `Link` to the next piece.
//!
//! Source: distribution-spec, "Listing Tags"; RFC 8288.

use axum::http::HeaderValue;

use super::dispatch::Asked;
use super::query::{Query, encoded};
use super::refusal::Refusal;
use crate::http_error::ErrorCode;

/// A piece of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<T> {
    pub(super) entries: Vec<T>,
    /// The header that says where the next piece is; `None` at the end.
    pub(super) link: Option<HeaderValue>,
}

/// The piece of `all`, which is sorted by `key`, that a request asks for; at most `limit` entries.
pub(super) fn page<T>(
    all: Vec<T>,
    key: impl Fn(&T) -> String,
    limit: usize,
    asked: &Asked,
) -> Result<Page<T>, Refusal> {
    cut(all, key, limit, asked.parts.uri.path(), &asked.query)
}

fn cut<T>(
    all: Vec<T>,
    key: impl Fn(&T) -> String,
    limit: usize,
    path: &str,
    query: &Query,
) -> Result<Page<T>, Refusal> {
    let wanted = match query.get("n") {
        None => limit,
        Some(text) => {
            let number = text.parse::<usize>();
            number.map_err(|_| Refusal::bad(ErrorCode::Unsupported, "n is not a number"))?.min(limit)
        }
    };
    let mut entries = all;
    if let Some(last) = query.get("last") {
        entries.retain(|entry| key(entry).as_str() > last);
    }
    let is_cut = entries.len() > wanted;
    entries.truncate(wanted);
    let next = entries.last().filter(|_| is_cut).map(|last| {
        let mut url = format!("{path}?n={wanted}&last={}", encoded(&key(last)));
        for name in ["artifactType", "ns"] {
            if let Some(value) = query.get(name) {
                url = format!("{url}&{name}={}", encoded(value));
            }
        }
        format!("<{url}>; rel=\"next\"")
    });
    // Everything in it is encoded or was a path that HTTP could carry.
    let link = next.and_then(|link| HeaderValue::from_str(&link).ok());
    Ok(Page { entries, link })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> (Vec<&'static str>, Option<String>) {
        let query = Query::parse(Some(query));
        let page = cut(vec!["a", "b", "c"], ToString::to_string, 9, "/v2/x/tags/list", &query).unwrap();
        (page.entries, page.link.map(|link| link.to_str().unwrap().to_owned()))
    }

    #[test]
    fn pieces_follow_each_other() {
        assert_eq!(of(""), (vec!["a", "b", "c"], None));
        let link = |last| Some(format!("</v2/x/tags/list?n=2&last={last}>; rel=\"next\""));
        assert_eq!(of("n=2"), (vec!["a", "b"], link("b")));
        assert_eq!(of("n=2&last=b"), (vec!["c"], None));
        assert_eq!(of("n=3"), (vec!["a", "b", "c"], None));
        assert_eq!(of("n=0"), (vec![], None));
        assert_eq!(of("last=zz"), (vec![], None));
        // What is not in the list has a place in it all the same.
        assert_eq!(of("last=aa"), (vec!["b", "c"], None));
    }

    #[test]
    fn nonsense_is_refused() {
        for number in ["-1", "x", "99999999999999999999999"] {
            let query = Query::parse(Some(&format!("n={number}")));
            assert!(cut(vec!["a"], ToString::to_string, 9, "/", &query).is_err(), "{number}");
        }
    }
}

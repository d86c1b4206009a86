//! What stands behind the `?` of a URL, and the encoding of its parts.
//!
//! Source: RFC 3986, section 2.1; the form encoding of the URL standard for queries.

/// The parameters of a query, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query. What cannot be decoded is left out.
    pub(super) fn parse(text: Option<&str>) -> Self {
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            Some((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?))
        };
        Self(text.unwrap_or_default().split('&').filter_map(pair).collect())
    }

    /// The first value of `name`, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }
}

/// Text without its percent encoding; `None` when it is not well-formed or not UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? << 4 | digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// A value for a query: everything but letters, digits and `-._~:/` is encoded.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("digest=sha256%3Aab&from=a%2Fb&n=&last=x+y&bad=%9&&n=3"));
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.get("from"), Some("a/b"));
        assert_eq!(query.get("last"), Some("x y"));
        assert_eq!((query.get("n"), query.get("bad"), query.get("none")), (None, None, None));
        assert_eq!(Query::parse(None).get(""), None);
    }

    #[test]
    fn encoding_leads_back() {
        for text in ["a/b:c", "ä &=?#%+", ""] {
            assert_eq!(decoded(&encoded(text)).as_deref(), Some(text));
        }
        assert_eq!((decoded("%"), decoded("%f"), decoded("%ff"), decoded("%+1")), (None, None, None, None));
    }
}

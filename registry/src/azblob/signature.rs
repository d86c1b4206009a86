//! Signing requests with the key of an account ("Shared Key").
//!
//! Source: Azure Storage REST API, "Authorize with Shared Key". In short: the method, some headers, all headers that begin with `x-ms-`
//! and the resource are written line by line, and signed with HMAC-SHA256.

use std::fmt;

use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderName, HeaderValue};
use ring::hmac;

use crate::error::ErrorKind;
use crate::transport::Request;

/// The headers that have a line of their own, in their order. The length is between the second and the third.
const HEADERS: [&str; 10] = [
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// The key of an account. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountKey(Vec<u8>);

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(…)")
    }
}

impl AccountKey {
    /// The key as Azure shows it, in base64; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text.trim()).ok().filter(|key| !key.is_empty()).map(Self)
    }

    /// The `Authorization` header of a request. Adds the other headers that belong to it.
    pub(super) fn sign(
        &self,
        account: &str,
        at: Timestamp,
        request: &mut Request,
    ) -> Result<HeaderValue, ErrorKind> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| ErrorKind::BadKeys);
        let time = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        request.headers.insert("x-ms-date", value(&time)?);
        let text = text_of(account, request);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), text.as_bytes());
        let mut header = value(&format!("SharedKey {account}:{}", STANDARD.encode(signature)))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// What is signed of a request.
fn text_of(account: &str, request: &Request) -> String {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    let mut lines = vec![request.method.to_string()];
    for name in HEADERS {
        if name == "content-md5" {
            // Nothing has no length.
            let length = request.payload.as_ref().map_or(0, |payload| payload.size);
            lines.push(if length == 0 { String::new() } else { length.to_string() });
        }
        lines.push(request.headers.get(name).map(text).unwrap_or_default());
    }
    let header = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}:{}", text(value));
    let own = request.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-ms-"));
    let mut own: Vec<String> = own.map(header).collect();
    own.sort();
    lines.extend(own);
    lines.push(format!("/{account}{}", request.url.path()));
    let mut query: Vec<String> =
        request.url.query_pairs().map(|(name, value)| format!("{}:{value}", name.to_lowercase())).collect();
    query.sort();
    lines.extend(query);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::{Method, Url};

    use super::*;
    use crate::upload::{BlobSource, Payload};

    /// As in the examples of the source.
    #[test]
    fn what_is_signed_has_its_lines_in_order() {
        let url = Url::parse("https://myaccount.blob.core.windows.net/c/b%3A1?comp=block&blockid=QQ%3D%3D");
        let mut request = Request::new(Method::PUT, url.unwrap());
        request.headers.insert("x-ms-version", HeaderValue::from_static("2021-12-02"));
        request.headers.insert("range", HeaderValue::from_static("bytes=1-"));
        let source = BlobSource::Bytes(Bytes::from_static(b"eleven byte"));
        request.payload = Some(Payload { source, size: 11, progress: None });
        let key = AccountKey::parse("c2VjcmV0").unwrap();
        let at = "2015-02-12T22:25:04Z".parse().unwrap();
        let header = key.sign("myaccount", at, &mut request).unwrap();
        assert_eq!(
            text_of("myaccount", &request),
            "PUT\n\n\n11\n\n\n\n\n\n\n\nbytes=1-\nx-ms-date:Thu, 12 Feb 2015 22:25:04 GMT\nx-ms-version:2021-12-02\n\
             /myaccount/c/b%3A1\nblockid:QQ==\ncomp:block"
        );
        assert!(header.to_str().unwrap().starts_with("SharedKey myaccount:"));
        assert!(!format!("{key:?} {header:?}").contains("secret") && AccountKey::parse("§").is_none());
        request.payload = None;
        assert!(text_of("a", &request).starts_with("PUT\n\n\n\n\n"));
    }
}

//! Signing requests with an access key: AWS Signature Version 4, in the `Authorization` header.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header". In short: a
//! canonical form of the request is hashed, and signed with a key that is made of the secret, the day, the region and the
//! service by a chain of HMACs.

use std::fmt;

use base::{Digest, Timestamp};
use reqwest::header::{HeaderName, HeaderValue};
use ring::hmac;

use crate::error::ErrorKind;
use crate::hosts;
use crate::transport::Request;

/// An access key. The secret is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The id of the access key.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The token of a session that has them for a while.
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.id)
    }
}

/// Who signs, where and when.
pub(super) struct Signed<'a> {
    pub(super) keys: &'a Keys,
    pub(super) region: &'a str,
    pub(super) at: Timestamp,
}

impl Signed<'_> {
    /// The `Authorization` header of a request whose body has this digest. Adds the other headers that belong to it.
    pub(super) fn sign(&self, request: &mut Request, content: &Digest) -> Result<HeaderValue, ErrorKind> {
        let time = self.at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| ErrorKind::BadKeys);
        request.headers.insert("x-amz-content-sha256", value(&content.hex())?);
        request.headers.insert("x-amz-date", value(&time)?);
        if let Some(token) = &self.keys.session_token {
            let mut token = value(token)?;
            token.set_sensitive(true);
            request.headers.insert("x-amz-security-token", token);
        }
        let (canonical, names) = canonical(request, content);
        let day = &time[..8];
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let hash = Digest::of(canonical.as_bytes()).hex();
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let start = format!("AWS4{}", self.keys.secret).into_bytes();
        let parts = [day, self.region, "s3", "aws4_request", &text];
        let signature = parts.iter().fold(start, |key, part| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec()
        });
        let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let id = &self.keys.id;
        let mut header = value(&format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}"
        ))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// The canonical form of a request, and the names of the headers in it. All headers that are there are signed.
fn canonical(request: &Request, content: &Digest) -> (String, String) {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    let header = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), text(value));
    let mut headers: Vec<(String, String)> = request.headers.iter().map(header).collect();
    headers.push(("host".to_owned(), hosts::host_of(&request.url)));
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (method, path) = (&request.method, request.url.path());
    // Queries are made in the canonical form.
    let query = request.url.query().unwrap_or_default();
    (format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{}", content.hex()), names)
}

/// The text as it is written in a path: all bytes are escaped but letters, digits, `-._~`, and slashes if they separate.
pub(crate) fn encoded(text: &str, slashes: bool) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        b'/' if slashes => "/".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::{Method, Url};

    /// The first example of the source, and its result.
    #[test]
    fn the_example_of_the_source_comes_out() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let at = "2013-05-24T00:00:00Z".parse().unwrap();
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").unwrap();
        let mut request = Request::new(Method::GET, url);
        request.headers.insert("range", HeaderValue::from_static("bytes=0-9"));
        let header =
            Signed { keys: &keys, region: "us-east-1", at }.sign(&mut request, &Digest::of(b"")).unwrap();
        let text = header.to_str().unwrap();
        assert!(text.contains("SignedHeaders=host;range;x-amz-content-sha256;x-amz-date"), "{text}");
        let expected = "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(text.ends_with(expected), "{text}");
        assert!(!format!("{keys:?} {header:?}").contains("EXAMPLEKEY"));
    }

    #[test]
    fn paths_are_escaped_once_and_as_they_are_signed() {
        assert_eq!(encoded("a/sha256:0 ü", true), "a/sha256%3A0%20%C3%BC");
        assert_eq!(encoded("a/b", false), "a%2Fb");
        let mut url = Url::parse("http://h/").unwrap();
        url.set_path(&encoded("x/sha256:1", true));
        assert_eq!(url.path(), "/x/sha256%3A1");
    }
}

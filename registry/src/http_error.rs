//! What a registry says when it refuses: the status, and the error document of the distribution
//! specification (section "Error Codes").

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::credentials::Lookup;
use crate::error::ErrorKind;
use crate::retry;
use crate::transport::{Answer, Transport};

/// The most that is read of a refusal's body.
const LIMIT: u64 = 64 * 1024;
/// The most messages that are kept of one refusal.
const MAX_MESSAGES: usize = 4;
/// The most characters that are kept of one message.
const MAX_MESSAGE: usize = 300;

/// The codes that the distribution specification registers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `BLOB_UNKNOWN`
    BlobUnknown,
    /// `BLOB_UPLOAD_INVALID`
    BlobUploadInvalid,
    /// `BLOB_UPLOAD_UNKNOWN`
    BlobUploadUnknown,
    /// `DIGEST_INVALID`
    DigestInvalid,
    /// `MANIFEST_BLOB_UNKNOWN`
    ManifestBlobUnknown,
    /// `MANIFEST_INVALID`
    ManifestInvalid,
    /// `MANIFEST_UNKNOWN`
    ManifestUnknown,
    /// `NAME_INVALID`
    NameInvalid,
    /// `NAME_UNKNOWN`
    NameUnknown,
    /// `SIZE_INVALID`
    SizeInvalid,
    /// `UNAUTHORIZED`
    Unauthorized,
    /// `DENIED`
    Denied,
    /// `UNSUPPORTED`
    Unsupported,
    /// `TOOMANYREQUESTS`
    TooManyRequests,
    /// A code that is not registered.
    Unregistered(String),
}

/// The registered codes and their names on the wire.
const CODES: [(ErrorCode, &str); 14] = [
    (ErrorCode::BlobUnknown, "BLOB_UNKNOWN"),
    (ErrorCode::BlobUploadInvalid, "BLOB_UPLOAD_INVALID"),
    (ErrorCode::BlobUploadUnknown, "BLOB_UPLOAD_UNKNOWN"),
    (ErrorCode::DigestInvalid, "DIGEST_INVALID"),
    (ErrorCode::ManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN"),
    (ErrorCode::ManifestInvalid, "MANIFEST_INVALID"),
    (ErrorCode::ManifestUnknown, "MANIFEST_UNKNOWN"),
    (ErrorCode::NameInvalid, "NAME_INVALID"),
    (ErrorCode::NameUnknown, "NAME_UNKNOWN"),
    (ErrorCode::SizeInvalid, "SIZE_INVALID"),
    (ErrorCode::Unauthorized, "UNAUTHORIZED"),
    (ErrorCode::Denied, "DENIED"),
    (ErrorCode::Unsupported, "UNSUPPORTED"),
    (ErrorCode::TooManyRequests, "TOOMANYREQUESTS"),
];

impl ErrorCode {
    fn from_wire(text: &str) -> Self {
        let known = CODES.iter().find(|(_, name)| *name == text);
        known.map_or_else(|| Self::Unregistered(printable(text, 64)), |(code, _)| code.clone())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Unregistered(text) = self {
            return f.write_str(text);
        }
        let name = CODES.iter().find(|(code, _)| code == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// One entry of a registry's error document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryMessage {
    /// The code.
    pub code: ErrorCode,
    /// The registry's words, without control characters and cut to a sensible length.
    pub message: String,
}

impl fmt::Display for RegistryMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => write!(f, "{}", self.code),
            message => write!(f, "{} ({message})", self.code),
        }
    }
}

#[derive(Deserialize)]
struct WireErrors {
    #[serde(default)]
    errors: Vec<WireError>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads the error document, if there is one. Whatever else the body is, is not worth a second error.
pub(crate) fn parse_messages(body: &[u8]) -> Vec<RegistryMessage> {
    let Ok(document) = serde_json::from_slice::<WireErrors>(body) else { return Vec::new() };
    let entries = document.errors.iter().take(MAX_MESSAGES);
    let message = |entry: &WireError| RegistryMessage {
        code: ErrorCode::from_wire(&entry.code),
        message: printable(&entry.message, MAX_MESSAGE),
    };
    entries.map(message).collect()
}

/// Turns an answer that is not success into the situation it stands for.
pub(crate) async fn refusal(
    transport: &Transport,
    mut answer: Answer,
    attempts: u32,
    lookup: &Lookup,
) -> ErrorKind {
    let status = answer.status();
    let retry_after = retry::retry_after(answer.headers());
    let body = transport.body(&mut answer, LIMIT).await.unwrap_or_default();
    let messages = parse_messages(&body);
    match status {
        StatusCode::NOT_FOUND if messages.is_empty() && answer.is_html() => not_a_registry(&answer, &body),
        StatusCode::NOT_FOUND => ErrorKind::NotFound { messages },
        StatusCode::UNAUTHORIZED => {
            let (with_credentials, problem) = (lookup.credential.is_some(), lookup.problem.clone());
            ErrorKind::Unauthorized { with_credentials, messages, problem }
        }
        StatusCode::FORBIDDEN => ErrorKind::Denied { messages },
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::RateLimited { attempts, retry_after, messages },
        _ => ErrorKind::Status { status: status.as_u16(), attempts, messages },
    }
}

/// The error for a body that is a web page.
pub(crate) fn not_a_registry(answer: &Answer, body: &[u8]) -> ErrorKind {
    let content_type = answer.content_type().unwrap_or_else(|| "no content type".to_owned());
    let start = printable(&String::from_utf8_lossy(body), 60);
    ErrorKind::NotARegistry { host: answer.host(), content_type: printable(&content_type, 60), start }
}

/// Text from the network made fit for a terminal: no control characters, at most `limit` characters.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.trim().chars().take(limit).map(clean).collect();
    if text.trim().chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_documents_are_read_and_made_harmless() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"gone\u001b[31m","detail":{}},{"code":"X"}]}"#;
        let texts: Vec<String> = parse_messages(body).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["MANIFEST_UNKNOWN (gone [31m)", "X"]);
    }

    #[test]
    fn bodies_of_other_kinds_are_no_messages() {
        assert_eq!(parse_messages(b"<html>"), []);
        assert_eq!(parse_messages(b"{}"), []);
        assert_eq!(parse_messages(b"[1]"), []);
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable(" abc\n", 3), "abc");
    }
}

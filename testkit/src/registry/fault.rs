//! What can go wrong, and for which requests.

use std::io;

use base::Digest;

use super::http::{Connection, Request, Response};

/// A way to fail.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with a status and perhaps a `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// Answers with a status, a content type and a body.
    Body(u16, &'static str, String),
    /// Closes the connection without an answer.
    CloseBefore,
    /// Closes the connection after so many bytes of the body.
    CloseAfter(usize),
    /// Sends nothing and keeps the connection.
    StallBefore,
    /// Sends so many bytes of the body and keeps the connection.
    StallAfter(usize),
    /// Announces another length than the body has, and sends the body.
    ClaimLength(usize),
    /// Changes the first byte of the body.
    Damage,
    /// Announces another digest.
    ClaimDigest(Digest),
    /// Announces another content type.
    ClaimType(&'static str),
    /// Redirects to another server (`http://host:port`), with the same path.
    RedirectTo(String),
    /// Sends the whole body where a part was asked for.
    IgnoreRange,
    /// Sends the right part with a wrong `Content-Range`.
    WrongRange,
    /// Leaves a header out.
    DropHeader(&'static str),
    /// Reads so many bytes of the request's body, keeps them, and closes the connection.
    CloseUpload(usize),
    /// Reads so many bytes of the request's body, keeps them, and then reads no more.
    StallUpload(usize),
    /// Reads so many bytes of the request's body, keeps others in their place, and closes the connection.
    DamageUpload(usize),
    /// Reads so many bytes of the request's body, forgets the upload, and closes the connection.
    LoseUpload(usize),
}

/// A fault and the requests that it is for.
pub(super) struct Rule {
    pub(super) left: u32,
    pub(super) part: String,
    pub(super) fault: Fault,
}

/// Uses up the first rule that is for the request `line`.
pub(super) fn take(rules: &mut [Rule], line: &str) -> Option<Fault> {
    let rule = rules.iter_mut().find(|rule| rule.left > 0 && line.contains(&rule.part))?;
    rule.left -= 1;
    Some(rule.fault.clone())
}

impl Fault {
    /// How much of the request's body is read, if not all.
    pub(super) fn reads(&self) -> Option<usize> {
        match self {
            Self::CloseUpload(count)
            | Self::StallUpload(count)
            | Self::DamageUpload(count)
            | Self::LoseUpload(count) => Some(*count),
            _ => None,
        }
    }

    /// The answer that replaces the registry's own, for the faults that have one.
    pub(super) fn response(&self, request: &Request) -> Option<Response> {
        match self {
            Self::Status(status, retry_after) => {
                let mut response = Response::error(*status, "UNAVAILABLE", "injected fault");
                if let Some(seconds) = retry_after {
                    response = response.header("Retry-After", &seconds.to_string());
                }
                Some(response)
            }
            Self::Body(status, content_type, body) => Some(
                Response::new(*status).header("Content-Type", content_type).body(body.as_bytes().to_vec()),
            ),
            Self::RedirectTo(server) => {
                Some(Response::new(307).header("Location", &format!("{server}{}", request.target)))
            }
            _ => None,
        }
    }
}

/// Sends `response` as the fault will have it. Whether the connection can be used again.
pub(super) fn send(
    connection: &mut Connection,
    request: &Request,
    mut response: Response,
    fault: Option<&Fault>,
) -> io::Result<bool> {
    let length = response.body.len();
    match fault {
        Some(Fault::CloseBefore) => return Ok(false),
        Some(Fault::CloseUpload(_) | Fault::DamageUpload(_) | Fault::LoseUpload(_)) => return Ok(false),
        Some(Fault::StallUpload(_)) => return connection.wait_without_reading(),
        Some(Fault::StallBefore) => return connection.wait_for_end(),
        Some(Fault::CloseAfter(count)) => {
            connection.send(request, &response, length, *count)?;
            return Ok(false);
        }
        Some(Fault::StallAfter(count)) => {
            connection.send(request, &response, length, *count)?;
            return connection.wait_for_end();
        }
        Some(Fault::ClaimLength(claimed)) => {
            connection.send(request, &response, *claimed, length)?;
            return Ok(false);
        }
        Some(Fault::Damage) => response.body.iter_mut().take(1).for_each(|byte| *byte ^= 0x55),
        Some(Fault::ClaimDigest(digest)) => {
            response = response.header("Docker-Content-Digest", &digest.to_string());
        }
        Some(Fault::ClaimType(content_type)) => response = response.header("Content-Type", content_type),
        Some(Fault::WrongRange) => response = response.header("Content-Range", "bytes 0-0/1"),
        Some(Fault::DropHeader(name)) => response = response.without(name),
        Some(Fault::Status(..) | Fault::Body(..) | Fault::RedirectTo(_) | Fault::IgnoreRange) | None => {}
    }
    connection.send(request, &response, length, length)?;
    Ok(true)
}

//! Calls of gRPC: messages to a path, messages back, and a status.
//!
//! Source: gRPC documentation, "gRPC over HTTP2". Messages are not compressed.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::time::timeout;

use super::ReapiOptions;
use super::connection::Connection;
use super::error::ReapiErrorKind;
use crate::http_error::printable;

/// The status of a call whose subject is not there.
pub(super) const NOT_FOUND: u32 = 5;
/// The status of a server that goes away or is not up yet.
const UNAVAILABLE: u32 = 14;
/// The longest message that is read.
const MAX_MESSAGE: usize = 16 << 20;
/// The longest time in which nothing moves.
const IDLE: Duration = Duration::from_secs(30);
/// How often a call is tried whose connection was lost before anything came back.
const TRIES: usize = 3;

/// Where calls go to.
pub(super) struct Channel {
    connection: Connection,
    /// What says who we are.
    headers: HeaderMap,
}

/// What is sent with a call.
pub(super) enum Messages {
    /// One message, which can be sent again.
    One(Vec<u8>),
    /// Several, each once.
    Pieces(Box<dyn Iterator<Item = std::io::Result<Vec<u8>>> + Send>),
}

/// The messages that come back.
pub(super) struct Answer {
    body: RecvStream,
    /// The status, if it came before any message.
    early: Option<HeaderMap>,
    buffer: BytesMut,
}

impl Channel {
    pub(super) fn new(options: &ReapiOptions) -> Result<Self, ReapiErrorKind> {
        let connection = Connection::new(&options.endpoint, options.authority.clone())?;
        Ok(Self { connection, headers: headers(options)? })
    }

    /// Calls `path`. A call of one message is tried again when the connection turns out to be lost, or the server says that it is
    /// not there for the moment.
    pub(super) async fn call(
        &self,
        path: &'static str,
        messages: Messages,
    ) -> Result<Answer, ReapiErrorKind> {
        let message = match messages {
            Messages::Pieces(pieces) => return self.once(path, pieces).await,
            Messages::One(message) => message,
        };
        let mut tries = 1;
        loop {
            let outcome = self.once(path, Box::new(std::iter::once(Ok(message.clone())))).await;
            let passes = match &outcome {
                Ok(answer) => answer.early_status() == Some(UNAVAILABLE),
                Err(kind) => matches!(kind, ReapiErrorKind::Protocol(_)),
            };
            if !passes || tries == TRIES {
                return outcome;
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn once(
        &self,
        path: &'static str,
        messages: Box<dyn Iterator<Item = std::io::Result<Vec<u8>>> + Send>,
    ) -> Result<Answer, ReapiErrorKind> {
        let mut sender = moving(self.connection.sender()).await??;
        let (response, mut stream) = match sender.send_request(self.request(path)?, false) {
            Ok(sent) => sent,
            Err(error) => {
                self.connection.forget().await;
                return Err(error.into());
            }
        };
        if let Err(error) = send(&mut stream, messages).await {
            // A server may have said enough before it has heard all.
            let ReapiErrorKind::Protocol(_) = &error else { return Err(error) };
        }
        let response = moving(response).await?;
        if response.as_ref().is_err_and(|error| error.is_io() || error.is_go_away()) {
            self.connection.forget().await;
        }
        let (head, body) = response?.into_parts();
        if head.status != 200 {
            return Err(ReapiErrorKind::Http(head.status.as_u16()));
        }
        let early = head.headers.contains_key("grpc-status").then_some(head.headers);
        Ok(Answer { body, early, buffer: BytesMut::new() })
    }

    fn request(&self, path: &'static str) -> Result<Request<()>, ReapiErrorKind> {
        let uri = Uri::builder().scheme(self.connection.scheme()).authority(self.connection.authority());
        let uri = uri.path_and_query(path).build().map_err(|_| ReapiErrorKind::BadEndpoint)?;
        let mut request = Request::new(());
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
        *request.version_mut() = axum::http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        let user_agent = HeaderValue::from_static(concat!("lapstrake/", env!("CARGO_PKG_VERSION")));
        headers.insert("user-agent", user_agent);
        headers.extend(self.headers.clone());
        Ok(request)
    }
}

/// The headers that say who we are. Those of the protocol itself are not the user's.
fn headers(options: &ReapiOptions) -> Result<HeaderMap, ReapiErrorKind> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let bad = || ReapiErrorKind::BadHeader { name: name.clone() };
        let header: HeaderName = name.parse().map_err(|_| bad())?;
        let is_ours = ["content-type", "te", "user-agent"].contains(&header.as_str());
        let is_of_grpc = header.as_str().starts_with("grpc-");
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        if is_ours || is_of_grpc {
            return Err(bad());
        }
        value.set_sensitive(true);
        headers.append(header, value);
    }
    if let Some(token) = &options.token {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| ReapiErrorKind::BadToken)?;
        value.set_sensitive(true);
        headers.insert(axum::http::header::AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Sends messages, and ends the stream.
async fn send(
    stream: &mut SendStream<Bytes>,
    messages: Box<dyn Iterator<Item = std::io::Result<Vec<u8>>> + Send>,
) -> Result<(), ReapiErrorKind> {
    for message in messages {
        let message = message.map_err(ReapiErrorKind::Source)?;
        let length = u32::try_from(message.len()).map_err(|_| ReapiErrorKind::TooLong)?;
        let mut data = Bytes::from([&[0][..], &length.to_be_bytes(), &message].concat());
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let capacity = moving(std::future::poll_fn(|context| stream.poll_capacity(context))).await?;
            // Nothing more is wanted.
            let Some(capacity) = capacity else { return Ok(()) };
            stream.send_data(data.split_to(capacity?.min(data.len())), false)?;
        }
    }
    Ok(stream.send_data(Bytes::new(), true)?)
}

impl Answer {
    /// The next message; `None` at the end, when all went well.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReapiErrorKind> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match moving(self.body.data()).await? {
                Some(data) => {
                    let data = data?;
                    self.body.flow_control().release_capacity(data.len())?;
                    self.buffer.extend_from_slice(&data);
                }
                None => return self.end().await.map(|()| None),
            }
        }
    }

    /// The only message of an answer.
    pub(super) async fn only(mut self) -> Result<Bytes, ReapiErrorKind> {
        let message = self.next().await?.ok_or(ReapiErrorKind::Malformed)?;
        while self.next().await?.is_some() {}
        Ok(message)
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, ReapiErrorKind> {
        let Some(head) = self.buffer.first_chunk::<5>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 {
            return Err(ReapiErrorKind::Malformed);
        }
        if length > MAX_MESSAGE {
            return Err(ReapiErrorKind::TooLong);
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn early_status(&self) -> Option<u32> {
        status(self.early.as_ref()?).map(|(code, _)| code)
    }

    /// Reads the status.
    async fn end(&mut self) -> Result<(), ReapiErrorKind> {
        let trailers = match self.early.take() {
            Some(early) => Some(early),
            None => moving(self.body.trailers()).await??,
        };
        let left = !self.buffer.is_empty();
        match trailers.as_ref().and_then(status) {
            Some((0, _)) if !left => Ok(()),
            Some((code @ 1.., message)) => Err(ReapiErrorKind::Status { code, message }),
            _ => Err(ReapiErrorKind::Malformed),
        }
    }
}

/// The status of a call and what is said of it, which is percent-encoded.
fn status(headers: &HeaderMap) -> Option<(u32, String)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().ok()?;
    let mut message = Vec::new();
    let mut bytes: VecDeque<u8> = text("grpc-message").unwrap_or_default().bytes().collect();
    while let Some(byte) = bytes.pop_front() {
        let escaped = (byte == b'%').then(|| {
            let digits = [*bytes.front()?, *bytes.get(1)?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
        });
        match escaped.flatten() {
            Some(byte) => {
                bytes.drain(..2);
                message.push(byte);
            }
            None => message.push(byte),
        }
    }
    Some((code, printable(&String::from_utf8_lossy(&message), 200)))
}

/// Waits for something, but not for ever.
async fn moving<T>(work: impl Future<Output = T>) -> Result<T, ReapiErrorKind> {
    timeout(IDLE, work).await.map_err(|_| ReapiErrorKind::Stalled(IDLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_who_we_are_and_nothing_of_the_protocol() {
        let with = |name: &str, value: &str| {
            let own = (name.to_owned(), value.to_owned());
            headers(&ReapiOptions {
                token: Some("t".to_owned()),
                headers: vec![own],
                ..ReapiOptions::default()
            })
        };
        let sent = with("X-Key", "secret").unwrap();
        assert!(sent["x-key"] == "secret" && sent["authorization"] == "Bearer t");
        assert!(!format!("{sent:?}").contains("secret"));
        for (name, value) in [("te", "x"), ("grpc-timeout", "1S"), ("no header", "x"), ("x", "two\nlines")] {
            let refused = with(name, value).unwrap_err();
            assert_eq!(refused.to_string(), format!("\"{name}\" cannot be sent as a header"));
        }
    }

    #[test]
    fn statuses_are_read_with_their_message() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        headers.insert("grpc-message", HeaderValue::from_static("not%20here %zz%"));
        assert_eq!(status(&headers), Some((5, "not here %zz%".to_owned())));
    }
}

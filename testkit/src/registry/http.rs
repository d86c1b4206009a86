//! As much of HTTP/1.1 as a test registry needs, with full control over what goes over the wire.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

/// A request as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method, path and query, for example `GET /v2/x/manifests/latest`.
    pub line: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `If-None-Match` header.
    pub if_none_match: Option<String>,
    /// The `If-Modified-Since` header.
    pub if_modified_since: Option<String>,
    /// The length of the body.
    pub body_length: usize,
    /// All headers, their names in lower case.
    pub headers: Vec<(String, String)>,
}

/// A request.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The decoded values of a parameter of the query, or of a form in the body.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let form = String::from_utf8_lossy(&self.body);
        let pairs = query.split('&').chain(form.split('&')).filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).collect()
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).into_iter().next()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn seen(&self) -> Seen {
        let own = |name| self.header(name).map(str::to_owned);
        let (authorization, range) = (own("authorization"), own("range"));
        Seen {
            line: self.line(),
            authorization,
            range,
            if_none_match: own("if-none-match"),
            if_modified_since: own("if-modified-since"),
            body_length: self.body.len(),
            headers: self.headers.clone(),
        }
    }
}

/// Undoes percent encoding; `+` is a space.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut position = 0;
    while position < bytes.len() {
        let hex = (bytes[position] == b'%').then(|| text.get(position + 1..position + 3)).flatten();
        match (bytes[position], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (_, Some(byte)) => {
                decoded.push(byte);
                position += 2;
            }
            (b'+', None) => decoded.push(b' '),
            (byte, None) => decoded.push(byte),
        }
        position += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// An answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An answer with the distribution specification's error document.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string();
        Self::new(status).header("Content-Type", "application/json").body(body.into_bytes())
    }

    /// Sets a header.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        let mut response = self.without(name);
        response.headers.push((name.to_owned(), value.to_owned()));
        response
    }

    /// Removes a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Answers `Range: bytes=N-` with the rest of the body.
    pub(crate) fn cut_to_range(mut self, request: &Request) -> Self {
        let range = request.header("range").and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-'));
        let Some(start) = range.and_then(|text| text.parse::<usize>().ok()) else { return self };
        let length = self.body.len();
        if self.status != 200 || start >= length {
            return self;
        }
        self.body.drain(..start);
        self.status = 206;
        self.header("Content-Range", &format!("bytes {start}-{}/{length}", length - 1))
    }
}

/// A client's connection.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The next request without its body; `None` when the client is done.
    pub(super) fn read_head(&mut self) -> io::Result<Option<Request>> {
        let first = self.read_line()?;
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Some(Request { method, target, headers, body: Vec::new() }))
    }

    /// Reads the body of a request, or as much of it as a fault lets through.
    pub(super) fn read_body(&mut self, request: &mut Request, most: Option<usize>) -> io::Result<()> {
        request.body = match most {
            None => self.whole_body(request)?,
            Some(most) => {
                let mut body = Vec::new();
                (&mut self.0).take(most as u64).read_to_end(&mut body)?;
                body
            }
        };
        Ok(())
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn whole_body(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if request.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let length = usize::from_str_radix(&self.read_line()?, 16).map_err(io::Error::other)?;
                self.read_exactly(length, &mut body)?;
                self.read_line()?;
                if length == 0 {
                    return Ok(body);
                }
            }
        }
        let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.read_exactly(length, &mut body)?;
        Ok(body)
    }

    fn read_exactly(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let count = (&mut self.0).take(length as u64).read_to_end(body)?;
        if count < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Sends an answer that announces `claimed` bytes, and `count` of its body.
    pub(super) fn send(
        &mut self,
        request: &Request,
        response: &Response,
        claimed: usize,
        count: usize,
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Answer\r\nContent-Length: {claimed}\r\n", response.status);
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let stream = self.0.get_mut();
        stream.write_all(head.as_bytes())?;
        if request.method != "HEAD" {
            stream.write_all(&response.body[..count.min(response.body.len())])?;
        }
        stream.flush()
    }

    /// Answers what is not a request as web servers do.
    pub(super) fn refuse_bytes(&mut self) -> io::Result<()> {
        self.0
            .get_mut()
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    /// Waits until the client or the registry closes the connection.
    pub(super) fn wait_for_end(&mut self) -> io::Result<bool> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(false)
    }

    /// Waits until the registry ends, and takes nothing of what comes. What the client goes on to send fills the kernel's buffers.
    pub(super) fn wait_without_reading(&self) -> io::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        let mut connection = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::empty())];
        poll(&mut connection, PollTimeout::NONE)?;
        Ok(false)
    }

    /// Closes the connection for both sides, although the registry keeps a handle to it.
    pub(super) fn close(&self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Both);
    }
}

//! A file server on the loopback interface, with `ETag` and `Last-Modified`, for ADD and contexts from URLs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::files::Files;

/// The server. It ends with the process; a case's server is of no use to anybody else.
pub struct FileServer {
    address: SocketAddr,
}

impl FileServer {
    /// Offers `files`, each below the path that it is named by.
    pub fn start(files: &Files) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback interface");
        let address = listener.local_addr().expect("a bound socket has an address");
        let files = files.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that goes away early is no failure of the server.
                let _ = answer(&files, stream);
            }
        });
        Self { address }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn answer(files: &Files, mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let mut words = head.first().map_or("", String::as_str).split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default().trim_start_matches('/');
    let Some(file) = files.get(path) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let content = file.content();
    let etag = format!("\"{}\"", base::Digest::of(&content).short());
    let modified =
        file.mtime().map(|_| "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n").unwrap_or_default();
    let known = head
        .iter()
        .any(|line| line.to_ascii_lowercase().starts_with("if-none-match") && line.contains(&etag));
    let status = if known { "304 Not Modified" } else { "200 OK" };
    let length = if known { 0 } else { content.len() };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: {etag}\r\n{modified}Connection: close\r\n\r\n"
    )?;
    if known || method == "HEAD" { Ok(()) } else { stream.write_all(&content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn get(server: &FileServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn files_are_served_once_and_then_known() {
        let server = FileServer::start(&toml::from_str("f = \"hello\"").unwrap());
        let first = get(&server, "GET /f HTTP/1.1\r\n\r\n");
        assert!(first.starts_with("HTTP/1.1 200") && first.ends_with("hello"), "{first}");
        let etag = first.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
        let second = get(&server, &format!("GET /f HTTP/1.1\r\nIf-None-Match: {etag}\r\n\r\n"));
        assert!(second.starts_with("HTTP/1.1 304"), "{second}");
        assert!(get(&server, "GET /g HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    }
}

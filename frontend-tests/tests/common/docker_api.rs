//! As much of the Docker Engine's API as clients of builds need to load an image: it keeps what was loaded.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What takes images in the place of Docker's engine.
pub(crate) struct DockerApi {
    address: String,
    loaded: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl DockerApi {
    /// Begins to listen. The threads end with the test's process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let loaded = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&loaded);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || while answer(&stream, &kept).is_some() {});
            }
        });
        Self { address, loaded }
    }

    /// As `DOCKER_HOST` names it.
    pub(crate) fn host(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// The archives that were loaded.
    pub(crate) fn loaded(&self) -> Vec<Vec<u8>> {
        self.loaded.lock().unwrap().clone()
    }
}

/// Answers one request; `None` when there is no further one.
fn answer(stream: &TcpStream, loaded: &Mutex<Vec<Vec<u8>>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let is_head = line.starts_with("HEAD");
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(text) = header.strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
        is_chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = Vec::new();
    if is_chunked {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = u64::from_str_radix(size.trim(), 16).ok()?;
            reader.by_ref().take(size).read_to_end(&mut body).ok()?;
            reader.read_line(&mut String::new()).ok()?;
            if size == 0 {
                break;
            }
        }
    } else {
        reader.take(length).read_to_end(&mut body).ok()?;
    }
    let text = if path.contains("/images/load") {
        loaded.lock().unwrap().push(body);
        "{\"stream\":\"Loaded image\"}\n"
    } else if path.ends_with("/_ping") {
        "OK"
    } else {
        "{\"ApiVersion\":\"1.45\",\"Os\":\"linux\",\"Arch\":\"amd64\",\"OSType\":\"linux\"}"
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.45\r\nOstype: linux\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let mut out = stream;
    out.write_all(head.as_bytes()).ok()?;
    out.write_all(if is_head { b"" } else { text.as_bytes() }).ok()?;
    // One request for each connection.
    stream.shutdown(std::net::Shutdown::Both).ok()?;
    None
}

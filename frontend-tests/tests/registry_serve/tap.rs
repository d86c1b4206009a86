//! A port that leads to a server and notes what is asked there.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A port that leads to a server. Its threads end with the connections.
pub(crate) struct Tap {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Tap {
    /// A port that leads to `server`.
    pub(crate) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (noted, server) = (requests.clone(), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { return };
                let (noted, from, to) = (noted.clone(), client.try_clone(), server.try_clone());
                thread::spawn(move || carry(client, server, |bytes| note(&noted, bytes)));
                if let (Ok(from), Ok(to)) = (from, to) {
                    thread::spawn(move || carry(to, from, |_| {}));
                }
            }
        });
        Self { address, requests }
    }

    /// The first lines of the requests so far whose path has this part.
    pub(crate) fn requests(&self, part: &str) -> Vec<String> {
        let requests = self.requests.lock().expect("nobody panics with it");
        requests.iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, seen: impl Fn(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}

/// Notes the request that begins with these bytes, if one does: a client sends the next one when it has the answer.
fn note(requests: &Mutex<Vec<String>>, bytes: &[u8]) {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    if line.ends_with(" HTTP/1.1") {
        requests.lock().expect("nobody panics with it").push(line);
    }
}

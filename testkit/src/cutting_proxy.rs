//! A relay before a real server that cuts connections while a client sends.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// How much is relayed at once, in bytes.
const BUFFER: usize = 64 * 1024;

/// A running relay on a loopback port of its own. Dropped, it takes no more connections.
pub struct CuttingProxy {
    address: String,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    server: String,
    /// After how many bytes from a client its connection is cut.
    cut_after: u64,
    /// How many connections are still to be cut.
    cuts: AtomicU64,
    /// How many bytes clients have sent.
    sent: AtomicU64,
    stopping: AtomicBool,
}

impl CuttingProxy {
    /// A relay to `server` (`host:port`) that cuts `cuts` connections, each after `cut_after` bytes from its client.
    pub fn start(server: &str, cuts: u64, cut_after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            cut_after,
            cuts: AtomicU64::new(cuts),
            sent: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let inner = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &inner));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// A reference in the registry behind it.
    pub fn reference(&self, repository_and_tag: &str) -> String {
        format!("{}/{repository_and_tag}", self.address)
    }

    /// How many bytes clients have sent so far, heads of requests included.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// How many connections are still to be cut.
    pub fn cuts_left(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(&self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(&shared.server)) else { continue };
        let (Ok(back), Ok(answers)) = (client.try_clone(), server.try_clone()) else { continue };
        let inner = Arc::clone(shared);
        // Both end with the connection.
        std::thread::spawn(move || relay_requests(client, server, &inner));
        std::thread::spawn(move || relay_answers(answers, back));
    }
}

/// Relays what the client sends, until it ends or is cut.
fn relay_requests(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; BUFFER];
    let mut relayed = 0;
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 || server.write_all(&buffer[..count]).is_err() {
            break;
        }
        relayed += count as u64;
        shared.sent.fetch_add(count as u64, Ordering::SeqCst);
        let take_one = |cuts: u64| cuts.checked_sub(1);
        if relayed >= shared.cut_after
            && shared.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one).is_ok()
        {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Write);
}

/// Relays what the server answers.
fn relay_answers(mut server: TcpStream, mut client: TcpStream) {
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
}

//! A registry in memory that fails on request: real HTTP on a loopback port of its own.
//!
//! It speaks as much of the OCI distribution protocol as a client needs to pull, push and log in. Each
//! [`Fault`] is injected for requests whose path contains some text, once, a few times or always; what
//! the client asked for is kept for tests to look at. It is neither fast nor complete, and only for tests.

mod content;
mod fault;
pub(crate) mod http;
mod login;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use base::Digest;

use crate::oci::Image;
use content::Content;
pub use fault::Fault;
use fault::Rule;
pub use http::Seen;
pub(crate) use http::{Request, Response};
use login::Gate;
pub use login::Login;

/// A running registry. Dropped, it ends.
pub struct FaultyRegistry {
    shared: Arc<Shared>,
    address: String,
    acceptor: Option<JoinHandle<()>>,
}

/// Answers requests that are not for the registry; `None` leaves them to it.
pub(crate) type Site = Box<dyn Fn(&Request) -> Option<Response> + Send + Sync>;

#[derive(Default)]
struct Shared {
    site: Option<Site>,
    content: Mutex<Content>,
    gate: Mutex<Gate>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
    address: Mutex<String>,
}

impl FaultyRegistry {
    /// An empty registry that everybody may use.
    pub fn start() -> Self {
        Self::with_site(None)
    }

    /// The same with something else beside the registry.
    pub(crate) fn with_site(site: Option<Site>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let shared = Arc::new(Shared { site, ..Shared::default() });
        lock(&shared.address).clone_from(&address);
        let inner = shared.clone();
        let acceptor = spawn("faulty-registry", move || accept(&listener, &inner));
        Self { shared, address, acceptor: Some(acceptor) }
    }

    /// `127.0.0.1:PORT` of a port on which nothing listens as long as this process lives.
    pub fn refused_address() -> String {
        let (socket, port) = crate::ports::refusing();
        std::mem::forget(socket);
        format!("127.0.0.1:{port}")
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A reference in this registry.
    pub fn reference(&self, repository_and_tag: &str) -> String {
        format!("{}/{repository_and_tag}", self.address)
    }

    /// Asks for a login from now on.
    pub fn require(&self, login: Login) {
        *lock(&self.shared.gate) = Gate::new(login, &self.address);
    }

    /// Makes every token that was given out invalid.
    pub fn revoke_tokens(&self) {
        lock(&self.shared.gate).revoke();
    }

    /// Lets every token expire when it was used so often. Comes after [`Self::require`].
    pub fn expire_tokens_after(&self, uses: usize) {
        lock(&self.shared.gate).expire_after(uses);
    }

    /// Lets the next `times` requests whose method and path (`GET /v2/…`) contain `part` fail. Of several
    /// that match, the one injected first is used up first.
    pub fn inject(&self, times: u32, part: &str, fault: Fault) {
        lock(&self.shared.rules).push(Rule { left: times, part: part.to_owned(), fault });
    }

    /// Forgets all injected faults.
    pub fn heal(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Every request whose method and path contain `part`, in order.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        lock(&self.shared.seen).iter().filter(|seen| seen.line.contains(part)).cloned().collect()
    }

    /// Announces from now on that chunks should have so many bytes.
    pub fn announce_chunk_min_length(&self, length: u64) {
        lock(&self.shared.content).announce_least(length);
    }

    /// Stores a blob in a repository.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        lock(&self.shared.content).put_blob(repository, bytes.to_vec())
    }

    /// Stores a manifest or index in a repository under a tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        lock(&self.shared.content).put_manifest(repository, tag, media_type, bytes.to_vec())
    }

    /// Stores an image under a tag, and returns the digest of its manifest.
    pub fn put_image(&self, repository: &str, tag: &str, image: &Image) -> Digest {
        let mut archive = Vec::new();
        image.write_archive_to(&mut archive).expect("a vector takes all bytes");
        self.put_archive(repository, tag, &archive)
    }

    /// Stores the first image of an OCI archive under a tag, and returns the digest of its manifest or
    /// index.
    pub fn put_archive(&self, repository: &str, tag: &str, archive: &[u8]) -> Digest {
        lock(&self.shared.content).put_archive(repository, tag, archive)
    }

    /// The bytes of a blob or manifest that was pushed.
    pub fn stored(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        lock(&self.shared.content).stored(repository, digest)
    }

    /// The digest that a tag stands for.
    pub fn tagged(&self, repository: &str, tag: &str) -> Option<Digest> {
        lock(&self.shared.content).tagged(repository, tag)
    }
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for connection in lock(&self.shared.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the acceptor.
        let _ = TcpStream::connect(&self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        if let Ok(copy) = connection.try_clone() {
            lock(&shared.connections).push(copy);
        }
        let shared = shared.clone();
        // It ends with its connection, which ends with the registry.
        drop(spawn("faulty-connection", move || serve(connection, &shared)));
    }
}

/// Answers the requests of one connection, until it or a fault ends it. A client that goes away in the
/// middle is none of our business.
fn serve(connection: TcpStream, shared: &Shared) {
    let Ok(mut connection) = http::Connection::new(connection) else { return };
    loop {
        let mut request = match connection.read_head() {
            Ok(Some(request)) => request,
            // What is not text is not HTTP, but for example a TLS handshake.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let _ = connection.refuse_bytes();
                break;
            }
            _ => break,
        };
        let fault = fault::take(&mut lock(&shared.rules), &request.line());
        let part = fault.as_ref().and_then(Fault::reads);
        if connection.read_body(&mut request, part).is_err() {
            break;
        }
        lock(&shared.seen).push(request.seen());
        let response = answer(shared, &request, fault.as_ref());
        if !matches!(fault::send(&mut connection, &request, response, fault.as_ref()), Ok(true)) {
            break;
        }
    }
    connection.close();
}

fn answer(shared: &Shared, request: &Request, fault: Option<&Fault>) -> Response {
    if let Some(fault) = fault.filter(|fault| fault.reads().is_some()) {
        lock(&shared.content).keep_part(request, fault);
        // Nobody gets this.
        return Response::new(500);
    }
    if let Some(response) = fault.and_then(|fault| fault.response(request)) {
        return response;
    }
    if let Some(response) = shared.site.as_ref().and_then(|site| site(request)) {
        return match fault {
            Some(Fault::IgnoreRange) => response,
            _ => response.cut_to_range(request),
        };
    }
    let refused = lock(&shared.gate).check(request);
    let response = refused.unwrap_or_else(|| lock(&shared.content).route(request));
    match fault {
        Some(Fault::IgnoreRange) => response,
        _ => response.cut_to_range(request),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread starts")
}

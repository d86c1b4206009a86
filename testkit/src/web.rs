//! A web server on the loopback interface: files with validators, and git repositories.
//!
//! It fails on request like the registry that it is built on, and keeps what it was asked for.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::FaultyRegistry;
use crate::registry::http::{Request, Response};
use crate::registry::{Fault, Seen};

/// A file of the web.
#[derive(Debug, Clone, Default)]
pub struct WebFile {
    body: Vec<u8>,
    headers: Vec<(String, String)>,
    /// The `Authorization` header that a client has to send.
    secret: Option<String>,
}

impl WebFile {
    /// A file with this content.
    pub fn new(body: impl AsRef<[u8]>) -> Self {
        Self { body: body.as_ref().to_vec(), ..Self::default() }
    }

    /// Sends a header along. `ETag` and `Last-Modified` are also what conditional requests are answered by.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends an entity tag along; `tag` has no quotes.
    pub fn etag(self, tag: &str) -> Self {
        self.header("ETag", &format!("\"{tag}\""))
    }

    /// Refuses requests without this `Authorization` header.
    pub fn secret(mut self, authorization: &str) -> Self {
        self.secret = Some(authorization.to_owned());
        self
    }

    fn answer(&self, request: &Request) -> Response {
        if self.secret.is_some() && request.header("authorization") != self.secret.as_deref() {
            return Response::new(401).header("Content-Type", "text/plain").body(b"log in first".to_vec());
        }
        let own = |name: &str| {
            self.headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        };
        let same = |condition: &str, header: &str| {
            request.header(condition).is_some_and(|known| own(header) == Some(known))
        };
        let unchanged = same("if-none-match", "etag") || same("if-modified-since", "last-modified");
        let response = Response::new(if unchanged { 304 } else { 200 });
        let response =
            self.headers.iter().fold(response, |response, (name, value)| response.header(name, value));
        if unchanged { response } else { response.body(self.body.clone()) }
    }
}

/// A running web server. Dropped, it ends.
pub struct WebServer {
    server: FaultyRegistry,
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    files: HashMap<String, WebFile>,
    /// The directory that holds the repositories below `/git/`.
    repositories: Option<PathBuf>,
    /// The `Authorization` header that repositories need.
    secret: Option<String>,
}

impl WebServer {
    /// A server with nothing on it.
    #[allow(clippy::new_without_default, reason = "it opens a port and starts a thread")]
    pub fn start() -> Self {
        let content = Arc::new(Mutex::new(Content::default()));
        let inner = content.clone();
        let site = move |request: &Request| Some(answer(&lock(&inner), request));
        Self { server: FaultyRegistry::with_site(Some(Box::new(site))), content }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// The URL of a path that starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Puts a file at a path, and returns its URL.
    pub fn put(&self, path: &str, file: WebFile) -> String {
        lock(&self.content).files.insert(path.to_owned(), file);
        self.url(path)
    }

    /// Serves the git repositories in `directory` below `/git/`, with git's own server program.
    pub fn serve_repositories(&self, directory: &Path) {
        lock(&self.content).repositories = Some(directory.to_owned());
    }

    /// Refuses access to repositories without this `Authorization` header.
    pub fn require_for_repositories(&self, authorization: &str) {
        lock(&self.content).secret = Some(authorization.to_owned());
    }

    /// Lets requests fail; see [`FaultyRegistry::inject`].
    pub fn inject(&self, times: u32, part: &str, fault: Fault) {
        self.server.inject(times, part, fault);
    }

    /// Forgets all injected faults.
    pub fn heal(&self) {
        self.server.heal();
    }

    /// Every request whose method and path contain `part`, in order.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        self.server.seen(part)
    }
}

fn answer(content: &Content, request: &Request) -> Response {
    if let Some(file) = content.files.get(request.path()) {
        return file.answer(request);
    }
    match (&content.repositories, request.path().strip_prefix("/git")) {
        (Some(_), Some(_))
            if content.secret.is_some() && request.header("authorization") != content.secret.as_deref() =>
        {
            Response::new(401).header("WWW-Authenticate", "Basic realm=\"git\"")
        }
        (Some(directory), Some(path)) => git(directory, path, request),
        _ => Response::new(404).header("Content-Type", "text/plain").body(b"no such file".to_vec()),
    }
}

/// Runs `git http-backend`, a CGI program (RFC 3875).
fn git(directory: &Path, path: &str, request: &Request) -> Response {
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
    // The repositories may belong to another user than the one who runs the test.
    command.envs([
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
    ]);
    command.env("GIT_PROJECT_ROOT", directory).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("PATH_INFO", path).env("REQUEST_METHOD", &request.method);
    command.env("QUERY_STRING", request.target.split_once('?').map_or("", |(_, query)| query));
    command.env("CONTENT_LENGTH", request.body.len().to_string());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        command.env(variable, request.header(header).unwrap_or_default());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("git is installed");
    let mut stdin = child.stdin.take().expect("the pipe was asked for");
    let body = request.body.clone();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output().expect("the child is ours");
    writer.join().expect("a writer does not panic");
    response_of_cgi(&output.stdout)
}

fn response_of_cgi(output: &[u8]) -> Response {
    let Some(end) = output.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Response::new(500);
    };
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let fields: Vec<(&str, &str)> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let status = fields.iter().find(|(name, _)| *name == "Status").map_or("200", |(_, value)| &value[..3]);
    let response = Response::new(status.parse().unwrap_or(500)).body(output[end + 4..].to_vec());
    let own = fields.iter().filter(|(name, _)| *name != "Status");
    own.fold(response, |response, (name, value)| response.header(name, value))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

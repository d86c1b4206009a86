//! GitHub's Actions cache service on the loopback interface, in both versions of its protocol, as far as its clients can tell.
//!
//! Entries are kept in memory and never changed. A token says which branches it may read and which it may write, as those of
//! GitHub's jobs do. It fails on request like the registry that it is built on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::FaultyRegistry;
use crate::registry::http::{Request, Response};
use crate::registry::{Fault, Seen};

/// Where the first version of the protocol is.
const V1: &str = "/_apis/artifactcache/";

/// Where the second version of the protocol is.
const V2: &str = "/twirp/github.actions.results.api.v1.CacheService/";

/// Where the blob store is.
const CONTENT: &str = "/content/";

/// A running service. Dropped, it ends.
pub struct ActionsService {
    server: FaultyRegistry,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    tokens: HashMap<String, Rights>,
    address: String,
}

/// What a token is good for.
#[derive(Clone)]
struct Rights {
    read: Vec<String>,
    write: Option<String>,
}

struct Entry {
    branch: String,
    key: String,
    version: String,
    content: Vec<u8>,
    is_done: bool,
}

impl ActionsService {
    /// A service with nothing in it.
    #[allow(clippy::new_without_default, reason = "it opens a port and starts a thread")]
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let inner = state.clone();
        let site = move |request: &Request| Some(lock(&inner).answer(request));
        let server = FaultyRegistry::with_site(Some(Box::new(site)));
        lock(&state).address = server.address().to_owned();
        Self { server, state }
    }

    /// Its URL, as jobs are told it.
    pub fn url(&self) -> String {
        format!("http://{}/", self.server.address())
    }

    /// A token of a job that may read some branches and write one.
    pub fn token(&self, read: &[&str], write: Option<&str>) -> String {
        let scope = |branch: &&str| {
            let permission = if write == Some(*branch) { 3 } else { 1 };
            json!({"Scope": branch, "Permission": permission})
        };
        let access = Value::from(read.iter().map(scope).collect::<Vec<_>>()).to_string();
        let encode =
            |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        let token =
            format!("{}.{}.c2lnbmF0dXJl", encode(&json!({"alg": "none"})), encode(&json!({"ac": access})));
        let rights =
            Rights { read: read.iter().map(ToString::to_string).collect(), write: write.map(str::to_owned) };
        lock(&self.state).tokens.insert(token.clone(), rights);
        token
    }

    /// The keys of all entries that are whole, the oldest first.
    pub fn keys(&self) -> Vec<String> {
        let state = lock(&self.state);
        state.entries.iter().filter(|entry| entry.is_done).map(|entry| entry.key.clone()).collect()
    }

    /// Forgets entries whose keys begin so, as the service does with old ones.
    pub fn forget(&self, start: &str) {
        let mut state = lock(&self.state);
        for entry in state.entries.iter_mut().filter(|entry| entry.key.starts_with(start)) {
            entry.is_done = false;
            entry.key.clear();
        }
    }

    /// Lets requests fail; see [`FaultyRegistry::inject`].
    pub fn inject(&self, times: u32, part: &str, fault: Fault) {
        self.server.inject(times, part, fault);
    }

    /// Every request whose method and path contain `part`, in order.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        self.server.seen(part)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn document(status: u16, value: &Value) -> Response {
    Response::new(status).header("Content-Type", "application/json").body(value.to_string().into_bytes())
}

fn refused(status: u16, code: &str) -> Response {
    document(status, &json!({"code": code, "msg": code}))
}

impl State {
    fn answer(&mut self, request: &Request) -> Response {
        if let Some(number) = request.path().strip_prefix(CONTENT) {
            return self.content(request, number);
        }
        let token = request.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
        let Some(rights) = token.and_then(|token| self.tokens.get(token)).cloned() else {
            return refused(401, "unauthenticated");
        };
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let path = request.path().to_owned();
        match (path.strip_prefix(V1), path.strip_prefix(V2)) {
            (Some(path), _) => self.version_1(request, path, &body, &rights),
            (_, Some(method)) => self.version_2(method, &body, &rights),
            _ => refused(404, "bad_route"),
        }
    }

    fn version_1(&mut self, request: &Request, path: &str, body: &Value, rights: &Rights) -> Response {
        let number = path.strip_prefix("caches/").and_then(|number| number.parse::<usize>().ok());
        match (request.method.as_str(), path, number) {
            ("GET", "cache", _) => {
                let keys = request.parameter("keys").unwrap_or_default();
                let version = request.parameter("version").unwrap_or_default();
                let found = keys.split(',').find_map(|key| self.find(key, &version, rights));
                found.map_or(Response::new(204), |number| {
                    let entry = &self.entries[number];
                    let (key, scope) = (&entry.key, &entry.branch);
                    document(
                        200,
                        &json!({"cacheKey": key, "scope": scope, "archiveLocation": self.url(number)}),
                    )
                })
            }
            ("POST", "caches", _) => match self.create(body, rights) {
                Ok(number) => document(201, &json!({"cacheId": number})),
                Err(refusal) => refusal,
            },
            ("PATCH", _, Some(number)) => self.piece(request, number),
            ("POST", _, Some(number)) => match self.finish(number, body["size"].as_u64()) {
                true => Response::new(204),
                false => refused(400, "size"),
            },
            _ => refused(404, "not_found"),
        }
    }

    fn piece(&mut self, request: &Request, number: usize) -> Response {
        let Some(entry) = self.entries.get_mut(number).filter(|entry| !entry.is_done) else {
            return refused(404, "not_found");
        };
        let (start, length) = (entry.content.len(), request.body.len());
        let range = format!("bytes {start}-{}/*", (start + length).saturating_sub(1));
        if request.header("content-range") != Some(&range) {
            return refused(400, "range");
        }
        entry.content.extend_from_slice(&request.body);
        Response::new(204)
    }

    fn version_2(&mut self, method: &str, body: &Value, rights: &Rights) -> Response {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (key, version) = (text("key"), text("version"));
        match method {
            "GetCacheEntryDownloadURL" => {
                let exact = self.newest(rights, |entry| entry.key == key && entry.version == version);
                let prefixes = body["restore_keys"].as_array().cloned().unwrap_or_default();
                let by_prefix = || {
                    prefixes.iter().filter_map(Value::as_str).find_map(|key| self.find(key, &version, rights))
                };
                exact.or_else(by_prefix).map_or(document(200, &json!({"ok": false})), |number| {
                    let key = &self.entries[number].key;
                    document(
                        200,
                        &json!({"ok": true, "signed_download_url": self.url(number), "matched_key": key}),
                    )
                })
            }
            "CreateCacheEntry" => match self.create(body, rights) {
                Ok(number) => document(200, &json!({"ok": true, "signed_upload_url": self.url(number)})),
                Err(refusal) => refusal,
            },
            "FinalizeCacheEntryUpload" => {
                let own = |entry: &Entry| !entry.is_done && entry.key == key && entry.version == version;
                let number = self.entries.iter().rposition(own);
                // Numbers of 64 bits are text in the JSON of protobuf.
                let size = text("size_bytes").parse().ok();
                let is_done = number.is_some_and(|number| self.finish(number, size));
                document(200, &json!({"ok": is_done, "entry_id": "1"}))
            }
            _ => refused(404, "bad_route"),
        }
    }

    /// The blob store, which knows no tokens: who knows the URL may read and write.
    fn content(&mut self, request: &Request, number: &str) -> Response {
        let entry = number.parse::<usize>().ok().and_then(|number| self.entries.get_mut(number));
        let signed = request.parameter("sig").as_deref() == Some("secret");
        match (request.method.as_str(), entry) {
            _ if !signed || request.header("authorization").is_some() => refused(403, "AuthenticationFailed"),
            ("GET", Some(entry)) if entry.is_done => Response::new(200).body(entry.content.clone()),
            ("PUT", Some(entry)) if request.header("x-ms-blob-type") == Some("BlockBlob") => {
                entry.content.clone_from(&request.body);
                Response::new(201)
            }
            _ => refused(404, "BlobNotFound"),
        }
    }

    fn create(&mut self, body: &Value, rights: &Rights) -> Result<usize, Response> {
        let branch = rights.write.clone().ok_or_else(|| refused(403, "permission_denied"))?;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (key, version) = (text("key"), text("version"));
        if self
            .entries
            .iter()
            .any(|entry| entry.branch == branch && entry.key == key && entry.version == version)
        {
            return Err(refused(409, "already_exists"));
        }
        self.entries.push(Entry { branch, key, version, content: Vec::new(), is_done: false });
        Ok(self.entries.len() - 1)
    }

    fn finish(&mut self, number: usize, size: Option<u64>) -> bool {
        let Some(entry) = self.entries.get_mut(number) else { return false };
        entry.is_done = size == Some(entry.content.len() as u64);
        entry.is_done
    }

    /// The entry with a key, or else the newest whose key begins with it.
    fn find(&self, key: &str, version: &str, rights: &Rights) -> Option<usize> {
        let exact = self.newest(rights, |entry| entry.key == key && entry.version == version);
        exact.or_else(|| self.newest(rights, |entry| entry.key.starts_with(key) && entry.version == version))
    }

    fn newest(&self, rights: &Rights, fits: impl Fn(&Entry) -> bool) -> Option<usize> {
        let of_branch = |branch: &String| {
            self.entries.iter().rposition(|entry| entry.is_done && entry.branch == *branch && fits(entry))
        };
        rights.read.iter().find_map(of_branch)
    }

    fn url(&self, number: usize) -> String {
        format!("http://{}{CONTENT}{number}?sig=secret", self.address)
    }
}

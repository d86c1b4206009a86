//! A cache document in GitHub's Actions cache service.
//!
//! Entries are never changed there, so each writer adds one with the next number, and the newest is read. Each branch has its own: the token of a
//! job says which branches it may read, its own first and then the one that it came from, and which one it may write. Blobs have the
//! keys that BuildKit gives them.

use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Digest};
use registry::{ActionsCache, ActionsEntry, BlobSource, Download, DownloadRequest};
use serde::Deserialize;
use snapshotter::BlobWriter;

use super::config::CacheConfig;
use super::envelope::MAX_SIZE;
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::Engine;
use crate::error::EngineError;
use crate::request::{ActionsPlace, DocumentForm};

/// What keys of blobs begin with.
const BLOB: &str = "buildkit-blob-1-";

/// What keys of documents begin with.
const DOCUMENT: &str = "lapstrake-index-1-";

/// What our entries are told apart by from those of other programs.
const VERSION: &[u8] = b"lapstrake-cache-1";

/// How often the number of a document may be taken by another builder.
const MOST_TRIES: u64 = 10;

/// A document of the service.
pub(crate) struct ActionsDocument<'a> {
    engine: &'a Engine,
    place: ActionsPlace,
    cache: ActionsCache,
    branches: Branches,
}

impl<'a> ActionsDocument<'a> {
    /// The document at `place`.
    pub(crate) fn new(engine: &'a Engine, place: ActionsPlace) -> Self {
        let cache = ActionsCache {
            protocol: place.protocol,
            url: place.url.clone(),
            token: place.token.clone(),
            version: Digest::of(VERSION).hex(),
        };
        let branches = Branches::of_token(&place.token);
        Self { engine, place, cache, branches }
    }

    /// What the keys of a branch's documents begin with; a number follows.
    fn prefix(&self, branch: &str) -> String {
        format!("{DOCUMENT}{}-{}#", self.place.scope, &Digest::of(branch.as_bytes()).hex()[..8])
    }

    /// Waits for a request, as long as the user wants to.
    fn wait<T, E: Into<EngineError>>(
        &self,
        cancel: &CancelToken,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, EngineError> {
        let timeout = self.place.timeout;
        self.engine.network()?.wait(cancel, async {
            match tokio::time::timeout(timeout, work).await {
                Ok(result) => result.map_err(Into::into),
                Err(_) => Err(EngineError::from(CacheDocumentError::TimedOut { timeout })),
            }
        })
    }

    fn find(
        &self,
        key: &str,
        prefixes: &[&str],
        cancel: &CancelToken,
    ) -> Result<Option<ActionsEntry>, EngineError> {
        let client = &self.engine.network()?.client;
        self.wait(cancel, client.find_actions_entry(&self.cache, key, prefixes))
    }

    /// The newest document of a branch.
    fn newest(&self, branch: &str, cancel: &CancelToken) -> Result<Option<ActionsEntry>, EngineError> {
        let prefix = self.prefix(branch);
        let found = self.find(&prefix, &[&prefix], cancel)?;
        Ok(found.filter(|entry| entry.key.starts_with(&prefix)))
    }

    /// Hands the content of an entry to `take`, in pieces.
    fn download(
        &self,
        entry: &ActionsEntry,
        cancel: &CancelToken,
        mut take: impl FnMut(&[u8]) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let client = &self.engine.network()?.client;
        let request = DownloadRequest { url: entry.url.clone(), ..DownloadRequest::default() };
        // The URL is as good as a password, so it is in no message.
        let failed = |error: registry::DownloadError| {
            let why = std::error::Error::source(&error).map(base::fault::chain).unwrap_or_default();
            CacheDocumentError::Entry { key: entry.key.clone(), why }
        };
        self.wait(cancel, async {
            if let Download::File(mut stream) = client.download(request, None).await.map_err(failed)? {
                while let Some(chunk) = stream.next().await.map_err(failed)? {
                    take(&chunk)?;
                }
            }
            Ok::<_, EngineError>(())
        })
    }

    fn read(&self, entry: &ActionsEntry, cancel: &CancelToken) -> Result<CacheConfig, EngineError> {
        let mut bytes = Vec::new();
        self.download(entry, cancel, |chunk| {
            bytes.extend_from_slice(chunk);
            let size = bytes.len() as u64;
            if size > MAX_SIZE {
                let digest = Digest::of(&bytes);
                return Err(CacheDocumentError::TooLarge { digest, size, limit: MAX_SIZE }.into());
            }
            Ok(())
        })?;
        let json = |source| CacheDocumentError::Json { digest: Digest::of(&bytes), source };
        Ok(serde_json::from_slice(&bytes).map_err(json)?)
    }

    fn blob(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<Option<ActionsEntry>, EngineError> {
        let key = format!("{BLOB}{}", blob.digest);
        // The first version of the protocol takes every key for a prefix.
        Ok(self.find(&key, &[], cancel)?.filter(|entry| entry.key == key))
    }
}

impl DocumentStore for ActionsDocument<'_> {
    fn name(&self) -> String {
        format!("the Actions cache ({})", self.place.scope)
    }

    fn load(&self, cancel: &CancelToken) -> Result<Vec<CacheConfig>, EngineError> {
        let mut documents = Vec::new();
        for branch in &self.branches.read {
            if let Some(entry) = self.newest(branch, cancel)? {
                documents.push(self.read(&entry, cancel)?);
            }
        }
        if documents.is_empty() {
            return Err(CacheDocumentError::Missing.into());
        }
        Ok(documents)
    }

    fn has_blob(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<bool, EngineError> {
        Ok(self.blob(blob, cancel)?.is_some())
    }

    fn add_blob(&self, blob: &Descriptor, file: &Path, cancel: &CancelToken) -> Result<(), EngineError> {
        self.branches.write.as_ref().ok_or(CacheDocumentError::MayNotWrite)?;
        let client = &self.engine.network()?.client;
        let source = BlobSource::file(file);
        let key = format!("{BLOB}{}", blob.digest);
        // One that is there already is as good.
        self.wait(cancel, client.add_actions_entry(&self.cache, &key, &source, blob.size))?;
        Ok(())
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let Some(entry) = self.blob(blob, cancel)? else { return Ok(false) };
        let mut size = 0;
        self.download(&entry, cancel, |mut chunk| {
            size += chunk.len() as u64;
            to.copy_from(&mut chunk)?;
            let too_long = CacheDocumentError::TooLarge { digest: blob.digest, size, limit: blob.size };
            if size > blob.size { Err(too_long.into()) } else { Ok(()) }
        })?;
        Ok(true)
    }

    fn publish(
        &self,
        document: &CacheConfig,
        _form: DocumentForm,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let branch = self.branches.write.as_deref().ok_or(CacheDocumentError::MayNotWrite)?;
        let prefix = self.prefix(branch);
        let newest = self.newest(branch, cancel)?;
        let number = newest.and_then(|entry| entry.key.strip_prefix(&prefix)?.parse::<u64>().ok());
        let first = number.map_or(1, |number| number.saturating_add(1));
        let client = &self.engine.network()?.client;
        let bytes = document.to_bytes();
        let (size, source) = (bytes.len() as u64, BlobSource::Bytes(bytes.into()));
        for number in first..first.saturating_add(MOST_TRIES) {
            let key = format!("{prefix}{number}");
            if self.wait(cancel, client.add_actions_entry(&self.cache, &key, &source, size))? {
                return Ok(());
            }
        }
        Err(CacheDocumentError::Taken.into())
    }
}

/// What a job's token says of branches.
#[derive(Debug, PartialEq, Eq)]
struct Branches {
    /// Those that may be read, the job's own first.
    read: Vec<String>,
    /// The one that may be written.
    write: Option<String>,
}

/// The part of a token that says what it is good for.
#[derive(Deserialize)]
struct Claims {
    /// JSON of a list of [`Access`].
    ac: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Access {
    scope: String,
    /// 1 is reading, 2 is writing.
    permission: u32,
}

impl Branches {
    /// What a token says; of one that says nothing, there is one branch without a name. Nothing depends on whether that is true
    /// but what we ask for: the service knows what is allowed.
    fn of_token(token: &str) -> Self {
        let Some(mut access) = access_of(token).filter(|access| !access.is_empty()) else {
            return Self { read: vec![String::new()], write: Some(String::new()) };
        };
        access.sort_by_key(|access| access.permission & 2 == 0);
        let write = access.iter().find(|access| access.permission & 2 != 0);
        let write = write.map(|access| access.scope.clone());
        let read = access.into_iter().filter(|access| access.permission & 1 != 0);
        Self { read: read.map(|access| access.scope).collect(), write }
    }
}

fn access_of(token: &str) -> Option<Vec<Access>> {
    use base64::Engine as _;
    let claims = token.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    serde_json::from_str(&claims.ac).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_which_branches_are_read_and_written() {
        use base64::Engine as _;
        let token = |access: &str| {
            let claims = serde_json::json!({"ac": access, "aud": "x"}).to_string();
            format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
        };
        let of = |text: &str| Branches::of_token(text);
        let branches = |read: &[&str], write: Option<&str>| Branches {
            read: read.iter().map(ToString::to_string).collect(),
            write: write.map(str::to_owned),
        };
        let both =
            r#"[{"Scope":"refs/heads/main","Permission":1},{"Scope":"refs/pull/1/merge","Permission":3}]"#;
        assert_eq!(
            of(&token(both)),
            branches(&["refs/pull/1/merge", "refs/heads/main"], Some("refs/pull/1/merge"))
        );
        let fork = r#"[{"Scope":"refs/heads/main","Permission":1}]"#;
        assert_eq!(of(&token(fork)), branches(&["refs/heads/main"], None));
        for nothing in ["", "a.b.c", "no token", &token("[]"), &token("{")] {
            assert_eq!(of(nothing), branches(&[""], Some("")), "{nothing}");
        }
    }
}

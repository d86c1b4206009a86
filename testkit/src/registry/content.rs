//! What the registry stores, and the paths of the distribution API.

use std::collections::HashMap;
use std::io::Read as _;

use base::Digest;
use base::image::{Index, media_type};

use super::fault::Fault;
use super::http::{Request, Response};

/// Repositories by name.
#[derive(Default)]
pub(super) struct Content {
    repositories: HashMap<String, Repository>,
    /// How many uploads were begun.
    begun: usize,
    /// What came of those that are not ended.
    uploads: HashMap<String, Vec<u8>>,
    /// The fewest bytes of a chunk that is not the last, which is announced.
    least: Option<u64>,
}

#[derive(Default)]
struct Repository {
    blobs: HashMap<Digest, Vec<u8>>,
    manifests: HashMap<Digest, (String, Vec<u8>)>,
    tags: HashMap<String, Digest>,
}

impl Content {
    pub(super) fn put_blob(&mut self, repository: &str, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.repository(repository).blobs.insert(digest, bytes);
        digest
    }

    pub(super) fn put_manifest(
        &mut self,
        repository: &str,
        name: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Digest {
        let digest = Digest::of(&bytes);
        let repository = self.repository(repository);
        repository.manifests.insert(digest, (media_type.to_owned(), bytes));
        if !name.contains(':') {
            repository.tags.insert(name.to_owned(), digest);
        }
        digest
    }

    /// Stores what an OCI archive holds; the first image of its index gets the tag.
    pub(super) fn put_archive(&mut self, repository: &str, tag: &str, archive: &[u8]) -> Digest {
        let mut tar = tar::Archive::new(archive);
        let mut root = None;
        for entry in tar.entries().expect("a tar") {
            let mut entry = entry.expect("a whole tar");
            let path = entry.path().expect("a path").into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("a whole entry");
            if path.ends_with("index.json") {
                let index: Index = serde_json::from_slice(&bytes).expect("an index");
                root = index.manifests.first().map(|descriptor| descriptor.digest);
            } else if path.starts_with("blobs/sha256") && !bytes.is_empty() {
                if let Some(media_type) = document_type(&bytes) {
                    let name = Digest::of(&bytes).to_string();
                    self.put_manifest(repository, &name, &media_type, bytes.clone());
                }
                self.put_blob(repository, bytes);
            }
        }
        let root = root.expect("the archive has an index with an image");
        self.repository(repository).tags.insert(tag.to_owned(), root);
        root
    }

    pub(super) fn stored(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let repository = self.repositories.get(repository)?;
        let manifest = repository.manifests.get(digest).map(|(_, bytes)| bytes);
        repository.blobs.get(digest).or(manifest).cloned()
    }

    pub(super) fn tagged(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.repositories.get(repository)?.tags.get(tag).copied()
    }

    fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    /// Answers a request.
    pub(super) fn route(&mut self, request: &Request) -> Response {
        let path = request.path().strip_prefix("/v2/").unwrap_or_default();
        if path.is_empty() {
            return Response::new(200).header("Content-Type", "application/json").body(b"{}".to_vec());
        }
        let parts =
            |marker: &str| path.split_once(marker).map(|(name, rest)| (name.to_owned(), rest.to_owned()));
        if let Some((repository, name)) = parts("/manifests/") {
            return self.manifest(request, &repository, &name);
        }
        if let Some((repository, upload)) = parts("/blobs/uploads/") {
            return self.upload(request, &repository, &upload);
        }
        match parts("/blobs/") {
            Some((repository, digest)) => self.blob(&repository, &digest),
            None => Response::error(404, "NAME_UNKNOWN", "no such path"),
        }
    }

    fn manifest(&mut self, request: &Request, repository: &str, name: &str) -> Response {
        if request.method == "PUT" {
            let media_type = request.header("content-type").unwrap_or_default();
            let digest = self.put_manifest(repository, name, media_type, request.body.clone());
            return created(repository, &format!("manifests/{digest}"), &digest);
        }
        let Some(repository) = self.repositories.get(repository) else {
            return Response::error(404, "NAME_UNKNOWN", "repository name not known to registry");
        };
        let digest = name.parse().ok().or_else(|| repository.tags.get(name).copied());
        match digest.and_then(|digest| repository.manifests.get(&digest).map(|found| (digest, found))) {
            None => Response::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            Some((digest, (media_type, bytes))) => Response::new(200)
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", &digest.to_string())
                .body(bytes.clone()),
        }
    }

    fn blob(&self, repository: &str, digest: &str) -> Response {
        let repository = self.repositories.get(repository);
        let blob = digest.parse().ok().and_then(|digest: Digest| repository?.blobs.get(&digest));
        match blob {
            None => Response::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            Some(bytes) => Response::new(200)
                .header("Content-Type", "application/octet-stream")
                .header("Docker-Content-Digest", digest)
                .body(bytes.clone()),
        }
    }

    /// Starts an upload (POST), adds to one (PATCH), ends one (PUT), or says how far it is (GET); a POST may mount instead.
    fn upload(&mut self, request: &Request, repository: &str, upload: &str) -> Response {
        if (request.method.as_str(), upload) == ("POST", "") {
            return self.start_upload(request, repository);
        }
        let Some(received) = self.uploads.get_mut(upload) else {
            return Response::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        let first = request.header("content-range").and_then(|range| range.split('-').next()?.parse().ok());
        let follows = first.is_none_or(|first: usize| first == received.len());
        match request.method.as_str() {
            "GET" => progress(204, repository, upload, received.len()),
            "PATCH" | "PUT" if !follows => progress(416, repository, upload, received.len()),
            "PATCH" => {
                received.extend(&request.body);
                progress(202, repository, upload, received.len())
            }
            "PUT" => {
                received.extend(&request.body);
                self.end_upload(request, repository, upload)
            }
            "DELETE" => {
                self.uploads.remove(upload);
                Response::new(204)
            }
            _ => Response::error(405, "UNSUPPORTED", "the operation is unsupported"),
        }
    }

    fn end_upload(&mut self, request: &Request, repository: &str, upload: &str) -> Response {
        let bytes = self.uploads.remove(upload).unwrap_or_default();
        let digest = Digest::of(&bytes);
        if request.parameter("digest") != Some(digest.to_string()) {
            let message = "provided digest did not match uploaded content";
            return Response::error(400, "DIGEST_INVALID", message);
        }
        self.put_blob(repository, bytes);
        created(repository, &format!("blobs/{digest}"), &digest)
    }

    /// Keeps what came of a request of an upload that broke, as the fault will have it.
    pub(super) fn keep_part(&mut self, request: &Request, fault: &Fault) {
        let id = request.path().rsplit('/').next().unwrap_or_default();
        if let Fault::LoseUpload(_) = fault {
            self.uploads.remove(id);
        }
        let change = if matches!(fault, Fault::DamageUpload(_)) { 0x55 } else { 0 };
        if let Some(received) = self.uploads.get_mut(id) {
            received.extend(request.body.iter().map(|byte| byte ^ change));
        }
    }

    /// Announces the length of the shortest chunk.
    pub(super) fn announce_least(&mut self, least: u64) {
        self.least = Some(least);
    }

    fn start_upload(&mut self, request: &Request, repository: &str) -> Response {
        let mount = request.parameter("mount").and_then(|text| text.parse::<Digest>().ok());
        let from = request.parameter("from").and_then(|name| self.repositories.get(&name));
        let found = mount.and_then(|digest| from?.blobs.get(&digest).map(|bytes| (digest, bytes.clone())));
        if let Some((digest, bytes)) = found {
            self.put_blob(repository, bytes);
            return created(repository, &format!("blobs/{digest}"), &digest);
        }
        self.begun += 1;
        let id = self.begun.to_string();
        self.uploads.insert(id.clone(), Vec::new());
        let answer = progress(202, repository, &id, 0);
        match self.least {
            Some(least) => answer.header("OCI-Chunk-Min-Length", &least.to_string()),
            None => answer,
        }
    }
}

/// Where an upload is, and how far.
fn progress(status: u16, repository: &str, upload: &str, received: usize) -> Response {
    // Relative, and with a query of its own, as the specification allows.
    let location = format!("/v2/{repository}/blobs/uploads/{upload}?state=a%20b");
    let range = format!("0-{}", received.saturating_sub(1));
    Response::new(status).header("Location", &location).header("Range", &range)
}

fn created(repository: &str, tail: &str, digest: &Digest) -> Response {
    let location = format!("/v2/{repository}/{tail}");
    Response::new(201).header("Location", &location).header("Docker-Content-Digest", &digest.to_string())
}

/// The media type of a manifest or index; `None` for anything else.
fn document_type(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let fallback = match (value.get("manifests"), value.get("layers")) {
        (Some(_), _) => media_type::OCI_INDEX,
        (None, Some(_)) => media_type::OCI_MANIFEST,
        (None, None) => return None,
    };
    Some(value.get("mediaType").and_then(|text| text.as_str()).unwrap_or(fallback).to_owned())
}

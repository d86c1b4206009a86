//! What a client has and a build begins with, beside its directories: uploaded archives, and images of OCI layouts.

use std::fs::File;
use std::path::PathBuf;

use base::image::{Descriptor, Index, Manifest, media_type};
use base::{Digest, Platform};
use engine::ScratchDir;
use engine::low_level::BLOB_FILE;
use engine::request::{ContextSource, DockerfileSource, NamedContext};
use serde_json::json;
use tonic::Status;

use super::{Build, Builds};
use crate::attributes::Place;
use crate::session::content::{ContentStore, make_layout};
use crate::session::upload;

/// How many bytes come between two things that are told of a transfer.
const TOLD_EVERY: u64 = 1 << 20;

/// The largest document of a layout, in bytes.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// How many images of one layout a build takes.
const MOST_IMAGES: usize = 100;

/// An image of a client's layout, which a build knows by a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayoutContext {
    /// The name of the context.
    pub(crate) name: String,
    /// What the client calls the layout.
    pub(crate) store: String,
    /// The image's digest.
    pub(crate) digest: Digest,
}

/// An uploaded context: where the files are, and the Dockerfile if that was all there is. It goes with the directory.
pub(super) struct Uploaded {
    pub(super) context: ContextSource,
    pub(super) dockerfile: Option<DockerfileSource>,
    pub(super) directory: ScratchDir,
}

/// Takes an uploaded context: an archive, or a Dockerfile that needs no files.
pub(super) fn uploaded(builds: &Builds, build: &Build, place: &Place) -> Result<Uploaded, Status> {
    let directory = builds.engine.scratch().map_err(|error| crate::failed(&error))?;
    let path = directory.path().join("upload");
    let step = build.step("[internal] load remote build context", &build.id);
    let taken = take_upload(builds, build, place, &path, |bytes, is_all| {
        step.tell("transferring context:", bytes, is_all)
    });
    let is_archive = step.end(taken)?;
    Ok(match is_archive {
        true => Uploaded { context: ContextSource::Archive(path), dockerfile: None, directory },
        false => {
            let dockerfile = Some(DockerfileSource::File(path));
            Uploaded { context: ContextSource::Empty, dockerfile, directory }
        }
    })
}

/// Takes an archive into a file; answers whether it is one.
fn take_upload(
    builds: &Builds,
    build: &Build,
    place: &Place,
    path: &PathBuf,
    tell: impl Fn(u64, bool),
) -> Result<bool, Status> {
    let failed = |error: std::io::Error| crate::failed(&error);
    let mut file = File::create(path).map_err(failed)?;
    let mut told = 0;
    let progress = |bytes| {
        if bytes >= told + TOLD_EVERY {
            told = bytes;
            tell(told, false);
        }
    };
    let bytes = match place {
        Place::Sent(id) => builds.runtime().block_on(builds.uploads.receive(id, &mut file, progress))?,
        Place::Upload(id) => {
            let session = build.session.as_ref();
            let session = session
                .ok_or_else(|| Status::invalid_argument("the build needs an upload, and has no session"))?;
            upload::receive(builds.runtime(), session, id, &mut file, progress)?
        }
        Place::Local(_) | Place::Elsewhere(_) => 0,
    };
    tell(bytes, true);
    engine::context::is_archive(&File::open(path).map_err(failed)?).map_err(failed)
}

/// Copies what a build needs of an image of a client's layout: its documents, and its layers for these platforms.
pub(super) fn layout(
    builds: &Builds,
    build: &Build,
    wanted: &LayoutContext,
    platforms: &[Platform],
) -> Result<(NamedContext, ScratchDir), Status> {
    let session = build.session.as_ref();
    let session = session.ok_or_else(|| {
        Status::invalid_argument("the build needs a layout of the client, and has no session")
    })?;
    let store = ContentStore::new(builds.runtime(), session, &format!("oci:{}", wanted.store));
    let scratch = builds.engine.scratch().map_err(|error| crate::failed(&error))?;
    let step = build.step(&format!("[context {}] load from client", wanted.name), &wanted.store);
    let host = [Platform::host()];
    let platforms = if platforms.is_empty() { &host[..] } else { platforms };
    let copied = Copying { store: &store, layout: scratch.path(), platforms }.image(&wanted.digest);
    step.end(copied)?;
    let image = Some(wanted.digest.to_string());
    Ok((NamedContext::Layout { directory: scratch.path().to_owned(), image }, scratch))
}

/// Copies a blob of a client's layout: the only file of a directory.
pub(super) fn blob(
    builds: &Builds,
    build: &Build,
    wanted: &LayoutContext,
) -> Result<(NamedContext, ScratchDir), Status> {
    let session = build.session.as_ref().ok_or_else(|| {
        Status::invalid_argument("the build needs a layout of the client, and has no session")
    })?;
    let store = ContentStore::new(builds.runtime(), session, &format!("oci:{}", wanted.store));
    let scratch = builds.engine.scratch().map_err(|error| crate::failed(&error))?;
    let step = build.step(&format!("[context {}] load from client", wanted.name), &wanted.store);
    let copied = store.copy_to_file(&wanted.digest, &scratch.path().join(BLOB_FILE));
    step.end(copied)?;
    Ok((NamedContext::Files(ContextSource::Directory(scratch.path().to_owned())), scratch))
}

struct Copying<'a> {
    store: &'a ContentStore,
    layout: &'a std::path::Path,
    platforms: &'a [Platform],
}

impl Copying<'_> {
    fn image(&self, digest: &Digest) -> Result<(), Status> {
        let bytes = self.store.document(digest, LARGEST_DOCUMENT)?;
        let index: Option<Index> = serde_json::from_slice(&bytes).ok();
        let is_index = index.as_ref().is_some_and(|index| !index.manifests.is_empty());
        let kind = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
        let root = Descriptor::new(kind, *digest, bytes.len() as u64);
        let list = json!({ "schemaVersion": 2, "manifests": [root] });
        make_layout(self.layout, &list).map_err(|error| crate::failed(&error))?;
        let Some(index) = index.filter(|_| is_index) else {
            return self.manifest(&root);
        };
        self.store.copy_to_layout(&root, self.layout)?;
        let mut chosen: Vec<&Descriptor> =
            self.platforms.iter().filter_map(|one| index.select(one)).collect();
        chosen.sort_by_key(|entry| entry.digest.to_string());
        chosen.dedup_by_key(|entry| entry.digest);
        if chosen.len() > MOST_IMAGES {
            return Err(Status::invalid_argument("a layout has too many images"));
        }
        chosen.into_iter().try_for_each(|entry| self.manifest(entry))
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<(), Status> {
        let digest = &descriptor.digest;
        let bytes = self.store.document(digest, LARGEST_DOCUMENT)?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
            Status::invalid_argument(format!("{digest} of the client is no manifest: {error}"))
        })?;
        self.store.copy_to_layout(descriptor, self.layout)?;
        let mut blobs: Vec<&Descriptor> = manifest.layers.iter().chain([&manifest.config]).collect();
        blobs.sort_by_key(|blob| blob.digest.to_string());
        blobs.dedup_by_key(|blob| blob.digest);
        blobs.into_iter().try_for_each(|blob| self.store.copy_to_layout(blob, self.layout))
    }
}

//! Contexts and Dockerfiles from git repositories and web servers.

use std::io::Read as _;
use std::path::Path;

use base::Digest;
use base::git_url::{GitUrl, without_password};
use llb::GitSource;
use snapshotter::Tree;
use sys::path_error::PathContext as _;

use super::{BuildContext, LARGEST_TEXT, LoadedDockerfile};
use crate::error::EngineError;
use crate::remote::Fetcher;
use crate::remote::git::Checkout;
use crate::remote::http::PinnedFile;

/// The permission bits of a file of the web that is a context by itself.
const FILE_MODE: u32 = 0o600;

/// The files of a commit.
pub(super) fn repository(
    fetcher: &Fetcher<'_>,
    url: &GitUrl,
    keep_git_dir: bool,
) -> Result<BuildContext, EngineError> {
    let source = GitSource::of(url, fetcher.pin_commit(url)?, keep_git_dir);
    let name = format!("[internal] load git source {}#{}", url.shown(), source.commit);
    let Checkout { tree, committed, directory } =
        fetcher.progress.step(&name, |vertex| fetcher.checkout(&source, vertex))?;
    Ok(BuildContext { remote: true, changed: Some(committed), ..BuildContext::of(tree, Some(directory)) })
}

/// What a URL has: an archive is the context, anything else a Dockerfile that needs no context.
pub(super) fn url(fetcher: &Fetcher<'_>, url: &str) -> Result<BuildContext, EngineError> {
    fetched(fetcher, url, |file| {
        let alone = Some(loaded(fetcher, url, file.digest)?);
        Ok(BuildContext { alone, ..BuildContext::unpacked(&fetcher.engine.store, fetcher.lease, None)? })
    })
}

/// What a URL has under a name: an archive is unpacked, any other file is the only one.
pub(super) fn named_url(fetcher: &Fetcher<'_>, url: &str) -> Result<BuildContext, EngineError> {
    let store = &fetcher.engine.store;
    fetched(fetcher, url, |file| {
        let directory = store.scratch(fetcher.lease)?;
        let path = directory.path().join(&file.filename);
        let mut target = sys::fs::create_new(&path, FILE_MODE)?;
        std::io::copy(&mut store.open_blob(&file.digest)?, &mut target).at("write", &path)?;
        Ok(BuildContext::of(Tree::directory(directory.path(), None)?, Some(directory)))
    })
}

/// The files of the archive that a URL has, or what `single` makes of any other file.
fn fetched(
    fetcher: &Fetcher<'_>,
    url: &str,
    single: impl FnOnce(&PinnedFile) -> Result<BuildContext, EngineError>,
) -> Result<BuildContext, EngineError> {
    let store = &fetcher.engine.store;
    let file = file(fetcher, url)?;
    let is_archive = snapshotter::archive::is_archive(store.open_blob(&file.digest)?);
    let context = if is_archive.at("read", Path::new(&without_password(url)))? {
        BuildContext::unpacked(store, fetcher.lease, Some(store.open_blob(&file.digest)?))?
    } else {
        single(&file)?
    };
    Ok(BuildContext { remote: true, changed: file.last_modified, ..context })
}

/// A Dockerfile of the web.
pub(super) fn dockerfile(fetcher: &Fetcher<'_>, url: &str) -> Result<LoadedDockerfile, EngineError> {
    loaded(fetcher, url, file(fetcher, url)?.digest)
}

/// What a URL has, in the store.
fn file(fetcher: &Fetcher<'_>, url: &str) -> Result<PinnedFile, EngineError> {
    let pinned = fetcher.pin_file(url, None)?;
    if fetcher.engine.store.blob(fetcher.lease, &pinned.digest)?.is_none() {
        let name = format!("[internal] download {}", without_password(url));
        fetcher.progress.step(&name, |vertex| fetcher.ensure_file(url, pinned.digest, vertex))?;
    }
    Ok(pinned)
}

fn loaded(fetcher: &Fetcher<'_>, url: &str, digest: Digest) -> Result<LoadedDockerfile, EngineError> {
    let name = without_password(url);
    let blob = fetcher.engine.store.open_blob(&digest)?;
    let mut text = Vec::new();
    blob.take(LARGEST_TEXT + 1).read_to_end(&mut text).at("read", Path::new(&name))?;
    if text.len() as u64 > LARGEST_TEXT {
        return Err(EngineError::TooLarge { file: name, limit: LARGEST_TEXT });
    }
    Ok(LoadedDockerfile { name, text, ignore: None })
}

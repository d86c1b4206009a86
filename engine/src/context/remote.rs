//! Contexts and Dockerfiles from git repositories and web servers.

use base::Digest;
use base::git_url::{FileTimes, GitUrl, without_password};
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
    let commit = fetcher.pin_commit(url)?;
    let source = GitSource {
        remote: url.remote.clone(),
        commit,
        subdir: url.subdir.clone().unwrap_or_default(),
        keep_git_dir: url.keep_git_dir.unwrap_or(keep_git_dir),
        submodules: url.submodules,
        commit_times: url.times == FileTimes::Commit,
    };
    let name = format!("[internal] load git source {}#{}", url.shown(), source.commit);
    let Checkout { tree, committed, directory } =
        fetcher.progress.step(&name, |vertex| fetcher.checkout(&source, vertex))?;
    Ok(BuildContext { remote: true, changed: Some(committed), ..BuildContext::of(tree, Some(directory)) })
}

/// What a URL has under a name: an archive is unpacked, any other file is the only one.
pub(super) fn named_url(fetcher: &Fetcher<'_>, url: &str) -> Result<BuildContext, EngineError> {
    let PinnedFile { digest, filename, last_modified, .. } = file(fetcher, url)?;
    let store = &fetcher.engine.store;
    let context = if is_archive(fetcher, &digest)? {
        BuildContext::unpacked(store, fetcher.lease, Some(store.open_blob(&digest)?))?
    } else {
        let directory = store.scratch(fetcher.lease)?;
        let path = directory.path().join(&filename);
        let mut target = sys::fs::create_new(&path, FILE_MODE)?;
        std::io::copy(&mut store.open_blob(&digest)?, &mut target).at("write", &path)?;
        BuildContext::of(Tree::directory(directory.path(), None)?, Some(directory))
    };
    Ok(BuildContext { remote: true, changed: last_modified, ..context })
}

fn is_archive(fetcher: &Fetcher<'_>, digest: &Digest) -> Result<bool, EngineError> {
    Ok(snapshotter::archive::is_archive(fetcher.engine.store.open_blob(digest)?).unwrap_or(false))
}

/// What a URL has: an archive is the context, anything else a Dockerfile that needs no context.
pub(super) fn url(fetcher: &Fetcher<'_>, url: &str) -> Result<BuildContext, EngineError> {
    let PinnedFile { digest, last_modified: changed, .. } = file(fetcher, url)?;
    let store = &fetcher.engine.store;
    let context = if is_archive(fetcher, &digest)? {
        BuildContext::unpacked(store, fetcher.lease, Some(store.open_blob(&digest)?))?
    } else {
        let alone = Some(loaded(fetcher, url, digest)?);
        BuildContext { alone, ..BuildContext::unpacked(store, fetcher.lease, None)? }
    };
    Ok(BuildContext { remote: true, changed, ..context })
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
    // It is there: the lease holds it.
    let text = fetcher.engine.store.read_blob(&digest, LARGEST_TEXT)?.unwrap_or_default();
    Ok(LoadedDockerfile { name, text, ignore: None })
}

//! Contexts and Dockerfiles from git repositories and web servers.

use base::Digest;
use base::git_url::{FileTimes, GitUrl, without_password};
use llb::GitSource;

use super::{BuildContext, LARGEST_TEXT, LoadedDockerfile};
use crate::error::EngineError;
use crate::remote::Fetcher;
use crate::remote::git::Checkout;

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

/// What a URL has: an archive is the context, anything else a Dockerfile that needs no context.
pub(super) fn url(fetcher: &Fetcher<'_>, url: &str) -> Result<BuildContext, EngineError> {
    let (digest, changed) = file(fetcher, url)?;
    let store = &fetcher.engine.store;
    let archive = snapshotter::archive::is_archive(store.open_blob(&digest)?).unwrap_or(false);
    let context = if archive {
        BuildContext::unpacked(store, fetcher.lease, Some(store.open_blob(&digest)?))?
    } else {
        let alone = Some(loaded(fetcher, url, digest)?);
        BuildContext { alone, ..BuildContext::unpacked(store, fetcher.lease, None)? }
    };
    Ok(BuildContext { remote: true, changed, ..context })
}

/// A Dockerfile of the web.
pub(super) fn dockerfile(fetcher: &Fetcher<'_>, url: &str) -> Result<LoadedDockerfile, EngineError> {
    let (digest, _) = file(fetcher, url)?;
    loaded(fetcher, url, digest)
}

/// The blob of a URL's content, and when that last changed.
fn file(fetcher: &Fetcher<'_>, url: &str) -> Result<(Digest, Option<i64>), EngineError> {
    let pinned = fetcher.pin_file(url, None)?;
    if fetcher.engine.store.blob(fetcher.lease, &pinned.digest)?.is_none() {
        let name = format!("[internal] download {}", without_password(url));
        fetcher.progress.step(&name, |vertex| fetcher.ensure_file(url, pinned.digest, vertex))?;
    }
    Ok((pinned.digest, pinned.last_modified))
}

fn loaded(fetcher: &Fetcher<'_>, url: &str, digest: Digest) -> Result<LoadedDockerfile, EngineError> {
    let name = without_password(url);
    // It is there: the lease holds it.
    let text = fetcher.engine.store.read_blob(&digest, LARGEST_TEXT)?.unwrap_or_default();
    Ok(LoadedDockerfile { name, text, ignore: None })
}

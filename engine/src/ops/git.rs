//! The source of a commit of a git repository: its files, owned by root.

use base::{Key, KeyHasher};
use llb::{GitSource, Vertex};
use snapshotter::copy::CopyOptions;
use snapshotter::select::Selection;

use super::{BuildOps, Filesystem};
use crate::error::EngineError;
use crate::remote::Fetcher;

impl BuildOps<'_> {
    pub(super) fn git(
        &self,
        vertex: &Vertex,
        source: &GitSource,
        content_key: &Key,
        fetcher: &Fetcher<'_>,
    ) -> Result<Filesystem, EngineError> {
        let checkout = fetcher.checkout(source, vertex.id)?;
        let content = KeyHasher::new("lapstrake/git-content/v1").add(content_key).finish();
        let options = CopyOptions { chown: Some((0, 0)), xattrs: false, ..CopyOptions::as_it_is() };
        self.new_filesystem(content, |writer| {
            let all = Selection::all(&checkout.tree)?;
            snapshotter::copy::copy(writer, &checkout.tree, &all, &options, fetcher.cancel)?;
            Ok(())
        })
    }
}

//! The source of a file of the web: a filesystem with this one file in its root.

use base::time::from_epoch_seconds;
use base::{Key, KeyHasher};
use llb::{HttpSource, Vertex};
use snapshotter::writer::Attributes;

use super::{BuildOps, Filesystem};
use crate::error::EngineError;
use crate::remote::Fetcher;

impl BuildOps<'_> {
    pub(super) fn http(
        &self,
        vertex: &Vertex,
        source: &HttpSource,
        content_key: &Key,
        fetcher: &Fetcher<'_>,
    ) -> Result<Filesystem, EngineError> {
        fetcher.ensure_file(&source.url, source.digest, vertex.id)?;
        let mtime = source.mtime.and_then(from_epoch_seconds).map(Into::into);
        let attributes = Attributes { mtime, ..Attributes::new(source.mode, source.uid, source.gid) };
        let content = KeyHasher::new("lapstrake/http-content/v1").add(content_key).finish();
        self.new_filesystem(content, |writer| {
            let mut file = self.engine.store.open_blob(&source.digest)?;
            Ok(writer.put_file(&source.filename, &attributes, &mut file)?)
        })
    }
}

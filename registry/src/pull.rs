//! Reading names: manifests and indexes, and the documents of an image for a platform.
//!
//! Source: distribution-spec, section "Pull". Layers are not fetched here; see [`crate::blob`].

use base::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use base::{Digest, Platform, Reference};
use reqwest::Method;
use reqwest::header::{self, HeaderValue};

use crate::auth::Rights;
use crate::client::{CONTENT_DIGEST, Call, Client, InContext as _, Resolved};
use crate::documents::{self, CONFIG_LIMIT, Document, DocumentError, ImageDocuments, MANIFEST_LIMIT, Search};
use crate::error::{Context, ErrorKind, Result};
use crate::http_error;
use crate::transport::Answer;

/// The kinds of document that we read, best first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

impl Client {
    /// Reads the manifest or index that `reference` names, by digest if it has one, else by tag. The
    /// document's digest is computed and compared with what was asked for and with what the registry
    /// announced.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let context = Context::manifest("read", reference);
        self.fetch_manifest(reference).await.within(&context)
    }

    /// What `reference` names, without reading it. A registry that does not announce digests is asked
    /// for the document itself.
    pub async fn head(&self, reference: &Reference) -> Result<Descriptor> {
        let context = Context::manifest("look up", reference);
        let answer = self.request_manifest(Method::HEAD, reference, &Rights::Pull).await.within(&context)?;
        match announced(&answer, reference) {
            Some(descriptor) => Ok(descriptor),
            None => Ok(self.fetch_manifest(reference).await.within(&context)?.descriptor()),
        }
    }

    /// Reads the documents of the image that `reference` names: the manifest and its config, and the
    /// index if the name leads to one. From an index the manifest for `platform` is taken; a name that
    /// leads straight to a manifest gives that, whatever its platform.
    pub async fn pull_image(&self, reference: &Reference, platform: &Platform) -> Result<ImageDocuments> {
        let context = Context::manifest("read", reference);
        let mut resolved = self.fetch_manifest(reference).await.within(&context)?;
        let mut search = Search::new(platform);
        let (mut root, mut depth) = (None, 0);
        while media_type::is_index(&resolved.media_type) {
            let index: Document<Index> =
                Document::parse(resolved.descriptor(), resolved.bytes).within(&context)?;
            search.visit(&index.value, depth);
            root.get_or_insert(index);
            let (next, next_depth) = search.next().within(&context)?;
            depth = next_depth;
            resolved = self.resolve_entry(reference, &next).await?;
        }
        let manifest: Document<Manifest> =
            Document::parse(resolved.descriptor(), resolved.bytes).within(&context)?;
        documents::check_config_type(&manifest.value.config).within(&context)?;
        let config = self.config(reference, &manifest.value.config).await?;
        ImageDocuments::assemble(root, manifest, config).within(&context)
    }

    /// Reads an entry of an index, which must be of the kind and size that the index says.
    async fn resolve_entry(&self, reference: &Reference, entry: &Descriptor) -> Result<Resolved> {
        let target = reference.with_digest(entry.digest);
        let context = Context::manifest("read", &target);
        let resolved = self.fetch_manifest(&target).await.within(&context)?;
        if resolved.size != entry.size {
            let (expected, actual) = (entry.size, resolved.size);
            return Err(context.error(ErrorKind::SizeMismatch { expected, actual }));
        }
        if resolved.media_type != entry.media_type {
            let (announced, stated) = (entry.media_type.clone(), resolved.media_type);
            return Err(context.error(DocumentError::MediaTypeConflict { announced, stated }));
        }
        Ok(resolved)
    }

    async fn config(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Document<ImageConfig>> {
        let context = Context::blob("read", reference, &descriptor.digest);
        if descriptor.size > CONFIG_LIMIT {
            return Err(context.error(ErrorKind::TooLarge { limit: CONFIG_LIMIT }));
        }
        let bytes = self.blob(reference, descriptor, None).await?.read_to_end().await?;
        Document::parse(descriptor.clone(), bytes).within(&context)
    }

    async fn fetch_manifest(&self, reference: &Reference) -> std::result::Result<Resolved, ErrorKind> {
        let mut answer = self.request_manifest(Method::GET, reference, &Rights::Pull).await?;
        let bytes = self.transport().body(&mut answer, MANIFEST_LIMIT).await?;
        if answer.is_html() {
            return Err(http_error::not_a_registry(&answer, &bytes));
        }
        let digest = Digest::of(&bytes);
        if let Some(expected) = reference.digest.filter(|expected| *expected != digest) {
            return Err(ErrorKind::DigestMismatch { expected, actual: digest });
        }
        let header = answer.header(CONTENT_DIGEST).filter(|text| text.starts_with("sha256:"));
        if let Some(announced) = header.filter(|announced| *announced != digest.to_string()) {
            return Err(ErrorKind::AnnouncedDigest { announced, actual: digest });
        }
        let media_type = documents::manifest_type(answer.content_type().as_deref(), &bytes)?;
        Ok(Resolved { digest, media_type, size: bytes.len() as u64, bytes })
    }

    pub(crate) async fn request_manifest(
        &self,
        method: Method,
        reference: &Reference,
        rights: &Rights,
    ) -> std::result::Result<Answer, ErrorKind> {
        let tail = format!("manifests/{}", reference.manifest_name());
        let mut call = Call::new(method, tail).header(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        call.by_tag = reference.digest.is_none();
        self.send(reference, rights, &call).await
    }
}

/// The descriptor that the headers of an answer make up, if they say everything.
fn announced(answer: &Answer, reference: &Reference) -> Option<Descriptor> {
    let digest: Digest = answer.header(CONTENT_DIGEST)?.parse().ok()?;
    let media_type = answer.content_type()?;
    let known = media_type::is_manifest(&media_type) || media_type::is_index(&media_type);
    let asked = reference.digest.is_none_or(|asked| asked == digest);
    (known && asked).then_some(Descriptor::new(&media_type, digest, answer.content_length()?))
}

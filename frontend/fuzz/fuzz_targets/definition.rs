//! Any bytes as a definition of operations (LLB), decoded and lowered.
#![no_main]

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};
use frontend::low_level::{self, DefinitionOptions, pb};
use frontend::{HttpRequest, MetaResolver, ResolveError, ResolvedHttp, ResolvedImage};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

/// Knows every image, file and repository.
struct Anything;

impl MetaResolver for Anything {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        let manifest = Digest::of(reference.to_string().as_bytes());
        let mut config = ImageConfig::scratch(platform);
        config.rootfs.diff_ids = vec![manifest];
        Ok(ResolvedImage { reference: reference.with_digest(manifest), manifest, config })
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        let digest = Digest::of(request.url.as_bytes());
        Ok(ResolvedHttp { digest, filename: "file".to_owned(), last_modified: None })
    }

    fn git(&self, _url: &GitUrl) -> Result<String, ResolveError> {
        Ok("0".repeat(40))
    }
}

/// Makes the digests of inputs right: they are places in the list here, so that graphs come about at all.
fn with_digests(definition: pb::Definition) -> pb::Definition {
    let mut digests: Vec<String> = Vec::new();
    let mut def = Vec::new();
    for bytes in definition.def {
        let Ok(mut op) = pb::Op::decode(bytes.as_slice()) else { continue };
        for input in &mut op.inputs {
            let place = input.digest.bytes().map(usize::from).sum::<usize>();
            if let Some(digest) = place.checked_rem(digests.len()).and_then(|place| digests.get(place)) {
                input.digest.clone_from(digest);
            }
        }
        let bytes = op.encode_to_vec();
        digests.push(Digest::of(&bytes).to_string());
        def.push(bytes);
    }
    pb::Definition { def, ..definition }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(definition) = pb::Definition::decode(bytes) else { return };
    for definition in [definition.clone(), with_digests(definition)] {
        let _ = low_level::Needs::of(&definition);
        let _ = low_level::lower(&definition, &DefinitionOptions::default(), &Anything);
    }
});

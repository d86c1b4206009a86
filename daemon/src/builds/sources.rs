//! What sources stand for, for clients and frontends that ask before they use them.

use base::image::media_type;
use base::{Digest, GitUrl, Platform, Reference};
use engine::request::PullPolicy;
use engine::session::{ResolvedImage, Session as EngineSession};
use engine::source_policy::SourcePolicies;
use tonic::Status;

use crate::attributes;
use crate::errors::status_of_engine;
use crate::policies;
use crate::proto::{frontend, pb};

/// What a scheme of images is followed by.
const IMAGE: &str = "docker-image://";

/// When registries are asked.
fn pull_policy(mode: &str) -> Result<PullPolicy, Status> {
    match mode {
        "" | "default" => Ok(PullPolicy::Newer),
        "pull" => Ok(PullPolicy::Always),
        "local" => Ok(PullPolicy::Missing),
        other => Err(Status::invalid_argument(format!(
            "invalid resolve mode {other:?}: use default, pull or local"
        ))),
    }
}

fn platform(platform: Option<&pb::Platform>) -> Platform {
    platform.map_or_else(Platform::host, |given| {
        let pb::Platform { architecture, os, variant, os_version, os_features } = given;
        let named = Platform::new(os, architecture, variant);
        Platform { os_version: os_version.clone(), os_features: os_features.clone(), ..named }
    })
}

fn image(
    session: &EngineSession<'_>,
    name: &str,
    wanted: Option<&pb::Platform>,
    (mode, policies): (&str, &SourcePolicies),
) -> Result<(ResolvedImage, Vec<u8>), Status> {
    let reference: Reference = attributes::reference(name)?;
    let found = session.resolve_image(&reference, &platform(wanted), (pull_policy(mode)?, policies));
    let found = found.map_err(|error| Status::unknown(base::fault::chain(error.as_ref())))?;
    let config = serde_json::to_vec(&found.config)
        .map_err(|error| Status::internal(format!("cannot write {}: {error}", media_type::OCI_CONFIG)))?;
    Ok((found, config))
}

/// The config of an image, and the name that means it for ever.
pub(super) fn image_config(
    session: &EngineSession<'_>,
    mut policies: SourcePolicies,
    request: &frontend::ResolveImageConfigRequest,
) -> Result<frontend::ResolveImageConfigResponse, Status> {
    policies.extend(&policies::understood(request.source_policies.iter())?);
    let (found, config) =
        image(session, &request.r#ref, request.platform.as_ref(), (&request.resolve_mode, &policies))?;
    let (digest, r#ref) = (found.manifest.to_string(), found.reference.to_string());
    Ok(frontend::ResolveImageConfigResponse { digest, config, r#ref })
}

/// What a source stands for now: an image's digest and config, a commit, the digest of a file.
pub(super) fn source_meta(
    session: &EngineSession<'_>,
    mut policies: SourcePolicies,
    request: &frontend::ResolveSourceMetaRequest,
) -> Result<frontend::ResolveSourceMetaResponse, Status> {
    policies.extend(&policies::understood(request.source_policies.iter())?);
    let source = request.source.clone().ok_or_else(|| Status::invalid_argument("no source is named"))?;
    let mut response =
        frontend::ResolveSourceMetaResponse { source: Some(source.clone()), ..Default::default() };
    let identifier = source.identifier.as_str();
    if let Some(name) = identifier.strip_prefix(IMAGE) {
        let wanted = request.image.clone().unwrap_or_default();
        if wanted.attestation_chain || !wanted.resolve_attestations.is_empty() {
            return Err(Status::unimplemented("attestations of images are not resolved by this builder"));
        }
        let (found, config) =
            image(session, name, request.platform.as_ref(), (&request.resolve_mode, &policies))?;
        let config = if wanted.no_config { Vec::new() } else { config };
        let digest = found.manifest.to_string();
        response.image = Some(frontend::ResolveSourceImageResponse { digest, config, ..Default::default() });
        return Ok(response);
    }
    policies.check(identifier).map_err(|error| status_of_engine(&error.into()))?;
    if let Some(rest) = identifier.strip_prefix("git://") {
        let (address, reference) = rest.split_once('#').map_or((rest, None), |(a, r)| (a, Some(r)));
        let remote = source.attrs.get("git.fullurl").cloned().unwrap_or_else(|| format!("git://{address}"));
        let mut url = GitUrl::of_remote(remote);
        let name = reference.map(|text| text.split(':').next().unwrap_or_default().to_owned());
        url.reference = name.clone().filter(|name| !name.is_empty());
        let checksum = session.resolve_git(&url).map_err(|error| status_of_engine(&error))?;
        let r#ref = name.unwrap_or_default();
        response.git = Some(frontend::ResolveSourceGitResponse { checksum, r#ref, ..Default::default() });
        return Ok(response);
    }
    if identifier.starts_with("http://") || identifier.starts_with("https://") {
        let checksum =
            match source.attrs.get("http.checksum").filter(|text| !text.is_empty()) {
                Some(text) => Some(text.parse::<Digest>().map_err(|error| {
                    Status::invalid_argument(format!("http.checksum is {text:?}: {error}"))
                })?),
                None => None,
            };
        let found = session.resolve_http(identifier, checksum).map_err(|error| status_of_engine(&error))?;
        let last_modified = found
            .last_modified
            .map(|seconds| bollard_buildkit_proto::google::protobuf::Timestamp { seconds, nanos: 0 });
        response.http = Some(frontend::ResolveSourceHttpResponse {
            checksum: found.digest.to_string(),
            filename: found.filename,
            last_modified,
            ..Default::default()
        });
        return Ok(response);
    }
    Err(Status::unimplemented(format!("sources such as {identifier} are not resolved by this builder")))
}

//! What a build asks of clients that do not offer it, or name it wrongly.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use common::daemon::Daemon;
use common::env;
use grpc::control::{CacheOptions, CacheOptionsEntry, SolveRequest};
use grpc::{Client, Offer, dockerfile, exporter, unique};
use tonic::Code;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn what_a_client_does_not_offer_is_not_asked_of_it() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context.dockerfile("FROM busybox\nCOPY f /f\n").file("f", "content");
    let session = client.session(&Offer::new().context(context.path()));
    let refused = |request: SolveRequest, code: Code, words: &str| {
        let status = client.solve(request).unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(words), "{words}: {status:?}");
    };
    let with = |name: &str, value: &str| {
        let mut request = dockerfile(&session, &unique("build"));
        request.frontend_attrs.insert(name.to_owned(), value.to_owned());
        request
    };
    refused(
        with("context", "http://buildkit-session/abc"),
        Code::Unimplemented,
        "moby.upload.v1.Upload/Pull",
    );
    let layout = format!("oci-layout://store:latest@{DIGEST}");
    refused(with("context:x", &layout), Code::Unimplemented, "containerd.services.content.v1.Content");
    refused(with("context:x", "oci-layout://store:latest"), Code::InvalidArgument, "must have a digest");
    refused(with("context:x", "oci-layout://store@sha256:x"), Code::InvalidArgument, "must have a digest");

    let cache = |attributes: &[(&str, &str)], is_read: bool| {
        let attrs =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let entry = vec![CacheOptionsEntry { r#type: "local".to_owned(), attrs }];
        let (imports, exports) = if is_read { (entry, Vec::new()) } else { (Vec::new(), entry) };
        let cache = Some(CacheOptions { imports, exports, ..CacheOptions::default() });
        SolveRequest { cache, ..dockerfile(&session, &unique("build")) }
    };
    refused(cache(&[("dest", "/etc")], false), Code::InvalidArgument, "the client offers none");
    refused(
        cache(&[("src", "/etc"), ("digest", DIGEST)], true),
        Code::InvalidArgument,
        "the client offers none",
    );

    for (kind, attributes) in [("oci", ("tar", "false")), ("docker", ("tar", "false"))] {
        let exporters = vec![exporter(kind, &[attributes])];
        let request = SolveRequest { exporters, ..dockerfile(&session, &unique("build")) };
        refused(request, Code::Unimplemented, "containerd.services.content.v1.Content");
    }
    for (kind, attribute, words) in [
        ("image", ("annotation-layer.a", "1"), "\"layer\" is not one of manifest"),
        ("image", ("annotation-manifest[linux.a", "1"), "a bracket is open"),
        ("image", ("source-date-epoch", "x"), "invalid source-date-epoch"),
        ("tar", ("attestation-prefix", "../../x"), "invalid attestation-prefix"),
        ("tar", ("platform-split", "perhaps"), "non-bool value"),
    ] {
        let exporters = vec![exporter(kind, &[attribute])];
        let request = SolveRequest { exporters, ..dockerfile(&session, &unique("build")) };
        let status = client.solve(request).unwrap_err();
        assert!(status.message().contains(words), "{words}: {status:?}");
    }
    // None of it matters to the next build.
    client.solve(dockerfile(&session, &unique("build"))).unwrap();
}

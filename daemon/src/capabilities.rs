//! What this builder says it can: the names that clients ask for before they use something.

use crate::proto::apicaps::ApiCap;

/// Of `LLBBridge`.
const FRONTEND: [&str; 13] = [
    "solve.base",
    "readfile",
    "return",
    "returnmap",
    "readdir",
    "statfile",
    "importcaches",
    "proto.refarray",
    "gateway.solve.metadata",
    "gateway.evaluate",
    "gateway.warnings",
    "frontend.inputs",
    "reference.output",
];

/// Of exporters; operations of LLB are not solved yet.
const LLB: [&str; 5] = [
    "exporter.image.attestations",
    "exporter.sourcedateepoch",
    "exporter.multiple",
    "meta.description",
    "meta.exportcache",
];

pub(crate) fn of_frontends() -> Vec<ApiCap> {
    FRONTEND.iter().copied().map(capability).collect()
}

pub(crate) fn of_llb() -> Vec<ApiCap> {
    LLB.iter().copied().map(capability).collect()
}

fn capability(id: &str) -> ApiCap {
    ApiCap { id: id.to_owned(), enabled: true, ..ApiCap::default() }
}

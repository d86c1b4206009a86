//! What this builder says it can: the names that clients ask for before they use something.

use engine::low_level;

use crate::proto::apicaps::ApiCap;

/// Of `LLBBridge`.
const FRONTEND: [&str; 23] = [
    "gateway.exec",
    "gateway.exec.extrahosts",
    "gateway.exec.filesystem",
    "gateway.exec.secretenv",
    "gateway.exec.signals",
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "source.metaresolver",
    "frontend.caps",
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

/// What is no part of a definition, and has its name among those of LLB all the same.
const OF_BUILDS: [&str; 7] = [
    "cache.gha",
    "cache.s3",
    "cache.azblob",
    "exporter.image.annotations",
    "source.policy",
    "gc.freespacefilter",
    "history.filter",
];

pub(crate) fn of_frontends() -> Vec<ApiCap> {
    FRONTEND.iter().copied().map(capability).collect()
}

pub(crate) fn of_llb() -> Vec<ApiCap> {
    low_level::capabilities::ALL.iter().chain(&OF_BUILDS).copied().map(capability).collect()
}

fn capability(id: &str) -> ApiCap {
    ApiCap { id: id.to_owned(), enabled: true, ..ApiCap::default() }
}

//! The messages and services of BuildKit's API, under short names.

pub(crate) use bollard_buildkit_proto::fsutil::types as fsutil;
pub(crate) use bollard_buildkit_proto::google::rpc;
pub(crate) use bollard_buildkit_proto::health;
pub(crate) use bollard_buildkit_proto::moby::buildkit::secrets::v1 as secrets;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1 as control;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1::apicaps;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1::frontend;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy;
pub(crate) use bollard_buildkit_proto::moby::buildkit::v1::types;
pub(crate) use bollard_buildkit_proto::moby::filesync::v1 as auth;
pub(crate) use bollard_buildkit_proto::moby::sshforward::v1 as ssh;
pub(crate) use bollard_buildkit_proto::pb;

/// The largest message that is taken or sent, in bytes; BuildKit's limit.
pub(crate) const LARGEST_MESSAGE: usize = 16 << 20;

//! gRPC reflection: clients that know nothing of us, such as grpcurl, are told what we serve.
//!
//! `scripts/descriptors` writes what is told.

use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::v1alpha;

/// The definitions of our services, as protoc writes them.
const DESCRIPTORS: &[u8] = include_bytes!("../proto/descriptors.binpb");

/// The service, and the same under the name that older clients know. There are none when the definitions are damaged, which a
/// test would have found.
pub(crate) fn services() -> Option<(
    ServerReflectionServer<impl ServerReflection>,
    v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>,
)> {
    let builder = || Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    Some((builder().build_v1().ok()?, builder().build_v1alpha().ok()?))
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::FileDescriptorSet;
    use prost::Message as _;
    use tonic::server::NamedService;

    use super::*;
    use crate::content::ContentService;
    use crate::control::ControlService;
    use crate::gateway::Gateway;
    use crate::health::HealthService;
    use crate::proto::control::control_server::ControlServer;
    use crate::proto::frontend::llb_bridge_server::LlbBridgeServer;
    use crate::proto::health::health_server::HealthServer;
    use crate::traces::TraceService;

    #[test]
    fn what_is_served_is_told() {
        assert!(services().is_some());
        let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let mut told: Vec<String> = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |one| format!("{}.{}", file.package(), one.name())))
            .collect();
        told.sort();
        let mut served = [
            ControlServer::<ControlService>::NAME,
            LlbBridgeServer::<Gateway>::NAME,
            HealthServer::<HealthService>::NAME,
            ContentService::NAME,
            TraceService::NAME,
        ];
        served.sort_unstable();
        assert_eq!(told, served);
    }
}

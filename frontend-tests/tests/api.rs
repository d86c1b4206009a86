//! BuildKit's API as its clients call it, without one of Docker's clients in between.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use common::daemon::Daemon;
use common::env;
use grpc::control::{PruneRequest, SolveRequest};
use grpc::frontend::{self, ReadFileRequest, ReturnRequest};
use grpc::{Client, Offer, dockerfile, exporter, unique};
use tonic::Code;

#[test]
fn a_builder_says_what_it_is() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    assert!(client.is_serving());
    let workers = client.workers().unwrap();
    assert_eq!(workers.len(), 1);
    assert!(workers[0].platforms.iter().any(|platform| platform.os == "linux"));
    assert_eq!(client.info().unwrap().package, "lapstrake");
}

#[test]
fn a_dockerfile_is_built_from_a_directory_of_the_client() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context
        .dockerfile("FROM busybox\nCOPY . /in\nRUN --mount=type=secret,id=word cat /run/secrets/word /in/a/b > /out && cat /out\n")
        .file("a/b", "content\n");
    let session = client.session(&Offer::new().context(context.path()).secret("word", b"open "));
    let id = unique("build");
    let exporters = vec![exporter("tar", &[])];
    let response = client.solve(SolveRequest { exporters, ..dockerfile(&session, &id) }).unwrap();
    assert!(response.is_empty());
    let archives = session.received();
    assert_eq!(archives.len(), 1);
    let mut archive = tar::Archive::new(archives[0].as_slice());
    assert!(archive.entries().unwrap().any(|entry| entry.unwrap().path().unwrap().ends_with("out")));
    let said = client.status(&id).unwrap();
    assert_eq!(said.output("RUN --mount"), "open content\n");
    assert!(said.vertex("COPY").completed.is_some());
    // Another one has nothing to do, and what there is can be removed.
    let again = unique("build");
    client.solve(dockerfile(&session, &again)).unwrap();
    assert!(client.status(&again).unwrap().vertex("RUN --mount").cached);
    let records = client.disk_usage(&[]).unwrap();
    assert!(!records.is_empty());
    drop(session);
    let pruned = client.prune(PruneRequest { all: true, ..PruneRequest::default() }).unwrap();
    assert!(!pruned.is_empty() && pruned.len() <= records.len(), "{pruned:#?}");
}

#[test]
fn a_client_steers_a_build() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo 42 > /answer\n");
    let session = client.session(&Offer::new().context(context.path()));
    let id = unique("build");
    let build = client.begin(SolveRequest { frontend: String::new(), ..dockerfile(&session, &id) });
    let mut gateway = client.gateway(&id);
    let solve = frontend::SolveRequest { frontend: "dockerfile.v0".to_owned(), ..Default::default() };
    let result = client.wait(gateway.solve(solve)).unwrap().result.unwrap();
    let Some(frontend::result::Result::Ref(root)) = result.result.clone() else { panic!("{result:?}") };
    let read = |path: &str| ReadFileRequest {
        r#ref: root.id.clone(),
        file_path: path.to_owned(),
        ..Default::default()
    };
    assert_eq!(client.wait(gateway.read_file(read("/answer"))).unwrap().data, b"42\n");
    assert_eq!(client.wait(gateway.read_file(read("/none"))).unwrap_err().code(), Code::NotFound);
    assert!(!build.is_over());
    client.wait(gateway.r#return(ReturnRequest { result: Some(result), error: None })).unwrap();
    client.outcome(build).unwrap();
}

#[test]
fn who_knows_nothing_is_told_what_there_is() {
    use bollard_buildkit_proto::google::protobuf::FileDescriptorProto;
    use prost::Message as _;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let ask = |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        client
            .first(async |channel| {
                let mut reflection = ServerReflectionClient::new(channel);
                reflection.server_reflection_info(tokio_stream::once(request)).await
            })
            .map(|answer| answer.message_response.unwrap())
    };
    let MessageResponse::ListServicesResponse(list) =
        ask(MessageRequest::ListServices(String::new())).unwrap()
    else {
        panic!("no list")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "moby.buildkit.v1.Control",
        "moby.buildkit.v1.frontend.LLBBridge",
        "containerd.services.content.v1.Content",
        "grpc.health.v1.Health",
        "opentelemetry.proto.collector.trace.v1.TraceService",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let wanted = MessageRequest::FileContainingSymbol("moby.buildkit.v1.Control".to_owned());
    let MessageResponse::FileDescriptorResponse(files) = ask(wanted).unwrap() else { panic!("no file") };
    let file = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
    let methods: Vec<&str> = file.service[0].method.iter().map(|method| method.name()).collect();
    assert!(methods.contains(&"Solve") && methods.contains(&"ListenBuildHistory"), "{methods:?}");
    let unknown = MessageRequest::FileContainingSymbol("nothing.Here".to_owned());
    assert!(!matches!(ask(unknown), Ok(MessageResponse::FileDescriptorResponse(_))));
}

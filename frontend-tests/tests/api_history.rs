//! The history of builds through BuildKit's API: what is told of a build later, also by another daemon of the same store.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use common::daemon::{Buildx, Daemon};
use common::env;
use grpc::content::{BlobInfo, OfDigest};
use grpc::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, SolveRequest,
    UpdateBuildHistoryRequest,
};
use grpc::frontend::{self, ReturnRequest};
use grpc::{Client, Offer, OpenSession, details_of, dockerfile, exporter, unique};
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{Context, TestEnv};
use tonic::Code;

const PROVENANCE: &str = "https://slsa.dev/provenance/v0.2";

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context
        .dockerfile("FROM busybox\nARG WHO=nobody\nCOPY file /\nRUN echo I am $WHO; cat /file >&2\n")
        .file("file", "content\n");
    context
}

fn session(client: &Client, context: &Context) -> OpenSession {
    client.session(&Offer::new().context(context.path()))
}

/// A request for all that there is now.
fn now() -> BuildHistoryRequest {
    BuildHistoryRequest { early_exit: true, ..BuildHistoryRequest::default() }
}

fn of(id: &str) -> BuildHistoryRequest {
    BuildHistoryRequest { r#ref: id.to_owned(), ..now() }
}

/// The record of the only event.
fn only(events: Vec<BuildHistoryEvent>) -> BuildHistoryRecord {
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0].r#type(), BuildHistoryEventType::Complete);
    events.into_iter().next().unwrap().record.unwrap()
}

fn names(events: &[BuildHistoryEvent]) -> Vec<&str> {
    events.iter().map(|event| event.record.as_ref().unwrap().r#ref.as_str()).collect()
}

#[test]
fn what_became_of_a_build_is_told_also_after_the_daemon_was_started_again() {
    let env = env();
    let mut daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let session = session(&client, &context);
    let (good, bad, odd) = (unique("good"), unique("bad"), unique("odd"));
    let attributes = [("build-arg:WHO", "me"), ("vcs:source", "https://me:hidden@host/x.git")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let wanted = SolveRequest {
        exporters: vec![exporter("image", &[("name", "history:1")])],
        frontend_attrs: attributes.into_iter().collect(),
        ..dockerfile(&session, &good)
    };
    let response = client.solve(wanted).unwrap();
    let said = client.status(&good).unwrap();
    context.dockerfile("FROM busybox\nRUN exit 3\n");
    client.solve(dockerfile(&session, &bad)).unwrap_err();
    let unknown = SolveRequest { frontend: "nonsense.v0".to_owned(), ..dockerfile(&session, &odd) };
    let refused = client.solve(unknown).unwrap_err();
    drop(session);

    let look = |client: &Client| {
        let record = only(client.history(of(&good)).unwrap());
        assert_eq!((record.r#ref.as_str(), record.frontend.as_str()), (good.as_str(), "dockerfile.v0"));
        assert_eq!(record.frontend_attrs["build-arg:WHO"], "me");
        assert!(!format!("{record:?}").contains("hidden"));
        assert_eq!(record.exporters[0].r#type, "image");
        assert_eq!(record.exporters[0].attrs["name"], "history:1");
        assert_eq!(record.exporter_response, response);
        assert!(record.error.is_none() && !record.pinned);
        let (created, completed) = (record.created_at.unwrap(), record.completed_at.unwrap());
        assert!((created.seconds, created.nanos) < (completed.seconds, completed.nanos));
        let total = i32::try_from(said.vertices.len()).unwrap();
        assert_eq!((record.num_total_steps, record.num_completed_steps), (total, total));

        // What it said is there as it was said.
        let again = client.status(&good).unwrap();
        assert_eq!(again.vertices, said.vertices);
        assert_eq!(again.output("RUN"), "I am me\ncontent\n");
        let logs = record.logs.unwrap();
        assert_eq!(logs.media_type, "application/vnd.buildkit.status.v0");
        assert_eq!(i64::try_from(client.read_blob(&logs.digest, 0, 0).unwrap().len()).unwrap(), logs.size);

        // Where the image came from, and the image.
        let result = record.result.unwrap();
        assert_eq!(result.attestations[0].annotations["in-toto.io/predicate-type"], PROVENANCE);
        let provenance = client.read_blob(&result.attestations[0].digest, 0, 0).unwrap();
        let provenance: Value = serde_json::from_slice(&provenance).unwrap();
        assert_eq!(provenance["invocation"]["parameters"]["args"]["build-arg:WHO"], "me");
        assert!(provenance["materials"][0]["uri"].as_str().unwrap().contains("busybox"));
        let manifest = client.read_blob(&result.results[&0].digest, 0, 0).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["schemaVersion"], 2);

        let failed = only(client.history(of(&bad)).unwrap());
        let error = failed.error.unwrap();
        assert!(error.message.contains("exit code: 3"), "{error:?}");
        let source =
            &details_of(&error).into_iter().find(|(kind, _)| kind.contains("errdefs.Source")).unwrap().1;
        assert_eq!(source["info"]["filename"], "Dockerfile");
        assert!(client.status(&bad).unwrap().vertex("RUN exit 3").error.contains("exit code: 3"));
        let error = only(client.history(of(&odd)).unwrap()).error.unwrap();
        assert_eq!((error.code, error.message.as_str()), (i32::from(refused.code()), refused.message()));
        assert_eq!(names(&client.history(now()).unwrap()), [&good, &bad, &odd]);
    };
    look(&client);
    assert_eq!(daemon.end(Signal::SIGTERM).code(), Some(0));
    daemon.start_again(&[]);
    look(&Client::of(&daemon));
    // It is the history of the command line, which knows the client's names too.
    let listed = env.lap(["history", "ls", "--format", "{{.Status}}"]).ok();
    assert_eq!(listed.stdout_text().lines().collect::<Vec<_>>(), ["Error", "Error", "Completed"]);
    env.lap(["history", "inspect", &good]).ok().stdout_has(&["Completed", &format!("Ref:         {good}")]);
    env.lap(["history", "logs", &good]).ok().stdout_has(&["I am me"]);
}

#[test]
fn builds_of_the_command_line_are_in_it() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    common::build(&env, &context, &["--build-arg", "WHO=you"]);
    context.dockerfile("FROM busybox\nRUN exit 3\n");
    common::build_fails(&env, &context, &[]);
    let ids = env.lap(["history", "ls", "--format", "{{.ID}}"]).ok().stdout_text();
    let ids: Vec<&str> = ids.lines().rev().collect();
    let events = client.history(now()).unwrap();
    assert_eq!(names(&events), ids);
    let record = only(client.history(of(ids[0])).unwrap());
    assert_eq!(record.frontend_attrs["build-arg:WHO"], "you");
    assert!(record.num_total_steps > 0 && record.num_completed_steps == record.num_total_steps);
    assert_eq!(client.status(ids[0]).unwrap().output("RUN"), "I am you\ncontent\n");
    assert!(only(client.history(of(ids[1])).unwrap()).error.unwrap().message.contains("exit code: 3"));
}

#[test]
fn builds_are_told_as_they_begin_and_end_and_change() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let mut events = client.listen(BuildHistoryRequest::default()).unwrap();
    let mut next = || {
        let event = events.next().unwrap();
        let record = event.record.clone().unwrap();
        (event.r#type(), record.r#ref.clone(), record)
    };
    let context = context(&env);
    let session = session(&client, &context);
    let id = unique("build");
    // A build that its client steers runs until the client has enough.
    let build = client.begin(SolveRequest { frontend: String::new(), ..dockerfile(&session, &id) });
    let (kind, name, record) = next();
    assert_eq!((kind, &name), (BuildHistoryEventType::Started, &id));
    assert!(record.completed_at.is_none());
    let active = BuildHistoryRequest { active_only: true, ..now() };
    assert_eq!(names(&client.history(active.clone()).unwrap()), [&id]);
    let update = |pinned, delete, finalize| {
        client.update_history(UpdateBuildHistoryRequest { r#ref: id.clone(), pinned, delete, finalize })
    };
    assert_eq!(update(false, true, false).unwrap_err().code(), Code::FailedPrecondition);
    let mut gateway = client.gateway(&id);
    let solve = frontend::SolveRequest { frontend: "dockerfile.v0".to_owned(), ..Default::default() };
    let result = client.wait(gateway.solve(solve)).unwrap().result;
    assert_eq!(names(&client.history(now()).unwrap()), [&id], "it is told once");
    client.wait(gateway.r#return(ReturnRequest { result, error: None })).unwrap();
    client.outcome(build).unwrap();
    let (kind, name, record) = next();
    assert_eq!((kind, &name), (BuildHistoryEventType::Complete, &id));
    assert_eq!(record.result.unwrap().attestations.len(), 1);
    assert!(client.history(active).unwrap().is_empty());

    update(true, false, false).unwrap();
    let (kind, _, record) = next();
    assert!(kind == BuildHistoryEventType::Complete && record.pinned);
    let pinned = env.lap(["history", "ls", "--filter", "pinned=true", "--format", "{{.Status}}"]).ok();
    assert_eq!(pinned.stdout_text().lines().count(), 1);
    update(false, false, true).unwrap();
    assert!(only(client.history(of(&id)).unwrap()).pinned, "finalizing changes nothing");
    update(false, true, false).unwrap();
    let (kind, name, _) = next();
    assert_eq!((kind, &name), (BuildHistoryEventType::Deleted, &id));
    assert!(client.history(now()).unwrap().is_empty());
    assert_eq!(update(true, false, false).unwrap_err().code(), Code::NotFound);
    assert!(env.lap(["history", "ls", "--format", "{{.ID}}"]).ok().stdout_text().is_empty());
    // Who only wants to know whether we can is answered as well.
    let probe = BuildHistoryRequest { active_only: true, ..of("buildx-test-history-api-feature") };
    assert!(client.history(probe).unwrap().is_empty());
}

#[test]
fn builds_are_chosen_by_filters_and_a_limit() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let session = session(&client, &context);
    let ids: Vec<String> = (0..3).map(|_| unique("build")).collect();
    for id in &ids[..2] {
        client.solve(dockerfile(&session, id)).unwrap();
    }
    context.dockerfile("FROM busybox\nRUN exit 3\n");
    client.solve(dockerfile(&session, &ids[2])).unwrap_err();
    let filtered = |filter: &[&str], limit| {
        let filter = filter.iter().map(|text| (*text).to_owned()).collect();
        client.history(BuildHistoryRequest { filter, limit, ..now() })
    };
    let found = |filter: &[&str], limit| {
        let events = filtered(filter, limit).unwrap();
        names(&events).iter().map(|name| ids.iter().position(|id| id == name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found(&[], 0), [0, 1, 2]);
    assert_eq!(found(&[], 2), [1, 2]);
    assert_eq!(found(&["status==error"], 0), [2]);
    assert_eq!(found(&["status==completed,duration<1h"], 1), [1]);
    assert_eq!(found(&["status==error", &format!("ref=={}", ids[0])], 0), [0, 2]);
    assert!(found(&["startedAt<1h,status==completed"], 0).is_empty());
    let refused = filtered(&["colour==red"], 0).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("there are ref, status"), "{refused}");
}

#[test]
fn each_platform_has_its_provenance() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context.dockerfile("FROM scratch\nCOPY file /\n").file("file", "content\n");
    let session = session(&client, &context);
    let id = unique("build");
    let platform = ("platform".to_owned(), "linux/amd64,linux/arm64".to_owned());
    let exporters = vec![exporter("oci", &[]), exporter("image", &[("name", "two:1")])];
    client
        .solve(SolveRequest {
            exporters,
            frontend_attrs: [platform].into_iter().collect(),
            ..dockerfile(&session, &id)
        })
        .unwrap();
    let record = only(client.history(of(&id)).unwrap());
    let mut platforms: Vec<_> = record.results.keys().collect();
    platforms.sort();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    for result in record.results.values() {
        let provenance = client.read_blob(&result.attestations[0].digest, 0, 0).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&provenance).unwrap()["buildType"],
            "https://mobyproject.org/buildkit@v1"
        );
    }
    let mut outputs: Vec<_> = record.result.unwrap().results.into_keys().collect();
    outputs.sort_unstable();
    assert_eq!(outputs, [0, 1]);
}

#[test]
fn content_is_read_in_parts_and_nothing_else() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let session = session(&client, &context);
    let id = unique("build");
    client.solve(dockerfile(&session, &id)).unwrap();
    let logs = only(client.history(of(&id)).unwrap()).logs.unwrap();
    let info = client.blob_info(&logs.digest).unwrap();
    assert_eq!((&info.digest, info.size), (&logs.digest, logs.size));
    assert!(client.blobs().unwrap().contains(&BlobInfo { digest: logs.digest.clone(), ..info }));
    let all = client.read_blob(&logs.digest, 0, 0).unwrap();
    assert_eq!(client.read_blob(&logs.digest, 3, 4).unwrap(), all[3..7]);
    assert_eq!(client.read_blob(&logs.digest, logs.size, 0).unwrap(), b"");
    for (offset, size) in [(-1, 0), (0, -1), (logs.size + 1, 0), (1, logs.size), (i64::MAX, i64::MAX)] {
        assert_eq!(client.read_blob(&logs.digest, offset, size).unwrap_err().code(), Code::OutOfRange);
    }
    let none = format!("sha256:{}", "0".repeat(64));
    assert_eq!(client.blob_info(&none).unwrap_err().code(), Code::NotFound);
    assert_eq!(client.read_blob(&none, 0, 0).unwrap_err().code(), Code::NotFound);
    for digest in ["", "sha256:zz", "../../etc/passwd", "sha512:00"] {
        assert_eq!(client.read_blob(digest, 0, 0).unwrap_err().code(), Code::InvalidArgument);
    }
    let asked = OfDigest { digest: logs.digest.clone() };
    let status = client.content::<_, OfDigest>("Status", asked.clone()).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(client.content::<_, OfDigest>("ListStatuses", OfDigest::default()).unwrap().len(), 1);
    for method in ["Delete", "Write", "Update", "Abort", "Nonsense"] {
        let refused = client.content::<_, OfDigest>(method, asked.clone()).unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{method}");
    }
    assert_eq!(client.read_blob(&logs.digest, 0, 0).unwrap(), all);
}

#[test]
fn the_file_says_how_many_builds_are_remembered() {
    let env = env();
    let file = env.work().join("buildkitd.toml");
    std::fs::write(&file, "[history]\nmaxAge = 0\nmaxEntries = 2\n").unwrap();
    let daemon = Daemon::start_with(&env, &["--config", file.to_str().unwrap()]);
    let client = Client::of(&daemon);
    let context = context(&env);
    let session = session(&client, &context);
    let ids: Vec<String> = (0..4).map(|_| unique("build")).collect();
    let pin = UpdateBuildHistoryRequest { r#ref: ids[0].clone(), pinned: true, ..Default::default() };
    client.solve(dockerfile(&session, &ids[0])).unwrap();
    client.update_history(pin).unwrap();
    for id in &ids[1..] {
        client.solve(dockerfile(&session, id)).unwrap();
    }
    assert_eq!(names(&client.history(now()).unwrap()), [&ids[0], &ids[2], &ids[3]]);
}

#[test]
fn the_ref_that_buildx_tells_leads_to_the_record() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let file = env.work().join("metadata.json");
    buildx.build(context.path(), &["--metadata-file", file.to_str().unwrap()]).ok();
    let metadata: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    // The last part is the build's own name; before it are the builder and its node.
    let id = metadata["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let client = Client::of(&buildx.daemon);
    let record = only(client.history(of(&id)).unwrap());
    let attestation = &record.result.unwrap().attestations[0];
    assert_eq!(attestation.annotations["in-toto.io/predicate-type"], PROVENANCE);
    client.read_blob(&attestation.digest, 0, 0).unwrap();
    env.lap(["history", "inspect", &id]).ok();
}

#[derive(Clone, PartialEq, prost::Message)]
struct Spans {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Taken {}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The trace that is kept of a build, one span after the other.
fn trace(client: &Client, id: &str) -> Vec<serde_json::Value> {
    let request = BuildHistoryRequest { r#ref: id.to_owned(), early_exit: true, ..Default::default() };
    let record = client.history(request).unwrap().pop().unwrap().record.unwrap();
    let Some(trace) = record.trace else { return Vec::new() };
    assert_eq!(trace.media_type, "application/vnd.buildkit.otlp.json.v0");
    let text = String::from_utf8(client.read_blob(&trace.digest, 0, 0).unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn traces_of_clients_are_kept_with_their_builds() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo traced\n");
    let session = client.session(&Offer::new().context(context.path()));
    let id = unique("traced");
    let mut request = tonic::Request::new(dockerfile(&session, &id));
    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.metadata_mut().insert("traceparent", header.parse().unwrap());
    client.wait(client.control().solve(request)).unwrap();
    let names = |spans: &[serde_json::Value]| -> Vec<String> {
        spans.iter().map(|span| span["Name"].as_str().unwrap().to_owned()).collect()
    };
    // The steps are there at once, below the client's call.
    let spans = trace(&client, &id);
    let step = spans.iter().find(|span| span["Name"].as_str().unwrap().contains("RUN echo traced")).unwrap();
    assert_eq!(step["SpanContext"]["TraceID"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(step["Parent"]["SpanID"], "00f067aa0ba902b7");
    assert!(step["StartTime"].as_str().unwrap() <= step["EndTime"].as_str().unwrap());
    // What the client tells comes later. Traces of others are taken and are nobody's.
    let span = |trace_id: Vec<u8>, name: &str| Span {
        trace_id,
        span_id: vec![0xab; 8],
        name: name.to_owned(),
        start: 1_700_000_000_000_000_000,
        end: 1_700_000_001_000_000_000,
    };
    let ours =
        (0..16).map(|place| u8::from_str_radix(&header[3 + 2 * place..5 + 2 * place], 16).unwrap()).collect();
    let spans = vec![
        span(ours, "the client's own"),
        span(vec![9; 16], "somebody else's"),
        span(Vec::new(), "nothing"),
    ];
    let told = Spans { resources: vec![OfResource { scopes: vec![OfScope { spans }] }] };
    let _: Taken = client.unary(EXPORT, told).unwrap();
    // It is written in a moment, when many clients may end.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut all = names(&trace(&client, &id));
    while !all.contains(&"the client's own".to_owned()) {
        assert!(std::time::Instant::now() < deadline, "{all:?}");
        std::thread::yield_now();
        all = names(&trace(&client, &id));
    }
    assert!(
        all.contains(&"the client's own".to_owned())
            && all.iter().any(|name| name.contains("RUN echo traced")),
        "{all:?}"
    );
    assert!(!all.iter().any(|name| name == "somebody else's" || name == "nothing"), "{all:?}");
    // A build without a trace has none.
    let id = unique("untraced");
    client.solve(dockerfile(&session, &id)).unwrap();
    assert!(trace(&client, &id).is_empty());
}

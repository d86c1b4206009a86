//! Clients of `lap daemon` that make mistakes, lie, or vanish. Each is told what is wrong, and no other notices.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use common::daemon::Daemon;
use common::env;
use grpc::control::{BuildHistoryEventType, BuildHistoryRequest, SolveRequest, StatusRequest};
use grpc::frontend::{self, PingRequest};
use grpc::session::{Packet, PacketType, Stat};
use grpc::{Client, Offer, OpenSession, dockerfile, exporter, unique};
use nix::sys::signal::Signal;
use testkit::wait::until;
use testkit::{Context, TestEnv};
use tonic::{Code, Status};

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile("FROM busybox\nCOPY file /\nRUN cat /file\n").file("file", "content\n");
    context
}

/// A build of somebody who does everything right.
fn builds_well(client: &Client, context: &Context) {
    let session = client.session(&Offer::new().context(context.path()));
    client.solve(dockerfile(&session, &unique("good"))).unwrap();
}

fn fails(client: &Client, request: SolveRequest, code: Code, parts: &[&str]) -> Status {
    let status = client.solve(request).unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    for part in parts {
        assert!(status.message().contains(part), "{part:?} in {status}");
    }
    status
}

#[test]
fn garbage_on_the_socket_disturbs_nobody() {
    let env = env();
    let mut daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let socket = grpc::socket(&daemon);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // The end of each is a frame of the largest length, of no known kind, for a stream that is not.
    let frame = [&preface[..], &[0xff; 64]].concat();
    let noise: Vec<u8> =
        (0..1 << 20).map(|number: u32| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let texts: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0", &noise, &frame, b"\x16\x03\x01\x02\0\x01"];
    for text in texts {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // It may have been closed before everything was written.
        let _ = stream.write_all(text);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    // These stay open: some have said nothing, some half a greeting, some have greeted and then stopped.
    let half_open: Vec<UnixStream> = (0..60)
        .map(|number| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(&preface[..[0, 9, preface.len()][number % 3]]).unwrap();
            stream
        })
        .collect();
    assert!(client.is_serving());
    builds_well(&client, &context(&env));
    drop(client);
    // They do not keep the daemon from ending either.
    assert_eq!(daemon.end(Signal::SIGTERM).code(), Some(0));
    drop(half_open);
}

#[test]
fn requests_that_mean_nothing_are_refused_by_name() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let session = client.session(&Offer::new().context(context.path()));
    let request = || dockerfile(&session, &unique("build"));
    let odd = SolveRequest { frontend: "nonsense.v0".to_owned(), ..request() };
    fails(&client, odd, Code::NotFound, &["nonsense.v0", "dockerfile.v0"]);
    fails(&client, SolveRequest { r#ref: String::new(), ..request() }, Code::InvalidArgument, &["a ref"]);
    let nobody = SolveRequest { session: "nobody".to_owned(), ..request() };
    fails(&client, nobody, Code::NotFound, &["no active session for nobody"]);
    let output = SolveRequest { exporters: vec![exporter("floppy", &[])], ..request() };
    fails(&client, output, Code::NotFound, &["floppy"]);
    // A policy that is not asked would allow everything.
    let asked = SolveRequest { source_policy_session: session.id().to_owned(), ..request() };
    fails(&client, asked, Code::Unimplemented, &["source_policy_session"]);
    let attributes = |name: &str, value: &str| SolveRequest {
        frontend_attrs: [(name.to_owned(), value.to_owned())].into_iter().collect(),
        ..request()
    };
    fails(&client, attributes("platform", "linux/amd64/v1/v2/v3"), Code::InvalidArgument, &["platform"]);
    fails(&client, attributes("contextkey", "elsewhere"), Code::NotFound, &["elsewhere"]);
    // A name may be as long as it likes; it is only a name.
    let long = "x".repeat(1 << 20);
    client.solve(dockerfile(&session, &long)).unwrap();
    let known = BuildHistoryRequest { r#ref: long, early_exit: true, ..BuildHistoryRequest::default() };
    assert_eq!(client.history(known).unwrap().len(), 1);

    let mut control = client.control();
    let nowhere = StatusRequest { r#ref: "nowhere".to_owned() };
    assert_eq!(client.wait(control.status(nowhere)).unwrap_err().code(), Code::NotFound);
    let ping = client.wait(client.gateway("nowhere").ping(PingRequest {}));
    assert_eq!(ping.unwrap_err().code(), Code::NotFound);
    let solve = frontend::SolveRequest { frontend: "dockerfile.v0".to_owned(), ..Default::default() };
    assert_eq!(client.wait(client.gateway("nowhere").solve(solve)).unwrap_err().code(), Code::NotFound);
    builds_well(&client, &context);
}

#[test]
fn what_is_too_large_is_not_taken() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let session = client.session(&Offer::new().context(context.path()));
    let large = |bytes: usize| {
        let attributes = [("label:large".to_owned(), "x".repeat(bytes))];
        SolveRequest {
            frontend_attrs: attributes.into_iter().collect(),
            ..dockerfile(&session, &unique("build"))
        }
    };
    let refused = client.solve(large(17 << 20)).unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused}");
    assert!(refused.message().contains("16777216"), "{refused}");
    client.solve(large(1 << 20)).unwrap();
    builds_well(&client, &context);
}

#[test]
fn a_name_is_that_of_one_build_at_a_time() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let session = client.session(&Offer::new().context(context.path()));
    let id = unique("build");
    let request = || dockerfile(&session, &id);
    let steered = client.begin(SolveRequest { frontend: String::new(), ..request() });
    client.wait(client.gateway(&id).ping(PingRequest {})).unwrap();
    fails(&client, request(), Code::AlreadyExists, &[&id, "already"]);
    assert!(!steered.is_over(), "the first is not disturbed");
    client.wait(client.gateway(&id).r#return(frontend::ReturnRequest::default())).unwrap();
    client.outcome(steered).unwrap();
    // When it is over the name is free, and means the newest.
    client.solve(request()).unwrap();
    context.dockerfile("FROM busybox\nRUN exit 3\n");
    client.solve(request()).unwrap_err();
    let known = BuildHistoryRequest { r#ref: id.clone(), early_exit: true, ..BuildHistoryRequest::default() };
    let events = client.history(known).unwrap();
    assert_eq!(events.len(), 1);
    assert!(events[0].record.as_ref().unwrap().error.is_some());

    let mut control = client.control();
    let mut again = tonic::Request::new(tokio_stream::pending());
    let name = session.id().parse().unwrap();
    again.metadata_mut().insert("x-docker-expose-session-uuid", name);
    assert_eq!(client.wait(control.session(again)).unwrap_err().code(), Code::AlreadyExists);
    let nameless = tonic::Request::new(tokio_stream::pending());
    assert_eq!(client.wait(control.session(nameless)).unwrap_err().code(), Code::InvalidArgument);
    builds_well(&client, &self::context(&env));
}

fn stat(path: &str, mode: u32, linkname: &str) -> Packet {
    let stat =
        Stat { path: path.to_owned(), mode, size: 7, linkname: linkname.to_owned(), ..Stat::default() };
    Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() }
}

fn packet(kind: PacketType, id: u32, data: &[u8]) -> Packet {
    Packet { r#type: kind.into(), id, data: data.to_vec(), ..Packet::default() }
}

#[test]
fn files_that_cannot_be_are_refused_and_reach_nothing() {
    const DIRECTORY: u32 = 1 << 31 | 0o755;
    const SYMLINK: u32 = 1 << 27 | 0o777;
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let outside = env.work().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let outside_text = outside.to_str().unwrap();
    let content = |id: u32| packet(PacketType::PacketData, id, b"hostile");
    let end = || packet(PacketType::PacketStat, 0, b"");
    let cases: Vec<(&str, Vec<Packet>)> = vec![
        ("above", vec![stat("../escaped", 0o644, ""), end(), content(0)]),
        ("absolute", vec![stat(outside_text, 0o644, ""), end(), content(0)]),
        ("dots", vec![stat("a/../../escaped", 0o644, ""), end(), content(0)]),
        ("zero", vec![stat("a\0b", 0o644, ""), end(), content(0)]),
        ("nameless", vec![stat("", 0o644, ""), end(), content(0)]),
        ("orphan", vec![stat("never/named", 0o644, ""), end(), content(0)]),
        (
            "through-link",
            vec![stat("link", SYMLINK, outside_text), stat("link/escaped", 0o644, ""), end(), content(1)],
        ),
        ("below-file", vec![stat("file", 0o644, ""), stat("file/x", 0o644, ""), end(), content(1)]),
        ("hard-link", vec![stat("x", 0o644, "../../outside/escaped"), end()]),
        ("unasked", vec![stat("d", DIRECTORY, ""), end(), content(0)]),
        ("unknown", vec![end(), content(9)]),
        ("after-the-end", vec![end(), stat("late", 0o644, "")]),
        ("asks", vec![packet(PacketType::PacketReq, 0, b"")]),
        ("ends", vec![packet(PacketType::PacketFin, 0, b"")]),
        ("fails", vec![packet(PacketType::PacketErr, 0, b"the disk of the client is broken")]),
    ];
    for (name, packets) in cases {
        let offer = Offer::new().directory("dockerfile", context.path()).nonsense("context", packets);
        let session = client.session(&offer);
        let refused = client.solve(dockerfile(&session, &unique(name)));
        assert!(refused.is_err(), "{name}");
        assert_ne!(refused.unwrap_err().code(), Code::Cancelled, "{name}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!env.work().join("escaped").exists());
    builds_well(&client, &context);
}

#[test]
fn clients_that_vanish_leave_nothing_that_runs() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let active = || {
        let wanted = BuildHistoryRequest { active_only: true, early_exit: true, ..Default::default() };
        client.history(wanted).unwrap().len()
    };
    // In the middle of sending its files: they are named, and never come.
    let names = vec![stat("file", 0o644, ""), packet(PacketType::PacketStat, 0, b"")];
    let offer = Offer::new().directory("dockerfile", context.path()).nonsense("context", names);
    let session = client.session(&offer);
    let id = unique("build");
    let build = client.begin(dockerfile(&session, &id));
    until("it begins", || active() == 1);
    drop(session);
    let status = client.outcome(build).unwrap_err();
    assert!(!status.message().is_empty(), "{status}");
    until("it ends", || active() == 0);

    // While its step runs, by leaving off waiting for the answer.
    let session = client.session(&Offer::new().context(context.path()));
    context.dockerfile("FROM busybox\nRUN echo begun; sleep 7322\n");
    let id = unique("build");
    let build = client.begin(dockerfile(&session, &id));
    until("it begins", || active() == 1);
    build.leave();
    until("it ends", || active() == 0);

    // While it steers, with its whole connection.
    let other = Client::of(&daemon);
    let theirs = other.session(&Offer::new().context(context.path()));
    let build =
        other.begin(SolveRequest { frontend: String::new(), ..dockerfile(&theirs, &unique("build")) });
    until("it begins", || active() == 1);
    drop((build, theirs, other));
    until("it ends", || active() == 0);
    context.dockerfile("FROM busybox\nRUN true\n");
    builds_well(&client, &context);
}

#[test]
fn a_hundred_builds_at_once_are_answered_and_remembered() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let context = context(&env);
    let sessions: Vec<OpenSession> =
        (0..10).map(|_| client.session(&Offer::new().context(context.path()))).collect();
    let ids: Vec<String> = (0..100).map(|_| unique("build")).collect();
    // Who listens and is slow hears of all of them.
    let mut listener = client.listen(BuildHistoryRequest::default()).unwrap();
    // A registry that cannot be asked would be waited for.
    let attributes = [("image-resolve-mode".to_owned(), "local".to_owned())];
    let builds: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(number, id)| {
            let request = dockerfile(&sessions[number % sessions.len()], id);
            client.begin(SolveRequest { frontend_attrs: attributes.clone().into_iter().collect(), ..request })
        })
        .collect();
    for build in builds {
        client.outcome(build).unwrap();
    }
    let events = client.history(BuildHistoryRequest { early_exit: true, ..Default::default() }).unwrap();
    assert_eq!(events.len(), ids.len());
    let records: Vec<_> = events.into_iter().filter_map(|event| event.record).collect();
    assert!(ids.iter().all(|id| records.iter().any(|record| record.r#ref == *id && record.error.is_none())));
    let mut ended = std::collections::HashSet::new();
    while ended.len() < ids.len() {
        let event = listener.next().unwrap();
        if event.r#type() == BuildHistoryEventType::Complete {
            ended.insert(event.record.unwrap().r#ref);
        }
    }
    let said = client.status(&ids[42]).unwrap();
    assert!(said.vertices.iter().all(|vertex| vertex.completed.is_some()), "{said:#?}");
}

#[test]
fn a_port_without_certificates_is_not_opened() {
    let env = env();
    let port = testkit::ports::free_port();
    let address = format!("tcp://127.0.0.1:{port}");
    env.lap(["daemon", "--addr", &address]).fails(2).stderr_has(&["anybody", "--insecure-tcp"]);
    let mut running = env.lap(["daemon", "--addr", &address, "--insecure-tcp"]).spawn();
    running.wait_for("listening on");
    let client = Client::connect(&format!("http://127.0.0.1:{port}"));
    assert!(client.is_serving());
    builds_well(&client, &context(&env));
    drop(client);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.finish().code(), Some(0));
}

#[test]
fn a_session_that_never_answers_is_given_up() {
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let mut control = client.control();
    let mut request = tonic::Request::new(tokio_stream::pending());
    let headers = request.metadata_mut();
    headers.insert("x-docker-expose-session-uuid", "silent".parse().unwrap());
    let method = "/moby.filesync.v1.FileSync/DiffCopy".parse().unwrap();
    headers.append("x-docker-expose-session-grpc-method", method);
    let _open = client.wait(control.session(request)).unwrap();
    let wanted = SolveRequest {
        r#ref: unique("build"),
        session: "silent".to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        ..SolveRequest::default()
    };
    // This would wait for ever.
    let status = client.solve(wanted.clone()).unwrap_err();
    assert!(!status.message().is_empty(), "{status}");
    fails(&client, SolveRequest { r#ref: unique("build"), ..wanted }, Code::NotFound, &["silent"]);
    builds_well(&client, &context(&env));
}

/// A registry that answers when it is told to, and counts what it is asked.
struct SlowRegistry {
    address: String,
    open: std::sync::Arc<std::sync::atomic::AtomicBool>,
    asked: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl SlowRegistry {
    fn start() -> Self {
        use std::sync::atomic::Ordering;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (open, asked) = (std::sync::Arc::default(), std::sync::Arc::default());
        let registry =
            Self { address, open: std::sync::Arc::clone(&open), asked: std::sync::Arc::clone(&asked) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (open, asked) = (std::sync::Arc::clone(&open), std::sync::Arc::clone(&asked));
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                        asked.fetch_add(1, Ordering::SeqCst);
                        until("the registry is told to answer", || open.load(Ordering::SeqCst));
                        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                    }
                });
            }
        });
        registry
    }
}

/// A registry that does not answer is asked once by all builds that want the same of it, and costs them the time of one.
#[test]
fn builds_at_once_ask_a_registry_once() {
    use std::sync::atomic::Ordering;
    const BUILDS: usize = 24;
    let env = env();
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let registry = SlowRegistry::start();
    let context = env.context();
    context.dockerfile(&format!("FROM {}/app:1\n", registry.address));
    let begun: Vec<_> = (0..BUILDS)
        .map(|_| {
            let session = client.session(&Offer::new().context(context.path()));
            let id = unique("slow");
            let build = client.begin(dockerfile(&session, &id));
            (session, id, build)
        })
        .collect();
    for (_, id, _) in &begun {
        let mut said = client.wait(client.control().status(StatusRequest { r#ref: id.clone() })).unwrap();
        let asks = |vertex: &grpc::control::Vertex| {
            vertex.name.contains("load metadata") && vertex.started.is_some()
        };
        while !client.next(&mut said).expect("it goes on").vertexes.iter().any(asks) {}
    }
    until("the registry is asked", || registry.asked.load(Ordering::SeqCst) > 0);
    assert_eq!(registry.asked.load(Ordering::SeqCst), 1, "who comes while it does not answer waits");
    registry.open.store(true, Ordering::SeqCst);
    for (_, _, build) in begun {
        let error = client.outcome(build).unwrap_err();
        assert!(error.message().contains("app:1"), "{error}");
    }
    // Who came when the answer was there has asked again.
    let asked = registry.asked.load(Ordering::SeqCst);
    assert!(asked < BUILDS, "{asked} questions of {BUILDS} builds");
}

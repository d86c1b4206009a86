//! Clients that mean no good, and a disk that is full: clear answers, and nothing half-written.

use std::io::Write as _;

use base::Digest;
use testkit::TestEnv;

use crate::http::{connect, send_raw};
use crate::server::{CONFIG, OCI_MANIFEST, Server, files, image};

#[test]
fn names_that_are_none_are_refused() {
    let server = Server::new();
    for name in ["..", "%2e%2e/x", "a/../b", "a%2f..%2fb", "A", "a//b", "a%00b", "_x", "-", "a/."] {
        for path in [format!("/v2/{name}/tags/list"), format!("/v2/{name}/manifests/1")] {
            assert_eq!(server.get(&path).is(400).code(), "NAME_INVALID", "{path}");
        }
        server.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"").is(400);
    }
    for tag in ["%2e%2e", "..", "a%2fb", "%20", &"x".repeat(200)] {
        server.get(&format!("/v2/a/manifests/{tag}")).is(400);
    }
    for digest in ["sha256:..", "sha256:AB", "sha512:00", "%2fetc%2fpasswd", "x"] {
        assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).is(400).code(), "DIGEST_INVALID", "{digest}");
    }
    for path in ["/", "/v1/_ping", "/v2/a", "/v2/a/tags", "/etc/passwd", "/v2/a/blobs/uploads/x/y"] {
        server.get(path).is(404);
    }
    for (method, path) in [("TRACE", "/v2/"), ("PUT", "/v2/a/tags/list"), ("POST", "/v2/a/manifests/1")] {
        assert_eq!(server.send(method, path, &[], b"").is(405).code(), "UNSUPPORTED");
    }
}

#[test]
fn documents_that_are_none_or_too_large_are_refused() {
    let server = Server::new();
    let large = vec![b' '; (4 << 20) + 1];
    server.put_manifest("a", "1", OCI_MANIFEST, &large).is(413);
    // One that does not say how long it is.
    let mut raw = b"PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..5 {
        raw.extend(format!("{:x}\r\n", 1 << 20).bytes());
        raw.extend(vec![b' '; 1 << 20]);
        raw.extend(b"\r\n");
    }
    raw.extend(b"0\r\n\r\n");
    send_raw(&server.address, &raw).unwrap().is(413);
    let deep = "[".repeat(1 << 20);
    for document in
        ["", "<html>", "null", "{}", "[]", &deep, r#"{"schemaVersion":1,"layers":[],"config":{}}"#]
    {
        let answer = server.put_manifest("a", "1", OCI_MANIFEST, document.as_bytes()).is(400);
        assert_eq!(answer.code(), "MANIFEST_INVALID");
    }
    server.push_blob("a", CONFIG);
    server.push_blob("a", b"layer");
    server.put_manifest("a", "1", "text/html", &image(b"layer")).is(400);
    // A config that is not one.
    let broken = String::from_utf8(image(b"layer")).unwrap();
    let broken = broken.replace(&Digest::of(CONFIG).to_string(), &Digest::of(b"layer").to_string());
    let broken = broken.replace(&format!("\"size\":{}", CONFIG.len()), "\"size\":5");
    let answer = server.put_manifest("a", "1", OCI_MANIFEST, broken.as_bytes()).is(400);
    assert_eq!(answer.code(), "MANIFEST_INVALID");
    server.get("/v2/a/tags/list").is(404);
}

#[test]
fn requests_that_are_none_do_no_harm() {
    let server = Server::new();
    let mut many = "GET /v2/ HTTP/1.1\r\nHost: x\r\n".to_owned();
    (0..5000).for_each(|n| many.push_str(&format!("X-{n}: y\r\n")));
    let refused = send_raw(&server.address, format!("{many}\r\n").as_bytes()).unwrap();
    assert!([400, 431].contains(&refused.status), "{refused:?}");
    let long = format!("GET /v2/{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    let refused = send_raw(&server.address, long.as_bytes()).unwrap();
    assert!([400, 414, 431].contains(&refused.status), "{refused:?}");
    for raw in [&b"\x16\x03\x01 hello"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n", b""] {
        let answer = send_raw(&server.address, raw);
        assert!(answer.is_none_or(|answer| answer.status == 400));
    }
    // Both lengths at once is how requests are smuggled.
    let two =
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd";
    send_raw(&server.address, two.as_bytes()).unwrap().is(400);
    // Many clients that say nothing do not keep others out.
    let silent: Vec<_> = (0..100).map(|_| connect(&server.address)).collect();
    server.get("/v2/").is(200);
    drop(silent);
    let env = server.stop();
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_length_that_is_a_lie_makes_no_blob() {
    let server = Server::new();
    let digest = Digest::of(b"four");
    let head = |length: usize| {
        format!(
            "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nfour"
        )
    };
    // Too short a body is a broken one, also if what came has the right digest.
    assert!(send_raw(&server.address, head(400).as_bytes()).is_none_or(|answer| answer.status == 400));
    assert!(!server.has_blob("a", &digest));
    // What is over belongs to the next request, and is none.
    let _ = send_raw(&server.address, head(2).as_bytes()).unwrap().is(400);
    assert!(!server.has_blob("a", &digest));
    let env = server.stop();
    assert_eq!(files(&env, "ingest"), Vec::<String>::new());
    assert_eq!(files(&env, "blobs-v1/sha256"), Vec::<String>::new());
}

#[test]
fn a_read_only_registry_changes_nothing() {
    let server = Server::new();
    let manifest = server.push_image("a", "1", b"layer");
    let server = Server::with(server.stop(), &["--read-only", "--name", "localhost:1"]);
    let digest = Digest::of(b"layer");
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("PUT", "/v2/a/manifests/2".to_owned()),
        ("DELETE", "/v2/a/manifests/1".to_owned()),
        ("DELETE", format!("/v2/a/blobs/{digest}")),
    ] {
        assert_eq!(server.send(method, &path, &[], &manifest).is(405).code(), "UNSUPPORTED");
    }
}

#[test]
fn a_full_disk_is_said_so_and_the_registry_goes_on() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = TestEnv::new();
    std::fs::create_dir_all(env.root()).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("small"), &env.root(), Some("tmpfs"), flags, Some("size=24m")).unwrap();
    let server = Server::with(env, &[]);
    let manifest = server.push_image("a", "1", &[5; 1 << 20]);
    let large = vec![6; 40 << 20];
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&large));
    let answer = server.send("POST", &path, &[], &large);
    assert_eq!(answer.status, 507, "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.body).contains("no room"), "{answer:?}");
    let place = server.begin("a");
    assert_eq!(server.send("PATCH", &place, &[], &large).status, 507);
    server.get(&place).is(404);
    assert_eq!(files(&server.env, "ingest"), Vec::<String>::new());
    assert_eq!(server.get("/v2/a/manifests/1").is(200).body, manifest);
    server.push_image("a", "2", b"small");
    let env = server.stop();
    nix::mount::umount2(&env.root(), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn the_end_waits_for_requests_and_not_for_idle_clients() {
    let server = Server::new();
    let content = vec![3; 1 << 20];
    let place = server.begin("a");
    let mut idle = connect(&server.address);
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut busy = connect(&server.address);
    let path = format!("{place}?digest={}", Digest::of(&content));
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    busy.write_all(head.as_bytes()).unwrap();
    busy.write_all(&content[..600_000]).unwrap();
    // The request is there when some of its bytes are.
    testkit::wait::until("something arrives", || server.get(&place).header("range") != Some("0-0"));
    server.signal_to_end();
    busy.write_all(&content[600_000..]).unwrap();
    let answer = crate::http::read(busy).expect("the request that ran is answered");
    answer.is(201);
    let env = server.stopped();
    env.lap(["store", "check"]).ok();
}

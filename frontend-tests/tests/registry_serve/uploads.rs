//! Getting a blob in: all the ways that the specification has, and those that go wrong.

use std::io::Write as _;

use base::Digest;

use testkit::{CuttingProxy, Image, Layer, LayerTar, TestEnv};

use crate::http::{connect, send_raw};
use crate::server::{CONFIG, OCI_MANIFEST, Server, files, image};

#[test]
fn a_blob_goes_up_in_one_request_in_two_or_in_chunks() {
    let server = Server::new();
    let digest = server.push_blob("a/b", b"in one");
    let answer = server.get(&format!("/v2/a/b/blobs/{digest}")).is(200);
    assert_eq!(answer.body, b"in one");
    assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));

    let (place, digest) = (server.begin("a"), Digest::of(b"in two"));
    let answer = server.send("PUT", &format!("{place}?digest={digest}"), &[], b"in two").is(201);
    assert_eq!(answer.header("location"), Some(format!("/v2/a/blobs/{digest}").as_str()));

    let (place, digest) = (server.begin("a"), Digest::of(b"in three chunks"));
    let answer = server.send("PATCH", &place, &[("Content-Range", "0-7")], b"in three").is(202);
    assert_eq!(answer.header("range"), Some("0-7"));
    // Without a range, as Docker sends it.
    server.send("PATCH", &place, &[], b" chu").is(202);
    let answer = server.send("GET", &place, &[], b"").is(204);
    assert_eq!((answer.header("range"), answer.header("location")), (Some("0-11"), Some(place.as_str())));
    server.send("PUT", &format!("{place}?digest={digest}"), &[("Content-Range", "12-14")], b"nks").is(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).body, b"in three chunks");
    assert_eq!(server.send("GET", &place, &[], b"").is(404).code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn chunks_that_do_not_fit_change_nothing() {
    let server = Server::new();
    let place = server.begin("a");
    server.send("PATCH", &place, &[("Content-Range", "0-3")], b"0123").is(202);
    for range in ["0-3", "5-8", "3-6", "9-5", "4", "bytes 4-7/9", "4-99999999999999999999"] {
        let answer = server.send("PATCH", &place, &[("Content-Range", range)], b"4567").is(416);
        assert_eq!((answer.header("range"), answer.header("location")), (Some("0-3"), Some(place.as_str())));
    }
    let answer = server.send("PATCH", &place, &[("Content-Range", "4-9")], b"4567").is(400);
    assert_eq!(answer.code(), "SIZE_INVALID");
    // A body in pieces has no length that could be compared before.
    let raw = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Range: 4-5\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n"
    );
    assert_eq!(send_raw(&server.address, raw.as_bytes()).unwrap().is(400).code(), "SIZE_INVALID");
    assert_eq!(server.get(&place).header("range"), Some("0-3"));
    server.send("PATCH", &place, &[("Content-Range", "4-5")], b"45").is(202);
    let digest = Digest::of(b"012345");
    server.send("PUT", &format!("{place}?digest={digest}"), &[], b"").is(201);
}

#[test]
fn an_upload_is_continued_after_a_broken_connection() {
    let server = Server::new();
    let place = server.begin("a");
    let head = format!("PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    let mut stream = connect(&server.address);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[7; 400]).unwrap();
    drop(stream);
    // It takes a moment until the server has seen the end.
    let range = |server: &Server| server.get(&place).header("range").map(str::to_owned);
    testkit::wait::until("all has arrived", || range(&server).as_deref() == Some("0-399"));
    server.send("PATCH", &place, &[("Content-Range", "400-999")], &[7; 600]).is(202);
    let digest = Digest::of(&[7; 1000]);
    server.send("PUT", &format!("{place}?digest={digest}"), &[], b"").is(201);
    assert!(server.has_blob("a", &digest));
}

#[test]
fn what_is_cancelled_or_wrong_leaves_nothing() {
    let server = Server::new();
    let place = server.begin("a");
    server.send("PATCH", &place, &[], &[1; 5000]).is(202);
    server.delete(&place).is(204);
    server.delete(&place).is(404);
    let other = Digest::of(b"other");
    let answer = server.send("POST", &format!("/v2/a/blobs/uploads/?digest={other}"), &[], b"this").is(400);
    assert_eq!(answer.code(), "DIGEST_INVALID");
    let place = server.begin("a");
    for bad in ["", "?digest=", "?digest=sha256:12", "?digest=md5:00", "?digest=sha256:../../etc/passwd"] {
        assert_eq!(server.send("PUT", &format!("{place}{bad}"), &[], b"").is(400).code(), "DIGEST_INVALID");
    }
    // An upload belongs to its repository.
    server.get(&place.replace("/a/", "/b/")).is(404);
    server.get("/v2/a/blobs/uploads/..%2f..%2fx").is(404);
    assert!(!server.has_blob("a", &other) && !server.has_blob("a", &Digest::of(b"this")));
    server.delete(&place).is(204);
    assert_eq!(files(&server.env, "ingest"), Vec::<String>::new());
    let env = server.stop();
    assert_eq!(files(&env, "leases"), Vec::<String>::new());
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let server = Server::new();
    let digest = server.push_blob("from", b"content");
    let mount = |digest: &str| format!("/v2/to/blobs/uploads/?mount={digest}&from=from");
    let answer = server.send("POST", &mount(&digest.to_string()), &[], b"").is(201);
    assert_eq!(answer.header("location"), Some(format!("/v2/to/blobs/{digest}").as_str()));
    assert_eq!(server.get(&format!("/v2/to/blobs/{digest}")).body, b"content");
    // What cannot be mounted is uploaded.
    for absent in [Digest::of(b"absent").to_string(), "nonsense".to_owned()] {
        server.send("POST", &mount(&absent), &[], b"").is(202);
    }
}

#[test]
fn several_clients_push_the_same_blob_at_once() {
    let server = Server::new();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = Digest::of(&content);
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (server, content) = (&server, &content);
            scope.spawn(move || server.push_image(&format!("team/app{client}"), "1", content));
        }
    });
    assert_eq!(server.get(&format!("/v2/team/app0/blobs/{digest}")).is(200).body, content);
    let catalog = server.get("/v2/_catalog").json();
    assert_eq!(catalog["repositories"].as_array().unwrap().len(), 6);
    let env = server.stop();
    env.lap(["store", "check"]).ok().stdout_has(&["The store is sound"]);
    assert_eq!(files(&env, "ingest"), Vec::<String>::new());
}

#[test]
fn an_upload_that_the_end_of_the_server_interrupts_is_garbage() {
    let server = Server::new();
    let place = server.begin("a");
    server.send("PATCH", &place, &[], &[9; 100_000]).is(202);
    assert_eq!(files(&server.env, "ingest").len(), 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.pid()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let env = server.ended();
    assert_eq!(files(&env, "ingest").len(), 1);
    // The next server has it collected, as a build would.
    let collecting = env.lap(["registry", "serve", "--addr", "127.0.0.1:0"]).env("LAPSTRAKE_GC", "wait");
    let mut running = collecting.spawn();
    running.wait_for_line("Listening on ");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.finish().code(), Some(0));
    assert_eq!(files(&env, "ingest"), Vec::<String>::new());
}

#[test]
fn a_collection_takes_nothing_that_is_being_pushed() {
    let server = Server::new();
    let collect = || server.env.lap(["store", "gc"]).ok();
    let (layer, manifest) = (b"layer", image(b"layer"));
    let place = server.begin("a");
    server.send("PATCH", &place, &[], &layer[..2]).is(202);
    collect();
    let path = format!("{place}?digest={}", Digest::of(layer));
    server.send("PUT", &path, &[], &layer[2..]).is(201);
    collect();
    server.push_blob("a", CONFIG);
    collect();
    server.put_manifest("a", &Digest::of(&manifest).to_string(), OCI_MANIFEST, &manifest).is(201);
    collect();
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", Digest::of(layer))).is(200).body, layer);
    // A blob that a client was told is there is there when its manifest comes.
    server.delete(&format!("/v2/a/manifests/{}", Digest::of(&manifest))).is(202);
    assert!(server.has_blob("a", &Digest::of(layer)) && server.has_blob("a", &Digest::of(CONFIG)));
    collect();
    server.put_manifest("b", "1", OCI_MANIFEST, &manifest).is(201);
    let env = server.stop();
    env.lap(["store", "gc"]).ok();
    env.lap(["store", "check"]).ok().stdout_has(&["The store is sound"]);
}

#[test]
fn a_push_whose_connection_breaks_goes_on_where_it_was() {
    const SIZE: u32 = 12_000_000;
    let server = Server::new();
    let proxy = CuttingProxy::start(&server.address, 2, 3_000_000);
    let noise = (0..SIZE / 4).flat_map(|i| i.wrapping_mul(2_654_435_761).rotate_left(i % 31).to_le_bytes());
    let layer = LayerTar::new().file("noise", 0o644, noise.collect::<Vec<u8>>()).finish();
    let env = TestEnv::new();
    env.load(&Image::new("app").layer(Layer::tar(layer)));
    let name = proxy.reference("app:1");
    env.lap(["tag", "app", &name]).ok();
    env.lap(["push", &name]).ok();
    assert_eq!(proxy.cuts_left(), 0);
    let size = u64::from(SIZE);
    // What was on its way when a connection was cut is lost: some buffers of each.
    assert!((size..size + size / 2).contains(&proxy.sent()), "{} bytes for {size}", proxy.sent());
    let direct = format!("{}/app:1", server.address);
    TestEnv::new().lap(["pull", &direct]).ok();
}

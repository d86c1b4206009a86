//! A build cache that builders share over `lap registry serve`: many results with one question, and only so many kept.

use base::image::media_type::OCI_MANIFEST;
use serde_json::json;
use testkit::{Context, FaultyRegistry, TestEnv};

use crate::common::{build, env, steps_run};
use crate::http::descriptor;
use crate::server::{Server, files};
use crate::tap::Tap;

/// A build of 31 steps.
fn context(env: &TestEnv) -> Context {
    let steps: String = (0..30).map(|step| format!("RUN echo {step} > /{step}\n")).collect();
    let context = env.context();
    context.file("file", "content").dockerfile(&format!("FROM busybox\nCOPY file /\n{steps}"));
    context
}

fn cache(address: &str) -> String {
    format!("type=records,ref={address}/team/cache")
}

/// How often each kind of question was asked.
fn questions(tap: &Tap) -> [usize; 2] {
    ["/_lapstrake/manifests", "/manifests/lapstrake-v1-"].map(|part| tap.requests(part).len())
}

#[test]
fn a_build_asks_for_all_of_its_steps_with_one_request() {
    let server = Server::new();
    let (first, second) = (env(), env());
    build(&first, &context(&first), &["--cache-to", &cache(&server.address)]);
    let tap = Tap::to(&server.address);
    let found = build(&second, &context(&second), &["--cache-from", &cache(&tap.address), "-t", "x"]);
    assert_eq!(steps_run(&found), Vec::<String>::new(), "{found}");
    assert_eq!(questions(&tap), [1, 0]);
    assert_eq!(second.lap(["run", "--rm", "x", "cat", "/29", "/file"]).ok().stdout_text(), "29\ncontent");
    // Nothing is in the cache of a build that begins with something else.
    let other = context(&second);
    other.file("file", "other").dockerfile("FROM busybox\nCOPY file /\nRUN echo a > /a\nRUN echo b > /b\n");
    let tap = Tap::to(&server.address);
    let output = build(&second, &other, &["--cache-from", &cache(&tap.address)]);
    assert_eq!(steps_run(&output).len(), 3);
    let [at_once, alone] = questions(&tap);
    assert!(at_once >= 1 && at_once + alone <= 4, "{:?}", tap.requests(""));
}

#[test]
fn a_registry_that_knows_no_such_questions_is_asked_once() {
    let registry = FaultyRegistry::start();
    let (first, second) = (env(), env());
    build(&first, &context(&first), &["--cache-to", &cache(registry.address())]);
    let found = build(&second, &context(&second), &["--cache-from", &cache(registry.address())]);
    assert_eq!(steps_run(&found), Vec::<String>::new(), "{found}");
    assert_eq!(registry.seen("/_lapstrake/").len(), 1);
}

#[test]
fn what_is_read_alone_can_be_read_together() {
    let server = Server::with(TestEnv::new(), &[]);
    let (one, two) = (server.push_image("a/b", "1", b"one"), server.push_image("a/b", "2", b"two"));
    let ask = |body: &str| {
        server.send(
            "POST",
            "/v2/a/b/_lapstrake/manifests",
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        )
    };
    let manifests = ask(r#"{"tags": ["2", "none", "..", "1"]}"#).is(200).json()["manifests"].clone();
    let [one, two] =
        [one, two].map(|manifest| serde_json::from_slice::<serde_json::Value>(&manifest).unwrap());
    assert_eq!(manifests, json!([two, null, null, one]));
    let many = json!({ "tags": vec!["x"; 1001] }).to_string();
    for wrong in ["", "{}", "[]", r#"{"tags": []}"#, r#"{"tags": [1]}"#, &many, &"[".repeat(100_000)] {
        ask(wrong).is(400);
    }
    server.get("/v2/a/b/_lapstrake/manifests").is(405);
    // Who may only read may ask.
    let server = Server::with(server.stop(), &["--read-only"]);
    let answer = server.send("POST", "/v2/a/b/_lapstrake/manifests", &[], br#"{"tags": ["1"]}"#).is(200);
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn long_answers_come_in_pieces() {
    let server = Server::new();
    let config = b"{}";
    server.push_blob("a", config);
    let long = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "annotations": {"text": "x".repeat(4_000_000)},
        "config": descriptor("application/vnd.oci.empty.v1+json", config),
    });
    server.put_manifest("a", "long", OCI_MANIFEST, long.to_string().as_bytes()).is(201);
    let question = json!({ "tags": vec!["long"; 10] }).to_string();
    let answer = server.send("POST", "/v2/a/_lapstrake/manifests", &[], question.as_bytes()).is(200);
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 4);
}

#[test]
fn builders_that_begin_at_once_make_each_step_once() {
    let server = Server::new();
    let builders: Vec<TestEnv> = (0..3).map(|_| env()).collect();
    let place = cache(&server.address);
    let flags = ["--cache-from", &place, "--cache-to", &place, "--cache-wait=60s"];
    let run: usize = std::thread::scope(|scope| {
        let builds: Vec<_> =
            builders.iter().map(|env| scope.spawn(|| build(env, &context(env), &flags))).collect();
        builds.into_iter().map(|build| steps_run(&build.join().unwrap()).len()).sum()
    });
    assert_eq!(run, 31);
}

#[test]
fn claims_that_make_no_sense_are_refused() {
    let server = Server::new();
    let path = "/v2/a/_lapstrake/claims";
    let claim = |method: &str, holder: &str| {
        let body = json!({"key": "k", "holder": holder, "seconds": 60}).to_string();
        server.send(method, path, &[], body.as_bytes())
    };
    assert_eq!(claim("POST", "one").is(200).json(), json!({"granted": true}));
    assert_eq!(claim("POST", "two").is(200).json(), json!({"granted": false}));
    claim("DELETE", "one").is(204);
    assert_eq!(claim("POST", "two").is(200).json(), json!({"granted": true}));
    server.get(path).is(405);
    let long = json!({"key": "k".repeat(1000), "holder": "h", "seconds": 1}).to_string();
    for wrong in ["", "{}", r#"{"key": 1}"#, &long, r#"{"key": "k", "holder": "h", "seconds": -1}"#] {
        server.send("POST", path, &[], wrong.as_bytes()).is(400);
    }
    let server = Server::with(server.stop(), &["--read-only"]);
    server.send("POST", path, &[], b"{}").is(405);
}

/// How many blobs a store has when it was served with these flags and then collected.
fn blobs_left(store: TestEnv, flags: &[&str]) -> (usize, TestEnv) {
    // The server looks after records when it begins and when it ends.
    let store = Server::with(store, flags).stop();
    store.lap(["store", "gc"]).ok();
    let shards = files(&store, "blobs-v1/sha256");
    let blobs = shards.iter().map(|shard| files(&store, &format!("blobs-v1/sha256/{shard}")).len()).sum();
    (blobs, store)
}

#[test]
fn records_that_nobody_uses_are_let_go() {
    let server = Server::new();
    server.push_image("team/app", "1", b"stays");
    // One builder writes records on their own, because others might wait for them, and one writes segments.
    let (builder, cache) = (env(), cache(&server.address));
    let alone = ["--cache-from", &cache, "--cache-to", &cache, "--cache-wait=60s"];
    build(&builder, &context(&builder), &alone);
    let other = context(&builder);
    other.file("file", "other");
    build(&builder, &other, &["--cache-to", &cache]);
    let store = server.stop();
    assert!(
        !store.lap(["images"]).ok().stdout_text().contains("lapstrake-v1-"),
        "records are no images that run"
    );
    let (with_records, store) = blobs_left(store, &["--cache-keep", "48h"]);
    assert!(with_records > 60, "a manifest and a layer for each step, not {with_records}");
    let (fewer, store) = blobs_left(store, &["--cache-size", "1"]);
    assert!(fewer < 10, "{fewer}");
    let (none, store) = blobs_left(store, &["--cache-keep", "1ms"]);
    assert_eq!(none, 3, "the manifest, the config and the layer of the image");
    store.lap(["store", "check"]).ok();
}

//! What is served: parts of blobs, manifests, lists, referrers; and deleting.

use base::Digest;
use serde_json::json;
use testkit::TestEnv;

use crate::common::{build, env};
use crate::http::descriptor;
use crate::server::{CONFIG, OCI_INDEX, OCI_MANIFEST, Server, files, image};

/// The most memory that the server may take, in KiB.
const MEMORY: u64 = 60 << 10;

#[test]
fn parts_of_a_blob_are_served() {
    let server = Server::new();
    let digest = server.push_blob("a", b"0123456789");
    let path = format!("/v2/a/blobs/{digest}");
    let part = |range: &str| server.send("GET", &path, &[("Range", range)], b"");
    let answer = part("bytes=2-4").is(206);
    assert_eq!((answer.header("content-range"), answer.body.as_slice()), (Some("bytes 2-4/10"), &b"234"[..]));
    assert_eq!(part("bytes=7-").is(206).body, b"789");
    assert_eq!(part("bytes=-2").is(206).body, b"89");
    assert_eq!(part("bytes=10-").is(416).header("content-range"), Some("bytes */10"));
    assert_eq!(part("bytes=4-2").is(200).body, b"0123456789");
    let other = [("Range", "bytes=2-4"), ("If-Range", "\"other\"")];
    assert_eq!(server.send("GET", &path, &other, b"").is(200).body, b"0123456789");
    let head = server.send("HEAD", &path, &[], b"").is(200);
    assert_eq!((head.header("content-length"), head.body.len()), (Some("10"), 0));
}

#[test]
fn manifests_are_had_by_tag_and_by_digest_and_become_images() {
    let server = Server::new();
    let manifest = server.push_image("team/app", "1", b"layer");
    let digest = Digest::of(&manifest);
    for name in ["1".to_owned(), digest.to_string()] {
        let answer = server.get(&format!("/v2/team/app/manifests/{name}")).is(200);
        assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
        assert_eq!(answer.body, manifest);
        let head = server.send("HEAD", &format!("/v2/team/app/manifests/{name}"), &[], b"").is(200);
        assert_eq!(head.header("content-length"), Some(manifest.len().to_string().as_str()));
    }
    assert_eq!(server.get("/v2/team/app/manifests/2").is(404).code(), "MANIFEST_UNKNOWN");
    // In another repository it is not.
    server.get(&format!("/v2/other/manifests/{digest}")).is(404);
    // What had the name before can still be had by its digest.
    let newer = server.push_image("team/app", "1", b"newer layer");
    assert_eq!(server.get("/v2/team/app/manifests/1").body, newer);
    assert_eq!(server.get(&format!("/v2/team/app/manifests/{digest}")).is(200).body, manifest);
    let layer = Digest::of(b"newer layer");
    let env = server.stop();
    // It is an image of the store like any other, and stays.
    env.lap(["image", "prune", "-f"]).ok();
    env.lap(["store", "gc"]).ok();
    let server = Server::with(env, &["--name", "localhost:1"]);
    assert!(!server.has_blob("team/app", &Digest::of(b"layer")), "it was pruned");
    assert!(server.has_blob("team/app", &layer));
}

#[test]
fn manifests_must_be_whole() {
    let server = Server::new();
    let manifest = image(b"absent");
    let answer = server.put_manifest("a", "1", OCI_MANIFEST, &manifest).is(404);
    assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN");
    let missing: Vec<String> = answer.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["detail"]["digest"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(missing, [Digest::of(CONFIG).to_string(), Digest::of(b"absent").to_string()]);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, b"absent")]});
    let answer = server.put_manifest("a", "1", OCI_INDEX, index.to_string().as_bytes()).is(404);
    assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN");
    server.push_blob("a", CONFIG);
    server.push_blob("a", b"layer");
    let wrong = String::from_utf8(image(b"layer")).unwrap().replace("\"size\":5", "\"size\":6");
    assert_eq!(
        server.put_manifest("a", "1", OCI_MANIFEST, wrong.as_bytes()).is(400).code(),
        "MANIFEST_INVALID"
    );
    let other = Digest::of(b"other").to_string();
    assert_eq!(
        server.put_manifest("a", &other, OCI_MANIFEST, &image(b"layer")).is(400).code(),
        "DIGEST_INVALID"
    );
    assert_eq!(server.get("/v2/a/tags/list").is(404).code(), "NAME_UNKNOWN");
}

#[test]
fn tags_and_repositories_are_listed_in_pieces() {
    let server = Server::new();
    for tag in ["b", "a", "d", "c"] {
        server.push_image("team/app", tag, b"layer");
    }
    let list = |path: &str| {
        let answer = server.get(path).is(200);
        (answer.json()["tags"].clone(), answer.header("link").map(str::to_owned))
    };
    assert_eq!(list("/v2/team/app/tags/list"), (json!(["a", "b", "c", "d"]), None));
    let (first, link) = list("/v2/team/app/tags/list?n=3");
    assert_eq!(first, json!(["a", "b", "c"]));
    let next = link.unwrap();
    assert_eq!(next, "</v2/team/app/tags/list?n=3&last=c>; rel=\"next\"");
    let next = next.split(['<', '>']).nth(1).unwrap();
    assert_eq!(list(next), (json!(["d"]), None));
    assert_eq!(list("/v2/team/app/tags/list?n=0").0, json!([]));
    server.get("/v2/team/app/tags/list?n=x").is(400);
    server.push_image("other", "1", b"layer");
    let answer = server.get("/v2/_catalog?n=1").is(200);
    assert_eq!(answer.json()["repositories"], json!(["other"]));
    assert_eq!(answer.header("link"), Some("</v2/_catalog?n=1&last=other>; rel=\"next\""));
}

#[test]
fn what_refers_to_a_manifest_is_found() {
    let server = Server::new();
    let subject = server.push_image("a", "1", b"layer");
    server.push_blob("a", b"{}");
    let signature = |kind: &str, about: &[u8]| {
        json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "layers": [],
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "subject": descriptor(OCI_MANIFEST, about), "annotations": {"k": kind},
        })
        .to_string()
        .into_bytes()
    };
    let push = |manifest: &[u8]| {
        server.put_manifest("a", &Digest::of(manifest).to_string(), OCI_MANIFEST, manifest).is(201)
    };
    for kind in ["x/one", "x/two"] {
        let answer = push(&signature(kind, &subject));
        assert_eq!(answer.header("oci-subject"), Some(Digest::of(&subject).to_string().as_str()));
    }
    let path = format!("/v2/a/referrers/{}", Digest::of(&subject));
    let answer = server.get(&path).is(200);
    assert_eq!(
        (answer.header("content-type"), answer.json()["manifests"].as_array().unwrap().len()),
        (Some(OCI_INDEX), 2)
    );
    let answer = server.get(&format!("{path}?artifactType=x%2Ftwo")).is(200);
    assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
    let found = answer.json()["manifests"].clone();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["annotations"]["k"]), (1, &json!("x/two")));
    // Of nothing and in other repositories nothing is said.
    for other in
        [format!("/v2/b/referrers/{}", Digest::of(&subject)), format!("/v2/a/referrers/{}", Digest::of(b"x"))]
    {
        assert_eq!(server.get(&other).is(200).json()["manifests"], json!([]));
    }
    server.get("/v2/a/referrers/nonsense").is(400);
    // The subject may come later.
    let later = image(b"later");
    push(&signature("x/early", &later));
    let path = format!("/v2/a/referrers/{}", Digest::of(&later));
    let early = server.get(&path).json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    server.delete(&format!("/v2/a/manifests/{early}")).is(202);
    assert_eq!(server.get(&path).json()["manifests"], json!([]));
    // What is no image does not hide the images, and can be removed like one.
    let signature = Digest::of(&signature("x/one", &subject));
    let name = format!("{}/a@{signature}", server.name);
    let env = server.stop();
    env.lap(["images"]).ok();
    env.lap(["rmi", &name]).ok().stdout_has(&["Untagged"]);
    env.lap(["rmi", &name]).fails(1).stderr_has(&["no such image"]);
}

#[test]
fn tags_manifests_and_blobs_are_deleted() {
    let server = Server::new();
    let manifest = server.push_image("a", "1", b"layer");
    server.put_manifest("a", "2", OCI_MANIFEST, &manifest).is(201);
    let (digest, layer) = (Digest::of(&manifest), Digest::of(b"layer"));
    server.delete("/v2/a/manifests/1").is(202);
    server.get("/v2/a/manifests/1").is(404);
    server.delete("/v2/a/manifests/1").is(404);
    server.get(&format!("/v2/a/manifests/{digest}")).is(200);
    assert_eq!(server.delete(&format!("/v2/a/blobs/{layer}")).is(403).code(), "DENIED");
    server.delete(&format!("/v2/a/manifests/{digest}")).is(202);
    server.get("/v2/a/manifests/2").is(404);
    server.get(&format!("/v2/a/manifests/{digest}")).is(404);
    server.delete(&format!("/v2/a/blobs/{layer}")).is(202);
    server.delete(&format!("/v2/a/blobs/{layer}")).is(404);
    assert!(!server.has_blob("a", &layer));
    let env = server.stop();
    env.lap(["store", "gc"]).ok();
    assert_eq!(files(&env, "blobs-v1/sha256"), Vec::<String>::new());
}

#[test]
fn an_index_takes_the_names_of_its_manifests() {
    let server = Server::new();
    server.push_blob("a", b"layer");
    server.push_blob("a", CONFIG);
    let child = image(b"layer");
    let digest = Digest::of(&child).to_string();
    server.put_manifest("a", &digest, OCI_MANIFEST, &child).is(201);
    let listed = || server.env.lap(["images", "--digests"]).ok().stdout_text();
    assert_eq!(server.get("/v2/a/tags/list").json()["tags"], json!([]));
    let index =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OCI_MANIFEST, &child)]});
    server.put_manifest("a", "all", OCI_INDEX, index.to_string().as_bytes()).is(201);
    server.get(&format!("/v2/a/manifests/{digest}")).is(200);
    assert_eq!(server.delete(&format!("/v2/a/manifests/{digest}")).is(403).code(), "DENIED");
    // Pushed again, it needs no name of its own.
    server.put_manifest("a", &digest, OCI_MANIFEST, &child).is(201);
    server.delete("/v2/a/manifests/all").is(202);
    server.get(&format!("/v2/a/manifests/{digest}")).is(404);
    assert_eq!(listed().lines().count(), 1, "{}", listed());
}

#[test]
fn images_of_the_store_are_served_under_their_names() {
    let env = env();
    let context = env.context();
    context.file("f", "content").dockerfile("FROM busybox\nCOPY f /f\n");
    build(&env, &context, &["-t", "registry.example:5000/team/app:1", "-t", "quay.io/me/app:2"]);
    let server = Server::with(env, &["--name", "registry.example:5000"]);
    assert_eq!(server.name, "registry.example:5000");
    let catalog = server.get("/v2/_catalog").json();
    assert_eq!(catalog["repositories"], json!(["library/busybox", "quay.io/me/app", "team/app"]));
    let manifest = server.get("/v2/team/app/manifests/1").is(200);
    assert_eq!(server.get("/v2/quay.io/me/app/manifests/2").is(200).body, manifest.body);
    assert_eq!(server.get("/v2/me/app/manifests/2?ns=quay.io").is(200).body, manifest.body);
    server.get("/v2/team/app/manifests/1?ns=docker.io").is(404);
    for repository in ["busybox", "library/busybox", "docker.io/library/busybox"] {
        server.get(&format!("/v2/{repository}/manifests/latest")).is(200);
    }
    // Nobody has needed the new layer's blob yet.
    let layers = manifest.json()["layers"].clone();
    let layer = layers.as_array().unwrap().last().unwrap().clone();
    let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
    let blob = server.env.root().join(format!("blobs-v1/sha256/{}/{}", &digest.hex()[..2], digest.hex()));
    assert!(server.has_blob("team/app", &digest) && !blob.exists());
    let content = server.get(&format!("/v2/team/app/blobs/{digest}")).is(200).body;
    assert_eq!((Digest::of(&content), json!(content.len())), (digest, layer["size"].clone()));
    assert!(blob.exists());
    // The machine's own images are not the clients'.
    assert_eq!(server.delete("/v2/library/busybox/manifests/latest").is(403).code(), "DENIED");
    server.push_blob("library/busybox", CONFIG);
    server.push_blob("library/busybox", b"layer");
    server.put_manifest("library/busybox", "latest", OCI_MANIFEST, &image(b"layer")).is(201);
    let id = |name: &str| server.env.lap(["image", "inspect", "-f", "{{.Id}}", name]).ok().stdout_text();
    assert_eq!(id("busybox").trim(), testkit::images::busybox().id().to_string());
    assert_eq!(server.get("/v2/library/busybox/manifests/latest").body, image(b"layer"));
}

#[test]
fn memory_does_not_grow_with_what_is_transferred() {
    let server = Server::with(TestEnv::new(), &[]);
    let content: Vec<u8> = (0..200_000_000_u64).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let digest = Digest::of(&content);
    std::thread::scope(|scope| {
        for client in 0..2 {
            let (server, content) = (&server, &content);
            scope.spawn(move || server.push_image(&format!("big{client}"), "1", content));
        }
    });
    assert!(
        server.get(&format!("/v2/big0/blobs/{digest}")).is(200).body == content,
        "it came back otherwise"
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak <= MEMORY, "{peak} KiB at its peak");
}

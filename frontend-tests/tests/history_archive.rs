//! Builds that are carried to another machine: what one store exports another reads, and nothing hostile gets in.

mod common;

use std::path::{Path, PathBuf};

use base::Digest;
use common::{build, build_fails, env};
use serde_json::{Value, json};
use testkit::{Context, TestEnv};

/// Two builds: one that works, and one that runs a step again and fails.
fn builds(env: &TestEnv) -> Context {
    let context = env.context();
    context
        .file("f", "one")
        .dockerfile("FROM busybox\nCOPY f /f\nRUN echo said-it; cat /f\nRUN ! grep two /f\n");
    build(env, &context, &["-t", "app"]);
    context.file("f", "two");
    build_fails(env, &context, &[]);
    context
}

fn export(env: &TestEnv, args: &[&str]) -> PathBuf {
    let path = env.work().join("builds.tar");
    env.lap(["history", "export", "-o"]).arg(&path).args(args).ok();
    path
}

fn listed(env: &TestEnv) -> Vec<String> {
    let format = "{{.ID}} {{.Name}} {{.Status}} {{.CreatedAt}} {{.Duration}}";
    env.lap(["history", "ls", "--format", format]).ok().stdout_text().lines().map(str::to_owned).collect()
}

#[test]
fn an_imported_build_is_listed_inspected_read_and_explained_like_any_other() {
    let (here, there) = (env(), TestEnv::new());
    builds(&here);
    let archive = export(&here, &["--all"]);
    let printed = there.lap(["history", "import"]).arg(&archive).ok().stdout_text();
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert_eq!(listed(&there), listed(&here));
    for command in [
        &["history", "inspect"][..],
        &["history", "inspect", "--format", "json"],
        &["history", "inspect", "^1"],
        &["history", "logs"],
        &["history", "logs", "--progress", "rawjson", "^1"],
        &["why"],
        &["why", "--format", "json", "RUN echo"],
        &["why", "--build", "^1"],
    ] {
        let said = |env: &TestEnv| env.lap(command).ok().stdout_text();
        assert_eq!(said(&there), said(&here), "{command:?}");
    }
    there.lap(["why", "RUN echo"]).ok().stdout_has(&["f changed", "compared with build"]);
    there.lap(["history", "logs"]).ok().stdout_has(&["said-it", "exit code: 1"]);
    there.lap(["debug"]).fails(1).stderr_has(&["no failed step"]);
    there.lap(["store", "check"]).ok();
    // It outlives a collection, and can be carried on.
    there.lap(["system", "prune", "-f"]).ok();
    let again = export(&there, &["^1"]);
    let third = TestEnv::new();
    third.lap(["history", "import", "--file"]).arg(&again).ok();
    assert_eq!(third.lap(["why"]).ok().stdout_text(), there.lap(["why", "--build", "^1"]).ok().stdout_text());
    let id = listed(&third)[0].split(' ').next().unwrap().to_owned();
    third.lap(["history", "rm", &id]).ok();
    assert!(listed(&third).is_empty());
}

#[test]
fn an_archive_goes_through_pipes_and_is_the_same_each_time() {
    let (here, there) = (env(), TestEnv::new());
    let context = builds(&here);
    // Nothing runs in this one, so that it has no directory.
    context.file("f", "one");
    build(&here, &context, &[]);
    let piped = here.lap(["history", "export", "-o", "-"]).ok().stdout;
    assert_eq!(here.lap(["history", "export", "^0", "^0"]).ok().stdout, piped);
    there.lap(["history", "import", "-"]).stdin(piped.clone()).ok();
    assert_eq!(listed(&there), listed(&here)[..1]);
    there.lap(["why"]).ok().stdout_has(&["every step was cached"]);
    // What is here already stays as it is.
    let again = there.lap(["history", "import"]).stdin(piped).ok();
    again.stderr_has(&["was here already"]);
    assert_eq!(listed(&there).len(), 1);
}

#[test]
fn builds_made_here_are_not_compared_with_imported_ones() {
    let (here, there) = (env(), env());
    let context = builds(&here);
    let archive = export(&here, &["^1"]);
    there.lap(["history", "import"]).arg(&archive).ok();
    // The same directory and Dockerfile, in another store.
    build_fails(&there, &context, &[]);
    there.lap(["why", "RUN echo"]).ok().stdout_has(&["never built here"]);
}

#[test]
fn a_running_build_is_not_exported_and_a_killed_one_is() {
    let (here, there) = (env(), TestEnv::new());
    let context = here.context();
    context.dockerfile("FROM busybox\nRUN echo first-step\nRUN echo second-''step; sleep 1000\n");
    let mut running = here.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    running.wait_for("second-step");
    here.lap(["history", "export"]).fails(1).stderr_has(&["is running"]);
    here.lap(["history", "export", "--all"]).fails(1).stderr_has(&["no build to export"]);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.finish();
    let archive = export(&here, &[]);
    there.lap(["history", "import"]).arg(&archive).ok();
    assert_eq!(listed(&there), listed(&here));
    there.lap(["history", "logs"]).ok().stdout_has(&["first-step"]);
    there.lap(["history", "ls", "--filter", "status=interrupted", "--format", "{{.ID}}"]).ok();
}

/// A layout of one build, made of these documents.
struct Forged {
    listed: Value,
    record: Vec<u8>,
    graph: Vec<u8>,
    events: Vec<u8>,
}

impl Forged {
    /// One that is accepted.
    fn sound() -> Self {
        let request = json!({"context": "/c", "dockerfile": "Dockerfile", "target": null, "platforms": [],
            "build_args": {}, "no_cache": false, "no_cache_filter": [], "builder": "1"});
        let at = "2026-01-01T00:00:00Z";
        let record = json!({"version": 1, "id": "abc", "request": request, "started": at, "ended": at,
            "isolation": "none", "error": null, "image": null, "names": [], "graph": null,
            "steps": [{"outcome": "done", "started": at, "ended": "2025-01-01T00:00:00Z"}], "other": []});
        let graph = json!({"version": 1, "steps": [{"name": "RUN evil\u{1b}[2J", "stage": "", "aspects": [], "inputs": []}]});
        let project = "0".repeat(64);
        Self {
            listed: json!({"version": 1, "id": "abc", "project": project, "name": "evil\u{1b}]0;title\u{7}",
                "created": "9999-01-01T00:00:00Z", "ended": at, "status": "perhaps"}),
            record: record.to_string().into_bytes(),
            graph: graph.to_string().into_bytes(),
            events: Vec::new(),
        }
    }

    /// The archive at `path`; parts are compressed by `pack`.
    fn write(&self, path: &Path, pack: impl Fn(&[u8]) -> Vec<u8>) {
        let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
        let mut add = |name: String, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes).unwrap();
        };
        let mut blob = |media_type: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            add(format!("blobs/sha256/{}", digest.hex()), bytes);
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
        };
        let kind = |part: &str| format!("application/vnd.lapstrake.build.{part}+zstd");
        let layers = [
            ("record.v1.json", &self.record),
            ("graph.v1.json", &self.graph),
            ("events.v1.jsonl", &self.events),
        ]
        .map(|(part, bytes)| blob(&kind(part), &pack(bytes)));
        let config = blob("application/vnd.lapstrake.build.v1+json", self.listed.to_string().as_bytes());
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let document = json!({"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": layers});
        let root = blob(manifest, document.to_string().as_bytes());
        add("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#);
        add("index.json".to_owned(), json!({"schemaVersion": 2, "manifests": [root]}).to_string().as_bytes());
        tar.finish().unwrap();
    }

    fn refused(&self, env: &TestEnv, because: &str) {
        let path = env.work().join("forged.tar");
        self.write(&path, |bytes| zstd::encode_all(bytes, 1).unwrap());
        refused(env, &path, because);
    }
}

fn refused(env: &TestEnv, archive: &Path, because: &str) {
    let output = env.lap(["history", "import"]).arg(archive).fails(1);
    assert!(output.stderr_text().contains(because), "{because}\n{output}");
    assert!(listed(env).is_empty(), "{because}: half a build is there");
}

#[test]
fn a_hostile_archive_is_refused_and_leaves_nothing() {
    let env = TestEnv::new();
    let path = env.work().join("forged.tar");
    for id in ["../../etc", "", "A", "a/b", &"a".repeat(65)] {
        let mut forged = Forged::sound();
        forged.listed["id"] = json!(id);
        forged.refused(&env, "the description of a build is not one");
    }
    let with = |change: &dyn Fn(&mut Forged)| {
        let mut forged = Forged::sound();
        change(&mut forged);
        forged
    };
    with(&|forged| forged.record = b"{".to_vec()).refused(&env, "the record of a build is not one");
    with(&|forged| forged.record = b"[".repeat(1 << 20)).refused(&env, "the record of a build is not one");
    with(&|forged| forged.listed["id"] = json!("abd")).refused(&env, "is that of another build");
    with(&|forged| forged.graph = br#"{"version":1,"steps":[]}"#.to_vec())
        .refused(&env, "has other steps than its record");
    let itself = json!({"version": 1, "steps": [{"name": "a", "stage": "", "aspects": [], "inputs": [0]}]});
    with(&|forged| forged.graph = itself.to_string().into_bytes())
        .refused(&env, "the graph of a build is not one");
    // A megabyte that becomes half a gigabyte.
    let bomb = vec![0; 512 << 20];
    with(&|forged| forged.record.clone_from(&bomb)).refused(&env, "is larger than the limit");
    drop(bomb);

    Forged::sound().write(&path, <[u8]>::to_vec);
    refused(&env, &path, "cannot read the record of a build");
    Forged::sound().write(&path, |bytes| zstd::encode_all(bytes, 1).unwrap());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 1024 * 512]).unwrap();
    refused(&env, &path, "cut short");
    let mut changed = whole.clone();
    let name = b"title";
    let at = changed.windows(name.len()).position(|bytes| bytes == name).unwrap();
    changed[at] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    refused(&env, &path, "damaged or forged");
    testkit::images::busybox().write_archive(&path);
    refused(&env, &path, "it has no build records");
    std::fs::write(&path, "no archive").unwrap();
    refused(&env, &path, "forged.tar");
    refused(&env, &env.work().join("absent.tar"), "absent.tar");
    env.lap(["store", "check"]).ok();
}

#[test]
fn what_an_archive_says_does_not_drive_the_terminal() {
    let env = TestEnv::new();
    let path = env.work().join("forged.tar");
    Forged::sound().write(&path, |bytes| zstd::encode_all(bytes, 1).unwrap());
    env.lap(["history", "import"]).arg(&path).ok();
    for command in [&["history", "ls"][..], &["history", "inspect"], &["why"], &["history", "logs"]] {
        let text = env.lap(command).ok().stdout_text();
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{command:?}: {text:?}");
    }
    // A clock that is ahead there makes it no newer than now, and one that jumped back makes no trace fail.
    let created = env.lap(["history", "ls", "--format", "{{.CreatedAt}}"]).ok().stdout_text();
    assert!(!created.starts_with("9999"), "{created}");
    let trace = env.work().join("trace.json");
    env.lap(["history", "inspect", "--trace"]).arg(&trace).ok();
    assert!(std::fs::read_to_string(&trace).unwrap().contains("\"dur\":0"));
}

#[test]
fn pinned_builds_are_shown_as_such_and_filters_choose() {
    let env = env();
    builds(&env);
    let ids = |filters: &[&str]| {
        let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
        let output = env.lap(["history", "ls", "--format", "{{.ID}}"]).args(flags).ok();
        output.stdout_text().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = ids(&[]);
    let [failed, works] = &all[..] else { panic!("{all:?}") };
    assert_eq!(ids(&["status=error"]), [failed.as_str()]);
    assert_eq!(ids(&["status!=error", "duration<10h"]), [works.as_str()]);
    assert_eq!(ids(&[&format!("ref!={failed}")]), [works.as_str()]);
    assert!(ids(&["startedAt<1h"]).is_empty() && ids(&["completedAt>1h"]).len() == 2);
    env.lap(["history", "ls", "--filter", "size>3"]).fails(2).stderr_has(&["there is no such property"]);
    assert_eq!(env.lap(["history", "pin", "^1"]).ok().stdout_text().trim(), works);
    assert_eq!(ids(&["pinned=true"]), [works.as_str()]);
    env.lap(["history", "unpin", works]).ok();
    assert!(ids(&["pinned=true"]).is_empty());
    env.lap(["history", "pin", "^7"]).fails(1).stderr_has(&["no build \"^7\""]);
    env.lap(["history", "rm", "^1", "^0"]).ok();
    assert!(ids(&[]).is_empty(), "both are what they were when the command began");
}

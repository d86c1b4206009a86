//! Bills of materials that an image makes (`--sbom generator=IMAGE`): by BuildKit's protocol, with `lap build`, buildx and definitions.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use std::path::Path;

use common::daemon::{Buildx, Daemon};
use common::{build, build_fails, env, outcome};
use grpc::control::SolveRequest;
use grpc::llb::Llb;
use grpc::{Client, Offer, exporter, unique};
use serde_json::Value;
use testkit::docker_registry::DockerRegistry;
use testkit::{Context, TestEnv};

/// A scanner: it tells what it was told, and which files it finds.
const SCAN: &str = r#"set -e
statement() {
  printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":[],' > "$1"
  printf '"predicate":{"name":"%s","files":"%s","depth":"%s","by":"%s"}}' "$2" "$3" "$BUILDKIT_SCAN_DEPTH" "$BY" >> "$1"
}
echo looking into $BUILDKIT_SCAN_SOURCE
mode="${BUILDKIT_SCAN_MODE-}"
[ "$mode" != fail ] || { echo no luck >&2; exit 7; }
[ "$mode" != silent ] || exit 0
[ "$mode" != nonsense ] || { echo nonsense > $BUILDKIT_SCAN_DESTINATION/sbom.spdx.json; exit 0; }
! touch $BUILDKIT_SCAN_SOURCE/written 2>/dev/null
name=$(basename $BUILDKIT_SCAN_SOURCE)
statement $BUILDKIT_SCAN_DESTINATION/$name.spdx.json $name "$(cat $BUILDKIT_SCAN_SOURCE/found)"
echo this is no statement > $BUILDKIT_SCAN_DESTINATION/notes.txt
[ -n "${BUILDKIT_SCAN_SOURCE_EXTRAS-}" ] || exit 0
for extra in $BUILDKIT_SCAN_SOURCE_EXTRAS/*; do
  name=$(basename $extra)
  statement $BUILDKIT_SCAN_DESTINATION/$name.spdx.json $name "$(ls $extra | tr '\n' ' ')"
done
"#;

/// Makes the image `scanner`.
fn add_scanner(env: &TestEnv) {
    let context = env.context();
    context.file("scan", SCAN);
    context.dockerfile("FROM busybox\nENV BY=ours\nCOPY scan /scan\nENTRYPOINT [\"/bin/sh\", \"/scan\"]\n");
    build(env, &context, &["-t", "scanner"]);
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn two_stages(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("hello", "hello\n").dockerfile(
        "FROM scratch AS tools\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nCOPY hello /hammer\n\
         FROM scratch AS other\nCOPY hello /nail\n\
         FROM busybox\nARG TARGETARCH\nARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nCOPY --from=tools /hammer /\n\
         COPY --from=other /nail /\nRUN env > /env; echo $TARGETARCH > /found\n",
    );
    context
}

#[test]
fn lap_build_has_a_scanner_look_into_the_image_its_stages_and_its_context() {
    let env = env();
    add_scanner(&env);
    let context = two_stages(&env);
    let out = env.work().join("out");
    let output = format!("type=local,dest={}", out.display());
    let flags = ["--attest", "type=sbom,generator=scanner,DEPTH=3", "-o", &output];
    let first = build(&env, &context, &flags);
    first.stderr_has(&["generating sbom using", "looking into /run/src/core/sbom"]);
    let sbom = json(&out.join("sbom.spdx.json"));
    assert_eq!(sbom["predicateType"], "https://spdx.dev/Document");
    let found = std::fs::read_to_string(out.join("found")).unwrap();
    let expected = serde_json::json!({ "name": "sbom", "files": found.trim(), "depth": "3", "by": "ours" });
    assert_eq!(sbom["predicate"], expected);
    assert_eq!(json(&out.join("sbom-tools.spdx.json"))["predicate"]["files"], "hammer ");
    assert_eq!(json(&out.join("sbom-context.spdx.json"))["predicate"]["files"], "Dockerfile hello ");
    assert!(!out.join("sbom-other.spdx.json").exists() && !out.join("notes.txt").exists());
    assert!(!out.join("written").exists());
    // What says that is for the builder alone.
    let variables = std::fs::read_to_string(out.join("env")).unwrap();
    assert!(variables.contains("TARGETARCH=") && !variables.contains("SBOM_SCAN"), "{variables}");
    // The same files are looked into once.
    std::fs::remove_dir_all(&out).unwrap();
    let again = build(&env, &context, &flags);
    assert_eq!(outcome(&again, "generating sbom using"), "CACHED");
    assert_eq!(json(&out.join("sbom.spdx.json"))["predicate"], expected);
    // The scanner that is built in looks into the same places.
    std::fs::remove_dir_all(&out).unwrap();
    build(&env, &context, &["--sbom", "true", "-o", &output]);
    for name in ["sbom", "sbom-tools", "sbom-context"] {
        let bill = json(&out.join(format!("{name}.spdx.json")));
        assert_eq!(bill["predicate"]["spdxVersion"], "SPDX-2.3", "{name}");
    }
}

#[test]
fn scanners_that_fail_are_told_with_their_words() {
    let env = env();
    add_scanner(&env);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo x > /found\n");
    let fails = |generator: &str, words: &[&str]| {
        let flag = format!("generator={generator}");
        build_fails(&env, &context, &["--sbom", &flag, "-t", "told"]).stderr_has(words);
    };
    fails("scanner,MODE=fail", &["the scanner scanner:latest failed", "exit code: 7", "no luck"]);
    fails("scanner,MODE=nonsense", &["its file sbom.spdx.json is no statement"]);
    let empty = env.context();
    empty.dockerfile("FROM scratch\nLABEL a=b\n");
    build(&env, &empty, &["-t", "empty"]);
    fails("empty", &["it is no scanner"]);
    let silent = build(&env, &context, &["--sbom", "generator=scanner,MODE=silent", "-t", "told"]);
    silent.stderr_has(&["has left no statement"]);
    env.lap(["run", "--rm", "told", "cat", "/found"]).ok().stdout_has(&["x"]);
}

#[test]
fn images_of_several_platforms_have_a_bill_each_in_registries() {
    let env = env();
    add_scanner(&env);
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(registry) = DockerRegistry::start() else { return };
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let context = env.context();
    context.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /found\n");
    context.file("amd64", "amd64\n").file("arm64", "arm64\n");
    let name = registry.reference("scanned:1");
    let flags =
        ["--platform", "linux/amd64,linux/arm64", "--sbom=generator=scanner,DEPTH=1", "--push", "-t", &name];
    buildx.build(context.path(), &flags).ok();
    let index = skopeo.json(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 4, "{index}");
    let shown = buildx.run(["imagetools", "inspect", &name, "--format", "{{json .SBOM}}"]).ok();
    let bills: Value = serde_json::from_str(&shown.stdout_text()).unwrap();
    for architecture in ["amd64", "arm64"] {
        let bill = &bills[format!("linux/{architecture}")]["SPDX"];
        assert_eq!(
            (bill["files"].as_str(), bill["depth"].as_str()),
            (Some(architecture), Some("1")),
            "{bills}"
        );
    }
}

#[test]
fn clients_have_definitions_looked_into() {
    let env = env();
    add_scanner(&env);
    let daemon = Daemon::start(&env);
    let client = Client::of(&daemon);
    let session = client.session(&Offer::new());
    let mut llb = Llb::default();
    let base = llb.source("docker-image://busybox", &[]);
    let made = llb.run(&base, "echo of llb > /found");
    let attributes = [("attest:sbom".to_owned(), "generator=scanner".to_owned())];
    let request = SolveRequest {
        r#ref: unique("scanned"),
        session: session.id().to_owned(),
        definition: Some(llb.definition(&made)),
        frontend_attrs: attributes.into(),
        exporters: vec![exporter("tar", &[])],
        ..SolveRequest::default()
    };
    client.solve(request).unwrap();
    let tar = testkit::Tree::of_tar(session.received().pop().unwrap().as_slice());
    assert!(tar.text("sbom.spdx.json").contains("of llb"), "{}", tar.text("sbom.spdx.json"));
}

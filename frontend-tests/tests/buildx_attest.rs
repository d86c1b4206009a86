//! What is told of images: provenance and packages, asked for with Docker's buildx and with `lap build`.

mod common;

use std::path::Path;

use serde_json::Value;
use testkit::docker_registry::DockerRegistry;
use testkit::{Context, TestEnv, Tree};

use common::daemon::Buildx;
use common::env;

/// A context whose image has packages of all managers.
fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context
        .dockerfile(
            "FROM busybox\nARG WHO=nobody\nCOPY status /var/lib/dpkg/status\nCOPY installed /lib/apk/db/installed\n\
             COPY package.json /app/node_modules/left-pad/package.json\nCOPY METADATA /usr/lib/x-1.dist-info/METADATA\n\
             COPY Cargo.lock /src/\nRUN --mount=type=secret,id=token,required=false echo $WHO > /who\n",
        )
        .file("status", "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-1\n")
        .file("installed", "P:musl\nV:1.2.5-r0\nA:x86_64\n")
        .file("package.json", r#"{"name":"left-pad","version":"1.3.0"}"#)
        .file("METADATA", "Name: requests\nVersion: 2.32.0\n")
        .file("Cargo.lock", "version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n");
    context
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The package URLs of a bill of materials.
fn packages(document: &Value) -> Vec<&str> {
    let packages = document["packages"].as_array().unwrap().iter();
    packages.map(|package| package["externalRefs"][0]["referenceLocator"].as_str().unwrap()).collect()
}

const PACKAGES: [&str; 5] = [
    "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64",
    "pkg:cargo/serde@1.0.0",
    "pkg:deb/debian/libc6@2.41-1?arch=amd64",
    "pkg:npm/left-pad@1.3.0",
    "pkg:pypi/requests@2.32.0",
];

#[test]
fn registries_get_what_buildx_asks_for_by_itself() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(registry) = DockerRegistry::start() else { return };
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let context = context(&env);
    let name = registry.reference("told:1");
    let build = buildx.build(context.path(), &["--push", "-t", &name, "--build-arg", "WHO=me"]);
    build.env("BUILDX_NO_DEFAULT_ATTESTATIONS", "0").ok();

    let location = format!("docker://{name}");
    let index = skopeo.json(["inspect", "--raw", "--tls-verify=false", &location]);
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{index}");
    assert_eq!(entries[0]["platform"]["os"], "linux");
    assert_eq!(entries[1]["platform"]["os"], "unknown");
    assert_eq!(entries[1]["platform"]["architecture"], "unknown");
    assert_eq!(entries[1]["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(entries[1]["annotations"]["vnd.docker.reference.digest"], entries[0]["digest"]);
    let repository = name.rsplit_once(':').unwrap().0;
    let told = format!("docker://{repository}@{}", entries[1]["digest"].as_str().unwrap());
    let manifest = skopeo.json(["inspect", "--raw", "--tls-verify=false", &told]);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.in-toto+json");
    let kind = "https://slsa.dev/provenance/v0.2";
    assert_eq!(manifest["layers"][0]["annotations"]["in-toto.io/predicate-type"], kind);

    // What is short has no build arguments, and the image is one like any other.
    let shown = buildx.run(["imagetools", "inspect", &name, "--format", "{{json .Provenance}}"]).ok();
    let provenance: Value = serde_json::from_str(&shown.stdout_text()).unwrap();
    let provenance = &provenance["SLSA"];
    assert_eq!(provenance["buildType"], "https://mobyproject.org/buildkit@v1");
    let material = provenance["materials"][0]["uri"].as_str().unwrap();
    assert!(material.starts_with("pkg:docker/busybox"), "{material}");
    assert_eq!(provenance["metadata"]["completeness"]["parameters"], false);
    assert!(!shown.stdout_text().contains("WHO"), "{shown}");
    assert!(provenance.get("buildConfig").is_none(), "{shown}");
    env.lap(["run", "--rm", &name, "cat", "/who"]).ok().stdout_has(&["me"]);

    // Everything is told when that is asked for, but for the values of secrets.
    let all = registry.reference("told:all");
    std::fs::write(env.work().join("token"), "hush-hush").unwrap();
    let flags = [
        "--push",
        "-t",
        &all,
        "--build-arg",
        "WHO=you",
        "--provenance",
        "mode=max,builder-id=https://ci.example/7",
        "--sbom=true",
        "--secret",
        "id=token,src=token",
    ];
    buildx.build(context.path(), &flags).ok();
    let shown = |what: &str| -> Value {
        let shown = buildx.run(["imagetools", "inspect", &all, "--format", what]).ok();
        serde_json::from_str(&shown.stdout_text()).unwrap()
    };
    let (told, bill) = (shown("{{json .Provenance}}"), shown("{{json .SBOM}}"));
    let provenance = &told["SLSA"];
    assert_eq!(provenance["builder"]["id"], "https://ci.example/7");
    assert_eq!(provenance["invocation"]["parameters"]["args"]["build-arg:WHO"], "you");
    assert_eq!(provenance["invocation"]["parameters"]["secrets"][0]["id"], "token");
    assert!(provenance["buildConfig"]["llbDefinition"].as_array().unwrap().len() > 5);
    assert!(!told.to_string().contains("hush-hush"));
    assert_eq!(packages(&bill["SPDX"]), PACKAGES);
}

#[test]
fn files_and_archives_have_it_beside() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let path = |name: &str| env.work().join(name);
    let at = |kind: &str, name: &str| format!("type={kind},dest={}", path(name).display());
    let both = ["--provenance", "version=v1,mode=min,filename=where.json", "--sbom=true"];
    buildx.build(context.path(), &[&both[..], &["-o", &at("local", "out")]].concat()).ok();
    let provenance = json(&path("out/where.json"));
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    let definition = &provenance["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["configSource"]["path"], "Dockerfile");
    let sbom = json(&path("out/sbom.spdx.json"));
    assert_eq!(sbom["predicate"]["spdxVersion"], "SPDX-2.3");
    assert_eq!(packages(&sbom["predicate"]), PACKAGES);

    buildx.build(context.path(), &[&both[..], &["-o", &at("tar", "out.tar")]].concat()).ok();
    let tar = Tree::of_tar(std::fs::File::open(path("out.tar")).unwrap());
    assert!(tar.text("sbom.spdx.json").contains("pkg:pypi/requests@2.32.0"));

    // Docker's archive has one image. What nobody asked for makes no files.
    common::build(&env, &context, &[&both[..], &["-o", &at("docker", "docker.tar")]].concat());
    env.load_archive(&path("docker.tar"));
    let default = buildx.build(context.path(), &["-o", &at("local", "default")]);
    default.env("BUILDX_NO_DEFAULT_ATTESTATIONS", "0").ok();
    assert!(path("default/who").exists() && !path("default/provenance.json").exists());
}

#[test]
fn lap_build_tells_when_it_is_asked() {
    let env = env();
    let context = context(&env);
    let out = env.work().join("out");
    let output = format!("type=local,dest={}", out.display());
    let flags = ["--provenance", "mode=max", "--sbom", "true", "--build-arg", "WHO=https://user:hush@host/x"];
    common::build(&env, &context, &[&flags[..], &["-o", &output]].concat());
    let provenance = json(&out.join("provenance.json"));
    let arguments = &provenance["predicate"]["invocation"]["parameters"]["args"];
    assert!(arguments["build-arg:WHO"].as_str().unwrap().contains("host/x"), "{arguments}");
    assert!(!provenance.to_string().contains("hush"), "{provenance}");
    assert_eq!(packages(&json(&out.join("sbom.spdx.json"))["predicate"]), PACKAGES);

    // In the store it is beside the image, which runs and is saved as ever.
    common::build(&env, &context, &["--attest", "type=provenance", "-t", "told"]);
    env.lap(["run", "--rm", "told", "cat", "/who"]).ok().stdout_has(&["nobody"]);
    let archive = env.work().join("told.tar");
    env.lap(["save", "-o", archive.to_str().unwrap(), "told"]).ok();
    env.lap(["rmi", "told"]).ok();
    env.load_archive(&archive).stdout_has(&["told"]);
    let plain = env.work().join("plain");
    common::build(&env, &context, &["-o", &format!("type=local,dest={}", plain.display())]);
    assert!(!plain.join("provenance.json").exists());

    let refused = |flag: &str, value: &str, words: &[&str]| {
        let build = env.lap(["build", flag, value]).arg(context.path());
        build.fails(2).stderr_has(words);
    };
    refused("--provenance", "mode=some", &["mode is min or max"]);
    refused("--sbom", "generator=Not an image", &["no name of an image"]);
    refused("--attest", "type=vex", &["there are provenance and sbom"]);
}

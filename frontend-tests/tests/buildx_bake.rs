//! `docker buildx bake` and `docker compose build` with `lap daemon` as their builder.

mod common;
#[path = "common/docker_api.rs"]
mod docker_api;

use common::daemon::{Buildx, plugin};
use common::env;
use testkit::{DockerRegistry, Lap};

const BAKE: &str = r#"
variable "WHO" { default = "nobody" }
group "default" { targets = ["app", "tool"] }
target "base" { args = { WHO = WHO, EXTRA = "of-base" } }
target "app" {
  inherits = ["base"]
  name = "app-${kind}"
  matrix = { kind = ["one", "two"] }
  target = kind
  args = { EXTRA = "of-${kind}" }
  output = ["type=local,dest=out/${kind}"]
}
target "tool" {
  inherits = ["base"]
  dockerfile = "Tool.Dockerfile"
  output = ["type=local,dest=out/tool"]
}
"#;

#[test]
fn a_bake_file_is_baked() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    let steps = "ARG WHO\nARG EXTRA\nRUN echo $WHO $EXTRA > /said\n";
    context
        .dockerfile(&format!("FROM busybox AS one\n{steps}FROM busybox AS two\n{steps}RUN touch /two\n"))
        .file("Tool.Dockerfile", format!("FROM busybox\n{steps}"))
        .file(".dockerignore", "out\n")
        .file("docker-bake.hcl", BAKE);
    let bake = |args: &[&str]| {
        let command = buildx.run(["bake", "--progress", "plain"]).args(args).env("WHO", "somebody");
        command.current_dir(context.path())
    };
    bake(&[]).ok();
    let said =
        |name: &str| std::fs::read_to_string(context.path().join("out").join(name).join("said")).unwrap();
    assert_eq!((said("one").as_str(), said("two").as_str()), ("somebody of-one\n", "somebody of-two\n"));
    assert_eq!(said("tool"), "somebody of-base\n");
    assert!(context.path().join("out/two/two").exists() && !context.path().join("out/one/two").exists());
    bake(&["--set", "tool.args.WHO=else", "tool"]).ok();
    assert_eq!(said("tool"), "else of-base\n");
    bake(&["nowhere"]).fails(1).stderr_has(&["nowhere"]);
    // One that fails fails the whole, and says which it is.
    context.file("Tool.Dockerfile", "FROM busybox\nRUN exit 5\n");
    bake(&[]).fails(1).stderr_has(&["tool", "exit code: 5"]);
}

const LINKED: &str = r#"
group "default" { targets = ["app", "other"] }
target "base" {
  dockerfile-inline = "FROM busybox\nENV OF=base\nWORKDIR /made\nRUN echo made > here\n"
}
target "app" {
  contexts = { begin = "target:base" }
  dockerfile-inline = "FROM begin\nRUN echo $OF $PWD >> here\n"
  output = ["type=local,dest=out/app"]
}
target "other" {
  contexts = { begin = "target:base" }
  dockerfile-inline = "FROM scratch\nCOPY --from=begin /made/here /copied\n"
  output = ["type=local,dest=out/other"]
}
"#;

#[test]
fn a_target_begins_with_the_result_of_another() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.file(".dockerignore", "out\n").file("docker-bake.hcl", LINKED);
    let bake = || buildx.run(["bake", "--progress", "plain"]).current_dir(context.path());
    bake().ok();
    let text = |path: &str| std::fs::read_to_string(context.path().join("out").join(path)).unwrap();
    assert_eq!(text("app/made/here"), "made\nbase /made\n");
    assert_eq!(text("other/copied"), "made\n");
    // What has changed below is new above.
    context.file("docker-bake.hcl", LINKED.replace("echo made", "echo again"));
    bake().ok();
    assert_eq!(
        (text("app/made/here").as_str(), text("other/copied").as_str()),
        ("again\nbase /made\n", "again\n")
    );
    context.file("docker-bake.hcl", LINKED.replace("echo made", "exit 6; echo made"));
    bake().fails(1).stderr_has(&["base", "exit code: 6"]);
}

#[test]
fn compose_builds_its_services() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(compose) = plugin("docker-compose") else { return };
    let Some(builder) = plugin("docker-buildx") else { return };
    let plugins = env.home().join(".docker/cli-plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::os::unix::fs::symlink(&builder, plugins.join("docker-buildx")).unwrap();
    // What is of one platform is loaded into Docker's engine, which is not here; what is of several is pushed.
    let Some(registry) = DockerRegistry::start() else { return };
    let (web, db) = (registry.reference("web:1"), registry.reference("db:2"));
    let context = env.context();
    let build = |name: &str| {
        let host = base::Platform::host();
        format!("build: {{context: ., args: {{NAME: {name}}}, platforms: [{host}, linux/s390x]}}")
    };
    let services = [("web", &web), ("db", &db)]
        .map(|(name, image)| format!("  {name}:\n    image: {image}\n    {}\n", build(name)))
        .concat();
    context
        .dockerfile("FROM scratch\nARG NAME\nLABEL name=$NAME\nCOPY compose.yaml /\n")
        .file("compose.yaml", format!("name: shop\nservices:\n{services}"));
    let home = env.home();
    let compose = |flags: &[&str]| {
        Lap::new(&compose)
            .args(["--progress", "plain", "build", "--push"])
            .args(flags)
            .current_dir(context.path())
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &home)
            .env("DOCKER_CONFIG", home.join(".docker"))
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
            .env("BUILDX_CONFIG", home.join("buildx"))
            .env("BUILDX_BUILDER", "lap")
    };
    compose(&[]).env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1").ok();
    for (image, name) in [(&web, "web\n"), (&db, "db\n")] {
        env.lap(["pull", image]).ok();
        let label = env.lap(["image", "inspect", "--format", "{{.Config.Labels.name}}", image]).ok();
        assert_eq!(label.stdout_text(), name);
    }
    // What is told of images goes along, as it does with buildx.
    compose(&["web"]).env("BUILDX_NO_DEFAULT_ATTESTATIONS", "0").ok();
    drop(buildx);
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let index = skopeo.json(["inspect", "--raw", "--tls-verify=false", &format!("docker://{web}")]);
    let entries = index["manifests"].as_array().unwrap();
    let told = entries
        .iter()
        .filter(|entry| entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest");
    assert_eq!((entries.len(), told.count()), (4, 2), "{index}");
}

#[test]
fn what_is_of_one_platform_is_loaded_into_dockers_engine() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let Some(compose) = plugin("docker-compose") else { return };
    let Some(builder) = plugin("docker-buildx") else { return };
    let plugins = env.home().join(".docker/cli-plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::os::unix::fs::symlink(&builder, plugins.join("docker-buildx")).unwrap();
    let docker = docker_api::DockerApi::start();
    let context = env.context();
    context
        .dockerfile("FROM busybox\nRUN echo loaded > /f\n")
        .file("compose.yaml", "name: shop\nservices: {web: {image: 'example.com/web:1', build: .}}\n");
    let home = env.home();
    Lap::new(&compose)
        .args(["--progress", "plain", "build"])
        .current_dir(context.path())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", &home)
        .env("DOCKER_CONFIG", home.join(".docker"))
        .env("DOCKER_HOST", docker.host())
        .env("BUILDX_CONFIG", home.join("buildx"))
        .env("BUILDX_BUILDER", "lap")
        .ok();
    let load = buildx.build(context.path(), &["--builder", "lap", "--load", "-t", "example.com/own:2"]);
    load.env("DOCKER_HOST", docker.host()).ok();
    drop(buildx);
    let loaded = docker.loaded();
    assert_eq!(loaded.len(), 2);
    for (archive, name) in loaded.iter().zip(["example.com/web:1", "example.com/own:2"]) {
        let file = env.work().join("loaded.tar");
        std::fs::write(&file, archive).unwrap();
        env.load_archive(&file).stdout_has(&[name]);
        env.lap(["run", "--rm", name, "cat", "/f"]).ok().stdout_has(&["loaded"]);
    }
}

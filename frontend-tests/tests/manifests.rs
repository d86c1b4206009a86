//! `lap manifest`, `lap search` and `lap image inspect --remote`: what is in registries, without pulling it.

mod common;

use common::{build, env};
use serde_json::Value;
use testkit::registry::Fault;
use testkit::{DockerRegistry, FaultyRegistry, TestEnv, judges};

/// Pushes an image of a platform under a name.
fn push(env: &TestEnv, platform: &str, name: &str) {
    let context = env.context();
    context.file("f", platform).dockerfile("FROM scratch\nCOPY f /f\n");
    build(env, &context, &["--platform", platform, "--push", "-t", name]);
}

fn json(output: &testkit::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[test]
fn a_list_is_made_changed_and_pushed_without_its_layers() {
    let (Some(registry), Some(skopeo)) = (DockerRegistry::start(), judges::skopeo()) else { return };
    let maker = TestEnv::new();
    let names = ["amd64:1", "arm:1"].map(|name| registry.reference(name));
    push(&maker, "linux/amd64", &names[0]);
    push(&maker, "linux/arm/v6", &names[1]);
    let env = TestEnv::new();
    let list = registry.reference("app:1");
    let made = env.lap(["manifest", "create", &list, &names[0]]).ok();
    made.stdout_has(&["Created manifest list", &list]);
    env.lap(["manifest", "create", &list, &names[1]]).fails(1).stderr_has(&["exists already", "--amend"]);
    env.lap(["manifest", "create", "--amend", &list, &names[1]]).ok();
    env.lap(["manifest", "annotate", "--variant", "v7", "--os-features", "a,b", &list, &names[1]]).ok();
    let local = json(&env.lap(["manifest", "inspect", &list]).ok());
    assert_eq!(local["manifests"][1]["platform"]["variant"], "v7");
    assert_eq!(local["manifests"][1]["platform"]["os.features"][1], "b");

    // No layer is here; the registry mounts them from where they are.
    let digest = env.lap(["manifest", "push", "--purge", &list]).ok().stdout_text();
    let raw = skopeo.json(["inspect", "--raw", "--tls-verify=false", &format!("docker://{list}")]);
    assert_eq!(raw, local);
    let seen = env.lap(["manifest", "inspect", "--verbose", &list]).ok();
    assert_eq!(json(&seen)["Descriptor"]["digest"], digest.trim());
    for (variant, content) in [(["--override-arch", "amd64"], "amd64"), (["--override-arch", "arm"], "arm")] {
        let name = format!("docker://{list}");
        let config =
            skopeo.json([&variant[..], &["inspect", "--config", "--tls-verify=false", &name]].concat());
        assert_eq!(config["architecture"], content);
    }
    env.lap(["manifest", "rm", &list]).fails(1).stderr_has(&["no such manifest list"]);
    env.lap(["manifest", "push", &list])
        .fails(1)
        .stderr_has(&["no such manifest list", "lap manifest create"]);
}

#[test]
fn what_is_not_in_a_list_cannot_be_changed() {
    let env = env();
    let registry = FaultyRegistry::start();
    let (one, two) = (registry.reference("one:1"), registry.reference("two:1"));
    push(&env, "linux/amd64", &one);
    push(&env, "linux/arm64", &two);
    let list = registry.reference("list:1");
    env.lap(["manifest", "create", &list, &one]).ok();
    env.lap(["manifest", "annotate", "--os", "linux", &list, &two])
        .fails(1)
        .stderr_has(&["does not have", &two]);
    env.lap(["manifest", "create", &list, &registry.reference("none:1")]).fails(1);
    env.lap(["manifest", "rm", &list]).ok().stdout_has(&[&list]);
    env.lap(["manifest", "inspect", &registry.reference("none:1")]).fails(1).stderr_has(&["not found"]);
    // An image of the store is no list.
    env.lap(["manifest", "rm", "busybox"]).fails(1).stderr_has(&["no such manifest list"]);
}

#[test]
fn an_image_is_looked_at_where_it_is() {
    let registry = FaultyRegistry::start();
    let name = registry.reference("app:1");
    push(&TestEnv::new(), "linux/arm64", &name);
    let env = TestEnv::new();
    let seen = json(&env.lap(["image", "inspect", "--remote", &name]).ok());
    assert_eq!((&seen[0]["Architecture"], &seen[0]["RepoTags"][0]), (&"arm64".into(), &name.as_str().into()));
    assert_eq!(env.lap(["images", "-q"]).ok().stdout_text(), "");
    assert_eq!(registry.seen("GET /v2/app/blobs/").len(), 1, "only the config is read");
    env.lap(["image", "inspect", &name]).fails(1).stderr_has(&["no such image"]);
}

#[test]
fn repositories_are_found_by_search_or_in_the_list_of_all() {
    let env = env();
    let Some(registry) = DockerRegistry::start() else { return };
    for name in ["team/web", "team/web-tools", "other"] {
        let name = registry.reference(name);
        env.lap(["tag", "busybox", &name]).ok();
        env.lap(["push", &name]).ok();
    }
    let found = env.lap(["search", "--format", "{{.Name}}", &registry.reference("web")]).ok();
    assert_eq!(found.stdout_text(), "team/web\nteam/web-tools\n");

    let hub = FaultyRegistry::start();
    let results = r#"{"results":[{"name":"web","description":"one \u001b[31m","star_count":3,"is_official":true},
        {"name":"team/web","description":null,"star_count":9}]}"#;
    hub.inject(u32::MAX, "/v1/search", Fault::Body(200, "application/json", results.to_owned()));
    let table = env.lap(["search", "--limit", "7", &hub.reference("web")]).ok().stdout_text();
    let names: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["NAME", "team/web", "web"]);
    assert!(table.contains("[OK]") && !table.contains('\u{1b}'), "{table}");
    assert!(hub.seen("/v1/search?q=web&n=7").len() == 1);
    let official =
        env.lap(["search", "-f", "is-official=true", "--format", "{{.Name}}", &hub.reference("web")]);
    assert_eq!(official.ok().stdout_text(), "web\n");
    env.lap(["search", "-f", "colour=red", "x"]).fails(2).stderr_has(&["invalid filter"]);
    hub.heal();
    hub.inject(u32::MAX, "/v1/search", Fault::Body(200, "application/json", "[".to_owned()));
    hub.inject(u32::MAX, "_catalog", Fault::Body(200, "text/html", "<html>".to_owned()));
    env.lap(["search", &hub.reference("web")]).fails(1).stderr_has(&["instead of a registry's answer"]);
}

#[test]
fn tags_come_page_by_page_and_bad_ones_not_at_all() {
    let env = env();
    let registry = FaultyRegistry::start();
    let name = registry.reference("team/app");
    let json = |tags: &str| format!(r#"{{"name": "team/app", "tags": [{tags}]}}"#);
    let page = |tags: &str| Fault::Body(200, "application/json", json(tags));
    registry.inject(u32::MAX, "/v2/team/app/tags/list", page(r#""good", "bad tag", "../up", "\u001b[31m""#));
    assert_eq!(env.lap(["registry", "tags", &name]).ok().stdout_text(), "good\n");
    registry.heal();
    registry.inject(u32::MAX, "/v2/team/app/tags/list", Fault::Body(200, "application/json", "[".to_owned()));
    env.lap(["registry", "tags", &name]).fails(1).stderr_has(&["list of tags", "team/app"]);
    registry.heal();
    registry.inject(u32::MAX, "/v2/team/app/tags/list", Fault::Body(200, "text/html", "<html>".to_owned()));
    env.lap(["pull", "-a", &name]).fails(1).stderr_has(&["text/html"]);
    registry.heal();
    // Debian's registry gives as many as are asked for, and the next ones where it says.
    let Some(real) = DockerRegistry::start() else { return };
    for number in 0..150 {
        env.lap(["tag", "busybox", &real.reference(&format!("many:t{number:03}"))]).ok();
    }
    env.lap(["push", "-a", &real.reference("many")]).ok();
    let listed = env.lap(["registry", "tags", &real.reference("many")]).ok().stdout_text();
    assert_eq!(listed.lines().count(), 150, "{listed}");
}

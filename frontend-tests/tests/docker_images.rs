//! Docker's API: images, as Docker's command, Python's library and registries see them.

mod common;

use common::docker::Docker;
use common::env;
use serde_json::Value;
use testkit::DockerRegistry;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn images_are_shown_named_and_removed() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let id = env.lap(["image", "inspect", "busybox", "-f", "{{.Id}}"]).ok().stdout_text().trim().to_owned();
    assert_eq!(docker.text(&["images", "-q", "--no-trunc"]), id);
    docker.run(["tag", "busybox", "example.com/team/b:1"]).ok();
    let shown = json(&docker.text(&["image", "inspect", "example.com/team/b:1"]));
    assert_eq!(shown[0]["Id"].as_str(), Some(id.as_str()));
    assert_eq!(shown[0]["RepoTags"].as_array().unwrap().len(), 2);
    assert_eq!(
        docker.text(&["images", "-f", "reference=example.com/*/b", "--format", "{{.Repository}}:{{.Tag}}"]),
        "example.com/team/b:1"
    );
    assert_eq!(docker.text(&["images", "nothing", "-q"]), "");
    docker.run(["history", "busybox"]).ok().stdout_has(&["IMAGE", &id[7..19]]);
    let said = docker.refused(&["rmi", &id[7..19]]);
    assert!(said.contains("conflict"), "{said}");
    docker.run(["rmi", "busybox"]).ok().stdout_has(&["Untagged: busybox:latest"]);
    assert_eq!(env.lap(["images", "-q"]).ok().stdout_text().lines().count(), 1);
    for args in [
        &["image", "inspect", "nothing"][..],
        &["tag", "nothing", "x"],
        &["history", "nothing"],
        &["save", "nothing", "-o", "x.tar"],
    ] {
        let said = docker.refused(args).to_lowercase();
        assert!(said.contains("no such image"), "{args:?}: {said}");
    }
    let script = "
image = client.images.get('example.com/team/b:1')
assert image.tags == ['example.com/team/b:1'], image.tags
assert image.tag('other', 'x')
assert sorted(t for i in client.images.list() for t in i.tags) == ['example.com/team/b:1', 'other:x']
assert api.history('other:x')[0]['Id'] == image.id
try:
    client.images.get('nothing'); assert False
except docker.errors.ImageNotFound: pass
client.images.remove('other:x')
client.images.remove(image.id)
print(client.images.list())";
    if let Some(left) = docker.python(script) {
        assert_eq!(left, "[]");
    }
}

#[test]
fn images_go_to_registries_and_come_from_them() {
    let env = env();
    let (Some(docker), Some(registry)) = (Docker::new(&env), DockerRegistry::start()) else { return };
    let name = registry.reference("team/app:1");
    docker.run(["tag", "busybox", &name]).ok();
    let pushed = docker.run(["push", &name]).ok();
    pushed.stdout_has(&[
        &format!("The push refers to repository [{}/team/app]", registry.address()),
        "1: digest: sha256:",
        "Pushed",
    ]);
    docker.run(["rmi", "-f", &name, "busybox"]).ok();
    let pulled = docker.run(["pull", &name]).ok();
    pulled.stdout_has(&[
        "1: Pulling from team/app",
        "Digest: sha256:",
        &format!("Status: Downloaded newer image for {name}"),
    ]);
    docker.run(["pull", &name]).ok().stdout_has(&["Status: Image is up to date"]);
    let said = docker.refused(&["pull", &registry.reference("team/nothing:1")]);
    assert!(said.contains("not found") || said.contains("unknown"), "{said}");
    assert_eq!(
        docker
            .call(
                "POST",
                &format!("/images/create?fromImage={}&tag=1", registry.reference("team/nothing")),
                ""
            )
            .0,
        404
    );
    let (status, body) = docker.call("GET", &format!("/distribution/{name}/json"), "");
    assert_eq!(status, 200, "{body}");
    let found = json(&body);
    assert!(found["Descriptor"]["digest"].as_str().unwrap().starts_with("sha256:"), "{body}");
    assert_eq!(found["Platforms"][0]["os"], "linux");
    // Looking at it has not given it a name here.
    let before = docker.text(&["images", "-q"]);
    docker.call("GET", &format!("/distribution/{name}/json"), "");
    assert_eq!(docker.text(&["images", "-q"]), before);
    let script = format!(
        "
lines = list(api.push('{name}', stream=True, decode=True))
assert any('aux' in line for line in lines), lines
assert not any('error' in line for line in lines), lines
image = client.images.pull('{repository}', tag='1')
assert image.tags == ['{name}'], image.tags
lines = list(api.pull('{repository}', tag='1', stream=True, decode=True))
print(lines[-1]['status'])",
        repository = registry.reference("team/app"),
    );
    if let Some(last) = docker.python(&script) {
        assert_eq!(last, format!("Status: Image is up to date for {name}"));
    }
}

#[test]
fn logins_are_the_clients_and_not_the_daemons() {
    let env = env();
    let accounts = env.work().join("htpasswd");
    // The password is s3cret:word, by bcrypt.
    std::fs::write(&accounts, "ann:$2y$05$abcdefghijklmnopqrstuu2JDQLR7mbHhdpill4/jMLDoVbsBhlUi\n").unwrap();
    let Some(docker) = Docker::new(&env) else { return };
    let door = testkit::docker_registry::RegistryDoor { accounts: Some(accounts), ..Default::default() };
    let Some(registry) = DockerRegistry::start_with(&door) else { return };
    let name = registry.reference("private:1");
    docker.run(["tag", "busybox", &name]).ok();
    docker.refused(&["push", &name]);
    let wrong =
        docker.run(["login", registry.address(), "-u", "ann", "--password-stdin"]).stdin("wrong\n").run();
    assert_ne!(wrong.code(), Some(0), "{wrong}");
    let login = docker
        .run(["login", registry.address(), "-u", "ann", "--password-stdin"])
        .stdin("s3cret:word\n")
        .run();
    if login.code() != Some(0) {
        panic!("{login}");
    }
    docker.run(["push", &name]).ok();
    docker.run(["rmi", &name]).ok();
    docker.run(["pull", &name]).ok();
    docker.run(["logout", registry.address()]).ok();
    docker.refused(&["push", &registry.reference("private:2")]);
}

#[test]
fn images_are_archives_both_ways() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let archive = env.work().join("a.tar");
    let archive = archive.to_str().unwrap();
    docker.run(["tag", "busybox", "other:1"]).ok();
    docker.run(["save", "busybox", "other:1", "-o", archive]).ok();
    if let Some(skopeo) = testkit::judges::skopeo() {
        let seen = skopeo.json(["inspect", &format!("docker-archive:{archive}:other:1")]);
        assert_eq!(seen["Os"], "linux");
    }
    docker.run(["rmi", "-f", "busybox", "other:1"]).ok();
    docker
        .run(["load", "-i", archive])
        .ok()
        .stdout_has(&["Loaded image: busybox:latest", "Loaded image: other:1"]);
    let half = std::fs::read(archive).unwrap();
    let before = docker.text(&["images", "-q"]);
    let (status, body) = docker.call_with(
        "POST",
        "/images/load",
        &[("Content-Type", "application/x-tar")],
        &half[..half.len() / 2],
    );
    assert!(status == 400 || body.contains("\"error\""), "{status} {body}");
    assert_eq!(docker.text(&["images", "-q"]), before);
    let made = docker
        .run(["import", "-c", "CMD [\"/bin/true\"]", "-m", "of a tar", "-", "made:1"])
        .stdin(testkit::images::busybox_tar())
        .ok();
    made.stdout_has(&["sha256:"]);
    let shown = json(&docker.text(&["image", "inspect", "made:1"]));
    assert_eq!(
        (&shown[0]["Config"]["Cmd"][0], &shown[0]["Comment"]),
        (&"/bin/true".into(), &"of a tar".into())
    );
    let script = "
data = b''.join(client.images.get('made:1').save(named=True))
client.images.remove('made:1')
print([i.tags for i in client.images.load(data)])";
    if let Some(loaded) = docker.python(script) {
        assert_eq!(loaded, "[['made:1']]");
    }
}

#[test]
fn containers_become_images() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    env.lap(["run", "--name", "c", "busybox", "sh", "-c", "echo made > /made"]).ok();
    let config = serde_json::json!({
        "Cmd": ["cat", "/made"], "Env": ["A=$b \"c\""], "Labels": {"x y": "$z"}, "ExposedPorts": {"80/tcp": {}},
        "WorkingDir": "/tmp", "Volumes": {"/v": {}}, "User": "7",
    });
    let path = "/commit?container=c&repo=made&tag=1&author=me&comment=why&changes=STOPSIGNAL%20SIGINT";
    let (status, body) = docker.call("POST", path, &config.to_string());
    assert_eq!(status, 201, "{body}");
    let shown = json(&docker.text(&["image", "inspect", "made:1"]));
    assert_eq!(shown[0]["Id"], json(&body)["Id"]);
    let made = &shown[0]["Config"];
    assert_eq!((&shown[0]["Author"], &shown[0]["Comment"]), (&"me".into(), &"why".into()));
    assert!(made["Env"].as_array().unwrap().contains(&"A=$b \"c\"".into()), "{made}");
    assert_eq!(
        (&made["Labels"]["x y"], &made["User"], &made["StopSignal"]),
        (&"$z".into(), &"7".into(), &"SIGINT".into())
    );
    assert_eq!(env.lap(["run", "--rm", "made:1"]).ok().stdout_text(), "made\n");
    assert_eq!(docker.call("POST", "/commit?container=nothing", "").0, 404);
    assert_eq!(docker.call("POST", "/commit?container=c&changes=NOTHING%20x", "").0, 400);
    if let Some(id) = docker.python("print(client.containers.get('c').commit('py', 'x').id)") {
        assert!(id.starts_with("sha256:"), "{id}");
    }
}

#[test]
fn space_is_counted_and_given_back() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    env.lap(["run", "--name", "c", "busybox", "true"]).ok();
    env.lap(["volume", "create", "v"]).ok();
    docker.run(["system", "df", "-v"]).ok().stdout_has(&[
        "busybox",
        "Local Volumes space usage",
        "Build cache usage",
    ]);
    let counted = json(&docker.call("GET", "/system/df", "").1);
    assert_eq!(counted["Images"][0]["Containers"], 1);
    assert_eq!(
        (counted["Containers"].as_array().unwrap().len(), counted["Volumes"].as_array().unwrap().len()),
        (1, 1)
    );
    let only: Value = json(&docker.call("GET", "/system/df?type=volume", "").1);
    assert_eq!(
        (only["Images"].is_null(), only["Volumes"][0]["UsageData"]["RefCount"].as_u64()),
        (true, Some(0))
    );
    docker.run(["tag", "busybox", "other:1"]).ok();
    docker.run(["image", "prune", "-af"]).ok().stdout_has(&["Total reclaimed space"]);
    // A container uses it.
    assert_ne!(docker.text(&["images", "-q"]), "");
    env.lap(["rm", "c"]).ok();
    docker.run(["image", "prune", "-af"]).ok();
    assert_eq!(docker.text(&["images", "-q"]), "");
}

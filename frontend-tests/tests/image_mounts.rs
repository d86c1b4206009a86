//! Images that containers show beside their own: `--mount type=image`.

mod common;

use common::containers::Containers;
use common::{build, image_id};
use testkit::{Image, Layer, LayerTar};

/// An image with two layers, of which the second one hides something of the first.
fn tools(env: &Containers) {
    let context = env.context();
    context.dockerfile(
        "FROM busybox AS made\nRUN mkdir -p /out/deep && echo one > /out/deep/f && echo gone > /out/deep/g\n\
         FROM scratch\nCOPY --from=made /out /\nCOPY --from=made /bin/busybox /deep/g\nLABEL is=tools\n",
    );
    build(env, &context, &["-t", "tools"]);
}

fn printed(env: &Containers, mount: &str, script: &str) -> String {
    env.lap(["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script]).ok().stdout_text()
}

#[test]
fn an_image_is_shown_whole_or_in_part_and_nobody_writes_to_it() {
    let env = Containers::new();
    tools(&env);
    let script = "cat /x/deep/f; cmp /x/deep/g /bin/busybox && echo same; ls /x";
    assert_eq!(printed(&env, "type=image,source=tools,target=/x", script), "one\nsame\ndeep\n");
    let part = "type=image,src=tools,dst=/x,image-subpath=deep/f";
    assert_eq!(printed(&env, part, "cat /x"), "one\n");
    // As in Docker, whatever is asked for.
    for mount in ["type=image,source=tools,target=/x", "type=image,source=tools,target=/x,readonly=false"] {
        let refused = env.lap(["run", "--rm", "--mount", mount, "busybox", "touch", "/x/new"]).fails(1);
        refused.stderr_has(&["Read-only file system"]);
    }
    // The same image, twice, and by id.
    let id = image_id(&env, "tools");
    let by_id = format!("type=image,source={id},target=/y");
    let run = ["run", "--rm", "--mount", "type=image,source=tools,target=/x", "--mount", &by_id];
    assert_eq!(
        env.lap(run).args(["busybox", "cat", "/x/deep/f", "/y/deep/f"]).ok().stdout_text(),
        "one\none\n"
    );
    env.lap(["store", "check"]).ok();
}

#[test]
fn inspect_says_what_is_shown() {
    let env = Containers::new();
    tools(&env);
    env.lap([
        "create",
        "--name",
        "c",
        "--mount",
        "type=image,source=tools,target=/x,image-subpath=deep",
        "busybox",
    ])
    .ok();
    let mounts = env.inspect("c", "json .Mounts");
    let mounts: serde_json::Value = serde_json::from_str(&mounts).unwrap();
    let mount = &mounts[0];
    assert_eq!((&mount["Type"], &mount["Name"]), (&"image".into(), &"tools".into()));
    assert_eq!((&mount["Destination"], &mount["RW"]), (&"/x".into(), &false.into()));
    assert!(std::path::Path::new(mount["Source"].as_str().unwrap()).is_dir());
    let asked: serde_json::Value =
        serde_json::from_str(&env.inspect("c", "json .HostConfig.Mounts")).unwrap();
    let expected = serde_json::json!([
        {"Type": "image", "Source": "tools", "Target": "/x", "ImageOptions": {"Subpath": "deep"}}
    ]);
    assert_eq!(asked, expected);
    assert_eq!(env.inspect("c", "json .HostConfig.Binds"), "null");
    assert_eq!(env.lap(["ps", "-a", "--format", "{{.Mounts}}"]).ok().stdout_text(), "tools\n");
}

#[test]
fn what_a_container_shows_is_kept_while_it_is_there() {
    let env = Containers::new();
    tools(&env);
    let id = image_id(&env, "tools");
    let mount = "type=image,source=tools,target=/x";
    env.lap(["create", "--name", "c", "--mount", mount, "busybox", "cat", "/x/deep/f"]).ok();
    env.lap(["rmi", "tools"]).fails(1).stderr_has(&["is using its referenced image", "lap rm"]);
    env.lap(["rmi", &id]).fails(1).stderr_has(&["image is being used by stopped container"]);
    env.lap(["image", "prune", "-af"]).ok();
    env.lap(["builder", "prune", "-af"]).ok();
    env.lap(["images", "-q", "tools"]).ok().stdout_has(&[&id[7..19]]);
    // By force its name goes, and what is shown stays.
    env.lap(["rmi", "-f", "tools"]).ok();
    env.lap(["builder", "prune", "-af"]).ok();
    assert_eq!(env.lap(["start", "-a", "c"]).ok().stdout_text(), "one\n");
    env.lap(["rm", "c"]).ok();
    env.lap(["create", "--mount", mount, "--pull=never", "busybox"])
        .fails(1)
        .stderr_has(&["no such image: tools"]);
    tools(&env);
    env.detached(&["--name", "c", "--mount", mount, "busybox", "sh", "-c", "sleep 1000"]);
    env.lap(["rmi", "-f", &image_id(&env, "tools")]).fails(1).stderr_has(&["(cannot be forced)"]);
    env.lap(["rmi", "-f", "tools"]).ok();
    env.lap(["builder", "prune", "-af"]).ok();
    assert_eq!(env.lap(["exec", "c", "cat", "/x/deep/f"]).ok().stdout_text(), "one\n");
    env.lap(["restart", "-t", "0", "c"]).ok();
    assert_eq!(env.lap(["exec", "c", "cat", "/x/deep/f"]).ok().stdout_text(), "one\n");
    assert_eq!(
        env.lap(["run", "--rm", "--volumes-from", "c", "busybox", "cat", "/x/deep/f"]).ok().stdout_text(),
        "one\n"
    );
    assert_eq!(env.lap(["cp", "c:/x/deep/f", "-"]).ok().stdout.len() % 512, 0);
    env.lap(["rm", "-f", "c"]).ok();
    env.lap(["image", "prune", "-af"]).ok();
    env.lap(["store", "check"]).ok();
}

#[test]
fn an_image_that_is_missing_is_pulled_or_refused() {
    let env = Containers::new();
    tools(&env);
    let registry = testkit::FaultyRegistry::start();
    let name = format!("{}/tools:1", registry.address());
    env.lap(["tag", "tools", &name]).ok();
    env.lap(["push", &name]).ok();
    env.lap(["rmi", &name, "tools"]).ok();
    let mount = format!("type=image,source={name},target=/x");
    let never = env.lap(["run", "--rm", "--pull=never", "--mount", &mount, "busybox", "true"]).fails(125);
    never.stderr_has(&["no such image", &name]);
    assert_eq!(printed(&env, &mount, "cat /x/deep/f"), "one\n");
    for (mount, said) in [
        ("type=image,target=/x", "it needs a source"),
        ("type=image,source=UPPER,target=/x", "UPPER"),
        ("type=image,source=busybox,target=/x,volume-subpath=a", "is not for mounts of type"),
        ("type=image,source=busybox,target=/x,image-subpath=../etc", "image-subpath"),
        ("type=image,source=busybox,target=/x,image-subpath=/etc", "image-subpath"),
        ("type=image,source=busybox,target=/x,image-subpath=not/there", "not/there"),
    ] {
        let refused = env.lap(["run", "--rm", "--mount", mount, "busybox", "true"]).run();
        assert_eq!(refused.code(), Some(125), "{mount}: {refused:?}");
        refused.stderr_has(&[said]);
    }
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
    env.lap(["store", "check"]).ok();
}

#[test]
fn links_of_a_hostile_image_lead_nowhere_else() {
    let env = Containers::new();
    let outside = env.context();
    outside.file("secret", "of the host");
    let host = outside.path().display().to_string();
    let layer = LayerTar::new()
        .dir("in", 0o755)
        .file("in/f", 0o644, "of the image\n")
        .symlink("abs", "/in")
        .symlink("up", "../../../../../../../../in")
        .symlink("host", &host)
        .symlink("climb", &format!("../../../../../../..{host}"))
        .symlink("loop", "loop")
        .symlink("proc", "/proc/self/root/in");
    let archive = env.context();
    let image = Image::new("docker.io/library/hostile:latest").layer(Layer::tar(layer.finish()));
    image.write_archive(&archive.path().join("image.tar"));
    env.lap(["load", "-i"]).arg(archive.path().join("image.tar")).ok();
    for inside in ["abs/f", "up/f", "in/f"] {
        let mount = format!("type=image,source=hostile,target=/x,image-subpath={inside}");
        assert_eq!(printed(&env, &mount, "cat /x"), "of the image\n", "{inside}");
    }
    for outside in ["host", "host/secret", "climb/secret", "loop", "loop/f", "proc/f"] {
        let mount = format!("type=image,source=hostile,target=/x,image-subpath={outside}");
        let refused = env.lap(["run", "--rm", "--mount", &mount, "busybox", "cat", "/x"]).fails(125);
        refused.stderr_has(&[outside]);
    }
    env.lap(["store", "check"]).ok();
}

#[test]
fn services_of_compose_show_images() {
    let env = Containers::new();
    tools(&env);
    let project = env.context();
    project.file(
        "compose.yaml",
        "services:\n  a:\n    image: busybox\n    network_mode: none\n    command: cat /x/f\n    volumes:\n      \
         - {type: image, source: tools, target: /x, image: {subpath: deep}}\n",
    );
    let file = project.path().join("compose.yaml");
    let compose = |args: &[&str]| env.lap(["compose", "-f"]).arg(&file).args(args).ok();
    let shown = compose(&["up", "--no-log-prefix"]).stdout_text();
    assert!(shown.contains("one\n"), "{shown}");
    compose(&["down"]);
}

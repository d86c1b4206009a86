//! Images in the store, and on their way in and out, with independent tools as judges.

mod common;

use common::{build, env, image_id};
use testkit::{DockerRegistry, TestEnv, Tree};

fn sample(env: &TestEnv) {
    let context = env.context();
    context.file("f", "content").dockerfile(
        "FROM busybox\nCOPY --chown=3:4 f /dir/f\nRUN ln /dir/f /dir/g && ln -s f /dir/l && rm /bin/tac && chmod 4711 /dir/f\nENV A=b\nCMD [\"/bin/true\"]\n",
    );
    build(env, &context, &["-t", "sample"]);
}

#[test]
fn inspect_says_where_the_files_of_an_image_lie() {
    let env = env();
    sample(&env);
    let shown = env.lap(["image", "inspect", "sample"]).ok().stdout_text();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let (driver, data) = (&shown[0]["GraphDriver"]["Name"], &shown[0]["GraphDriver"]["Data"]);
    assert!(driver == "overlay2" || driver == "vfs", "{driver}");
    let upper = std::path::Path::new(data["UpperDir"].as_str().unwrap());
    assert_eq!(std::fs::read(upper.join("dir/f")).unwrap(), b"content");
    if driver == "overlay2" {
        let lower = data["LowerDir"].as_str().unwrap();
        let packed = testkit::env::layer_form().is_some_and(|form| form == "packed");
        assert!(lower.split(':').map(std::path::Path::new).any(|layer| match packed {
            // A packed layer is no directory: its files lie where that would be.
            true => !layer.exists() && layer.with_file_name("tar").exists(),
            false => layer.join("bin/busybox").exists(),
        }));
    }
    assert_eq!(shown[0]["RootFS"]["Type"], "layers");
    assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    let digest = shown[0]["Descriptor"]["digest"].as_str().unwrap();
    assert_eq!(shown[0]["RepoDigests"], serde_json::json!([format!("sample@{digest}")]));
    let by_any = env.lap(["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "sample"]).ok().stdout_text();
    assert_eq!(by_any.trim(), upper.to_str().unwrap());
}

#[test]
fn lists_tags_and_removes() {
    let env = env();
    sample(&env);
    let listed = env.lap(["images"]).ok().stdout_text();
    assert!(listed.starts_with("REPOSITORY"), "{listed}");
    assert!(listed.contains("sample") && listed.contains("busybox"), "{listed}");
    env.lap(["tag", "sample", "me/other:1"]).ok();
    assert_eq!(image_id(&env, "me/other:1"), image_id(&env, "sample"));
    let quiet = env.lap(["images", "-q", "--no-trunc", "sample"]).ok().stdout_text();
    assert_eq!(quiet.trim(), image_id(&env, "sample"));
    let short = &image_id(&env, "sample")[7..19];
    let refused = env.lap(["rmi", short]).fails(1);
    refused.stderr_has(&["(must be forced) - image is referenced in multiple repositories", "me/other:1"]);
    env.lap(["rmi", "sample"]).ok().stdout_has(&["Untagged: sample:latest"]);
    env.lap(["rmi", "me/other:1"]).ok().stdout_has(&["Untagged: me/other:1", "Deleted: sha256:"]);
    env.lap(["rmi", "sample"]).fails(1).stderr_has(&["no such image", "sample"]);
}

#[test]
fn history_and_inspect_tell_how_it_was_made() {
    let env = env();
    sample(&env);
    let history =
        env.lap(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "sample"]).ok().stdout_text();
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[0], "CMD [\"/bin/true\"]");
    assert_eq!(lines[1], "ENV A=b");
    assert!(
        lines[2].starts_with("RUN /bin/sh -c ln /dir/f") && lines[2].ends_with("# buildkit"),
        "{history}"
    );
    assert_eq!(lines[3], "COPY --chown=3:4 f /dir/f # buildkit");
    env.lap(["history", "sample"]).ok().stdout_has(&["IMAGE", "CREATED BY", "<missing>"]);
    env.lap(["image", "inspect", "--format", "{{json .Config.Cmd}}", "sample"])
        .ok()
        .stdout_has(&["[\"/bin/true\"]"]);
}

#[test]
fn images_survive_save_and_load() {
    let env = env();
    sample(&env);
    let archive = env.work().join("saved.tar");
    env.lap(["save", "-o"]).arg(&archive).args(["sample", "busybox"]).ok();
    let other = TestEnv::new();
    other.load_archive(&archive).stdout_has(&["Loaded image", "sample:latest", "busybox:latest"]);
    assert_eq!(image_id(&other, "sample"), image_id(&env, "sample"));
    other.lap(["run", "--rm", "sample", "cat", "/dir/g"]).ok().stdout_has(&["content"]);
    let piped = env.lap(["save", "sample"]).ok();
    let third = TestEnv::new();
    third.lap(["load"]).stdin(piped.stdout).ok();
    assert_eq!(image_id(&third, "sample"), image_id(&env, "sample"));
}

#[test]
fn built_archives_are_the_same_twice_and_judges_read_them() {
    let (Some(skopeo), Some(umoci)) = (testkit::judges::skopeo(), testkit::judges::umoci()) else { return };
    let archive = |name: &str| {
        let env = env().source_date_epoch(1_700_000_000);
        let context = env.context();
        context
            .file("f", "content")
            .dockerfile("FROM busybox\nCOPY f /f\nRUN mkdir /d && echo x > /d/x && rm /bin/tac\nENV A=b\n");
        let out = std::env::temp_dir().join(format!("lap-e2e-{}-{name}.tar", std::process::id()));
        build(&env, &context, &["-t", "judged", "--output", &format!("type=oci,dest={}", out.display())]);
        out
    };
    let (first, second) = (archive("a"), archive("b"));
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap(), "two builds differ");

    let reference = format!("oci-archive:{}", first.display());
    let inspected = skopeo.json(["inspect", &reference]);
    assert_eq!(inspected["Created"], "2023-11-14T22:13:20Z");
    assert!(inspected["Env"].as_array().unwrap().contains(&"A=b".into()));

    let dir = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:judged", dir.path().join("layout").display());
    skopeo.ok(["copy", &reference, &layout]);
    let image = format!("{}:judged", dir.path().join("layout").display());
    let bundle = dir.path().join("bundle");
    umoci.ok(["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let tree = Tree::of_dir(&bundle.join("rootfs"));
    assert_eq!(tree.text("f"), "content");
    assert_eq!(tree.text("d/x"), "x\n");
    assert!(tree.get("bin/tac").is_none());
    std::fs::remove_file(first).unwrap();
    std::fs::remove_file(second).unwrap();
}

#[test]
fn a_registry_gives_back_what_was_pushed_with_skopeo() {
    let (Some(skopeo), Some(registry)) = (testkit::judges::skopeo(), DockerRegistry::start()) else { return };
    let env = env();
    sample(&env);
    let archive = env.work().join("out.tar");
    let context = env.context();
    context.dockerfile("FROM sample\nLABEL made=here\n");
    build(&env, &context, &["-t", "pushed", "--output", &format!("type=docker,dest={}", archive.display())]);
    let name = registry.reference("team/app:1");
    skopeo.ok([
        "copy",
        "--dest-tls-verify=false",
        &format!("docker-archive:{}", archive.display()),
        &format!("docker://{name}"),
    ]);

    let other = TestEnv::new();
    other.lap(["pull", &name]).ok().stdout_has(&["Digest: sha256:", &name]);
    other.lap(["run", "--rm", &name, "cat", "/dir/f"]).ok().stdout_has(&["content"]);
    other.lap(["pull", &name]).ok().stdout_has(&["up to date"]);
    let context = other.context();
    context.dockerfile(&format!(
        "FROM {name}\nRUN test -u /dir/f && test ! -e /bin/tac && test /dir/f -ef /dir/g\n"
    ));
    build(&other, &context, &[]);
}

#[test]
fn an_index_resolves_to_this_platform() {
    let Some(registry) = DockerRegistry::start() else { return };
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let env = TestEnv::new();
    let archive = env.work().join("multi.tar");
    let foreign: base::Platform = "linux/s390x".parse().unwrap();
    let images =
        [testkit::images::busybox_as("multi:1").platform(&foreign), testkit::images::busybox_as("multi:1")];
    testkit::oci::write_multi_platform_archive(&archive, "multi:1", &images);
    let name = registry.reference("multi:1");
    skopeo.ok([
        "copy",
        "--all",
        "--dest-tls-verify=false",
        &format!("oci-archive:{}", archive.display()),
        &format!("docker://{name}"),
    ]);
    env.lap(["pull", &name]).ok();
    env.lap(["run", "--rm", &name, "true"]).ok();
    env.lap(["pull", "--platform", "linux/riscv64", &name])
        .fails(1)
        .stderr_has(&["linux/riscv64", "linux/s390x"]);
}

#[test]
fn tar_output_goes_to_standard_output() {
    let env = env();
    let context = env.context();
    context.file("f", "x").dockerfile("FROM scratch\nCOPY f /dir/f\n");
    let output = env.lap(["build", "-q", "-o", "-"]).arg(context.path()).ok();
    let mut archive = tar::Archive::new(output.stdout.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["dir/", "dir/f"]);
}

#[test]
fn system_commands_tell_about_the_store() {
    let env = env();
    sample(&env);
    env.lap(["version"]).ok().stdout_has(&["Version"]);
    env.lap(["info"]).ok().stdout_has(&["Storage Driver", env.root().to_str().unwrap()]);
    env.lap(["system", "df"]).ok().stdout_has(&["TYPE", "Images", "Build Cache", "Cache Mounts"]);
    let total = env.lap(["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok().stdout_text();
    assert!(total.contains("Images 2"), "{total}");
}

#[test]
fn progress_has_its_forms() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo said\n");
    let plain = env.lap(["build", "--progress", "plain"]).arg(context.path()).ok();
    plain.stderr_has(&["[2/2] RUN echo said", " said\n", "DONE"]);
    let json =
        env.lap(["build", "--progress", "rawjson", "--no-cache"]).arg(context.path()).ok().stderr_text();
    for line in json.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(json.contains("c2FpZAo="), "the log is base64 of what was said: {json}");
    let quiet = env.lap(["build", "-q", "-t", "q"]).arg(context.path()).ok();
    assert_eq!(quiet.stdout_text().trim(), image_id(&env, "q"));
    assert_eq!(quiet.stderr_text(), "");
}

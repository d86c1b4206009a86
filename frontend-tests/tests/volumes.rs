//! Volumes: what is written to them stays, whatever becomes of the containers that show them.

mod common;

use common::build;
use common::containers::Containers;

/// What a container with these flags prints.
fn printed(env: &Containers, flags: &[&str], script: &str) -> String {
    env.lap(["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", script]).ok().stdout_text()
}

fn names(env: &Containers, args: &[&str]) -> Vec<String> {
    env.lap(["volume", "ls", "-q"]).args(args).ok().stdout_text().lines().map(str::to_owned).collect()
}

/// An image with files where it wants a volume.
fn image_with_volume(env: &Containers) {
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN mkdir -p /data/inner && echo image > /data/inner/f && chown -R 7:8 /data && chmod 1770 /data\n\
         VOLUME /data\n",
    );
    build(env, &context, &["-t", "app"]);
}

#[test]
fn a_named_volume_outlives_its_containers() {
    let env = Containers::new();
    printed(&env, &["-v", "data:/d"], "echo kept > /d/f");
    assert_eq!(printed(&env, &["--mount", "source=data,target=/e"], "cat /e/f"), "kept\n");
    assert_eq!(names(&env, &[]), ["data"]);
    let refused = env.lap(["run", "--rm", "-v", "data:/d:ro", "busybox", "touch", "/d/x"]).fails(1);
    refused.stderr_has(&["Read-only file system"]);
    let user = env.detached(&["--name", "user", "-v", "data:/d", "busybox", "sleep", "1000"]);
    env.lap(["volume", "rm", "data"]).fails(1).stderr_has(&["volume data is in use", &user[..12]]);
    env.lap(["volume", "prune", "-af"]).ok();
    assert_eq!(env.lap(["exec", "user", "cat", "/d/f"]).ok().stdout_text(), "kept\n");
    assert_eq!(env.lap(["ps", "-q", "--filter", "volume=data"]).ok().stdout_text().trim(), &user[..12]);
    env.lap(["rm", "-fv", "user"]).ok();
    env.lap(["builder", "prune", "-af"]).ok();
    env.lap(["store", "check"]).ok();
    assert_eq!(printed(&env, &["-v", "data:/d"], "cat /d/f"), "kept\n");
    assert_eq!(env.lap(["volume", "rm", "data"]).ok().stdout_text(), "data\n");
    env.lap(["volume", "rm", "data"]).fails(1).stderr_has(&["no such volume: data"]);
    env.lap(["volume", "rm", "-f", "data"]).ok();
    assert_eq!(names(&env, &[]), [] as [String; 0]);
}

#[test]
fn a_new_volume_begins_with_what_the_image_has() {
    let env = Containers::new();
    image_with_volume(&env);
    let show = "cat /data/inner/f; stat -c '%u:%g %a' /data /data/inner";
    let shown = |flags: &[&str]| {
        env.lap(["run", "--rm"]).args(flags).args(["app", "sh", "-c", show]).ok().stdout_text()
    };
    let image = "image\n7:8 1770\n7:8 755\n";
    assert_eq!(shown(&[]), image);
    assert_eq!(shown(&["-v", "data:/data"]), image);
    env.lap(["run", "--rm", "-v", "data:/data", "app", "sh", "-c", "echo own > /data/inner/f"]).ok();
    assert!(shown(&["-v", "data:/data"]).starts_with("own\n"));
    assert!(shown(&[]).starts_with("image\n"), "a volume of another container was used");
    env.lap(["run", "--rm", "-v", "empty:/data:nocopy", "app", "cat", "/data/inner/f"]).fails(1);
    assert_eq!(printed(&env, &["-v", "data:/deep/er"], "cat /deep/er/inner/f"), "own\n");
}

#[test]
fn anonymous_volumes_go_when_they_should_and_not_before() {
    let env = Containers::new();
    image_with_volume(&env);
    env.lap(["run", "--rm", "-v", "/more", "app", "sh", "-c", "touch /data/x /more/y"]).ok();
    assert_eq!(names(&env, &[]), [] as [String; 0]);
    env.detached(&["--name", "one", "-v", "/more", "app", "sleep", "1000"]);
    assert_eq!(names(&env, &[]).len(), 2);
    // Another container shows them at the same places.
    env.lap(["exec", "one", "sh", "-c", "echo from-one > /data/x"]).ok();
    let seen = printed(&env, &["--volumes-from", "one"], "cat /data/x; touch /more/y");
    assert_eq!(seen, "from-one\n");
    let refused =
        env.lap(["run", "--rm", "--volumes-from", "one:ro", "busybox", "touch", "/data/y"]).fails(1);
    refused.stderr_has(&["Read-only file system"]);
    env.detached(&["--name", "two", "--volumes-from", "one", "app", "sleep", "1000"]);
    assert_eq!(names(&env, &[]).len(), 2, "the second container has volumes of its own");
    env.lap(["rm", "-fv", "one"]).ok();
    assert_eq!(env.lap(["exec", "two", "cat", "/data/x"]).ok().stdout_text(), "from-one\n");
    env.lap(["rm", "-f", "two"]).ok();
    assert_eq!(names(&env, &["--filter", "dangling=true"]).len(), 2);
    env.lap(["volume", "create", "named"]).ok();
    env.lap(["volume", "prune", "-f"]).ok().stdout_has(&["Deleted Volumes:", "Total reclaimed space:"]);
    assert_eq!(names(&env, &[]), ["named"]);
    env.lap(["volume", "prune", "-f", "--filter", "all=1"]).ok();
    assert_eq!(names(&env, &[]), [] as [String; 0]);
    env.lap(["store", "check"]).ok();
}

#[test]
fn volumes_are_listed_and_shown_as_docker_does() {
    let env = Containers::new();
    let create = ["volume", "create", "--label", "team=a", "--label", "bare", "first"];
    assert_eq!(env.lap(create).ok().stdout_text(), "first\n");
    let random = env.lap(["volume", "create"]).ok().stdout_text();
    assert_eq!(random.trim().len(), 64);
    assert_eq!(names(&env, &["--filter", "label=team=a"]), ["first"]);
    assert_eq!(names(&env, &["--filter", "label=team=b"]), [] as [String; 0]);
    assert_eq!(names(&env, &["--filter", "name=irs", "--filter", "driver=local"]), ["first"]);
    env.lap(["volume", "ls"]).ok().stdout_has(&["DRIVER    VOLUME NAME\n", "local     first\n"]);
    let shown = env.lap(["volume", "inspect", "first"]).ok().stdout_text();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["Labels"], serde_json::json!({"team": "a", "bare": ""}));
    assert_eq!((&shown[0]["Driver"], &shown[0]["Scope"]), (&"local".into(), &"local".into()));
    let place = env.lap(["inspect", "-f", "{{.Mountpoint}}", "first"]).ok().stdout_text();
    std::fs::write(format!("{}/f", place.trim()), "by hand").unwrap();
    assert_eq!(printed(&env, &["-v", "first:/d"], "cat /d/f"), "by hand");
    env.lap(["create", "--name", "c", "-v", "first:/d:ro", "busybox"]).ok();
    assert_eq!(env.inspect("c", ".HostConfig.Binds"), "[first:/d:ro]");
    env.lap(["system", "df"]).ok().stdout_has(&["Local Volumes"]);
}

#[test]
fn options_of_a_volume_say_what_it_shows() {
    let env = Containers::new();
    let dir = env.work().join("shown");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("f"), "host").unwrap();
    let device = format!("device={}", dir.display());
    env.lap(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "dir"]).ok();
    assert_eq!(printed(&env, &["-v", "dir:/d"], "cat /d/f"), "host");
    let memory = "volume-opt=type=tmpfs,volume-opt=device=tmpfs,\"volume-opt=o=size=1m,mode=700\"";
    let mount = format!("type=volume,source=memory,target=/m,{memory}");
    let seen = printed(&env, &["--mount", &mount], "df -k /m | awk 'NR==2 {print $1, $2}'; stat -c %a /m");
    assert_eq!(seen, "tmpfs 1024\n700\n");
    std::fs::remove_dir_all(&dir).unwrap();
    env.lap(["run", "--rm", "-v", "dir:/d", "busybox", "true"])
        .fails(125)
        .stderr_has(&["dir", "does not exist"]);
}

#[test]
fn a_part_of_a_volume_can_be_shown_and_nothing_beside_it() {
    let env = Containers::new();
    printed(&env, &["-v", "data:/d"], "mkdir /d/in; echo in > /d/in/f; ln -s /etc /d/out; echo out > /d/f");
    let part = |path: &str| format!("source=data,target=/e,volume-subpath={path}");
    assert_eq!(printed(&env, &["--mount", &part("in")], "ls /e"), "f\n");
    for path in ["out", "../..", "nowhere"] {
        env.lap(["run", "--rm", "--mount", &part(path), "busybox", "ls", "/e"]).fails(125);
    }
}

#[test]
fn what_cannot_be_is_refused_and_nothing_stays() {
    let env = Containers::new();
    let run = |flags: &[&str]| env.lap(["run", "--rm"]).args(flags).args(["busybox", "true"]).fails(125);
    run(&["-v", "new:/d", "-v", "other:/d"]).stderr_has(&["duplicate mount point: /d"]);
    run(&["-v", "new:/"]).stderr_has(&["invalid mount target"]);
    run(&["-v", "b@d:/d"]).stderr_has(&["includes invalid characters for a local volume name"]);
    run(&["-v", "new:/d", "--mount", "type=bind,source=/does/not/exist,target=/e"])
        .stderr_has(&["/does/not/exist"]);
    run(&["--volumes-from", "nobody"]).stderr_has(&["o such container: nobody"]);
    run(&["--volume-driver", "cloud", "-v", "new:/d"]).stderr_has(&["plugin \"cloud\" not found"]);
    env.lap(["volume", "create", "-o", "colour=red", "bad"])
        .fails(1)
        .stderr_has(&["invalid option: \"colour\""]);
    // A name that is taken: the volumes that were made for the container go again.
    env.lap(["create", "--name", "taken", "busybox"]).ok();
    env.lap(["create", "--name", "taken", "-v", "new:/d", "-v", "/e", "busybox"]).fails(1);
    assert_eq!(names(&env, &[]), [] as [String; 0]);
}

#[test]
fn a_missing_directory_of_the_host_is_made_for_the_short_form() {
    let env = Containers::new();
    let missing = env.work().join("not/yet");
    let volume = format!("{}:/d", missing.display());
    printed(&env, &["-v", &volume], "echo x > /d/f");
    assert!(missing.join("f").exists());
    // Parents are mounted before what is inside them, however they are written.
    let (inner, outer) = (env.work().join("inner"), env.work().join("outer"));
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::create_dir_all(outer.join("in")).unwrap();
    std::fs::write(inner.join("f"), "inner").unwrap();
    let (inner, outer) = (format!("{}:/o/in", inner.display()), format!("{}:/o", outer.display()));
    assert_eq!(printed(&env, &["-v", &inner, "-v", &outer], "cat /o/in/f"), "inner");
}

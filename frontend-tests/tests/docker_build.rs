//! Docker's API: building. By the older call with a context in its body, and by BuildKit on a connection that was Docker's.

mod common;

use common::daemon::{client, plugin};
use common::docker::Docker;
use common::env;
use testkit::{Context, TestEnv};

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    let dockerfile = "FROM busybox\nARG WHO=nobody\nCOPY file /file\nRUN echo \"for $WHO\" | tee /made\nLABEL a=b\nCMD [\"cat\", \"/made\"]\n";
    context.dockerfile(dockerfile).file("file", "content\n");
    context
}

fn older(docker: &Docker<'_>, args: &[&str], context: &Context) -> testkit::Lap {
    docker.run([&["build"], args].concat()).arg(context.path()).env("DOCKER_BUILDKIT", "0")
}

#[test]
fn the_older_call_builds() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let context = context(&env);
    let args = [
        "-t",
        "made:1",
        "--build-arg",
        "WHO=me",
        "--label",
        "c=d",
        "--memory",
        "64m",
        "--ulimit",
        "nofile=100:100",
    ];
    let built = older(&docker, &args, &context).ok();
    built.stdout_has(&[
        "Step 1/3 : FROM",
        "Step 3/3 : RUN echo",
        "for me\n",
        "Successfully built ",
        "Successfully tagged made:1",
    ]);
    // It is there for everybody at once, and nothing was copied.
    assert_eq!(env.lap(["run", "--rm", "made:1"]).ok().stdout_text(), "for me\n");
    assert_eq!(
        env.lap(["image", "inspect", "made:1", "-f", "{{.Config.Labels}}"]).ok().stdout_text(),
        "map[a:b c:d]\n"
    );
    older(&docker, &args, &context).ok().stdout_has(&["---> Using cache"]);
    let id = older(&docker, &["-q", "--build-arg", "WHO=me", "--label", "c=d"], &context).ok().stdout_text();
    assert!(id.starts_with("sha256:") && id.lines().count() == 1, "{id}");
    let script = format!(
        "
image, lines = client.images.build(path='{}', tag='py:1', buildargs={{'WHO': 'py'}})
assert image.tags == ['py:1'], image.tags
assert any('for py' in line.get('stream', '') for line in lines)
print(image.id)",
        context.path().display()
    );
    if let Some(id) = docker.python(&script) {
        assert_eq!(docker.text(&["images", "-q", "--no-trunc", "py:1"]), id);
    }
}

#[test]
fn what_fails_says_why() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let context = context(&env);
    context.dockerfile("FROM busybox\nRUN echo before; exit 7\n");
    let failed = older(&docker, &[], &context).run();
    assert_eq!(failed.code(), Some(7), "{failed}");
    failed.stdout_has(&["before"]).stderr_has(&["returned a non-zero code: 7"]);
    context.dockerfile("FROM busybox\nCOPI x y\n");
    older(&docker, &[], &context).run().stderr_has(&["unknown instruction", "COPY"]);
    context.dockerfile("FROM busybox\nCOPY nothing /\n");
    older(&docker, &[], &context).run().stderr_has(&["nothing", "not found"]);
    for (path, expected) in [
        ("/build?remote=/etc", "neither a repository nor a file of the web"),
        ("/build?buildargs=x", "invalid buildargs"),
        ("/build?t=a%3Db", "invalid reference format"),
        ("/build?cachefrom=%5B%22type%3Dlocal,src%3D/etc%22%5D", "invalid reference format"),
        ("/build?memory=much", "memory"),
        ("/build", "the archive is truncated"),
    ] {
        let (status, body) =
            docker.call_with("POST", path, &[("Content-Type", "application/x-tar")], b"no archive");
        assert_eq!(status, 400, "{path}: {body}");
        assert!(body.contains(expected), "{path}: {body}");
    }
    // An archive that leads out of itself, and one that ends too early.
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.as_gnu_mut().unwrap().name[..13].copy_from_slice(b"../../escaped");
    header.set_cksum();
    archive.append(&header, &b"x"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    for body in [&archive[..], &archive[..700]] {
        let (status, answer) =
            docker.call_with("POST", "/build", &[("Content-Type", "application/x-tar")], body);
        assert!(status == 400 || answer.contains("\"error\""), "{status} {answer}");
    }
    assert!(!env.root().parent().unwrap().join("escaped").exists());
}

#[test]
fn a_client_that_goes_takes_its_build_with_it() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let context = context(&env);
    context.dockerfile("FROM busybox\nRUN echo under way; sleep 1000\n");
    let mut build = older(&docker, &[], &context).spawn();
    build.wait_for("under way");
    build.signal(nix::sys::signal::Signal::SIGKILL);
    build.finish();
    // The step has gone when nothing of its store is in use any more.
    let sleeps = || {
        let ps = std::process::Command::new("pgrep").args(["-f", "sleep 1000"]).output().unwrap();
        let of_ours = |pid: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                .is_ok_and(|mounts| mounts.contains(env.root().to_str().unwrap()))
        };
        String::from_utf8(ps.stdout).unwrap().lines().any(of_ours)
    };
    testkit::wait::until("the step is over", || !sleeps());
}

#[test]
fn a_daemon_that_is_killed_in_a_build_builds_on() {
    let env = env();
    let Some(mut docker) = Docker::new(&env) else { return };
    let context = context(&env);
    context.dockerfile(
        "FROM busybox\nRUN echo first > /first\nCOPY file /file\nRUN echo under way; test -e /file && sleep 1000\n",
    );
    let mut build = older(&docker, &["-t", "made:1"], &context).spawn();
    build.wait_for("under way");
    docker.daemon.end(nix::sys::signal::Signal::SIGKILL);
    assert_ne!(build.finish().code(), Some(0));
    docker.daemon.start_again(&[]);
    assert_eq!(docker.text(&["images", "-q", "made"]), "");
    // What was done is there, what was begun is not.
    context.dockerfile(
        "FROM busybox\nRUN echo first > /first\nCOPY file /file\nRUN echo under way; test -e /file && cat /first\n",
    );
    let built = older(&docker, &["-t", "made:1"], &context).ok();
    assert_eq!(built.stdout_text().matches("---> Using cache").count(), 3, "{built}");
    assert_eq!(env.lap(["images", "-q", "made"]).ok().stdout_text().lines().count(), 1);
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_giant_context_is_not_held_in_memory() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let context = context(&env);
    context.dockerfile("FROM busybox\nCOPY large /large\nRUN stat -c %s /large\n");
    let size = 300_u64 << 20;
    std::fs::File::create(context.path().join("large")).unwrap().set_len(size).unwrap();
    older(&docker, &[], &context).ok().stdout_has(&[&size.to_string()]);
    let peak = docker.daemon.peak_memory();
    assert!(peak < 200 << 20, "the daemon took {peak} bytes");
}

#[test]
fn buildx_comes_in_by_dockers_socket() {
    let env = env();
    let (Some(docker), Some(buildx)) = (Docker::new(&env), plugin("docker-buildx")) else { return };
    docker.plug_in(&buildx);
    let context = context(&env);
    let built = docker
        .run(["buildx", "build", "--progress", "plain", "-t", "made:2", "--build-arg", "WHO=you"])
        .arg(context.path())
        .ok();
    built.stderr_has(&["RUN echo", "for you", "naming to docker.io/library/made:2"]);
    assert_eq!(env.lap(["run", "--rm", "made:2"]).ok().stdout_text(), "for you\n");
    // Docker's command takes buildx when it is there.
    docker.run(["build", "-t", "made:3"]).arg(context.path()).ok().stderr_has(&["CACHED"]);
    assert_eq!(docker.text(&["images", "-q", "made:3"]).len(), 12);
    docker.run(["buildx", "ls"]).ok().stdout_has(&["default"]);
    docker.run(["buildx", "du"]).ok();
    docker.run(["buildx", "prune", "-af"]).ok();
}

#[test]
fn dockers_command_of_before_buildx_builds() {
    let env = env();
    let older = std::path::Path::new("/usr/bin/docker");
    let is_older = std::process::Command::new(older)
        .arg("--version")
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("version 20."));
    if !is_older {
        return testkit::privilege::skip("/usr/bin/docker is not that of Debian 12");
    }
    let Some(docker) = Docker::new(&env) else { return };
    let context = context(&env);
    let build = |args: &[&str]| {
        testkit::Lap::new(older)
            .args(["build", "--progress", "plain"])
            .args(args)
            .arg(context.path())
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", env.home())
            .env("DOCKER_HOST", docker.daemon.address())
            .env("DOCKER_BUILDKIT", "1")
    };
    build(&["-t", "made:1", "--build-arg", "WHO=old"]).ok().stderr_has(&["RUN echo", "for old", "naming to"]);
    // What is piped in comes by a call of its own if it is an archive.
    let archive = env.work().join("context.tar");
    let packed = std::process::Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(context.path())
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    let piped = |file: &std::path::Path| {
        client(&env, older)
            .args(["build", "--progress", "plain", "-t", "piped:1", "--build-arg", "WHO=piped", "-"])
            .env("DOCKER_HOST", docker.daemon.address())
            .env("DOCKER_BUILDKIT", "1")
            .stdin(std::fs::read(file).unwrap())
    };
    piped(&archive).ok().stderr_has(&["load remote build context", "for piped"]);
    assert_eq!(env.lap(["run", "--rm", "piped:1"]).ok().stdout_text(), "for piped\n");
    let dockerfile = env.work().join("Alone");
    std::fs::write(&dockerfile, "FROM busybox\nARG WHO\nRUN echo alone for $WHO\n").unwrap();
    piped(&dockerfile).ok().stderr_has(&["alone for piped"]);
    assert_eq!(env.lap(["run", "--rm", "made:1"]).ok().stdout_text(), "for old\n");
    let id = build(&["-q", "--build-arg", "WHO=old"]).ok().stdout_text();
    assert_eq!(id, format!("{}\n", docker.text(&["images", "-q", "--no-trunc", "made:1"])));
    context.dockerfile("FROM busybox\nRUN exit 7\n");
    let failed = build(&[]).run();
    assert_ne!(failed.code(), Some(0), "{failed}");
    failed.stderr_has(&["exit code: 7"]);
}

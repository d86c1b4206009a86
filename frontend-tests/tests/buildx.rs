//! Docker's buildx, served by `lap daemon`.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use frontend_tests::oci_archive::OciArchive;
use nix::sys::signal::Signal;
use testkit::images::busybox;
use testkit::wait::until;
use testkit::{Context, Tree};

use common::daemon::Buildx;
use common::{env, outcome};

/// A Dockerfile with all kinds of steps, and its context.
fn context(env: &testkit::TestEnv) -> Context {
    let context = env.context();
    let dockerfile =
        "FROM busybox AS base\nARG WHO=nobody\nLABEL who=$WHO\nRUN echo \"$WHO\" > /who\nCOPY d /d\n";
    context.dockerfile(dockerfile).file("d/f", "content").mode("d/f", 0o640).symlink("d/link", "f");
    context
}

#[test]
fn results_go_wherever_they_are_asked_to() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    let work = env.work();
    let path = |name: &str| work.join(name).to_str().unwrap().to_owned();
    let build =
        |args: &[&str]| buildx.build(context.path(), &[args, &["--build-arg", "WHO=me"]].concat()).ok();

    let out = format!("type=local,dest={}", path("local"));
    build(&["-o", &out]).stderr_has(&["RUN echo", "exporting to client"]);
    let tree = Tree::of_dir(&work.join("local"));
    assert_eq!((tree.text("who"), tree.text("d/f")), ("me\n".to_owned(), "content".to_owned()));
    assert_eq!(std::fs::read_link(work.join("local/d/link")).unwrap(), Path::new("f"));
    assert_eq!(std::fs::metadata(work.join("local/d/f")).unwrap().permissions().mode() & 0o777, 0o640);

    build(&["-o", &format!("type=tar,dest={}", path("root.tar"))]);
    assert_eq!(Tree::of_tar(std::fs::File::open(work.join("root.tar")).unwrap()).text("who"), "me\n");

    let metadata = path("metadata.json");
    let docker = format!("type=docker,dest={},name=example.com/a:1", path("docker.tar"));
    build(&["-o", &docker, "--metadata-file", &metadata]);
    env.load_archive(&work.join("docker.tar")).stdout_has(&["example.com/a:1"]);
    let metadata: serde_json::Value =
        serde_json::from_slice(&std::fs::read(work.join("metadata.json")).unwrap()).unwrap();
    assert!(metadata["containerimage.digest"].as_str().unwrap().starts_with("sha256:"), "{metadata}");
    assert_eq!(metadata["image.name"], "example.com/a:1");
    if let Some(skopeo) = testkit::judges::skopeo() {
        build(&["-o", &format!("type=oci,dest={}", path("oci.tar"))]);
        let seen = skopeo.json(["inspect", "--config", &format!("oci-archive:{}", path("oci.tar"))]);
        assert_eq!(seen["config"]["Labels"]["who"], "me");
    }

    // What is in the builder's store is there for everybody at once.
    build(&["-o", "type=image", "-t", "example.com/b:2", "--iidfile", &path("id")]);
    let id = env.lap(["images", "--no-trunc", "-q", "example.com/b:2"]).ok().stdout_text();
    assert!(id.starts_with("sha256:"), "{id}");
    env.lap(["run", "--rm", "example.com/b:2", "cat", "/who"]).ok().stdout_has(&["me"]);
    assert!(std::fs::read_to_string(work.join("id")).unwrap().starts_with("sha256:"));

    let Some(registry) = testkit::docker_registry::DockerRegistry::start() else { return };
    let name = registry.reference("c:3");
    build(&["--push", "-t", &name]);
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let seen = skopeo.json(["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    assert_eq!(seen["Labels"]["who"], "me");
}

#[test]
fn only_what_has_changed_travels() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context
        .dockerfile("FROM busybox\nCOPY . /all\n")
        .file(".dockerignore", "# none of these\nignored\n*.log\n!kept.log\n");
    let large = "x".repeat(3 << 20);
    for name in ["large", "ignored/large", "a.log", "kept.log"] {
        context.file(name, &large);
    }
    let out = format!("type=local,dest={}", env.work().join("out").display());
    let transferred = |output: &testkit::Output| {
        let text = output.stderr_text();
        // A slow transfer is told of as it goes on. The last line is the whole.
        let line =
            text.lines().rfind(|line| line.contains("transferring context:")).unwrap_or_default().to_owned();
        line.split("context:").nth(1).unwrap_or_default().trim().to_owned()
    };
    let first = buildx.build(context.path(), &["-o", &out]).ok();
    assert!(transferred(&first).starts_with("6.29MB"), "{first}");
    let tree = Tree::of_dir(&env.work().join("out/all"));
    assert_eq!(tree.paths().collect::<Vec<_>>().len(), 4, "{:?}", tree.paths().collect::<Vec<_>>());
    let second = buildx.build(context.path(), &["-o", &out]).ok();
    assert!(transferred(&second).starts_with("done"), "{second}");
    assert_eq!(outcome(&second, "COPY . /all"), "CACHED");
    context.file("small", "new").remove("kept.log");
    let third = buildx.build(context.path(), &["-o", &out]).ok();
    assert!(transferred(&third).starts_with("3B"), "{third}");
    assert_eq!(outcome(&third, "COPY . /all"), "DONE");
    assert!(!env.work().join("out/all/ignored").exists());
}

#[test]
fn flags_of_buildx_mean_what_they_mean() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile(
        "FROM busybox AS one\nRUN cat /etc/hosts > /hosts; df -k /dev/shm > /shm; ulimit -n > /files; ls /sys/class/net > /net\n\
         FROM one AS two\nCOPY --from=named f /named\nCOPY --from=image /bin/busybox /b\nRUN touch /not\n",
    );
    let named = env.context();
    named.file("f", "from a named context");
    let out = env.work().join("out");
    let output = format!("type=local,dest={}", out.display());
    let named = format!("named={}", named.path().display());
    let base = [
        "-o",
        &output,
        "--target",
        "two",
        "--build-context",
        &named,
        "--build-context",
        "image=docker-image://busybox",
        "--add-host",
        "db:10.1.2.3",
        "--shm-size",
        "16m",
        "--ulimit",
        "nofile=99:99",
        "--network",
        "none",
    ];
    buildx.build(context.path(), &base).ok();
    let tree = Tree::of_dir(&out);
    assert_eq!(tree.text("named"), "from a named context");
    assert!(tree.text("hosts").contains("10.1.2.3"), "{}", tree.text("hosts"));
    assert!(tree.text("shm").contains("16384"), "{}", tree.text("shm"));
    assert_eq!((tree.text("files"), tree.text("net")), ("99\n".to_owned(), "lo\n".to_owned()));
    let again = buildx.build(context.path(), &[&base[..], &["--no-cache-filter", "two"]].concat()).ok();
    assert_eq!(outcome(&again, "RUN cat /etc/hosts"), "CACHED");
    assert_eq!(outcome(&again, "RUN touch /not"), "DONE");
    let none = buildx.build(context.path(), &[&base[..], &["--no-cache"]].concat()).ok();
    assert_eq!(outcome(&none, "RUN cat /etc/hosts"), "DONE");

    let host = base::Platform::host().to_string();
    let archive = env.work().join("both.tar");
    let stdin = "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /\n";
    context.file("f", "x");
    let both = format!("type=oci,dest={}", archive.display());
    buildx
        .build(context.path(), &["-o", &both, "--platform", &format!("{host},linux/s390x"), "-f", "-"])
        .stdin(stdin)
        .ok();
    let images = OciArchive::of(&std::fs::read(&archive).unwrap()).images();
    let labels: Vec<&str> =
        images.iter().map(|image| image.config["config"]["Labels"]["arch"].as_str().unwrap()).collect();
    assert_eq!(labels, [base::Platform::host().architecture.as_str(), "s390x"]);
}

#[test]
fn what_fails_says_why_and_disturbs_nobody() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    let fails = |dockerfile: &str, words: &[&str]| {
        context.dockerfile(dockerfile);
        buildx.build(context.path(), &[]).fails(1).stderr_has(words);
    };
    fails("FROM busybox\nRUN echo seen; exit 7\n", &["seen", "did not complete successfully: exit code: 7"]);
    fails("FROM busybox\nRUNN x\n", &["Dockerfile:2:1: error: unknown instruction \"RUNN\""]);
    fails("FROM busybox\nCOPY missing /\n", &["missing", "not found"]);
    fails("FROM busybox\nRUN --network=host true\n", &["network.host"]);
    context.dockerfile("FROM busybox\nRUN true\n");
    buildx
        .build(context.path(), &["--allow", "network.host"])
        .fails(1)
        .stderr_has(&["network.host is not allowed"]);
    buildx.build(context.path(), &["-f", "Missing"]).fails(1).stderr_has(&["Missing"]);
    buildx.build(context.path(), &["-o", "type=nonsense"]).fails(1).stderr_has(&["nonsense"]);
    let wrong = ["-o", "type=image,name=x,registry.insecure=perhaps"];
    buildx.build(context.path(), &wrong).fails(1).stderr_has(&["non-bool value"]);
    let unwritable = "type=local,dest=/proc/nowhere";
    buildx.build(context.path(), &["-o", unwritable]).fails(1);
    buildx.build(context.path(), &[]).ok();
}

#[test]
fn a_client_that_vanishes_takes_its_build_along() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN sleep 7321\n");
    let client = buildx.build(context.path(), &[]).spawn();
    let sleeps = || {
        let pids =
            common::names_in(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
        let line = |pid: String| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pids.map(line).any(|line| line.windows(10).any(|part| part == b"sleep\x007321"))
    };
    until("the step has begun", sleeps);
    client.signal(Signal::SIGKILL);
    client.finish();
    until("the step is over", || !sleeps());
    context.dockerfile("FROM busybox\nRUN true\n");
    buildx.build(context.path(), &[]).ok();
}

#[test]
fn the_cache_is_shown_and_pruned() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    buildx.build(context.path(), &[]).ok();
    buildx.run(["inspect", "lap"]).ok().stdout_has(&["running", "linux/"]);
    buildx.run(["ls"]).ok().stdout_has(&["lap", "remote", "running"]);
    let usage = buildx.run(["du", "--verbose"]).ok();
    usage.stdout_has(&["RUN echo", "source.local", "Total:"]);
    buildx.run(["du", "--filter", "type=source.local"]).ok();
    buildx.run(["prune", "-f", "--filter", "type=source.local"]).ok().stdout_has(&["Total:"]);
    assert!(!buildx.run(["du", "--verbose"]).ok().stdout_text().contains("source.local"));
    buildx.run(["prune", "-af"]).ok();
    let again = buildx.build(context.path(), &[]).ok();
    assert_eq!(outcome(&again, "RUN echo"), "DONE");
    buildx.run(["prune", "--filter", "nonsense", "-f"]).fails(1);
}

#[test]
fn a_daemon_comes_and_goes() {
    let env = env();
    let Some(mut buildx) = Buildx::new(&env) else { return };
    let context = context(&env);
    // A second one at the same socket is told so.
    let address = buildx.daemon.address();
    env.lap(["daemon", "--addr", &address]).fails(1).stderr_has(&["another process listens there"]);
    env.lap(["daemon", "--addr", "tcp://127.0.0.1:0"]).fails(2).stderr_has(&["anybody", "--insecure-tcp"]);
    env.lap(["daemon", "--addr", "nonsense"]).fails(2).stderr_has(&["no address"]);
    let socket = std::fs::metadata(env.work().join("buildkit.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);

    // Killed, it leaves a socket that the next one replaces.
    assert_eq!(buildx.daemon.end(Signal::SIGKILL).signal(), Some(9));
    buildx.daemon.start_again(&["--group", "0"]);
    assert_eq!(
        std::fs::metadata(env.work().join("buildkit.sock")).unwrap().permissions().mode() & 0o777,
        0o660
    );
    buildx.build(context.path(), &[]).ok();

    // Asked to end, it stops builds and says so to their clients.
    let running = env.context();
    running.dockerfile("FROM busybox\nRUN echo begun; sleep 1000\n");
    let mut client = buildx.build(running.path(), &[]).spawn();
    client.wait_for("begun");
    assert_eq!(buildx.daemon.end(Signal::SIGTERM).code(), Some(0));
    assert_eq!(client.finish().code(), Some(1));
    buildx.daemon.start_again(&[]);
    let id = busybox().id().to_string();
    assert!(env.lap(["images", "-q", "--no-trunc"]).ok().stdout_text().contains(&id));
}

#[test]
fn many_builds_at_once_are_all_right() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let contexts: Vec<Context> = (0..8)
        .map(|number| {
            let context = env.context();
            let dockerfile = format!("FROM busybox\nCOPY f /f\nRUN cat /f > /g; echo {} >> /g\n", number % 4);
            context.dockerfile(&dockerfile).file("f", format!("{number}\n"));
            context
        })
        .collect();
    let out = |number: usize| env.work().join(format!("out{number}"));
    let clients: Vec<_> = contexts
        .iter()
        .enumerate()
        .map(|(number, context)| {
            let output = format!("type=local,dest={}", out(number).display());
            buildx.build(context.path(), &["-o", &output]).spawn()
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        let output = client.finish();
        assert_eq!(output.code(), Some(0), "{output}");
        let text = std::fs::read_to_string(out(number).join("g")).unwrap();
        assert_eq!(text, format!("{number}\n{}\n", number % 4));
    }
}

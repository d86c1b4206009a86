//! `lap daemon` in the place of `dockerd`: its name, flags and file, and who may come by which certificate.

mod common;

use std::path::Path;

use common::docker::{Docker, command};
use common::env;
use nix::sys::signal::Signal;
use testkit::certificates::{Authority, Certificate};
use testkit::{DockerRegistry, FaultyRegistry, Image, Lap, Layer, LayerTar, TestEnv};

/// The daemon's own way to say where it is.
const READY: &str = "listening on";

/// `dockerd ARGS…`, with the store of the environment.
fn dockerd(env: &TestEnv, args: &[&str]) -> Lap {
    let program = env.work().join("dockerd");
    if !program.exists() {
        std::os::unix::fs::symlink(testkit::binary::lap(), &program).unwrap();
    }
    Lap::new(&program)
        .args(["--data-root", env.root().to_str().unwrap()])
        .args(args)
        .current_dir(&env.work())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", env.home())
        .env("LAPSTRAKE_RUN", env.run())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn dockerds_flags_and_file_are_taken() {
    let env = env();
    let Some(registry) = DockerRegistry::start() else { return };
    let (socket, file, pid) =
        (env.work().join("d.sock"), env.work().join("daemon.json"), env.work().join("pid"));
    let address = format!("unix://{}", socket.display());
    let settings = serde_json::json!({
        "dns": ["192.0.2.7"], "log-driver": "local", "log-opts": {"max-size": "1m"}, "debug": true, "live-restore": true,
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 100, "Hard": 200}}, "storage-driver": "overlay2",
        "insecure-registries": [registry.address()], "builder": {"gc": {"enabled": true}}, "iptables": true,
    });
    std::fs::write(&file, settings.to_string()).unwrap();
    let config = text(&file);
    let pidfile = text(&pid);
    let flags = [
        "-H",
        &address,
        "--config-file",
        &config,
        "-p",
        &pidfile,
        "--init",
        "-l",
        "warn",
        "--containerd",
        "/none",
    ];
    let mut daemon = dockerd(&env, &flags).spawn();
    daemon.wait_for(READY);
    assert_eq!(std::fs::read_to_string(&pid).unwrap(), daemon.pid().to_string());
    let Some(docker) = command(&env, &address) else { return };
    assert_eq!(docker.args(["images", "-q"]).ok().stdout_text().lines().count(), 1);
    let id = command(&env, &address)
        .unwrap()
        .args(["create", "busybox", "true"])
        .ok()
        .stdout_text()
        .trim()
        .to_owned();
    let own = command(&env, &address).unwrap().args([
        "create",
        "--dns",
        "192.0.2.8",
        "--log-driver",
        "none",
        "busybox",
        "true",
    ]);
    let own = own.ok().stdout_text().trim().to_owned();
    let shown = |id: &str| {
        let format = "{{.HostConfig.Dns}} {{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}}";
        env.lap(["inspect", id, "-f", format]).ok().stdout_text()
    };
    assert_eq!(shown(&id), "[192.0.2.7] local map[max-size:1m]\n");
    assert_eq!(shown(&own), "[192.0.2.8] none map[]\n");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    assert!(!pid.exists());

    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        dockerd(&env, &["--validate", "--config-file", &config, "--dns", "192.0.2.9"]).run()
    };
    check("{\"debug\":true}").stderr_has(&["configuration OK"]);
    for (text, expected) in [
        ("{\"dns\":[\"192.0.2.1\"]}", "specified both as a flag and in the configuration file: dns"),
        ("{\"colour\":1}", "don't match any configuration option: colour"),
        ("{", "unable to configure the Docker daemon"),
        ("{\"bip\":\"10.0.0.1/24\"}", "not supported: --bip"),
        ("{\"storage-driver\":\"zfs\"}", "storage driver zfs is not supported"),
    ] {
        let output = check(text);
        assert_ne!(output.code(), Some(0), "{text}\n{output}");
        output.stderr_has(&[expected]);
    }
    dockerd(&env, &["-H", "tcp://127.0.0.1:1"]).run().stderr_has(&["anybody who reaches"]);
    dockerd(&env, &["--config-file", "/nowhere.json"]).run().stderr_has(&["/nowhere.json"]);
}

#[test]
fn a_hangup_has_settings_read_again() {
    let env = env();
    let registry = FaultyRegistry::start();
    let layer = LayerTar::new().file("f", 0o644, b"mirrored").finish();
    registry.put_image("library/app", "1", &Image::new("app").layer(Layer::tar(layer)));
    let (socket, file) = (env.work().join("d.sock"), env.work().join("daemon.json"));
    let address = format!("unix://{}", socket.display());
    let dns =
        |server: &str| std::fs::write(&file, serde_json::json!({ "dns": [server] }).to_string()).unwrap();
    dns("192.0.2.1");
    let mut daemon = dockerd(&env, &["-H", &address, "--config-file", &text(&file)]).spawn();
    daemon.wait_for(READY);
    let Some(_) = command(&env, &address) else { return };
    let docker = |args: &[&str]| command(&env, &address).unwrap().args(args).run();
    let server = || {
        let id = docker(&["create", "busybox", "true"]).stdout_text().trim().to_owned();
        docker(&["inspect", "-f", "{{index .HostConfig.Dns 0}}", &id]).stdout_text().trim().to_owned()
    };
    assert_eq!(server(), "192.0.2.1");
    dns("192.0.2.2");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("settings were read again");
    assert_eq!(server(), "192.0.2.2");
    // What makes no sense changes nothing.
    std::fs::write(&file, "{\"dns\":7,").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("settings stay as they are");
    assert_eq!(server(), "192.0.2.2");
    // Registries are reached as the file says from then on.
    let image = "app:1";
    assert_ne!(docker(&["pull", image]).code(), Some(0));
    let mirror = format!("http://{}", registry.address());
    std::fs::write(&file, serde_json::json!({ "registry-mirrors": [mirror] }).to_string()).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_times("settings were read again", 2);
    let pulled = docker(&["pull", image]);
    assert_eq!(pulled.code(), Some(0), "{pulled}");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
}

#[test]
fn certificates_say_who_may_do_what() {
    let env = env();
    let dir = env.work();
    let (Some(ours), Some(theirs)) = (Authority::new(&dir, "ours"), Authority::new(&dir, "theirs")) else {
        return;
    };
    let server = ours.issue(&dir, "server");
    let [ci, watch, other] = ["ci", "watch", "other"].map(|name| ours.issue(&dir, name));
    let stranger = theirs.issue(&dir, "ci2");
    let address = format!("tcp://127.0.0.1:{}", testkit::ports::free_port());
    let (ca, cert, key) = (text(&ours.certificate.file), text(&server.file), text(&server.key));
    let flags = ["daemon", "--addr", &address, "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let mut daemon = env.lap(flags).args(["--tls-client", "ci", "--tls-client", "watch:ro"]).spawn();
    daemon.wait_for(READY);
    let client = |of: &Certificate, args: &[&str]| {
        let (file, key) = (text(&of.file), text(&of.key));
        let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &file, "--tlskey", &key];
        command(&env, &address).map(|command| command.args(tls).args(args).run())
    };
    let Some(made) = client(&ci, &["volume", "create", "v"]) else { return };
    assert_eq!(made.code(), Some(0), "{made}");
    let seen = client(&watch, &["volume", "ls", "-q"]).unwrap();
    assert_eq!(seen.stdout_text(), "v\n", "{seen}");
    for (who, args) in [
        (&watch, &["volume", "rm", "v"][..]),
        (&other, &["volume", "ls"]),
        (&other, &["version"]),
        (&stranger, &["volume", "ls"]),
    ] {
        let refused = client(who, args).unwrap();
        assert_ne!(refused.code(), Some(0), "{refused}");
    }
    assert_eq!(env.lap(["volume", "ls", "-q"]).ok().stdout_text(), "v\n");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
}

#[test]
fn who_watches_does_not_build() {
    let env = env();
    let socket = env.work().join("watch.sock");
    let address = format!("unix://{}", socket.display());
    let Some(buildx) = common::daemon::plugin("docker-buildx") else { return };
    let Some(docker) = Docker::with(&env, &["--read-only-addr", &address]) else { return };
    docker.plug_in(&buildx);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    docker.run(["buildx", "build", "-t", "a:1"]).arg(context.path()).ok();
    let refused = docker.at(&address, ["buildx", "build", "-t", "a:2"]).arg(context.path()).run();
    assert_ne!(refused.code(), Some(0), "{refused}");
    assert_eq!(docker.text(&["images", "-q", "a:2"]), "");
}

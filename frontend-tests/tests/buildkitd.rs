//! `lap daemon` in the place of `buildkitd`: its name, flags, configuration file, certificates and systemd.

mod common;

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;
use testkit::certificates::{Authority, Certificate};
use testkit::{Lap, TestEnv};

use common::daemon::{Buildx, plugin};
use common::env;

/// The daemon's own way to say where it is.
const READY: &str = "listening on";

/// `buildkitd ARGS…`
fn buildkitd(env: &TestEnv, args: &[&str]) -> Lap {
    let program = env.work().join("buildkitd");
    if !program.exists() {
        std::os::unix::fs::symlink(testkit::binary::lap(), &program).unwrap();
    }
    Lap::new(&program)
        .args(args)
        .current_dir(&env.work())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", env.home())
        .env("LAPSTRAKE_RUN", env.run())
}

/// buildx with a builder at an address.
fn buildx(env: &TestEnv, program: &Path, args: &[&str]) -> Lap {
    Lap::new(program)
        .args(args)
        .current_dir(&env.work())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", env.home())
        .env("BUILDX_CONFIG", env.home().join("buildx"))
}

#[test]
fn buildkitds_flags_and_file_are_taken() {
    let env = env();
    let Some(program) = plugin("docker-buildx") else { return };
    let (root, socket) = (env.root(), env.work().join("b.sock"));
    let address = format!("unix://{}", socket.display());
    let file = env.work().join("buildkitd.toml");
    let text = format!(
        "root = \"{}\"\ninsecure-entitlements = [\"network.host\"]\nmisspelt = 1\n[grpc]\n  address = [\"{address}\"]\n\
         [worker.oci]\n  max-parallelism = 1\n  gc = false\n  [worker.oci.labels]\n    team = \"a\"\n\
         [worker.containerd]\n  enabled = false\n[registry.\"docker.io\"]\n  mirrors = [\"127.0.0.1:1\"]\n",
        root.display()
    );
    std::fs::write(&file, text).unwrap();
    let flags = [
        "--debug",
        "--oci-worker=true",
        "--containerd-worker=false",
        "--oci-worker-snapshotter",
        "overlayfs",
        "--oci-worker-net",
        "host",
        "--log-format=json",
        "--config",
    ];
    let mut daemon = buildkitd(&env, &[&flags[..], &[file.to_str().unwrap()]].concat()).spawn();
    daemon.wait_for(READY);
    buildx(&env, &program, &["create", "--name", "d", "--driver", "remote", &address, "--use"]).ok();
    buildx(&env, &program, &["inspect", "d"]).ok().stdout_has(&["team:", "a"]);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN --network=host true\n");
    let path = context.path().to_str().unwrap();
    buildx(&env, &program, &["build", "--allow", "network.host", path]).ok();
    let refused = buildx(&env, &program, &["build", "--allow", "security.insecure", path]).fails(1);
    refused.stderr_has(&["security.insecure is not allowed"]);
    daemon.signal(Signal::SIGTERM);
    let output = daemon.finish();
    assert_eq!(output.code(), Some(0));
    output.stderr_has(&["unknown setting misspelt", &address]);

    let version = buildkitd(&env, &["--version"]).ok().stdout_text();
    assert!(version.starts_with("buildkitd "), "{version}");
    buildkitd(&env, &["--nonsense"]).fails(2);
    std::fs::write(&file, "root = 7\n").unwrap();
    buildkitd(&env, &["--config", file.to_str().unwrap()]).fails(1).stderr_has(&["buildkitd.toml, line 1"]);
    buildkitd(&env, &["--config", "/nowhere.toml"]).fails(1).stderr_has(&["/nowhere.toml"]);
}

#[test]
fn who_has_no_certificate_stays_outside() {
    let env = env();
    let Some(program) = plugin("docker-buildx") else { return };
    let dir = env.work();
    let Some(ours) = Authority::new(&dir, "ours") else { return };
    let Some(theirs) = Authority::new(&dir, "theirs") else { return };
    let server = ours.issue(&dir, "server");
    let (known, stranger) = (ours.issue(&dir, "client"), theirs.issue(&dir, "stranger"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let port = testkit::ports::free_port();
    let address = format!("tcp://127.0.0.1:{port}");
    let (ca, cert, key) = (text(&ours.certificate.file), text(&server.file), text(&server.key));
    let flags = ["daemon", "--addr", &address, "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let mut daemon = env.lap(flags).spawn();
    daemon.wait_for(READY);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    let client = |name: &str, options: &str| {
        let create = ["create", "--name", name, "--driver", "remote", "--driver-opt", options, &address];
        buildx(&env, &program, &create).ok();
        buildx(&env, &program, &["build", "--builder", name, context.path().to_str().unwrap()])
    };
    let options = |of: &Certificate| format!("cacert={ca},cert={},key={}", text(&of.file), text(&of.key));
    client("known", &options(&known)).ok();
    client("stranger", &options(&stranger)).fails(1);
    client("nobody", &format!("cacert={ca},servername=127.0.0.1")).fails(1);
    client("known-again", &options(&known)).ok();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));

    // Half of it is not enough.
    env.lap(["daemon", "--addr", &address, "--tlscert", &cert]).fails(2).stderr_has(&["--tlskey"]);
    let open = ["daemon", "--addr", &address, "--tlscert", &cert, "--tlskey", &key];
    env.lap(open).fails(2).stderr_has(&["anybody who reaches"]);
    let missing =
        ["daemon", "--addr", &address, "--tlscacert", "/none", "--tlscert", &cert, "--tlskey", &key];
    env.lap(missing).fails(1).stderr_has(&["cannot read /none"]);
}

#[test]
fn systemd_opens_the_socket_and_hears_of_the_start() {
    let env = env();
    let Some(program) = plugin("docker-buildx") else { return };
    let (socket, notify) = (env.work().join("activated.sock"), env.work().join("notify.sock"));
    let listener = UnixDatagram::bind(&notify).unwrap();
    // What systemd does: it listens, gives the socket the number 3, and says so in the environment.
    let script = "import os,socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nos.dup2(s.fileno(),3)\n\
                  os.set_inheritable(3,True)\nos.environ.update(LISTEN_FDS='1',LISTEN_PID=str(os.getpid()),NOTIFY_SOCKET=sys.argv[2])\n\
                  os.execv(sys.argv[3],sys.argv[3:])\n";
    let root = env.root();
    let mut daemon = Lap::new(Path::new("/usr/bin/python3"))
        .args(["-c", script])
        .arg(&socket)
        .arg(&notify)
        .arg(testkit::binary::lap())
        .arg("--root")
        .arg(&root)
        .args(["daemon", "--addr", "fd://"])
        .current_dir(&env.work())
        .env("HOME", env.home())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LAPSTRAKE_RUN", env.run())
        .spawn();
    daemon.wait_for(READY);
    let mut message = [0; 64];
    let length = listener.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");
    let address = format!("unix://{}", socket.display());
    buildx(&env, &program, &["create", "--name", "d", "--driver", "remote", &address, "--use"]).ok();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    buildx(&env, &program, &["build", context.path().to_str().unwrap()]).ok();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0));
    let length = listener.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"STOPPING=1\n");
    env.lap(["daemon", "--addr", "fd://"]).fails(2).stderr_has(&["nobody has opened a socket"]);
}

#[test]
fn a_daemon_is_as_small_after_many_builds_as_before() {
    let env = env();
    let Some(buildx) = Buildx::new(&env) else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nCOPY f /f\nRUN cat /f\n").file("f", "x".repeat(1 << 20));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", buildx.daemon.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    };
    (0..3).for_each(|_| drop(buildx.build(context.path(), &[]).ok()));
    let before = resident();
    for number in 0..30 {
        context.file("f", format!("{number}").repeat(1 << 18));
        buildx.build(context.path(), &[]).ok();
    }
    // It gives memory back when it has rested for a moment. What stays is what the heap could not give back in whole pages: it
    // does not grow with the number of builds, and does with how many threads were at work at once.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while resident() > before + 20 {
        assert!(std::time::Instant::now() < deadline, "{before} MiB, then {} MiB", resident());
        std::thread::yield_now();
    }
}

#[test]
fn who_watches_the_daemon_is_told_numbers() {
    use std::io::{Read as _, Write as _};
    let env = env();
    let port = testkit::ports::free_port();
    let address = format!("127.0.0.1:{port}");
    let Some(buildx) = Buildx::with(&env, &["--debugaddr", &address]) else { return };
    let ask = |request: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let get = |path: &str| ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let vars = || {
        let answer = get("/debug/vars");
        serde_json::from_str::<serde_json::Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    assert_eq!(vars()["builds"]["running"], 0);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    buildx.build(context.path(), &[]).ok();
    context.dockerfile("FROM busybox\nRUN false\n");
    buildx.build(context.path(), &[]).fails(1);
    let told = vars();
    assert!(told["builds"]["completed"].as_u64().unwrap() >= 1, "{told}");
    assert!(told["builds"]["failed"].as_u64().unwrap() >= 1, "{told}");
    assert!(told["memory"]["resident"].as_u64().unwrap() > 1 << 20, "{told}");
    assert!(get("/metrics").contains("lapstrake_builds_total{status=\"error\"} "));
    assert!(get("/healthz").ends_with("\r\n\r\nok\n"));
    assert!(get("/debug/pprof/").starts_with("HTTP/1.1 404"));
    assert!(ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").contains(" 405 "));
    assert!(ask("nonsense\r\n\r\n").contains(" 400 "));
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
}

//! `lap` in a container that may do little, as in a Kubernetes pod: Docker's default rights and system call filter,
//! which is what `lap run` gives.

mod common;

use common::env;
use testkit::wait::{until, until_ok};
use testkit::{Output, TestEnv};

/// Loads the base image and goes to the context.
const BEGIN: &str = "set -e; export LAPSTRAKE_GC=off LAPSTRAKE_ROOT=/tmp/store; lap() { /lap \"$@\"; }; \
    lap load -q -i /h/busybox.tar; cd /h/context; ";

/// Runs a script in a container that has `lap`, with the base image in its store, and a context.
fn in_container(env: &TestEnv, flags: &[&str], dockerfile: &str, script: &str) -> Output {
    let work = env.work();
    let archive = work.join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    let context = work.join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let program = format!("{}:/lap:ro", testkit::binary::lap().display());
    let files = format!("{}:/h", work.display());
    let command = ["busybox", "sh", "-c", &format!("{BEGIN}{script}")];
    env.lap(["run", "--rm", "-v", &program, "-v", &files]).args(flags).args(command).run()
}

/// An environment whose store has full copies, and `busybox:latest`.
fn native_env() -> TestEnv {
    let env = TestEnv::new();
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    env.lap(["--storage-driver", "native", "load", "-i"]).arg(&archive).ok();
    env
}

const DOCKERFILE: &str = "\
FROM busybox AS made
RUN echo made > /made && chown 33:44 /made && cat /etc/hosts | grep -q localhost
RUN sleep 1000 & echo left a process behind
FROM busybox
COPY --from=made /made /
COPY --chown=1000:1001 Dockerfile /file
RUN echo x > /dev/null; ! mknod /disk b 8 0; ! chroot / true
RUN <<END
cat /made > /copy
END
USER 1000
CMD [\"sh\", \"-c\", \"id -u; cat /copy\"]
";

#[test]
fn a_pod_builds_and_runs_in_another_root_directory() {
    let env = env();
    let script = "lap build --progress plain -t app .; lap run --rm app; lap build -q -o type=tar,dest=/h/fs.tar .; \
        ps | grep -c '[s]leep 1000' || true; lap system doctor | grep 'rootless: making a user namespace is refused' >&2; lap info --format '{{.Isolation.Mode}} {{.Driver}}'";
    let output = in_container(&env, &[], DOCKERFILE, script);
    assert_eq!(output.code(), Some(0), "{output}");
    let first = "#0 building with chroot isolation (missing: own processes, mounts, network and host name";
    output.stderr_has(&[first]).stdout_has(&["1000\nmade\n", "\n0\nchroot native\n"]);
    let tree = testkit::Tree::of_tar(std::fs::File::open(env.work().join("fs.tar")).unwrap());
    let owner = |path: &str| tree.get(path).unwrap_or_else(|| panic!("no {path}")).owner;
    assert_eq!((owner("made"), owner("file"), owner("copy")), ((33, 44), (1000, 1001), (0, 0)));
    for lent in ["dev/null", "etc/hosts", "etc/resolv.conf", "disk", "dev/pipes"] {
        assert!(tree.get(lent).is_none(), "{lent} is in the image");
    }
}

#[test]
fn what_takes_a_mount_is_refused_by_name() {
    let env = env();
    let script = "set +e; fails() { lap run --rm \"$@\" && echo unexpected; }; \
        fails --network none busybox true; fails --tmpfs /t busybox true; fails -v /h:/v busybox true; \
        fails --read-only busybox true; fails --privileged busybox true; fails --hostname x busybox true; \
        fails -t busybox true; lap build --secret id=s,src=Dockerfile . ; \
        fails --isolation oci busybox true; fails --isolation rootless busybox true; true";
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s\n";
    let output = in_container(&env, &[], dockerfile, script);
    assert!(!output.stdout_text().contains("unexpected"), "{output}");
    output.stderr_has(&[
        "a network other than the host's is not possible with chroot isolation",
        "the mount at /t",
        "the mount at /v",
        "a read-only root filesystem",
        "a privileged container",
        "a host name",
        "a terminal",
        "the secret s cannot be a file",
        "isolation \"oci\" is not possible here: this process has no right to mount",
        "isolation \"rootless\" is not possible here: making a user namespace is refused",
    ]);
}

#[test]
fn who_may_make_user_namespaces_gets_one() {
    let env = env();
    let script = "lap build --progress plain -t app .; lap run --rm app; \
        lap run --rm busybox sh -c 'echo $$; echo x > /dev/null; grep CapEff /proc/self/status'; \
        lap info --format '{{.Isolation.Mode}} {{.Driver}}'";
    let dockerfile = "FROM busybox\nRUN echo made > /made && chown 33:44 /made\nCMD [\"stat\", \"-c\", \"%u:%g\", \"/made\"]\n";
    let output = in_container(&env, &["--security-opt", "seccomp=unconfined"], dockerfile, script);
    assert_eq!(output.code(), Some(0), "{output}");
    output.stderr_has(&["#0 building with rootless isolation"]);
    output.stdout_has(&["33:44\n1\nCapEff:\t00000000a80425fb\nrootless "]);
}

#[test]
fn where_nothing_is_allowed_images_are_still_kept_and_the_rest_says_why() {
    let env = env();
    let script = "lap images -q; set +e; lap run --rm busybox true; echo $?; lap system doctor; echo $?";
    let output = in_container(&env, &["-u", "1000"], "FROM scratch\n", script);
    assert_eq!(output.code(), Some(0), "{output}");
    output.stdout_has(&["\n125\n", "BROKEN isolation chroot does not work", "\n1\n"]);
    output.stderr_has(&["containers cannot be isolated here in any way: oci: ", "rootless: ", "chroot: "]);
}

#[test]
fn root_of_the_machine_may_ask_for_less_and_not_for_what_is_for_others() {
    let env = native_env();
    let chroot = ["run", "--rm", "--isolation", "chroot", "busybox", "sh", "-c"];
    let script = "echo $$ > /x; ls /proc; test -c /dev/null && echo null";
    assert_eq!(env.lap(chroot).arg(script).ok().stdout_text(), "null\n");
    env.lap(chroot).arg("kill -9 $$").fails(137);
    env.lap(["run", "--rm", "--isolation", "chroot", "busybox", "no-such-program"]).fails(127);
    let refused = env.lap(["run", "--rm", "--isolation", "rootless", "busybox", "true"]).fails(125);
    refused.stderr_has(&["this process has the rights of root"]);
}

#[test]
fn a_killed_lap_takes_the_first_process_along() {
    let env = native_env();
    let command =
        ["run", "--rm", "--isolation", "chroot", "busybox", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut running = env.lap(command).spawn();
    running.wait_for("ready");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(running.finish().signal(), Some(9));
}

#[test]
fn user_namespaces_of_single_containers_are_refused_by_name() {
    let env = env();
    env.lap(["run", "--rm", "--userns", "host", "busybox", "true"]).ok();
    let refused = env.lap(["run", "--rm", "--userns", "auto", "busybox", "true"]).fails(125);
    refused.stderr_has(&["\"auto\"", "ordinary user"]);
}

#[test]
fn a_container_is_started_with_the_isolation_that_it_was_made_for() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = native_env();
    let create = ["create", "--isolation", "chroot", "--network", "host", "-i", "--name", "c", "busybox"];
    let script = "echo x > /made; echo $$; test -e /proc/self/status && echo proc; read line; echo \"got $line\"; exit 4";
    env.lap(create).args(["sh", "-c", script]).ok();
    let started = env.lap(["start", "-ai", "c"]).stdin("it\n").fails(4).stdout_text();
    let (id, rest) = started.split_once('\n').unwrap();
    // A process id of its own would be 1, and a /proc of its own be there.
    assert!(id.parse::<u32>().unwrap() > 1, "{started}");
    assert_eq!(rest, "got it\n");
    env.lap(["rm", "c"]).ok();
}

#[test]
fn a_container_in_another_root_directory_is_entered_and_ends_with_its_first_process() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = native_env();
    let run = ["run", "-d", "--isolation", "chroot", "--network", "host", "--name", "c", "busybox"];
    env.lap(run).args(["sh", "-c", "echo x > /made; exec sleep 1000"]).ok();
    until("the container's files are seen", || {
        env.lap(["exec", "c", "test", "-s", "/made"]).run().code() == Some(0)
    });
    let exec = |args: &[&str]| env.lap(["exec"]).args(args).ok().stdout_text();
    assert_eq!(exec(&["-u", "7:8", "-w", "/tmp", "c", "sh", "-c", "id -u; id -g; pwd"]), "7\n8\n/tmp\n");
    // Neither another root directory nor devices may lead it out.
    env.lap(["exec", "c", "chroot", "/tmp", "/bin/true"]).run().stderr_has(&["not permitted"]);
    env.lap(["exec", "c", "mknod", "/disk", "b", "8", "0"]).fails(1);
    env.lap(["exec", "--privileged", "c", "true"]).fails(1).stderr_has(&["a privileged container"]);
    let mut further = env.lap(["exec", "c", "sh", "-c", "echo ready; exec sleep 999"]).spawn();
    further.wait_for("ready");
    env.lap(["kill", "c"]).ok();
    assert_eq!(further.finish().code(), Some(137));
    env.lap(["rm", "-f", "c"]).ok();
}

#[test]
fn processes_without_a_parent_are_collected_when_they_end() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = native_env();
    let run = ["run", "-d", "--isolation", "chroot", "--network", "host", "--name", "c", "busybox"];
    // The middle one ends, so that the inner one has no parent; it goes on until it is told to end.
    let script = "mkfifo /end; sh -c 'sh -c \"read line </end\" & echo $!'; exec sleep 1000";
    env.lap(run).args(["sh", "-c", script]).ok();
    let orphan = until_ok("the container says something", || {
        let said = env.lap(["logs", "c"]).ok().stdout_text();
        let (pid, _) = said.split_once('\n').ok_or("it says nothing")?;
        Ok::<_, &str>(std::path::PathBuf::from(format!("/proc/{pid}")))
    });
    assert!(orphan.exists());
    env.lap(["exec", "c", "sh", "-c", "echo x >/end"]).ok();
    until("it has ended", || !orphan.exists());
    // The exit codes of those that we started ourselves are not lost.
    for code in [0, 3, 77] {
        assert_eq!(env.lap(["exec", "c", "sh", "-c", &format!("exit {code}")]).run().code(), Some(code));
    }
    assert_eq!(env.lap(["ps", "-q"]).ok().stdout_text().lines().count(), 1);
    env.lap(["rm", "-f", "c"]).ok();
}

#[test]
fn orphans_are_collected_where_our_session_is_an_outer_one() {
    let Some(unshare) = testkit::judges::program("unshare") else { return };
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = native_env();
    // The leader of our session is outside, so that nobody here has a number for it.
    let script = "for i in 1 2 3; do sh -c 'true &'; done; exit 7";
    let run = ["run", "--rm", "--isolation", "chroot", "--network", "host", "busybox", "sh", "-c", script];
    let output = testkit::Lap::new(unshare.path())
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(testkit::binary::lap())
        .arg("--root")
        .arg(env.root())
        .args(run)
        .env("LAPSTRAKE_GC", "off")
        .run();
    assert_eq!(output.code(), Some(7), "{output}");
}

//! Builds and containers of an ordinary user, with ids of his own and without.

mod common;

use testkit::{Context, OrdinaryUser, Ranges, Tree};

/// A user whose store has `busybox:latest`; `None` where there can be none.
fn user(ranges: Ranges) -> Option<OrdinaryUser> {
    let user = OrdinaryUser::new(ranges)?;
    user.load(&testkit::images::busybox());
    Some(user)
}

/// The standard output of a shell script in a container with some flags.
fn says(user: &OrdinaryUser, flags: &[&str], script: &str) -> String {
    user.lap(["run", "--rm"]).args(flags).args(["busybox", "sh", "-c", script]).ok().stdout_text()
}

const DOCKERFILE: &str = "\
FROM busybox AS made
RUN echo made > /made && chown 33:44 /made
COPY --chown=1000:1001 file /file
FROM busybox
COPY --from=made /made /file /
WORKDIR /work
RUN chown nobody /work && echo 'app:x:1000:1001::/:/bin/sh' >> /etc/passwd
USER app
RUN id -u > /tmp/user
CMD [\"sh\", \"-c\", \"id -u; cat /made /file\"]
";

#[test]
fn an_image_is_built_exported_and_run() {
    let Some(user) = user(Ranges::Usual) else { return };
    let context = Context::create(&user.work());
    context.dockerfile(DOCKERFILE).file("file", "from the context\n");
    let build =
        |args: &[&str]| user.lap(["build", "--progress", "plain"]).args(args).arg(context.path()).ok();
    let output = build(&["-t", "app"]);
    let first = output.stderr_text().lines().next().map(str::to_owned);
    assert_eq!(first.as_deref(), Some("#0 building with rootless isolation"));
    assert_eq!(user.lap(["run", "--rm", "app"]).ok().stdout_text(), "1000\nmade\nfrom the context\n");
    build(&["-o", "type=tar,dest=fs.tar"]);
    let tree = Tree::of_tar(std::fs::File::open(user.work().join("fs.tar")).unwrap());
    let owner = |path: &str| tree.get(path).unwrap_or_else(|| panic!("no {path}")).owner;
    assert_eq!((owner("made"), owner("file")), ((33, 44), (1000, 1001)));
    assert_eq!((owner("work").0, owner("tmp/user"), owner("bin/busybox")), (65534, (1000, 1001), (0, 0)));
    user.lap(["save", "-o", "app.tar", "app"]).ok();
    user.lap(["rmi", "app"]).ok();
    user.lap(["load", "-i", "app.tar"]).ok().stdout_has(&["app"]);
}

#[test]
fn a_container_is_as_isolated_as_that_of_root() {
    let Some(user) = user(Ranges::Usual) else { return };
    let status = says(
        &user,
        &[],
        "grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status; echo $$; ls /proc | grep -c '^[0-9]'",
    );
    let expected = "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\n1\n";
    assert!(status.starts_with(expected), "{status}");
    let processes: u32 = status.lines().last().unwrap().parse().unwrap();
    assert!(processes < 10, "only its own: {status}");
    assert!(says(&user, &[], "mount -t tmpfs none /tmp 2>&1 || echo denied").contains("denied"));
    assert!(says(&user, &[], "mkdir /sys/x 2>&1 || echo denied").contains("Read-only"));
    assert_eq!(
        says(&user, &[], "ls -A /sys/fs/cgroup | grep -c '^memory$'; cat /proc/kcore | wc -c"),
        "0\n0\n"
    );
    assert_eq!(says(&user, &["--network", "none"], "ls /sys/class/net"), "lo\n");
    let devices = "echo x > /dev/null && head -c 4 /dev/zero | wc -c && test -c /dev/full && test -d /dev/pts && echo ok";
    assert_eq!(says(&user, &[], devices), "4\nok\n");
    assert_eq!(
        says(&user, &["--hostname", "boat"], "hostname; touch /x; chown 70:80 /x; stat -c %u:%g /x"),
        "boat\n70:80\n"
    );
    let shared = ["--pid", "host", "--ipc", "host", "--uts", "host"];
    assert_eq!(says(&user, &shared, "test $$ -gt 1 && test -d /proc/$$ && echo shared"), "shared\n");
    assert_eq!(says(&user, &["-u", "65534:65534", "--group-add", "50"], "id -u; id -G"), "65534\n65534 50\n");
}

#[test]
fn files_that_a_volume_gets_belong_to_the_user() {
    let Some(user) = user(Ranges::Usual) else { return };
    let volume = format!("{}:/v", user.work().display());
    says(&user, &["-v", &volume], "echo x > /v/of-root; touch /v/of-another; chown 1000 /v/of-another");
    use std::os::unix::fs::MetadataExt as _;
    let owner = |name: &str| std::fs::metadata(user.work().join(name)).unwrap().uid();
    let own = std::fs::metadata(user.work()).unwrap().uid();
    assert_eq!(owner("of-root"), own);
    assert_ne!(owner("of-another"), own);
    user.command("sh", ["-c", "rm of-root && ! chown 0 of-another 2>/dev/null"]).ok();
}

#[test]
fn without_ranges_there_is_root_alone_and_the_rest_is_refused_by_name() {
    let Some(user) = user(Ranges::None) else { return };
    assert_eq!(says(&user, &[], "id -u; touch /x; echo hi > /dev/null; stat -c %u /x"), "0\n0\n");
    let other = user.lap(["run", "--rm", "-u", "1000", "busybox", "id"]).fails(125);
    other.stderr_has(&["user 1000", "/etc/subuid"]);
    let context = Context::create(&user.work());
    context.dockerfile("FROM busybox\nCOPY Dockerfile /\nRUN touch /y\n");
    let build = || user.lap(["build", "--progress", "plain"]).arg(context.path());
    build().ok().stderr_has(&["#0 building with rootless isolation (missing: users other than root)"]);
    context.dockerfile("FROM busybox\nRUN touch /y && chown 7 /y\n");
    build().fails(1).stderr_has(&["exit code: 1", "no ids for lapuser"]);
    context.dockerfile("FROM busybox\nCOPY --chown=7 Dockerfile /\n");
    build().fails(1).stderr_has(&["owner 7:7", "/etc/subuid"]);
    let doctor = user.lap(["system", "doctor"]).ok();
    doctor.stdout_has(&["no ids for lapuser", "usermod --add-subuids"]);
}

#[test]
fn what_was_obtained_and_what_is_missing_is_told() {
    let Some(user) = user(Ranges::Usual) else { return };
    let info = |format: &str| user.lap(["info", "--format", format]).ok().stdout_text();
    assert_eq!(
        info("{{.Isolation.Mode}} {{.Rootless}} {{.Driver}} {{.UserIds}}"),
        "rootless true overlay 65537\n"
    );
    let home = user.work().with_file_name("home");
    let store = home.join(".local/share/lapstrake");
    assert_eq!(info("{{.DockerRootDir}} {{.RuntimeDir}}"), format!("{0} {0}/run\n", store.display()));
    user.lap(["info"]).ok().stdout_has(&["Isolation: rootless", "Cgroup Version: ", "Limits: "]);
    user.lap(["system", "doctor"]).ok().stdout_has(&["rootless", "the store is"]);
}

#[test]
fn more_than_there_is_cannot_be_demanded() {
    let Some(user) = user(Ranges::Usual) else { return };
    let refused = user.lap(["run", "--rm", "--isolation", "oci", "busybox", "true"]).fails(125);
    refused.stderr_has(&["isolation \"oci\" is not possible here", "CAP_SYS_ADMIN", "lap system doctor"]);
    user.lap(["run", "--rm", "--isolation", "rootless", "busybox", "true"]).ok();
    user.lap(["run", "--rm", "--isolation", "strong", "busybox", "true"])
        .fails(2)
        .stderr_has(&["strong", "rootless"]);
    user.lap(["build", "--isolation", "oci", "."]).fails(1).stderr_has(&["\"oci\""]);
    let limited = user.lap(["run", "--rm", "-m", "64m", "busybox", "true"]).fails(125);
    limited.stderr_has(&["control group"]);
}

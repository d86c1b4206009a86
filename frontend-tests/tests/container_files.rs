//! Files of containers: copied in and out, told as changes, exported, made images of. Roots of containers and archives
//! are hostile.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use common::containers::Containers;
use testkit::{LayerTar, OrdinaryUser, Output, Ranges, Tree};

/// A container that runs, and one that does not, of the same image.
fn running_and_stopped() -> Containers {
    let env = Containers::new();
    env.detached(&["--name", "up", "busybox", "sleep", "1000"]);
    env.lap(["create", "--name", "down", "busybox", "cat", "/from-host"]).ok();
    env
}

/// Files of the host to copy: a file and a directory, and links to them.
fn host_files(env: &Containers) {
    let work = env.work();
    fs::write(work.join("file"), "one").unwrap();
    fs::create_dir_all(work.join("dir/sub")).unwrap();
    fs::write(work.join("dir/sub/deep"), "two").unwrap();
    symlink("file", work.join("file-link")).unwrap();
    symlink("dir", work.join("dir-link")).unwrap();
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn cp(env: &Containers, from: &str, to: &str) {
    let output = env.lap(["cp", from, to]).ok();
    let told = output.stderr_text();
    // Where a store cannot keep layers in the form that tests are to be run with, each command says so.
    let told: Vec<&str> = told.lines().filter(|line| !line.contains("layers are unpacked")).collect();
    assert_eq!(told.concat() + &output.stdout_text(), "", "cp {from} {to}");
}

fn cp_fails(env: &Containers, from: &str, to: &str) -> Output {
    env.lap(["cp", from, to]).fails(1)
}

/// The content of a file of a container, by an archive on standard output.
fn content(env: &Containers, container: &str, path: &str) -> String {
    let archive = env.lap(["cp", "-L", &format!("{container}:{path}"), "-"]).ok();
    let tree = Tree::of_tar(archive.stdout.as_slice());
    let name = tree.paths().next().expect("the archive has a file").to_owned();
    tree.text(&name)
}

#[test]
fn files_go_in_by_dockers_rules() {
    let env = running_and_stopped();
    host_files(&env);
    for name in ["up", "down"] {
        let to = |path: &str| format!("{name}:{path}");
        let has = |path: &str, text: &str| assert_eq!(content(&env, name, path), text, "{name}:{path}");
        cp(&env, "file", &to("/tmp"));
        has("/tmp/file", "one");
        cp(&env, "file", &to("/tmp/other"));
        cp(&env, "file", &to("tmp/relative"));
        has("/tmp/other", "one");
        has("/tmp/relative", "one");
        // A directory becomes what is missing, goes into what is there, and gives its content with a dot.
        cp(&env, "dir", &to("/new"));
        has("/new/sub/deep", "two");
        cp(&env, "dir/", &to("/new"));
        has("/new/dir/sub/deep", "two");
        cp(&env, "dir", &to("/with-slash/"));
        has("/with-slash/sub/deep", "two");
        env.lap(["cp", "dir/.", &to("/tmp")]).current_dir(&env.work()).ok();
        has("/tmp/sub/deep", "two");
        // Links are copied as links, or followed.
        cp(&env, "file-link", &to("/tmp"));
        has("/tmp/file-link", "one");
        env.lap(["cp", "-L", "file-link", &to("/tmp/followed")]).ok();
        env.lap(["cp", "--follow-link", "dir-link", &to("/tmp/")]).ok();
        has("/tmp/followed", "one");
        has("/tmp/dir-link/sub/deep", "two");
        fs::write(env.work().join("file"), "newer").unwrap();
        cp(&env, "file", &to("/tmp/file"));
        has("/tmp/file", "newer");
        fs::write(env.work().join("file"), "one").unwrap();
    }
    let seen = env.lap([
        "exec",
        "up",
        "sh",
        "-c",
        "cat /tmp/file; readlink /tmp/file-link; test ! -L /tmp/followed",
    ]);
    assert_eq!(seen.ok().stdout_text(), "newerfile\n");
    cp(&env, "file", "down:/from-host");
    assert_eq!(env.lap(["start", "-a", "down"]).ok().stdout_text(), "one");
}

#[test]
fn files_come_out_by_dockers_rules() {
    let env = running_and_stopped();
    let script = "mkdir -p /d/s; echo one > /f; echo two > /d/s/g; ln -s /d /dl; ln -s f /fl; ln -s /f /abs; ln /f /d/hard; ln /f /d/hard2";
    env.lap(["exec", "up", "sh", "-c", script]).ok();
    let work = env.work();
    let made = |path: &str| work.join(path);
    cp(&env, "up:/f", ".");
    assert_eq!(read(made("f")), "one\n");
    cp(&env, "up:f", "renamed");
    cp(&env, "up:/d", "new");
    assert_eq!((read(made("renamed")), read(made("new/s/g"))), ("one\n".to_owned(), "two\n".to_owned()));
    assert_eq!(made("new/hard").metadata().unwrap().ino(), made("new/hard2").metadata().unwrap().ino());
    cp(&env, "up:/d/", "new");
    assert_eq!(read(made("new/d/s/g")), "two\n");
    fs::create_dir(made("into")).unwrap();
    cp(&env, "up:/d/.", "into");
    assert_eq!(read(made("into/s/g")), "two\n");
    cp(&env, "up:/dl", "link");
    assert_eq!(fs::read_link(made("link")).unwrap(), Path::new("/d"));
    env.lap(["cp", "-L", "up:/dl", "followed"]).ok();
    cp(&env, "up:/dl/", "followed-too");
    assert_eq!(
        (read(made("followed/s/g")), read(made("followed-too/s/g"))),
        ("two\n".into(), "two\n".into())
    );
    // A link of the host as destination is followed, also to what is missing.
    symlink("missing", made("to-missing")).unwrap();
    cp(&env, "up:/f", "to-missing");
    assert_eq!(read(made("missing")), "one\n");
    cp(&env, "up:/etc/passwd", "into/");
    let archive = |path: &str| {
        let archive = env.lap(["cp", path, "-"]).ok();
        Tree::of_tar(archive.stdout.as_slice()).paths().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(archive("up:/d/s"), ["s", "s/g"]);
    assert_eq!(archive("up:/dl"), ["dl"]);
    assert_eq!(archive("up:/dl/s/g"), ["g"]);
    // What the kernel shows is not files of a container.
    cp(&env, "up:/", "whole");
    assert_eq!(read(made("whole/d/s/g")), "two\n");
    assert_eq!(fs::read_dir(made("whole/proc")).unwrap().count(), 0);
    cp(&env, "down:/etc", "etc-of-stopped");
    assert!(read(made("etc-of-stopped/passwd")).contains("root"));
}

#[test]
fn what_does_not_fit_is_refused_in_dockers_words() {
    let env = running_and_stopped();
    host_files(&env);
    for name in ["up", "down"] {
        let of = |path: &str| format!("{name}:{path}");
        let refused = |from: &str, to: &str, words: &str| {
            cp_fails(&env, from, to).stderr_has(&[words]);
        };
        refused(&of("/nosuch"), ".", &format!("Could not find the file /nosuch in container {name}"));
        refused(&of("/nosuch"), "-", &format!("Could not find the file /nosuch in container {name}"));
        refused("file", &of("/no/such"), &format!("Could not find the file /no in container {name}"));
        refused("file", &of("/no/"), "no such directory");
        refused("file", &of("/etc/passwd/"), "not a directory");
        refused("dir", &of("/etc/passwd"), "cannot copy directory");
        refused("nofile", &of("/"), "nofile: no such file or directory");
        refused("file/", &of("/tmp"), "not a directory");
        refused(&of("/etc"), "file", "cannot copy directory");
        refused(&of("/etc/passwd"), "no/", "no such directory");
        refused(&of("/etc/passwd"), "no/such", "invalid output path: directory \"no\" does not exist");
        refused(&of("/etc/passwd/"), "x", "not a directory");
        refused(&of("/etc/passwd"), "/dev/null", "is not a file or directory");
        refused(&of(""), "x", "is empty");
        refused(&of("/proc/version"), ".", "Could not find the file /proc/version");
        let archive = env.lap(["cp", "-", &of("/etc/passwd")]).stdin(Vec::new()).fails(1);
        archive.stderr_has(&[&format!("destination \"{name}:/etc/passwd\" must be a directory")]);
        env.lap(["cp", "-", &of("/tmp")]).stdin("no archive").fails(1);
        // A directory does not take the place of a file, nor the other way round.
        fs::create_dir_all(env.work().join("clash/etc/passwd")).unwrap();
        refused("clash/.", &of("/"), "cannot overwrite non-directory \"/etc/passwd\" with directory");
        let tar = LayerTar::new().file("etc", 0o644, "x").finish();
        let archive = env.lap(["cp", "-", &of("/")]).stdin(tar).fails(1);
        archive.stderr_has(&["cannot overwrite directory \"/etc\" with non-directory"]);
        assert!(content(&env, name, "/etc/passwd").contains("root"));
    }
    cp_fails(&env, "nobody:/x", ".").stderr_has(&["No such container: nobody"]);
    cp_fails(&env, "up:/x", "down:/y").stderr_has(&["copying between containers is not supported"]);
    cp_fails(&env, "file", "dir").stderr_has(&["must specify at least one container source"]);
    env.lap(["cp", "up:/x"]).fails(2);
    env.lap(["store", "check"]).ok();
}

#[test]
fn owners_and_rights_stay_where_they_belong() {
    let env = running_and_stopped();
    host_files(&env);
    let file = env.work().join("file");
    std::os::unix::fs::chown(&file, Some(1000), Some(1001)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    for name in ["up", "down"] {
        cp(&env, "file", &format!("{name}:/plain"));
        env.lap(["cp", "-a", "file", &format!("{name}:/kept")]).ok();
        let archive = |path: &str| {
            let archive = env.lap(["cp", &format!("{name}:{path}"), "-"]).ok();
            Tree::of_tar(archive.stdout.as_slice())
        };
        let time = file.metadata().unwrap().mtime();
        let mut header = tar::Archive::new(std::io::Cursor::new(
            env.lap(["cp", &format!("{name}:/plain"), "-"]).ok().stdout.clone(),
        ));
        let entry = header.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(i64::try_from(entry.header().mtime().unwrap()).unwrap(), time);
        let expected = Tree::new().file("plain", 0o640, "one");
        expected.assert_is(&archive("/plain"));
        Tree::new().file("kept", 0o640, "one").owner("kept", 1000, 1001).assert_is(&archive("/kept"));
    }
    let script = "echo x > /s; chown 1000:1001 /s; chmod 6755 /s; mkfifo /pipe; mknod /dev0 c 1 3; mkdir /some; mv /s /pipe /dev0 /some";
    env.lap(["exec", "up", "sh", "-c", script]).ok();
    let out = env.lap(["cp", "up:/some", "plain"]).ok();
    out.stderr_has(&["1 devices were left out"]);
    let plain = env.work().join("plain");
    let status = plain.join("s").metadata().unwrap();
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (0, 0, 0o755));
    assert!(!plain.join("dev0").exists() && plain.join("pipe").exists());
    env.lap(["cp", "-a", "up:/some", "kept"]).ok();
    let status = env.work().join("kept/s").metadata().unwrap();
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (1000, 1001, 0o6755));
}

#[test]
fn volumes_and_what_the_host_lends_are_seen_whether_it_runs_or_not() {
    let env = Containers::new();
    let host = env.work().join("host");
    fs::create_dir_all(host.join("in")).unwrap();
    fs::write(host.join("in/seen"), "host").unwrap();
    fs::write(env.work().join("file"), "one").unwrap();
    let bind = format!("{}:/mnt/deep/host", host.display());
    let ro = format!("{}:/ro:ro", host.display());
    let flags =
        ["-v", &bind, "-v", &ro, "-v", "data:/data", "-v", "/anonymous", "--tmpfs", "/memory", "busybox"];
    env.lap(["create", "--name", "down"]).args(flags).args(["sleep", "1000"]).ok();
    env.detached(&[&["--name", "up"][..], &flags, &["sleep", "1000"]].concat());
    for name in ["down", "up"] {
        let of = |path: &str| format!("{name}:{path}");
        assert_eq!(content(&env, name, "/mnt/deep/host/in/seen"), "host");
        cp(&env, "file", &of(&format!("/mnt/deep/host/{name}")));
        assert_eq!(read(host.join(name)), "one");
        cp(&env, "file", &of(&format!("/data/{name}")));
        cp(&env, "file", &of("/anonymous/"));
        cp_fails(&env, "file", &of("/ro/x")).stderr_has(&["mounted volume is marked read-only"]);
        assert!(!host.join("x").exists());
        fs::remove_dir_all(env.work().join("all")).ok();
        cp(&env, &of("/"), "all");
        assert_eq!(read(env.work().join("all/mnt/deep/host/in/seen")), "host");
    }
    assert_eq!(env.lap(["exec", "up", "ls", "/data"]).ok().stdout_text(), "down\nup\n");
    // What was only needed to look is gone.
    let archive = env.lap(["cp", "down:/", "-"]).ok();
    assert!(Tree::of_tar(archive.stdout.as_slice()).get("data/down").is_some());
    let mounts = read("/proc/self/mountinfo");
    assert!(!mounts.contains(env.root().to_str().unwrap()), "{mounts}");
    env.lap(["create", "--name", "fixed", "--read-only", "-v", "data:/data", "busybox", "cat", "/data/late"])
        .ok();
    cp_fails(&env, "file", "fixed:/tmp/x").stderr_has(&["container rootfs is marked read-only"]);
    cp(&env, "file", "fixed:/data/late");
    assert_eq!(env.lap(["start", "-a", "fixed"]).ok().stdout_text(), "one");
}

#[test]
fn links_of_a_container_lead_nowhere_else() {
    let env = running_and_stopped();
    let outside = env.work().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::write(env.work().join("file"), "evil").unwrap();
    fs::create_dir(env.work().join("tree")).unwrap();
    fs::write(env.work().join("tree/planted"), "evil").unwrap();
    let outside = outside.to_str().unwrap();
    let script = format!(
        "ln -s {outside} /abs; ln -s ../../../../../../../..{outside} /up; ln -s /proc/1/root{outside} /magic; \
         ln -s /proc/self/root /self; ln -s loop /loop; ln -s {outside}/planted /dangling"
    );
    env.lap(["exec", "up", "sh", "-c", &script]).ok();
    let tar = LayerTar::new()
        .symlink("abs", outside)
        .symlink("up", &format!("../../../../../../../..{outside}"))
        .symlink("magic", &format!("/proc/1/root{outside}"))
        .symlink("self", "/proc/self/root")
        .symlink("loop", "loop")
        .symlink("dangling", &format!("{outside}/planted"))
        .finish();
    env.lap(["cp", "-", "down:/"]).stdin(tar).ok();
    for name in ["up", "down"] {
        for link in ["abs", "up", "magic", "self/..", &format!("self{outside}"), "loop"] {
            cp_fails(&env, &format!("{name}:/{link}/secret"), "stolen");
            cp_fails(&env, "file", &format!("{name}:/{link}/planted"));
            cp_fails(&env, "tree/.", &format!("{name}:/{link}/."));
        }
        cp_fails(&env, "file", &format!("{name}:/dangling"));
        // With the directory in it, the same paths are the container's.
        cp(&env, "tree", &format!("{name}:/made"));
        let parents = LayerTar::new().dir(&outside[1..], 0o755).finish();
        env.lap(["cp", "-", &format!("{name}:/")]).stdin(parents).ok();
        cp(&env, "file", &format!("{name}:/abs/planted"));
        assert_eq!(content(&env, name, &format!("{outside}/planted")), "evil");
        cp(&env, &format!("{name}:/abs/planted"), "own");
        assert_eq!(read(env.work().join("own")), "evil");
    }
    assert_eq!(common::names_in(Path::new(outside)), ["secret"]);
    assert!(!env.work().join("stolen").exists());
}

#[test]
fn hostile_archives_stay_in_their_directory() {
    let env = running_and_stopped();
    let outside = env.work().join("outside");
    fs::create_dir(&outside).unwrap();
    let escape = format!("../../../../../../../..{}/x", outside.display());
    for name in ["up", "down"] {
        let to = format!("{name}:/tmp");
        let unpack = |tar: Vec<u8>| env.lap(["cp", "-", &to]).stdin(tar).run();
        for tar in [
            LayerTar::new().file("../x", 0o644, "evil").finish(),
            LayerTar::new().file(&escape, 0o644, "evil").finish(),
            LayerTar::new().hard_link("x", "../etc/passwd").finish(),
            LayerTar::new()
                .symlink("out", "../../../../..")
                .file(&format!("out{}/x", outside.display()), 0o644, "evil")
                .finish(),
        ] {
            let refused = unpack(tar);
            assert_eq!(refused.code(), Some(1), "{refused}");
            refused.stderr_has(&["leads outside"]);
        }
        // An absolute link and name count from the container's root and the directory.
        let tar = LayerTar::new()
            .symlink("etc", "/etc")
            .file("etc/planted", 0o644, "in")
            .file("/abs", 0o644, "abs")
            .finish();
        assert_eq!(unpack(tar).code(), Some(0));
        assert_eq!(
            (content(&env, name, "/etc/planted"), content(&env, name, "/tmp/abs")),
            ("in".into(), "abs".into())
        );
        // Names that mean deletions in layers are ordinary ones.
        let tar = LayerTar::new().file(".wh.x", 0o644, "kept").finish();
        assert_eq!(unpack(tar).code(), Some(0));
        assert_eq!(content(&env, name, "/tmp/.wh.x"), "kept");
    }
    assert!(!Path::new("/etc/planted").exists() && common::names_in(&outside).is_empty());
}

#[test]
fn a_link_on_the_host_that_a_container_named_is_not_followed() {
    let env = running_and_stopped();
    let outside = env.work().join("outside");
    fs::create_dir(&outside).unwrap();
    env.lap(["exec", "up", "sh", "-c", &format!("mkdir /d; ln -s {} /d/trap", outside.display())]).ok();
    cp(&env, "up:/d", "copy");
    assert_eq!(fs::read_link(env.work().join("copy/trap")).unwrap(), outside);
    env.lap(["exec", "up", "sh", "-c", "rm /d/trap; mkdir /d/trap; echo evil > /d/trap/planted"]).ok();
    cp_fails(&env, "up:/d/.", "copy").stderr_has(&["cannot overwrite non-directory"]);
    assert_eq!(common::names_in(&outside), [] as [String; 0]);
}

#[test]
fn a_container_that_exchanges_directories_for_links_gets_nothing() {
    let env = running_and_stopped();
    let outside = env.work().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::create_dir_all(env.work().join("tree/a/b")).unwrap();
    for number in 0..40 {
        fs::write(env.work().join(format!("tree/a/b/{number}")), "x").unwrap();
    }
    let out = outside.display();
    let script = format!(
        "mkdir -p /d /real/a/b; ln -s {out} /link; cd /d; echo ready; \
         while :; do mkdir -p a/b; rm -rf a; ln -s {out} a; rm a; mkdir a; ln -s {out} a/b; rm -rf a; done"
    );
    env.detached(&["--name", "racer", "busybox", "sh", "-c", &script]);
    env.wait_for("racer", "ready");
    for round in 0..25 {
        env.lap(["cp", "tree/.", "racer:/d"]).run();
        env.lap(["cp", "racer:/d", &format!("out-{round}")]).run();
    }
    assert_eq!(common::names_in(&outside), ["secret"]);
    let copied = Tree::of_dir(&env.work());
    let secrets: Vec<&str> = copied.paths().filter(|path| path.ends_with("secret")).collect();
    assert_eq!(secrets, ["outside/secret"], "something was read through a link");
}

#[test]
fn archives_may_be_compressed_and_keep_owners() {
    let env = running_and_stopped();
    let tar = LayerTar::new().owner(7, 8).file("deep/er/f", 0o600, "x").finish();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let gzip = gzip.finish().unwrap();
    for name in ["up", "down"] {
        env.lap(["cp", "-", &format!("{name}:/tmp")]).stdin(gzip.clone()).ok();
        let archive = env.lap(["container", "cp", &format!("{name}:/tmp/deep/er/f"), "-"]).ok();
        let expected = Tree::new().file("f", 0o600, "x").owner("f", 7, 8);
        expected.assert_is(&Tree::of_tar(archive.stdout.as_slice()));
    }
}

/// The lines of `lap diff`.
fn diff(env: &Containers, container: &str) -> Vec<String> {
    env.lap(["diff", container]).ok().stdout_text().lines().map(str::to_owned).collect()
}

/// An image with files to change.
fn image_to_change(env: &Containers) {
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN mkdir -p /d/keep /opt && echo a > /d/a && echo b > /d/b && echo k > /d/keep/k && echo o > /opt/o\n\
         ENV FROM_IMAGE=1\nLABEL of=image\nEXPOSE 80\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"true\"]\n",
    );
    common::build(env, &context, &["-t", "app"]);
}

/// What is done to them, and what `lap diff` then says.
const CHANGES: &str = "echo new > /new; mkdir /dir; echo x > /dir/x; echo more >> /d/a; rm /d/b; rm -r /opt; mkdir /opt; \
    chmod 700 /d/keep; ln -s new /link; touch /gone; rm /gone; cat /d/keep/k > /dev/null";
const CHANGED: [&str; 11] = [
    "C /d",
    "C /d/a",
    "D /d/b",
    "C /d/keep",
    "A /dir",
    "A /dir/x",
    "A /link",
    "A /new",
    "C /opt",
    "D /opt/o",
    "",
];

fn changed() -> Vec<&'static str> {
    CHANGED.into_iter().filter(|line| !line.is_empty()).collect()
}

fn changes_are_told(env: &Containers) {
    image_to_change(env);
    let flags = ["-v", "data:/vol/deep", "--tmpfs", "/memory", "--entrypoint", "/bin/sh", "app", "-c"];
    env.detached(&[&["--name", "up"][..], &flags, &[&format!("{CHANGES}; echo done; sleep 1000")]].concat());
    env.wait_for("up", "done");
    assert_eq!(diff(env, "up"), changed());
    env.lap(["kill", "up"]).ok();
    env.lap(["wait", "up"]).ok();
    assert_eq!(diff(env, "up"), changed());
    env.lap(["create", "--name", "fresh", "app"]).ok();
    assert_eq!(diff(env, "fresh"), [] as [&str; 0]);
    fs::write(env.work().join("file"), "one").unwrap();
    cp(env, "file", "fresh:/opt/");
    assert_eq!(diff(env, "fresh"), ["C /opt", "A /opt/file"]);
    env.lap(["run", "--name", "ended", "app", "touch /made"]).ok();
    assert_eq!(diff(env, "ended"), ["A /made"]);
    assert_eq!(env.lap(["container", "diff", "ended"]).ok().stdout_text(), "A /made\n");
}

#[test]
fn changes_are_told_as_in_docker() {
    let env = Containers::new();
    changes_are_told(&env);
    env.lap(["diff", "nobody"]).fails(1).stderr_has(&["No such container: nobody"]);
}

/// The same store with another driver.
fn native() -> Containers {
    let env = Containers::empty();
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    env.lap(["--storage-driver", "native", "load", "-i"]).arg(&archive).ok();
    fs::remove_file(archive).unwrap();
    env
}

#[test]
fn changes_are_told_without_an_overlay() {
    let env = native();
    changes_are_told(&env);
    exported(&env);
    commits(&env);
}

/// Exports a container that runs and one that has ended.
fn exported(env: &Containers) {
    let script =
        "rm /d/b; echo new > /new; ln /new /hard; chown 3:4 /new; mkdir /vol/here; echo done; sleep 1000";
    env.detached(&["--name", "exporting", "-v", "inside:/vol", "app", script]);
    env.wait_for("exporting", "done");
    let archive = || {
        let archive = env.lap(["export", "exporting"]).ok();
        Tree::of_tar(archive.stdout.as_slice())
    };
    let running = archive();
    assert_eq!(
        (running.text("new"), running.text("d/a"), running.text("hard")),
        ("new\n".into(), "a\n".into(), "new\n".into())
    );
    assert!(running.get("d/b").is_none() && running.get("vol/here").is_none());
    env.lap(["kill", "exporting"]).ok();
    env.lap(["wait", "exporting"]).ok();
    env.lap(["export", "-o", "all.tar", "exporting"]).ok();
    let ended = Tree::of_tar(fs::read(env.work().join("all.tar")).unwrap().as_slice());
    assert_eq!(ended.text("new"), "new\n");
    // What was exported can be imported and run.
    env.lap(["import", "all.tar", "flat"]).ok();
    assert_eq!(env.lap(["run", "--rm", "flat", "stat", "-c", "%u:%g", "/new"]).ok().stdout_text(), "3:4\n");
}

#[test]
fn a_container_is_exported() {
    let env = Containers::new();
    image_to_change(&env);
    exported(&env);
    env.lap(["export", "nobody"]).fails(1).stderr_has(&["No such container: nobody"]);
    env.lap(["export", "-o", "no/such/dir", "exporting"]).fails(1).stderr_has(&["no/such/dir"]);
    let mut terminal = common::terminal::Terminal::start(&env, &["export", "exporting"]);
    terminal.wait_for("cowardly refusing to save to a terminal");
    assert_eq!(terminal.finish(), Some(1));
}

/// A field of an image.
fn of_image(env: &Containers, image: &str, field: &str) -> String {
    let format = format!("{{{{json .{field}}}}}");
    env.lap(["image", "inspect", "-f", &format, image]).ok().stdout_text().trim().to_owned()
}

fn commits(env: &Containers) {
    let flags =
        ["-e", "GIVEN=2", "-l", "given=yes", "-w", "/d", "--expose", "99", "-v", "kept:/vol/deep", "app"];
    env.detached(
        &[&["--name", "worker"][..], &flags, &[&format!("{CHANGES}; chown 3:4 /new; echo done; sleep 1000")]]
            .concat(),
    );
    env.wait_for("worker", "done");
    let id = env.lap(["commit", "-a", "me", "-m", "why", "worker", "made:1"]).ok().stdout_text();
    let id = id.trim();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(env.inspect("worker", ".State.Status"), "running");
    assert_eq!(common::image_id(env, "made:1"), id);
    let says = |image: &str, script: &str| {
        env.lap(["run", "--rm", "--entrypoint", "/bin/sh", image, "-c", script]).ok().stdout_text()
    };
    let look = "cat /new /d/a /dir/x; test -e /d/b || echo gone; ls /opt; stat -c %u:%g /new; stat -c %a /d/keep; ls -d /vol /vol/deep; pwd; echo $GIVEN";
    assert_eq!(says("made:1", look), "new\na\nmore\nx\ngone\n3:4\n700\n/d\n2\n");
    assert_eq!(
        of_image(env, "made:1", "Config.Env"),
        "[\"FROM_IMAGE=1\",\"GIVEN=2\"]".replace(
            "[\"FROM",
            "[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\"FROM"
        )
    );
    assert_eq!(of_image(env, "made:1", "Config.Entrypoint"), "[\"/bin/sh\",\"-c\"]");
    assert_eq!(of_image(env, "made:1", "Config.Labels"), "{\"given\":\"yes\",\"of\":\"image\"}");
    assert_eq!(of_image(env, "made:1", "Author"), "\"me\"");
    let history = env
        .lap(["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1"])
        .ok()
        .stdout_text();
    assert!(
        history.starts_with("echo new > /new") && history.lines().next().unwrap().ends_with("|why"),
        "{history}"
    );
    // Without changes there is no layer.
    env.lap(["create", "--name", "unchanged", "app"]).ok();
    env.lap(["commit", "unchanged", "same"]).ok();
    assert_eq!(of_image(env, "same", "RootFS.Layers"), of_image(env, "app", "RootFS.Layers"));
    // The layer is a layer like others: a build starts from it, and it goes elsewhere.
    let context = env.context();
    context.dockerfile("FROM made:1\nRUN test -f /dir/x && test ! -e /d/b && echo on > /on\n");
    common::build(env, &context, &["-t", "on-top"]);
    assert_eq!(says("on-top", "cat /on"), "on\n");
}

#[test]
fn a_container_becomes_an_image() {
    let env = Containers::new();
    image_to_change(&env);
    commits(&env);
    let changes = [
        "ENV A=1 B=2",
        "CMD [\"ls\"]",
        "ENTRYPOINT []",
        "LABEL of=commit",
        "USER 5",
        "WORKDIR /opt",
        "EXPOSE 81",
        "VOLUME /x",
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK CMD true",
        "ONBUILD RUN true",
    ];
    let flags = changes.iter().flat_map(|change| ["-c", *change]);
    env.lap(["container", "commit", "--pause=false"]).args(flags).args(["worker", "changed"]).ok();
    let config = of_image(&env, "changed", "Config");
    for part in [
        "\"B=2\"",
        "\"Cmd\":[\"ls\"]",
        "\"of\":\"commit\"",
        "\"User\":\"5\"",
        "\"WorkingDir\":\"/opt\"",
        "\"81/tcp\"",
        "\"99/tcp\"",
        "\"80/tcp\"",
        "\"/x\"",
        "SIGINT",
        "RUN true",
        "CMD-SHELL",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
    let refused = |args: &[&str], words: &str| {
        env.lap(["commit"]).args(args).fails(1).stderr_has(&[words]);
    };
    let images = env.lap(["images", "-aq"]).ok().stdout_text();
    refused(&["nobody", "x"], "No such container: nobody");
    refused(&["worker", "Bad Name"], "Bad Name");
    refused(&["-c", "RUN true", "worker", "x"], "RUN is not a valid change command");
    refused(&["-c", "USER", "worker", "x"], "USER");
    assert_eq!(env.lap(["images", "-aq"]).ok().stdout_text(), images);
    assert_eq!(env.inspect("worker", ".State.Status"), "running");
    env.lap(["rm", "-f", "worker", "unchanged"]).ok();
    env.lap(["store", "check"]).ok();
}

#[test]
fn a_container_that_writes_is_paused_while_its_image_is_made() {
    let env = Containers::new();
    // Each round makes two files, the second after the first.
    let script = "n=0; echo ready; while :; do n=$((n+1)); echo $n > /first; echo $n > /second; done";
    env.detached(&["--name", "writer", "busybox", "sh", "-c", script]);
    env.wait_for("writer", "ready");
    env.wait_for_exec("writer", "test -e /second");
    for round in 0..5 {
        let image = format!("moment:{round}");
        let made = env.lap(["commit", "writer", &image]).ok();
        if made.stderr_text().contains("WARNING") {
            return;
        }
        let seen = env.lap(["run", "--rm", &image, "cat", "/first", "/second"]).ok().stdout_text();
        let numbers: Vec<i64> = seen.lines().filter_map(|line| line.parse().ok()).collect();
        if let [first, second] = numbers.as_slice() {
            assert!((0..=1).contains(&(first - second)), "{seen}");
        }
    }
    env.wait_until("writer", ".State.Status", |status| status == "running");
}

#[test]
fn without_a_control_group_processes_are_stopped_while_an_image_is_made() {
    let env = Containers::new();
    // In the foreground and with --rm a container has no control group.
    let script = "sleep 1000 & echo ready > /ready; wait";
    let run = env.lap(["run", "--rm", "--name", "fg", "busybox", "sh", "-c", script]).spawn();
    env.wait_for_exec("fg", "test -e /ready");
    let made = env.lap(["commit", "fg", "made"]).ok();
    made.stderr_has(&["its processes were stopped by SIGSTOP meanwhile"]);
    assert_eq!(env.lap(["run", "--rm", "made", "cat", "/ready"]).ok().stdout_text(), "ready\n");
    env.wait_for_exec("fg", "cat /proc/[0-9]*/stat | grep -q '(sleep) S'");
    let states = env.lap(["exec", "fg", "sh", "-c", "cat /proc/[0-9]*/stat"]).ok().stdout_text();
    assert!(!states.contains(") T "), "{states}");
    assert_eq!(diff(&env, "fg"), ["A /ready"]);
    env.lap(["rm", "-f", "fg"]).ok();
    run.finish();
}

#[test]
fn a_committed_image_is_one_for_others() {
    let env = Containers::new();
    image_to_change(&env);
    env.lap(["run", "--name", "c", "app", CHANGES]).ok();
    env.lap(["commit", "-m", "why", "c", "made"]).ok();
    env.lap(["save", "-o", "made.tar", "made"]).ok();
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let archive = env.work().join("made.tar");
    let layout = env.work().join("layout");
    let to = format!("oci:{}:made", layout.display());
    skopeo.ok(["copy", &format!("docker-archive:{}", archive.display()), &to]);
    let config = skopeo.json(["inspect", "--config", &to]);
    assert_eq!(
        config["history"].as_array().and_then(|all| all.last()).map(|last| &last["comment"]),
        Some(&"why".into())
    );
    let Some(umoci) = testkit::judges::umoci() else { return };
    let bundle = env.work().join("bundle");
    umoci.ok(["unpack", "--image", &format!("{}:made", layout.display()), &bundle.display().to_string()]);
    let files = Tree::of_dir(&bundle.join("rootfs"));
    assert_eq!((files.text("new"), files.text("d/a")), ("new\n".to_owned(), "a\nmore\n".to_owned()));
    assert!(files.get("d/b").is_none() && files.get("opt/o").is_none() && files.get("link").is_some());
    for made_for_mounts in [".dockerenv", "etc/mtab", "etc/hosts"] {
        assert!(files.get(made_for_mounts).is_none(), "{made_for_mounts}");
    }
}

#[test]
fn sizes_are_those_of_what_was_written() {
    for env in [Containers::new(), native()] {
        let script = "dd if=/dev/zero of=/f bs=1000 count=5 2>/dev/null; ln /f /g; echo done; sleep 1000";
        env.detached(&["--name", "up", "-v", "data:/data", "busybox", "sh", "-c", script]);
        env.wait_for("up", "done");
        env.lap(["create", "--name", "new", "busybox"]).ok();
        let size = |format: &str, name: &str| {
            env.lap(["inspect", "-s", "-f", format, name]).ok().stdout_text().trim().parse::<u64>().unwrap()
        };
        assert_eq!((size("{{.SizeRw}}", "up"), size("{{.SizeRw}}", "new")), (5000, 0));
        assert_eq!(size("{{.SizeRootFs}}", "up"), size("{{.SizeRootFs}}", "new") + 5000);
        let sizes = env.lap(["ps", "-as", "--format", "{{.Names}} {{.Size}}"]).ok().stdout_text();
        assert!(sizes.contains("up 5kB (virtual ") && sizes.contains("new 0B (virtual "), "{sizes}");
        assert!(env.lap(["ps", "-s"]).ok().stdout_text().contains("5kB (virtual "));
    }
}

#[test]
fn an_ordinary_user_copies_and_commits_too() {
    let Some(user) = OrdinaryUser::new(Ranges::Usual) else { return };
    user.load(&testkit::images::busybox());
    let lap = |args: &[&str]| user.lap(args).ok().stdout_text();
    let isolated = ["--network", "none", "-v", "data:/data", "busybox"];
    lap(&[&["run", "-d", "--name", "up"][..], &isolated, &["sleep", "1000"]].concat());
    lap(&[&["create", "--name", "down"][..], &isolated, &["cat", "/data/f", "/f"]].concat());
    let tar = LayerTar::new().owner(7, 8).file("f", 0o640, "archive").finish();
    for name in ["up", "down"] {
        user.lap(["cp", "-", &format!("{name}:/data")]).stdin(tar.clone()).ok();
        user.lap(["cp", "-", &format!("{name}:/")]).stdin(tar.clone()).ok();
        let archive = user.lap(["cp", &format!("{name}:/data/f"), "-"]).ok();
        let expected = Tree::new().file("f", 0o640, "archive").owner("f", 7, 8);
        expected.assert_is(&Tree::of_tar(archive.stdout.as_slice()));
        assert_eq!(lap(&["diff", name]), "A /f\n", "{name}");
        lap(&["commit", name, &format!("of-{name}")]);
        assert_eq!(
            lap(&["run", "--rm", "--network", "none", &format!("of-{name}"), "stat", "-c", "%u:%g", "/f"]),
            "7:8\n"
        );
    }
    assert_eq!(lap(&["start", "-a", "down"]), "archivearchive");
    lap(&["rm", "-f", "up", "down"]);
}

#[test]
fn a_paused_container_has_its_files() {
    let env = running_and_stopped();
    fs::write(env.work().join("file"), "one").unwrap();
    env.lap(["pause", "up"]).ok();
    cp(&env, "file", "up:/");
    assert_eq!(content(&env, "up", "/file"), "one");
    assert_eq!(diff(&env, "up"), ["A /file"]);
    env.lap(["commit", "up", "made"]).ok();
    assert_eq!(env.inspect("up", ".State.Status"), "paused");
    env.lap(["unpause", "up"]).ok();
    assert_eq!(env.lap(["exec", "up", "cat", "/file"]).ok().stdout_text(), "one");
}

#[test]
fn a_copy_that_is_killed_or_disturbed_leaves_a_container_that_starts() {
    let env = Containers::new();
    let large = fs::File::create(env.work().join("large")).unwrap();
    large.set_len(200 << 20).unwrap();
    env.lap(["create", "--name", "down", "-v", "data:/new/data", "busybox", "echo", "ran"]).ok();
    for signal in [Some(nix::sys::signal::Signal::SIGKILL), Some(nix::sys::signal::Signal::SIGINT), None] {
        let copy = env.lap(["cp", "large", "down:/new/data/large"]).spawn();
        if let Some(signal) = signal {
            copy.signal(signal);
        }
        // Whoever is first, the other waits or works with the container as it is then.
        assert_eq!(env.lap(["start", "-a", "down"]).ok().stdout_text(), "ran\n");
        let copied = copy.finish();
        assert!(signal.is_some() || copied.code() == Some(0), "{copied}");
    }
    let mounts = read("/proc/self/mountinfo");
    assert!(!mounts.contains(env.root().to_str().unwrap()), "{mounts}");
    env.lap(["rm", "-v", "down"]).ok();
    env.lap(["store", "check"]).ok();
}

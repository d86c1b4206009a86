//! What Dockerfiles do, seen in the files and the config of the image.

mod common;

use common::{build, build_tree, env};
use testkit::TestEnv;

fn config(env: &TestEnv, name: &str) -> serde_json::Value {
    let text = env.lap(["image", "inspect", name]).ok().stdout_text();
    let values: serde_json::Value = serde_json::from_str(&text).expect("inspect prints JSON");
    values[0]["Config"].clone()
}

#[test]
fn a_multi_stage_build_keeps_only_the_last_stage() {
    let env = env();
    let context = env.context();
    context.file("src.txt", "hello\n").dockerfile(
        "FROM busybox AS build\nCOPY src.txt /src/\nRUN tr a-z A-Z < /src/src.txt > /out.txt\n\
         FROM scratch\nCOPY --from=build /out.txt /result\n",
    );
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.paths().collect::<Vec<_>>(), ["result"]);
    assert_eq!(tree.text("result"), "HELLO\n");
}

#[test]
fn run_has_shell_and_exec_form_user_workdir_and_environment() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nENV A=1 B=two\\ words\nARG C=three\nWORKDIR /srv/app\nRUN pwd > /pwd; echo \"$A $B $C\" > /env\n\
         RUN [\"/bin/sh\", \"-c\", \"echo $0 > /exec\"]\nRUN mkdir /open && chmod 777 /open\nUSER nobody\nRUN id -u > /open/id; id -g >> /open/id\n\
         SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 > /open/shell\n",
    );
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("pwd"), "/srv/app\n");
    assert_eq!(tree.text("env"), "1 two words three\n");
    assert_eq!(tree.text("exec"), "/bin/sh\n");
    assert_eq!(tree.text("open/id"), "65534\n65534\n");
}

#[test]
fn copy_follows_the_rules_of_the_reference() {
    let env = env();
    let context = env.context();
    context
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("dir/one", "1")
        .file("dir/sub/two", "2")
        .mode("a.txt", 0o755)
        .symlink("link", "a.txt")
        .symlink("dir/inner", "one");
    context.dockerfile(
        "FROM scratch\nCOPY a.txt /file\nCOPY a.txt b.txt /many/\nCOPY dir /contents\nCOPY dir/ /slash/\nCOPY *.txt /glob/\n\
         COPY link /followed\nCOPY --chown=5:6 --chmod=600 b.txt /owned\nWORKDIR /w\nCOPY a.txt .\nCOPY a.txt sub/\n",
    );
    let tree = build_tree(&env, &context, &[]);
    let paths: Vec<&str> = tree.paths().collect();
    for path in [
        "file",
        "many/a.txt",
        "many/b.txt",
        "contents/one",
        "contents/sub/two",
        "slash/one",
        "glob/a.txt",
        "glob/b.txt",
        "w/a.txt",
        "w/sub/a.txt",
    ] {
        assert!(paths.contains(&path), "{path} is not in {paths:?}");
    }
    assert_eq!(tree.text("followed"), "a");
    assert!(matches!(tree.get("contents/inner").unwrap().kind, testkit::tree::Kind::Symlink(_)));
    assert_eq!(tree.get("file").unwrap().mode, 0o755);
    let owned = tree.get("owned").unwrap();
    assert_eq!((owned.mode, owned.owner), (0o600, (5, 6)));
    assert_eq!(tree.get("file").unwrap().owner, (0, 0));
}

#[test]
fn copy_looks_names_up_in_the_image() {
    let env = env();
    let context = env.context();
    context
        .file("f", "")
        .dockerfile("FROM busybox\nCOPY --chown=nobody:nogroup f /f\nCOPY --chown=nobody f /g\n");
    let tree = build_tree(&env, &context, &[]);
    for path in ["f", "g"] {
        assert_eq!(tree.get(path).unwrap().owner, (65534, 65534));
    }
}

#[test]
fn copy_through_a_symlinked_destination_stays_in_the_root() {
    let env = env();
    let context = env.context();
    let outside = env.work().join("outside");
    std::fs::create_dir(&outside).unwrap();
    context.file("f", "x").dockerfile(&format!(
        "FROM busybox\nRUN mkdir /real && ln -s /real /abs && ln -s ../../../../real /up && ln -s {} /escape\n\
         COPY f /abs/one\nCOPY f /up/two\nRUN mkdir -p {}\nCOPY f /escape/three\n",
        outside.display(),
        outside.display()
    ));
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("real/one"), "x");
    assert_eq!(tree.text("real/two"), "x");
    assert!(common::names_in(&outside).is_empty(), "the host's directory was written to");
}

#[test]
fn add_unpacks_archives_and_copies_other_files() {
    let env = env();
    let context = env.context();
    let tar = testkit::LayerTar::new().dir("d/", 0o755).file("d/f", 0o640, "in the archive").finish();
    let gzip = {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap()
    };
    context.file("plain.tar", &tar).file("packed.tgz", &gzip).file("not.tar.gz", "text");
    context.dockerfile("FROM scratch\nADD plain.tar /plain/\nADD packed.tgz /packed\nADD not.tar.gz /other/\nCOPY packed.tgz /kept/\n");
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("plain/d/f"), "in the archive");
    assert_eq!(tree.text("packed/d/f"), "in the archive");
    assert_eq!(tree.get("packed/d/f").unwrap().mode, 0o640);
    assert_eq!(tree.text("other/not.tar.gz"), "text");
    assert!(tree.get("kept/packed.tgz").is_some());
}

#[test]
fn heredocs_are_scripts_and_files() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nARG WHO=world\nRUN <<EOF\nset -e\necho one > /one\necho \"$WHO\" > /who\nEOF\n\
         RUN <<SCRIPT\n#!/bin/sh\necho script > /script\nSCRIPT\nRUN cat <<EOF > /cat\nbody $WHO\nEOF\n\
         COPY <<A <<\"B\" /files/\nhello $WHO\nA\nhello $WHO\nB\nCOPY <<C /single\nc\nC\n",
    );
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("one"), "one\n");
    assert_eq!(tree.text("who"), "world\n");
    assert_eq!(tree.text("script"), "script\n");
    assert_eq!(tree.text("cat"), "body world\n");
    assert_eq!(tree.text("files/A"), "hello world\n");
    assert_eq!(tree.text("files/B"), "hello $WHO\n");
    assert_eq!(tree.text("single"), "c\n");
    assert_eq!(tree.get("single").unwrap().mode, 0o644);
    assert!(tree.paths().all(|path| !path.starts_with("dev/pipes")), "scripts are not part of the image");
}

#[test]
fn ignore_files_decide_what_the_context_has() {
    let env = env();
    let context = env.context();
    context
        .file("keep", "")
        .file("drop.log", "")
        .file("dir/drop.log", "")
        .file("node_modules/x/y", "")
        .file("node_modules/keep", "")
        .file(
            ".dockerignore",
            "# comment\n**/*.log\nnode_modules\n!node_modules/keep\nDockerfile\n.dockerignore\n",
        );
    context.dockerfile("FROM scratch\nCOPY . /\n");
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.paths().collect::<Vec<_>>(), ["dir", "keep", "node_modules", "node_modules/keep"]);

    context.file("Other", "FROM scratch\nCOPY . /\n").file("Other.dockerignore", "*\n!drop.log\n");
    let file = context.path().join("Other");
    let tree = build_tree(&env, &context, &["-f", file.to_str().unwrap()]);
    assert_eq!(tree.paths().collect::<Vec<_>>(), ["drop.log"]);
}

#[test]
fn metadata_lands_in_the_config() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nLABEL a=1 b=\"two words\"\nEXPOSE 80 53/udp\nVOLUME /data\nUSER nobody\nWORKDIR /w\nSTOPSIGNAL SIGINT\n\
         ENTRYPOINT [\"/bin/echo\"]\nCMD [\"hi\"]\nHEALTHCHECK --interval=5s --retries=2 CMD true\nONBUILD RUN echo later\nENV X=y\n",
    );
    build(&env, &context, &["-t", "meta", "--label", "a=override"]);
    let config = config(&env, "meta");
    assert_eq!(config["Labels"], serde_json::json!({"a": "override", "b": "two words"}));
    assert_eq!(config["ExposedPorts"], serde_json::json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(config["User"], "nobody");
    assert_eq!(config["WorkingDir"], "/w");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/echo"]));
    assert_eq!(config["Cmd"], serde_json::json!(["hi"]));
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD-SHELL", "true"]));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_i64);
    assert_eq!(config["OnBuild"], serde_json::json!(["RUN echo later"]));
    assert!(config["Env"].as_array().unwrap().contains(&"X=y".into()));
}

#[test]
fn triggers_run_in_the_child_build() {
    let env = env();
    let parent = env.context();
    parent.dockerfile("FROM busybox\nONBUILD COPY f /from-trigger\nONBUILD RUN echo ran > /ran\n");
    build(&env, &parent, &["-t", "parent"]);
    let child = env.context();
    child.file("f", "child's file").dockerfile("FROM parent\nRUN cat /from-trigger > /copy\n");
    let tree = build_tree(&env, &child, &[]);
    assert_eq!(tree.text("copy"), "child's file");
    assert_eq!(tree.text("ran"), "ran\n");
}

#[test]
fn escape_directive_and_variable_forms() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "# escape=`\nARG BASE=busybox\nFROM ${BASE}\nARG GIVEN\nENV A=${GIVEN:-default} `\n    B=${GIVEN:+set} C=\"q $A\"\nRUN echo \"$A|$B|$C\" > /out\n",
    );
    assert_eq!(build_tree(&env, &context, &[]).text("out"), "default||q \n");
    assert_eq!(build_tree(&env, &context, &["--build-arg", "GIVEN=g"]).text("out"), "g|set|q \n");
}

#[test]
fn dockerfile_and_context_on_standard_input() {
    let env = env();
    let dockerfile = "FROM busybox\nRUN echo stdin > /f\n";
    env.lap(["build", "-t", "one", "-"]).stdin(dockerfile).ok();
    env.lap(["run", "--rm", "one", "cat", "/f"]).ok().stdout_has(&["stdin\n"]);

    let tar = testkit::LayerTar::new()
        .file("Dockerfile", 0o644, "FROM busybox\nCOPY data /data\n")
        .file("data", 0o644, "from a tar")
        .finish();
    env.lap(["build", "-t", "two", "-"]).stdin(tar).ok();
    env.lap(["run", "--rm", "two", "cat", "/data"]).ok().stdout_has(&["from a tar"]);

    let context = env.context();
    context.file("data", "from a directory");
    env.lap(["build", "-t", "three", "-f", "-"])
        .arg(context.path())
        .stdin("FROM busybox\nCOPY data /data\n")
        .ok();
    env.lap(["run", "--rm", "three", "cat", "/data"]).ok().stdout_has(&["from a directory"]);
}

#[test]
fn files_keep_times_modes_links_and_deletions() {
    let env = env();
    let context = env.context();
    context.file("f", "x").hard_link("g", "f");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::open(context.path().join("f")).unwrap().set_modified(old).unwrap();
    context.dockerfile(
        "FROM busybox\nCOPY f /f\nRUN stat -c %Y /f > /time; mkdir /d && touch /d/x /d/y && chmod 4755 /d/x\nRUN rm -r /d && mkdir /d && touch /d/z && rm /bin/tac\n",
    );
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("time"), "1000000000\n");
    assert!(tree.get("d/x").is_none() && tree.get("d/z").is_some() && tree.get("bin/tac").is_none());
}

#[test]
fn networks_and_target_and_iidfile() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox AS one\nRUN --network=none ls /sys/class/net > /net\nFROM busybox AS two\nRUN false\n",
    );
    let id = env.work().join("id");
    build(&env, &context, &["--target", "one", "-t", "one", "--iidfile", id.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(id).unwrap(), common::image_id(&env, "one"));
    env.lap(["run", "--rm", "one", "cat", "/net"]).ok().stdout_has(&["lo\n"]);
}

#[test]
fn a_directory_is_made_an_exact_copy_if_that_is_wanted() {
    let env = env();
    let context = env.context();
    context.file("f", "x").file("d/g", "y").dockerfile("FROM scratch\nCOPY f /f\nCOPY d /d\n");
    let out = env.work().join("out");
    let write = |name: &str| {
        let path = out.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "old").unwrap();
    };
    let others = || {
        ["f/deep", "d/old", "other/deep/file", "provenance.json"].into_iter().for_each(write);
        std::os::unix::fs::symlink(context.path(), out.join("link")).unwrap();
    };
    let output = |more: &str| format!("type=local,dest={}{more}", out.display());
    let names = || {
        let files = testkit::Tree::of_dir(&out);
        let mut names: Vec<String> =
            files.paths().filter(|path| !path.is_empty()).map(str::to_owned).collect();
        names.sort();
        names
    };
    others();
    std::fs::remove_dir_all(out.join("f")).unwrap();
    build(&env, &context, &["-o", &output(",mode=copy")]);
    assert!(names().contains(&"other/deep/file".to_owned()), "{:?}", names());
    build(&env, &context, &["-o", &output(",mode=delete")]);
    assert_eq!(names(), ["d", "d/g", "f"]);
    // What is told of the result, and the directories of platforms, belong to it.
    std::fs::remove_file(out.join("f")).unwrap();
    others();
    let split = output(",mode=delete,platform-split=true");
    build(&env, &context, &["--provenance", "true", "--platform", "linux/amd64,linux/arm64", "-o", &split]);
    let split: Vec<String> = names().into_iter().filter(|name| !name.contains('/')).collect();
    assert_eq!(split, ["linux_amd64", "linux_arm64"]);
    assert!(names().contains(&"linux_arm64/provenance.json".to_owned()), "{:?}", names());
    assert!(context.path().join("f").exists(), "what a link leads to stays");
    // Nobody means to lose the sources, or everything.
    let within = format!("type=local,mode=delete,dest={}", context.path().parent().unwrap().display());
    for (output, words) in [
        (within.as_str(), "the build context would be removed"),
        ("type=local,dest=/,mode=delete", "all files of this machine would be removed"),
    ] {
        let refused = env.lap(["build", "-o", output]).arg(context.path()).fails(1);
        refused.stderr_has(&[words]);
    }
}

#[test]
fn the_native_driver_makes_the_same_images() {
    let overlay = env();
    let native = TestEnv::new();
    let archive = native.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    let lap = |args: &[&str]| native.lap(["--storage-driver", "native"]).args(args);
    lap(&["load", "-i", archive.to_str().unwrap()]).ok();
    let context = overlay.context();
    context.file("f", "x").dockerfile(
        "FROM busybox\nCOPY f /d/f\nRUN echo y > /d/g && rm /bin/tac && mkdir /new && chmod 700 /tmp\nCOPY f /d/\nRUN rm -r /d && mkdir /d\n",
    );
    let tree = build_tree(&overlay, &context, &[]);
    let out = native.work().join("rootfs");
    let output = format!("type=local,dest={}", out.display());
    lap(&["build", "-t", "x", "--output", &output, context.path().to_str().unwrap()]).ok();
    tree.assert_is(&testkit::Tree::of_dir(&out));
    lap(&["info"]).ok().stdout_has(&["Storage Driver: native"]);
    lap(&["run", "--rm", "debian-is-not-here"]).fails(125);
    let again = lap(&["build", "--progress", "plain", context.path().to_str().unwrap()]).ok();
    assert_eq!(common::steps_run(&again), Vec::<String>::new());
}

//! `lap import`: images of root filesystems.

mod common;

use std::io::Write as _;
use std::path::PathBuf;

use common::{image_id, names_in};
use frontend_tests::oci_archive::OciArchive;
use testkit::TestEnv;
use testkit::images::busybox_tar;
use testkit::web::{WebFile, WebServer};

/// Writes the root filesystem to a file.
fn archive(env: &TestEnv, name: &str, bytes: &[u8]) -> PathBuf {
    let path = env.work().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn inspect(env: &TestEnv, image: &str, field: &str) -> String {
    env.lap(["image", "inspect", "--format", field, image]).ok().stdout_text().trim().to_owned()
}

#[test]
fn a_root_filesystem_becomes_an_image_that_runs() {
    let env = TestEnv::new();
    let path = archive(&env, "root.tar", busybox_tar());
    let import = env.lap(["import", "-m", "made by hand", "-c", "CMD [\"echo\", \"hello\"]"]);
    let id = import.args(["--change", "ENV A=b"]).arg(&path).arg("me/root:1").ok().stdout_text();
    assert_eq!(id.trim(), image_id(&env, "me/root:1"));
    env.lap(["run", "--rm", "me/root:1"]).ok().stdout_has(&["hello"]);
    env.lap(["run", "--rm", "me/root:1", "env"]).ok().stdout_has(&["A=b"]);
    assert_eq!(inspect(&env, "me/root:1", "{{json .Config.Env}}"), "[\"A=b\"]");
    let history = env.lap(["history", "--format", "{{.Comment}}", "me/root:1"]).ok().stdout_text();
    assert_eq!(history.trim(), "made by hand");
    let again = env.lap(["import"]).arg(&path).ok().stdout_text();
    assert_eq!(inspect(&env, again.trim(), "{{.Comment}}"), "Imported from -");
    assert_eq!(inspect(&env, again.trim(), "{{json .Config}}"), "{}");
}

#[test]
fn every_compression_is_read_from_files_streams_and_the_web() {
    let env = TestEnv::new().source_date_epoch(1_000_000_000);
    let tar = busybox_tar();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(tar).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(tar).unwrap();
    let forms = [
        ("root.tar", tar.to_vec()),
        ("root.tgz", gzip.finish().unwrap()),
        ("root.tbz", bzip2.finish().unwrap()),
        ("root.txz", xz.finish().unwrap()),
        ("root.tzst", zstd::encode_all(tar, 1).unwrap()),
    ];
    let web = WebServer::start();
    let mut ids = std::collections::BTreeSet::new();
    for (name, bytes) in forms {
        let path = archive(&env, name, &bytes);
        let message = ["import", "-m", "same"];
        ids.insert(env.lap(message).arg(&path).arg("file").ok().stdout_text());
        ids.insert(env.lap(message).args(["-", "stream"]).stdin(bytes.clone()).ok().stdout_text());
        web.put(&format!("/{name}"), WebFile::new(bytes));
        ids.insert(env.lap(message).arg(web.url(&format!("/{name}"))).arg("web").ok().stdout_text());
        env.lap(["run", "--rm", "web", "true"]).ok();
    }
    assert_eq!(ids.len(), 1, "the same root filesystem gives the same image, however it comes: {ids:?}");
}

#[test]
fn the_platform_and_the_name_are_what_was_asked_for() {
    let env = TestEnv::new();
    let path = archive(&env, "root.tar", busybox_tar());
    env.lap(["image", "import", "--platform", "linux/s390x"]).arg(&path).arg("other").ok();
    assert_eq!(inspect(&env, "other", "{{.Architecture}}"), "s390x");
    let saved = env.lap(["save", "other"]).ok();
    let image = OciArchive::of(&saved.stdout).images().remove(0);
    assert_eq!(image.config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    let digest = format!("other@{}", image.digest);
    env.lap(["import"]).arg(&path).arg(&digest).fails(2).stderr_has(&["digest"]);
    env.lap(["import"]).arg(&path).arg("UPPER").fails(2).stderr_has(&["UPPER"]);
}

#[test]
fn what_cannot_be_imported_leaves_nothing() {
    let env = TestEnv::new();
    let good = archive(&env, "root.tar", busybox_tar());
    let half = archive(&env, "half.tar", &busybox_tar()[..100_000]);
    let text = archive(&env, "text", "not an archive\n".repeat(100).as_bytes());
    let empty = archive(&env, "empty", b"");
    let mut short = zstd::encode_all(busybox_tar(), 1).unwrap();
    short.truncate(short.len() / 2);
    let short = archive(&env, "short.tzst", &short);
    for path in [&half, &text, &empty, &short] {
        let name = path.file_name().unwrap().to_str().unwrap();
        env.lap(["import"]).arg(path).fails(1).stderr_has(&["cannot import", name]);
    }
    env.lap(["import", "absent.tar"]).fails(1).stderr_has(&["absent.tar"]);
    env.lap(["import", "."]).fails(1).stderr_has(&["cannot import .", "directory"]);
    env.lap(["import", "http://127.0.0.1:9/root.tar"]).fails(1).stderr_has(&["127.0.0.1"]);
    let changed = env.lap(["import", "-c", "RUN true"]).arg(&good).fails(1);
    changed.stderr_has(&["\"RUN true\"", "RUN is not a valid change command", "WORKDIR"]);
    env.lap(["import", "--platform", "x/y/z/w"]).arg(&good).fails(2);
    assert_eq!(env.lap(["images", "-q"]).ok().stdout_text(), "");
    env.lap(["store", "check"]).ok();
    env.lap(["system", "prune", "--all", "--force"]).ok();
    assert_eq!(names_in(&env.root().join("snapshots-v1")), [""; 0]);
}

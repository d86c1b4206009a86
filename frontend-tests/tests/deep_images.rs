//! Images of as many layers as the kernel merges, under the limit of open files that processes usually have.

use std::os::unix::fs::PermissionsExt as _;

use testkit::{Image, Layer, LayerTar, TestEnv, privilege};

/// The most layers of an overlay (`OVL_MAX_STACK` in the kernel).
const MOST: usize = 500;

/// An environment whose `lap` starts with a limit of 1024 open files.
fn limited(script: &std::path::Path) -> TestEnv {
    let lap = testkit::binary::lap().display();
    std::fs::write(script, format!("#!/bin/sh\nulimit -S -n 1024\nexec '{lap}' \"$@\"\n")).unwrap();
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    TestEnv::with_binary(script)
}

#[test]
fn the_deepest_image_builds_and_runs() {
    if privilege::root().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let env = limited(&dir.path().join("lap"));
    let busybox = Image::new("deep").layer(Layer::tar(testkit::images::busybox_tar().to_vec()));
    let layer = |number: usize| {
        let tar = LayerTar::new().file(&format!("file-{}", number % 9), 0o644, number.to_string());
        Layer::tar(tar.file("top", 0o644, number.to_string()).finish())
    };
    env.load(&(2..MOST).fold(busybox, |image, number| image.layer(layer(number))));
    let shown = env.lap(["run", "--rm", "deep", "/bin/sh", "-c", "/bin/cat /top; ulimit -n"]).ok();
    assert_eq!(shown.stdout_text(), "4991024\n", "a container's limit is the one that lap was started with");

    let context = env.context();
    context
        .file("copied", "copied\n")
        .dockerfile("FROM deep\nRUN [\"/bin/sh\", \"-c\", \"/bin/rm /file-1\"]\n");
    env.lap(["build", "-q", "-t", "deepest"]).arg(context.path()).ok();
    let shown = env.lap(["run", "--rm", "deepest", "/bin/ls", "/"]).ok().stdout_text();
    assert!(shown.contains("file-2") && !shown.contains("file-1"), "{shown}");
    // A step on top of it still works, and what is too deep to be run is a clear error.
    context.dockerfile("FROM deepest\nCOPY copied /\nCOPY --from=deepest /top /again\n");
    let out = env.work().join("out");
    env.lap(["build", "-q", "-t", "too-deep", "-o"]).arg(&out).arg(context.path()).ok();
    assert_eq!(std::fs::read_to_string(out.join("again")).unwrap(), "499");
    context.dockerfile("FROM deepest\nCOPY copied /\n");
    env.lap(["build", "-q", "-t", "too-deep"]).arg(context.path()).ok();
    env.lap(["run", "--rm", "too-deep", "/bin/true"]).run().stderr_has(&["501 layers", "at most 500"]);
}

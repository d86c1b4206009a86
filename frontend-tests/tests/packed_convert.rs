//! `lap store convert`: layers get another form, and nothing else changes.

mod common;

use std::os::unix::net::UnixListener;

use common::packed::forms;
use common::{image_id, names_in};
use testkit::{Context, TestEnv};

/// An environment with layers that are directories, of which some were pulled and some built; `None`, with a note, where the
/// kernel cannot mount packed ones.
fn packable() -> Option<(TestEnv, Context)> {
    testkit::privilege::root()?;
    let env = TestEnv::new();
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    env.lap(["--layer-form", "dir", "load", "-i"]).arg(&archive).ok();
    let context = env.context();
    for number in 0..30 {
        context.file(&format!("many/{number}"), format!("content {number}"));
    }
    let dockerfile = "FROM busybox\n\
                      COPY many /app\n\
                      RUN ln /app/1 /app/hard && ln -s hard /app/link && rm /app/2 && mkdir -m 1777 /app/t && echo x > /app/3\n\
                      RUN chmod 600 /app/4 && chmod 644 /app/4 && rm -r /app/t && mkdir /app/t\n\
                      CMD stat -c '%n %a %u %g %F %Y %h' /app /app/*; md5sum /app/[0-9hl]*\n";
    context.dockerfile(dockerfile);
    build(&env, &context);
    let tried = env.lap(["store", "convert", "--to", "packed", "busybox"]).run();
    if tried.stderr_text().contains("layers cannot be packed here") {
        println!("skipped: {}", tried.stderr_text());
        return None;
    }
    env.lap(["store", "convert", "--to", "dir"]).ok();
    assert_eq!(forms(&env), ["dir"; 4]);
    Some((env, context))
}

fn build(env: &TestEnv, context: &Context) -> String {
    let flags = ["--layer-form", "auto", "build", "--progress", "plain", "-t", "built"];
    env.lap(flags).arg(context.path()).ok().stderr_text()
}

/// What the image is for others: its archive.
fn exported(env: &TestEnv) -> Vec<u8> {
    let out = env.work().join("exported.tar");
    env.lap(["save", "-o"]).arg(&out).arg("built").ok();
    std::fs::read(out).unwrap()
}

/// What it is for whoever runs it, but for parts of seconds.
fn shown(env: &TestEnv) -> String {
    env.lap(["--layer-form", "auto", "run", "--rm", "built"]).ok().stdout_text()
}

fn convert(env: &TestEnv, args: &[&str]) -> String {
    env.lap(["store", "convert", "--to"]).args(args).ok().stdout_text()
}

#[test]
fn images_and_cache_are_the_same_in_either_form() {
    let Some((env, context)) = packable() else { return };
    let (id, archive, files) = (image_id(&env, "built"), exported(&env), shown(&env));
    let cached = || build(&env, &context).matches("CACHED").count();
    let all = cached();
    assert!(all >= 3, "the steps are");
    let is_the_same = || {
        assert_eq!(cached(), all, "nothing is built again");
        assert_eq!(image_id(&env, "built"), id);
        assert!(exported(&env) == archive, "it is exported as before");
        assert_eq!(shown(&env), files);
        assert_eq!(env.lap(["store", "check"]).ok().stdout_text(), "The store is sound\n");
    };
    assert_eq!(convert(&env, &["packed"]), "Packed 4 layers\n");
    assert_eq!(forms(&env), ["packed"; 4]);
    is_the_same();
    assert_eq!(convert(&env, &["packed"]), "Packed 0 layers; 4 packed already\n");
    assert_eq!(convert(&env, &["dir"]), "Unpacked 4 layers\n");
    assert_eq!(forms(&env), ["dir"; 4]);
    is_the_same();
    // Only those of an image, which others stand on.
    assert_eq!(convert(&env, &["packed", "busybox"]), "Packed 1 layer\n");
    assert_eq!(forms(&env), ["packed", "dir", "dir", "dir"]);
    is_the_same();
    assert_eq!(convert(&env, &["packed", "built"]), "Packed 3 layers; 1 packed already\n");
    is_the_same();
    env.lap(["rmi", "-f", "built", "busybox"]).ok();
    env.lap(["system", "prune", "-af"]).ok();
    assert_eq!(forms(&env), [""; 0]);
}

#[test]
fn containers_go_on_with_what_they_have() {
    let Some((env, _context)) = packable() else { return };
    let files = shown(&env);
    let read = ["exec", "c", "sh", "-c", "stat -c '%n %a %u %g %F %Y %h' /app /app/*; md5sum /app/[0-9hl]*"];
    let start =
        || env.lap(["--layer-form", "auto", "run", "-d", "--name", "c", "built", "sleep", "1000"]).ok();
    start();
    let kept = env.lap(["store", "convert", "--to", "packed"]).fails(1);
    kept.stdout_has(&["container c uses it", "Packed 0 layers; 4 left as they are"]);
    assert_eq!(forms(&env)[..4], ["dir"; 4]);
    assert_eq!(env.lap(read).ok().stdout_text(), files);
    env.lap(["stop", "-t", "0", "c"]).ok();
    // One that does not run finds its layers in the new form when it is started.
    assert_eq!(convert(&env, &["packed"]), "Packed 4 layers\n");
    env.lap(["start", "c"]).ok();
    assert_eq!(env.lap(read).ok().stdout_text(), files);
    // It keeps what it has mounted when that becomes a directory.
    assert_eq!(convert(&env, &["dir"]), "Unpacked 4 layers\n");
    assert_eq!(forms(&env)[..4], ["dir"; 4]);
    assert_eq!(env.lap(read).ok().stdout_text(), files);
    env.lap(["rm", "-f", "c"]).ok();
    start();
    assert_eq!(env.lap(read).ok().stdout_text(), files);
    env.lap(["rm", "-f", "c"]).ok();
}

#[test]
fn builds_that_are_under_way_are_not_disturbed() {
    let Some((env, _context)) = packable() else { return };
    let context = env.context();
    let dockerfile = "FROM built\n\
                      RUN --mount=type=cache,target=/c echo rea''dy; until [ -e /c/go ]; do sleep 0.05; done; md5sum /app/5\n\
                      RUN --mount=type=cache,target=/c rm /c/go; md5sum /app/6\n";
    context.dockerfile(dockerfile);
    let mut running =
        env.lap(["--layer-form", "auto", "build", "--progress", "plain"]).arg(context.path()).spawn();
    running.wait_for("ready");
    let kept = env.lap(["store", "convert", "--to", "packed"]).fails(1);
    kept.stdout_has(&["another process uses it"]);
    let mounts = env.root().join("cache-mounts-v1");
    let mount = names_in(&mounts).into_iter().map(|name| mounts.join(name).join("fs")).find(|fs| fs.is_dir());
    std::fs::write(mount.expect("a cache mount").join("go"), "").unwrap();
    let output = running.finish();
    assert_eq!(output.code(), Some(0), "{output}");
    assert_eq!(env.lap(["store", "check"]).ok().stdout_text(), "The store is sound\n");
}

#[test]
fn what_cannot_be_converted_is_said() {
    let Some((env, _context)) = packable() else { return };
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo x > /x\n");
    env.lap(["--layer-form", "dir", "build", "-q", "-t", "odd"]).arg(context.path()).ok();
    let layers = env.root().join("snapshots-v1");
    let newest = names_in(&layers).iter().filter_map(|name| name.parse::<u64>().ok()).max().unwrap();
    UnixListener::bind(layers.join(newest.to_string()).join("fs/socket")).unwrap();
    let kept = env.lap(["store", "convert", "--to", "packed", "odd"]).fails(1);
    kept.stdout_has(&["it has sockets, which an archive cannot hold", "Packed 1 layer; 1 left as they are"]);
    env.lap(["store", "convert", "--to", "packed", "nobody"]).fails(1).stderr_has(&["no such image: nobody"]);
    env.lap(["store", "convert"]).fails(2).stderr_has(&["--to"]);
    let native = TestEnv::new();
    native.lap(["--storage-driver", "native", "load", "-i"]).arg(env.work().join("busybox.tar")).ok();
    native.lap(["store", "convert", "--to", "packed"]).fails(1).stderr_has(&["layers cannot be packed here"]);
}

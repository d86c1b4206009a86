//! Layers that stay packed (`--layer-form packed`): images of them are run, built on, compared and exported like any
//! other, and nothing of them stays mounted.

mod common;

use std::path::Path;

use common::packed::{forms, let_files_age};
use common::{env, image_id, names_in};
use nix::sys::signal::Signal;
use testkit::{Lap, Output, TestEnv};

/// An environment whose `busybox` is packed, or `None`, with a note, where the kernel cannot mount that.
fn packing() -> Option<TestEnv> {
    testkit::privilege::root()?;
    let env = TestEnv::new();
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    let loaded = packed(&env, &["load", "-i"]).arg(&archive).ok();
    if loaded.stderr_text().contains("layers are unpacked") {
        println!("skipped: {}", loaded.stderr_text());
        return None;
    }
    assert_eq!(forms(&env), ["packed"]);
    Some(env)
}

fn packed(env: &TestEnv, args: &[&str]) -> Lap {
    env.lap(["--layer-form", "packed"]).args(args)
}

fn says(env: &TestEnv, args: &[&str]) -> String {
    packed(env, args).ok().stdout_text()
}

fn build(env: &TestEnv, dockerfile: &str, args: &[&str]) -> Output {
    let context = env.context();
    context.file("file", "from the context").dockerfile(dockerfile);
    packed(env, &["build", "--progress", "plain"]).args(args).arg(context.path()).ok()
}

#[test]
fn images_of_packed_layers_run_and_are_built_on() {
    let Some(env) = packing() else { return };
    assert_eq!(
        says(&env, &["run", "--rm", "busybox", "sh", "-c", "echo x > /new && cat /new && ls -d /bin/sh"]),
        "x\n/bin/sh\n"
    );
    let dockerfile = "FROM busybox AS one\n\
                      RUN rm /bin/vi && echo made > /bin/made && ln /bin/made /bin/hard\n\
                      COPY file /file\n\
                      FROM busybox\n\
                      COPY --from=one /bin/busybox /bin/made /copied/\n\
                      COPY --link file /linked\n\
                      RUN --mount=type=bind,from=one,target=/one cat /one/file /one/bin/hard /copied/made /linked && test ! -e /one/bin/vi\n";
    build(&env, dockerfile, &["-t", "built"]);
    assert_eq!(
        says(&env, &["run", "--rm", "built", "cat", "/copied/made", "/linked"]),
        "made\nfrom the context"
    );
    assert!(build(&env, dockerfile, &["-t", "again"]).stderr_text().contains("CACHED"));
    env.lap(["store", "check"]).ok();
}

#[test]
fn both_forms_make_the_same_images() {
    let (Some(packed), plain) = (packing(), env()) else { return };
    let dockerfile =
        "FROM busybox\nCOPY --from=busybox /bin /other\nRUN echo x > /x && rm /bin/vi\nCOPY file /\n";
    let ids = [&packed, &plain].map(|env| {
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
        build_with_own_form(env, dockerfile, &epoch);
        image_id(env, "same")
    });
    assert_eq!(ids[0], ids[1]);
    assert_eq!(image_id(&packed, "busybox"), image_id(&plain, "busybox"));
}

/// A context of so many small files in directories, of one time.
fn many_files(env: &TestEnv, count: usize) -> testkit::Context {
    let context = env.context();
    for number in 0..count {
        context.file(&format!("many/{}/{number}", number % 20), format!("content {number}"));
    }
    context
}

/// Files that are copied onto what is the same already, when they are remembered.
#[test]
fn what_is_copied_twice_is_copied_once() {
    let Some(env) = packing() else { return };
    let context = env.context();
    context.file("all/large", "large".repeat(100_000)).file("all/small", "1").file("all/other", "2");
    context.dockerfile(
        "FROM busybox\nCOPY all/large all/other /a/\nCOPY all /a/\nCMD wc -c /a/*; cat /a/small\n",
    );
    let mut shown = Vec::new();
    for small in ["1", "3", "1"] {
        context.file("all/small", small);
        let id = ["packed", "dir"].map(|form| {
            let options = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--no-cache", "-t", form];
            let built = env
                .lap(["--layer-form", form, "build", "--progress", "plain"])
                .args(options)
                .arg(context.path());
            let text = built.ok().stderr_text();
            assert!(!text.contains("looking again"), "{text}");
            image_id(&env, form)
        });
        assert_eq!(id[0], id[1]);
        shown.push(env.lap(["run", "--rm", "packed"]).ok().stdout_text());
    }
    assert!(shown[0].contains("500000 /a/large") && shown[0].ends_with("total\n1"), "{}", shown[0]);
    assert!(shown[1].ends_with("total\n3") && shown[2] == shown[0], "{shown:?}");
    env.lap(["store", "check"]).ok();
}

#[test]
fn copies_are_packed_and_are_what_copies_into_directories_are() {
    let Some(env) = packing() else { return };
    let dockerfile = "FROM busybox\n\
                      COPY many /app\n\
                      COPY --chown=3:4 many/0 /app/1/\n\
                      COPY many /app\n\
                      ADD many /added\n\
                      RUN cd /app && find . -type f | sort | xargs md5sum > /sums && stat -c '%n %a %u %g %s' /app/1/* >> /sums && rm /app/2/2\n\
                      COPY --from=busybox /bin/busybox /app/busybox\n\
                      CMD cat /sums; ls /app/2; /app/busybox echo works\n";
    let context = many_files(&env, 1500);
    // The second copy finds that below.
    context.file("many/5/large", "large".repeat(100_000)).dockerfile(dockerfile);
    let images = ["packed", "dir", "auto"].map(|form| {
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--no-cache", "-t", form];
        env.lap(["--layer-form", form, "build"]).args(epoch).arg(context.path()).ok();
        (image_id(&env, form), env.lap(["run", "--rm", form]).ok().stdout_text())
    });
    assert_eq!(images[0], images[1]);
    assert_eq!(images[0], images[2]);
    assert!(images[0].1.ends_with("works\n"), "{}", images[0].1);
    // All five copies, and of those of `auto` the three of many files. The base image became a directory when it was used
    // where those are wanted.
    let packed = forms(&env).iter().filter(|form| **form == "packed").count();
    assert_eq!(packed, 5 + 3, "{:?}", forms(&env));
    env.lap(["store", "check"]).ok();
}

#[test]
fn what_a_copy_shares_with_an_earlier_one_makes_no_difference() {
    let Some(env) = packing() else { return };
    let context = many_files(&env, 1500);
    context.dockerfile("FROM busybox\nCOPY --chown=5:6 many /app\n");
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let build = |form: &str, args: &[&str]| {
        env.lap(["--layer-form", form, "build"]).args(epoch).args(args).arg(context.path()).ok();
    };
    let_files_age();
    build("auto", &["-t", "before"]);
    context.file("many/7/7", "changed").file("many/new", "new");
    build("auto", &["-t", "shared"]);
    let layers = env.root().join("snapshots-v1");
    let size = |name: &str| std::fs::metadata(layers.join(name).join("tar")).map_or(0, |tar| tar.len());
    let sharing: Vec<_> =
        names_in(&layers).into_iter().filter(|name| layers.join(name).join("pieces").exists()).collect();
    assert_eq!(sharing.len(), 1);
    assert!(size(&sharing[0]) < 100_000, "{}", size(&sharing[0]));
    let (shared, archive) = (image_id(&env, "shared"), env.work().join("shared.tar"));
    env.lap(["save", "-o"]).arg(&archive).arg("shared").ok();
    let cat = ["cat", "/app/7/7", "/app/new"];
    assert_eq!(env.lap(["run", "--rm", "shared"]).args(cat).ok().stdout_text(), "changednew");
    // The earlier one goes by its name, not by what is needed of it.
    env.lap(["rmi", "before"]).ok();
    env.lap(["builder", "prune", "-af"]).ok();
    assert_eq!(env.lap(["run", "--rm", "shared"]).args(cat).ok().stdout_text(), "changednew");
    env.lap(["store", "check"]).ok();
    build("dir", &["--no-cache", "-t", "plain"]);
    assert_eq!(image_id(&env, "plain"), shared);
    let loaded = common::env();
    loaded.lap(["load", "-i"]).arg(&archive).ok();
    assert_eq!(image_id(&loaded, "shared"), shared);
    assert_eq!(loaded.lap(["run", "--rm", "shared"]).args(cat).ok().stdout_text(), "changednew");
}

#[test]
fn every_step_that_writes_files_by_itself_is_packed() {
    let Some(env) = packing() else { return };
    let context = env.context();
    context.file("a/one", "one").file("b/two", "two");
    let tar = std::process::Command::new("tar");
    let archive = context.path().join("a.tar");
    { tar }.arg("-cf").arg(&archive).arg("-C").arg(context.path()).arg("a").status().unwrap();
    context.dockerfile(
        "FROM busybox\n\
         WORKDIR /work/deep\n\
         COPY <<one <<two /heredocs/\n1\none\n2\ntwo\n\
         ADD a.tar b /added/\n\
         COPY a b ./\n\
         CMD pwd; cat /heredocs/* /added/* /added/a/one one; stat -c %a /work/deep; find /work\n",
    );
    let images = ["packed", "dir"].map(|form| {
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--no-cache", "-t", form];
        let before = forms(&env).len();
        env.lap(["--layer-form", form, "build"]).args(epoch).arg(context.path()).ok();
        let made: Vec<String> =
            forms(&env).split_off(before).into_iter().map(|form| form.to_owned()).collect();
        let says = env.lap(["--layer-form", "auto", "run", "--rm", form]).ok().stdout_text();
        (made, image_id(&env, form), says)
    });
    assert_eq!(images[0].0, ["packed"; 4]);
    assert_eq!(images[1].0, ["dir"; 4]);
    assert_eq!((&images[0].1, &images[0].2), (&images[1].1, &images[1].2));
    assert!(images[0].2.starts_with("/work/deep\n1\n2\ntwooneone755\n"), "{}", images[0].2);
    env.lap(["store", "check"]).ok();
}

#[test]
fn what_a_pulled_layer_shares_with_another_one_makes_no_difference() {
    let Some(env) = packing() else { return };
    let elsewhere = TestEnv::new();
    let context = many_files(&elsewhere, 1500);
    context.dockerfile("FROM scratch\nCOPY many /app\n");
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        elsewhere.lap(["build", "-t", name]).arg(context.path()).ok();
        let archive = env.work().join(name);
        elsewhere.lap(["save", "-o"]).arg(&archive).arg(name).ok();
        ids.push(image_id(&elsewhere, name));
        packed(&env, &["load", "-i"]).arg(&archive).ok();
        context.file("many/7/7", "changed").file("many/new", "new");
    }
    let layers = env.root().join("snapshots-v1");
    let sharing: Vec<_> =
        names_in(&layers).into_iter().filter(|name| layers.join(name).join("pieces").exists()).collect();
    assert_eq!(sharing.len(), 1);
    let size = std::fs::metadata(layers.join(&sharing[0]).join("tar")).unwrap().len();
    assert!(size < 100_000, "{size}");
    assert_eq!([image_id(&env, "one"), image_id(&env, "two")], ids[..]);
    env.lap(["rmi", "one"]).ok();
    env.lap(["store", "check"]).ok();
    let dockerfile =
        "FROM busybox\nRUN --mount=from=two,target=/two cat /two/app/7/7 /two/app/new /two/app/8/8\n";
    let built = build(&env, dockerfile, &[]).stderr_text();
    assert!(built.contains("changednewcontent 8"), "{built}");
}

#[test]
fn a_context_that_was_packed_is_found_again_and_copied_anew_when_it_changed() {
    let Some(env) = packing() else { return };
    let context = many_files(&env, 50);
    context.dockerfile("FROM busybox\nCOPY many /app\nRUN cat /app/3/3 > /seen\nCMD cat /seen\n");
    let build = || packed(&env, &["build", "--progress", "plain", "-t", "built"]).arg(context.path()).ok();
    build();
    assert!(build().stderr_text().matches("CACHED").count() >= 2);
    context.file("many/3/3", "changed");
    build();
    assert_eq!(says(&env, &["run", "--rm", "built"]), "changed");
    // What is exported is the archive that was written, and judges read it.
    let out = env.work().join("image.tar");
    env.lap(["save", "-o"]).arg(&out).arg("built").ok();
    let listed = std::process::Command::new("tar").arg("-tf").arg(&out).output().unwrap();
    assert!(listed.status.success());
    env.lap(["rmi", "-f", "built"]).ok();
    env.lap(["load", "-i"]).arg(&out).ok();
    assert_eq!(env.lap(["run", "--rm", "built"]).ok().stdout_text(), "changed");
}

#[test]
fn a_damaged_copy_is_indexed_again_or_refused_and_made_again() {
    let Some(env) = packing() else { return };
    let context = many_files(&env, 50);
    context.dockerfile("FROM busybox\nCOPY many /app\nCMD cat /app/3/3\n");
    let build = || packed(&env, &["build", "-t", "built"]).arg(context.path()).ok();
    build();
    let index = copied_file(&env, "index");
    std::fs::remove_file(&index).unwrap();
    assert_eq!(says(&env, &["run", "--rm", "built"]), "content 3");
    let tar = copied_file(&env, "tar");
    let bytes = std::fs::read(&tar).unwrap();
    std::fs::write(&tar, &bytes[..bytes.len() - 512]).unwrap();
    let refused = packed(&env, &["run", "--rm", "built"]).run();
    assert_ne!(refused.code(), Some(0));
    refused.stderr_has(&["is damaged", "lap store check --repair"]);
    env.lap(["store", "check", "--repair"]).run();
    build();
    assert_eq!(says(&env, &["run", "--rm", "built"]), "content 3");
}

/// A file of the layer that was made last.
fn copied_file(env: &TestEnv, name: &str) -> std::path::PathBuf {
    let layers = env.root().join("snapshots-v1");
    let mut numbers: Vec<u64> = names_in(&layers).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    let last = numbers.last().unwrap().to_string();
    layers.join(last).join(name)
}

fn build_with_own_form(env: &TestEnv, dockerfile: &str, args: &[&str]) {
    let context = env.context();
    context.file("file", "from the context").dockerfile(dockerfile);
    env.lap(["build", "-t", "same"]).args(args).arg(context.path()).ok();
}

#[test]
fn containers_of_packed_layers_are_looked_into_stopped_and_started() {
    let Some(env) = packing() else { return };
    says(
        &env,
        &["run", "-d", "--name", "c", "busybox", "sh", "-c", "echo run >> /count; rm -f /bin/vi; cat /count"],
    );
    env.lap(["wait", "c"]).ok();
    let changes = env.lap(["diff", "c"]).ok().stdout_text();
    let mut changes: Vec<&str> = changes.lines().collect();
    changes.sort_unstable();
    assert_eq!(changes, ["A /count", "C /bin", "D /bin/vi"]);
    let out = env.work().join("copied");
    env.lap(["cp", "c:/bin/busybox"]).arg(&out).ok();
    assert!(std::fs::read(&out).unwrap() == std::fs::read("/usr/bin/busybox").unwrap());
    env.lap(["cp"]).arg(&out).arg("c:/into").ok();
    // Neither the process that made it nor its flags are there any more.
    assert_eq!(env.lap(["start", "-a", "c"]).ok().stdout_text(), "run\nrun\n");
    says(&env, &["commit", "c", "committed"]);
    assert_eq!(says(&env, &["run", "--rm", "committed", "cat", "/count"]), "run\nrun\n");
    let mount = "type=image,source=committed,target=/shown";
    assert_eq!(
        says(&env, &["run", "--rm", "--mount", mount, "busybox", "cat", "/shown/count"]),
        "run\nrun\n"
    );
    let mount = "type=image,source=busybox,target=/shown";
    assert_eq!(
        says(&env, &["run", "--rm", "--mount", mount, "busybox", "ls", "-d", "/shown/bin/sh"]),
        "/shown/bin/sh\n"
    );
    env.lap(["rm", "c"]).ok();
}

#[test]
fn nothing_stays_mounted_when_everything_is_killed() {
    let Some(env) = packing() else { return };
    let mut running = packed(&env, &["run", "--rm", "busybox", "sh", "-c", "echo ready; sleep 1000"]).spawn();
    running.wait_for("ready");
    assert!(!mounts().contains("erofs"), "nothing is attached where others see it");
    running.signal(Signal::SIGKILL);
    assert_eq!(running.finish().signal(), Some(9));
    env.lap(["rmi", "busybox"]).ok();
    env.lap(["system", "prune", "-af"]).ok();
    assert_eq!(forms(&env), [""; 0]);
    assert!(!mounts().contains(env.root().to_str().unwrap()));
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap()
}

#[test]
fn a_damaged_layer_is_not_run() {
    let Some(env) = packing() else { return };
    says(&env, &["create", "--name", "c", "busybox", "true"]);
    let tar = layer_file(&env, "tar");
    let whole = std::fs::read(&tar).unwrap();
    std::fs::remove_file(&tar).unwrap();
    std::fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    // It is made of its blob again.
    env.lap(["start", "-a", "c"]).ok();
    assert!(std::fs::read(&tar).unwrap() == whole);
    std::fs::write(&tar, vec![1; whole.len()]).unwrap();
    for blob in common::files_below(&env.root().join("blobs-v1")) {
        if std::fs::metadata(&blob).unwrap().len() > 100_000 {
            std::fs::remove_file(blob).unwrap();
        }
    }
    for refused in [&["start", "-a", "c"][..], &["run", "--rm", "busybox", "true"]] {
        let output = env.lap(refused).run();
        assert_ne!(output.code(), Some(0));
        output.stderr_has(&["is damaged", "lap store check --repair"]);
    }
    env.lap(["store", "check"]).fails(1);
    env.lap(["store", "check", "--repair"]).run();
    env.load(&testkit::images::busybox());
    env.lap(["run", "--rm", "busybox", "true"]).ok();
}

fn layer_file(env: &TestEnv, name: &str) -> std::path::PathBuf {
    let files = common::files_below(&env.root().join("snapshots-v1"));
    files.into_iter().find(|path| path.file_name() == Some(Path::new(name).as_os_str())).unwrap()
}

#[test]
fn layers_become_directories_where_those_are_wanted() {
    let Some(env) = packing() else { return };
    let run = ["run", "--rm", "busybox", "ls", "-d", "/bin/sh"];
    assert_eq!(env.lap(["--layer-form", "dir"]).args(run).ok().stdout_text(), "/bin/sh\n");
    assert_eq!(forms(&env), ["dir"]);
    assert_eq!(packed(&env, &run).ok().stdout_text(), "/bin/sh\n");
    env.lap(["store", "check"]).ok();
    let native = TestEnv::new();
    let run = native.lap(["--storage-driver", "native", "--layer-form", "packed", "images"]).ok();
    run.stderr_has(&["WARNING: layers are unpacked", "driver"]);
}

#[test]
fn what_is_large_is_packed_without_being_asked_for() {
    if packing().is_none() {
        return;
    }
    let env = TestEnv::new();
    let auto = |args: &[&str]| env.lap(["--layer-form", "auto"]).args(args).ok();
    let large = |bytes: usize| {
        // As random as it needs to be, so that compression does not make it small.
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        (0..bytes).map(next).collect::<Vec<u8>>()
    };
    let tar = testkit::LayerTar::new().file("large", 0o644, large(9 << 20)).finish();
    let image = testkit::images::busybox_as("localhost/large:latest").layer(testkit::Layer::gzip(&tar));
    let archive = env.work().join("large.tar");
    image.write_archive(&archive);
    auto(&["load", "-i", &archive.display().to_string()]);
    let sorted = || {
        let mut forms = forms(&env);
        forms.sort_unstable();
        forms
    };
    assert_eq!(sorted(), ["dir", "packed"]);

    // Of two copies the one of many bytes.
    let context = env.context();
    context.file("large", vec![b'.'; 65 << 20]).file("small", "small");
    context.dockerfile("FROM localhost/large\nCOPY large /copied/\nCOPY small /copied/\nRUN cat /large /copied/* | wc -c > /size\n");
    auto(&["build", "-q", "-t", "built", &context.path().display().to_string()]);
    assert_eq!(sorted(), ["dir", "dir", "dir", "packed", "packed"]);
    let size = auto(&["run", "--rm", "built", "cat", "/size"]).stdout_text();
    assert_eq!(size.trim(), ((9 << 20) + (65 << 20) + 5).to_string());
}

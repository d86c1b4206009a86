//! Which steps run: nothing twice, nothing needlessly, nothing wrongly skipped.

mod common;

use common::{build, env, image_id, outcome, steps_run, visitor};

const STEPS: &str = "FROM busybox AS a\nCOPY one /one\nRUN cat /one > /a\nFROM busybox AS b\nCOPY two /two\nRUN cat /two > /b\n\
                     FROM scratch\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n";

#[test]
fn a_second_build_in_a_new_process_runs_nothing_and_is_the_same_image() {
    let env = env();
    let context = env.context();
    context.file("one", "1").file("two", "2").dockerfile(STEPS);
    let first = build(&env, &context, &["-t", "x"]);
    assert_eq!(steps_run(&first).len(), 6);
    let id = image_id(&env, "x");
    let second = build(&env, &context, &["-t", "x"]);
    assert_eq!(steps_run(&second), Vec::<String>::new());
    assert_eq!(outcome(&second, "RUN cat /one"), "CACHED");
    assert_eq!(image_id(&env, "x"), id);
}

#[test]
fn a_changed_file_reruns_only_what_depends_on_it() {
    let env = env();
    let context = env.context();
    context.file("one", "1").file("two", "2").dockerfile(STEPS);
    build(&env, &context, &[]);
    context.file("two", "changed");
    let again = build(&env, &context, &[]);
    let expected =
        ["[b 2/3] COPY two /two", "[b 3/3] RUN cat /two > /b", "[stage-2 2/2] COPY --from=b /b /b"];
    assert_eq!(steps_run(&again), expected);
}

#[test]
fn a_file_that_no_step_copies_does_not_matter() {
    let env = env();
    let context = env.context();
    context.file("one", "1").file("two", "2").file("other", "x").dockerfile(STEPS);
    build(&env, &context, &[]);
    context.file("other", "y").file("new", "z");
    assert_eq!(steps_run(&build(&env, &context, &[])), Vec::<String>::new());
}

#[test]
fn times_do_not_matter_but_modes_do() {
    let env = env();
    let context = env.context();
    context.file("one", "1").file("two", "2").dockerfile(STEPS);
    build(&env, &context, &[]);
    let file = std::fs::File::open(context.path().join("one")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(steps_run(&build(&env, &context, &[])), Vec::<String>::new());
    context.mode("one", 0o755);
    assert!(steps_run(&build(&env, &context, &[])).contains(&"[a 2/3] COPY one /one".to_owned()));
}

/// The wrong hit of moby/buildkit#4950: what is younger than the scan by less than a tick of the clock is read again.
#[test]
fn same_size_and_time_with_other_content_is_noticed() {
    let env = env();
    let context = env.context();
    context.file("one", "first").file("two", "2").dockerfile(STEPS);
    let path = context.path().join("one");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    build(&env, &context, &[]);
    context.file("one", "other");
    std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(common::build_tree(&env, &context, &[]).text("a"), "other");
}

#[test]
fn a_rerun_to_the_same_result_stops_the_rebuild() {
    let env = env();
    let context = env.context();
    context
        .file("noise", "1")
        .dockerfile("FROM busybox AS a\nCOPY noise /noise\nRUN wc -c < /noise > /size\nFROM busybox\nCOPY --from=a /size /size\nRUN cat /size > /copy\n");
    build(&env, &context, &[]);
    context.file("noise", "2");
    let again = build(&env, &context, &[]);
    assert_eq!(steps_run(&again), ["[a 2/3] COPY noise /noise", "[a 3/3] RUN wc -c < /noise > /size"]);
}

#[test]
fn arguments_environment_and_commands_are_part_of_the_key() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo before\nARG V=1\nRUN echo $V > /v\n");
    build(&env, &context, &[]);
    let again = build(&env, &context, &["--build-arg", "V=2"]);
    assert_eq!(steps_run(&again), ["[3/3] RUN echo 2 > /v"]);
    assert_eq!(
        steps_run(&build(&env, &context, &["--build-arg", "HTTP_PROXY=http://x", "--build-arg", "UNUSED=1"]))
            .len(),
        0
    );
    context.dockerfile("FROM busybox\n# a comment\nRUN echo before\nARG V=1\n\nRUN echo $V   > /v\n");
    assert_eq!(steps_run(&build(&env, &context, &[])).len(), 1);
}

#[test]
fn no_cache_runs_everything_and_still_fills_the_cache() {
    let env = env();
    let context = env.context();
    context.file("one", "1").file("two", "2").dockerfile(STEPS);
    build(&env, &context, &[]);
    assert_eq!(steps_run(&build(&env, &context, &["--no-cache"])).len(), 6);
    assert_eq!(steps_run(&build(&env, &context, &[])).len(), 0);
}

#[test]
fn stages_that_are_not_needed_are_not_built() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox AS broken\nRUN false\nFROM busybox\nRUN true\n");
    assert_eq!(steps_run(&build(&env, &context, &[])).len(), 1);
}

#[test]
fn a_file_that_changes_during_the_build_is_never_saved_under_the_old_key() {
    use std::io::Write as _;
    let env = env();
    let context = env.context();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    context
        .file("f", "old")
        .dockerfile(&format!("FROM busybox\nRUN nc 127.0.0.1 {port}\nCOPY f /f\nRUN cat /f > /copy\n"));
    let building = env.lap(["build", "--progress", "plain", "-t", "changed"]).arg(context.path()).spawn();
    // The first step waits for us; the key of the second has been made from the old file by now.
    let mut step = visitor(&listener);
    context.file("f", "new");
    step.write_all(b"go on\n").unwrap();
    drop(step);
    let output = building.finish();
    assert_eq!(output.code(), Some(0), "{output}");
    output.stderr_has(&["ContextChanged", "f changed"]);
    env.lap(["run", "--rm", "changed", "cat", "/copy"]).ok().stdout_has(&["new"]);
    context.file("f", "old");
    assert_eq!(common::build_tree(&env, &context, &[]).text("copy"), "old");
}

#[test]
fn an_archive_that_changes_during_the_build_is_never_saved_under_the_old_key() {
    use std::io::Write as _;
    let env = env();
    let context = env.context();
    let archive = |text: &str| testkit::LayerTar::new().file("f", 0o644, text).finish();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    context
        .file("a.tar", archive("old"))
        .dockerfile(&format!("FROM busybox\nRUN nc 127.0.0.1 {port}\nADD a.tar /\nRUN cat /f > /copy\n"));
    let building = env.lap(["build", "-t", "changed"]).arg(context.path()).spawn();
    let mut step = visitor(&listener);
    context.file("a.tar", archive("new"));
    step.write_all(b"go on\n").unwrap();
    drop(step);
    let output = building.finish();
    assert_eq!(output.code(), Some(0), "{output}");
    env.lap(["run", "--rm", "changed", "cat", "/copy"]).ok().stdout_has(&["new"]);
    context.file("a.tar", archive("old"));
    assert_eq!(common::build_tree(&env, &context, &[]).text("copy"), "old");
}

#[test]
fn independent_stages_run_at_the_same_time() {
    let env = env();
    let context = env.context();
    let (port, meeting) = meeting_place();
    context.dockerfile(&format!(
        "FROM busybox AS a\nRUN nc 127.0.0.1 {port} > /got\nFROM busybox AS b\n\
         RUN nc 127.0.0.1 {port} > /got; true\nFROM scratch\nCOPY --from=a /got /a\nCOPY --from=b /got /b\n"
    ));
    let tree = common::build_tree(&env, &context, &[]);
    meeting.join().unwrap();
    assert_eq!((tree.text("a").as_str(), tree.text("b").as_str()), ("both are here\n", "both are here\n"));
}

/// Answers two visitors, but only once both have come: neither goes on unless both are there at once.
fn meeting_place() -> (u16, std::thread::JoinHandle<()>) {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let meeting = std::thread::spawn(move || {
        let visitors = [visitor(&listener), visitor(&listener)];
        for mut visitor in visitors {
            visitor.write_all(b"both are here\n").unwrap();
        }
    });
    (port, meeting)
}

#[test]
fn two_builds_at_once_run_each_step_once() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /one\nRUN cat /proc/sys/kernel/random/uuid > /two\n");
    let start =
        |name: &str| env.lap(["build", "--progress", "plain", "-t", name]).arg(context.path()).spawn();
    let outputs: Vec<_> = ["a", "b", "c"].map(start).into_iter().map(testkit::Running::finish).collect();
    let ran: usize = outputs.iter().map(|output| steps_run(output).len()).sum();
    assert!(outputs.iter().all(|output| output.code() == Some(0)), "{outputs:?}");
    assert_eq!(ran, 2, "each of the two steps ran once in all");
    assert_eq!(image_id(&env, "a"), image_id(&env, "b"));
    assert_eq!(image_id(&env, "a"), image_id(&env, "c"));
}

#[test]
fn with_the_modes_of_git_checkouts_under_different_umasks_are_the_same() {
    let env = env();
    let (one, other) = (env.context(), env.context());
    for (context, file, script, dir) in [(&one, 0o644, 0o755, 0o755), (&other, 0o660, 0o770, 0o2770)] {
        context.file("src/a", "a").file("src/run", "#!/bin/sh\n");
        context.mode("src/a", file).mode("src/run", script).mode("src", dir);
        context.dockerfile("FROM busybox\nCOPY src /src\nRUN stat -c '%a %n' /src /src/* > /modes\n");
    }
    build(&env, &one, &["--context-modes", "git"]);
    assert_eq!(steps_run(&build(&env, &other, &["--context-modes=git"])), Vec::<String>::new());
    assert_eq!(
        steps_run(&build(&env, &one, &[])),
        Vec::<String>::new(),
        "these are the modes of git already"
    );
    let modes = |args: &[&str]| common::build_tree(&env, &other, args).text("modes");
    assert_eq!(modes(&["--context-modes", "git"]), "755 /src\n644 /src/a\n755 /src/run\n");
    assert_eq!(modes(&[]), "755 /src\n660 /src/a\n770 /src/run\n", "the default is BuildKit's");

    let config = env.work().join("lapstrake.toml");
    std::fs::write(&config, "[build]\ncontextModes = \"git\"\n").unwrap();
    let by_file =
        env.lap(["build", "--progress", "plain"]).env("LAPSTRAKE_CONFIG", &config).arg(other.path()).ok();
    assert_eq!(steps_run(&by_file), Vec::<String>::new());
    other.mode("src/a", 0o750);
    let executable = build(&env, &other, &["--context-modes", "git"]);
    assert!(steps_run(&executable).contains(&"[2/3] COPY src /src".to_owned()), "{executable}");
}

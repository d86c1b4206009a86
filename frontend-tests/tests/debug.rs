//! Failed steps: what they left is kept, can be looked at, and is never a result.

mod common;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use common::terminal::Terminal;
use common::{build, build_fails, env, outcome, steps_run};
use testkit::{Context, OrdinaryUser, Output, Ranges, TestEnv};

/// A step that fails with much around it.
const DOCKERFILE: &str = "\
FROM busybox
ENV COLOUR=blue
RUN echo 'app:x:1000:1001::/home/app:/bin/sh' >> /etc/passwd && mkdir -m 777 /work && echo old > /work/old && chmod 666 /work/old && touch /work/gone
WORKDIR /work
COPY report.txt /shown/report.txt
ARG LEVEL=7
USER app
RUN --network=none --mount=type=bind,target=/context,rw --mount=type=cache,target=/cache,mode=0777 --mount=type=tmpfs,target=/memory \
    rm gone; echo half > made; mkdir sub; echo deep > sub/deep; echo more >> old; echo kept > /cache/kept; exit 3
";

fn failed(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile(DOCKERFILE).file("report.txt", "from the context\n");
    build_fails(env, &context, &[]);
    context
}

/// What a shell line says where the newest failed step failed.
fn says(env: &TestEnv, line: &str) -> String {
    env.lap(["debug", "--", "sh", "-c", line]).ok().stdout_text()
}

fn newest_build(env: &TestEnv) -> String {
    let ids = env.lap(["history", "ls", "--format", "{{.ID}}"]).ok().stdout_text();
    ids.lines().next().unwrap().to_owned()
}

#[test]
fn a_command_finds_everything_as_the_step_left_it() {
    let env = env();
    failed(&env);
    assert_eq!(
        says(&env, "pwd; id -u; id -g; echo $COLOUR $LEVEL $HOME"),
        "/work\n1000\n1001\nblue 7 /home/app\n"
    );
    assert_eq!(says(&env, "ls; cat made sub/deep old"), "made\nold\nsub\nhalf\ndeep\nold\nmore\n");
    assert_eq!(
        says(&env, "cat /context/report.txt /cache/kept; ls -A /memory | wc -l"),
        "from the context\nkept\n0\n"
    );
    assert_eq!(
        says(&env, "ls /sys/class/net; touch /memory/x && grep -c ' /memory tmpfs' /proc/mounts"),
        "lo\n1\n"
    );
    // What one does there is gone the next time.
    assert_eq!(says(&env, "rm made; echo x > new; ls"), "new\nold\nsub\n");
    assert_eq!(says(&env, "ls"), "made\nold\nsub\n");
    let exit = env.lap(["debug", "--", "sh", "-c", "exit 41"]).fails(41);
    assert_eq!(exit.stdout_text(), "");
}

#[test]
fn without_a_command_it_is_the_shell_of_the_step() {
    let env = env();
    failed(&env);
    let typed = env.lap(["debug"]).stdin("echo in $0; cat made\n").ok();
    assert_eq!(typed.stdout_text(), "in /bin/sh\nhalf\n");
    let mut terminal = Terminal::start(&env, &["debug", &newest_build(&env)[..6]]);
    terminal.wait_for("exit code: 3");
    terminal.write("tty; stty size; echo $TERM; cat made; exit 5\n");
    terminal.wait_for("/dev/pts/0\r\n40 120\r\nxterm\r\nhalf\r\n");
    assert_eq!(terminal.finish(), Some(5));
    assert!(!terminal.is_raw());
}

#[test]
fn the_error_tells_how_and_a_build_may_open_the_shell_itself() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo half > /made; exit 3\n");
    let output = build_fails(&env, &context, &["--on-error", "shell"]);
    let build = newest_build(&env);
    let line = format!("hint: lap debug {build} opens a shell where the step failed");
    assert_eq!(output.stderr_text().matches(&line).count(), 1, "{output}");
    output.stderr_has(&["--on-error shell needs a terminal"]);
    let path = context.path().display().to_string();
    let mut terminal = Terminal::start(&env, &["build", "--on-error", "shell", &path]);
    terminal.wait_for("[2/2] RUN echo half > /made; exit 3 failed: exit code: 3");
    terminal.wait_until_raw();
    terminal.write("cat /ma''de; exit 0\n");
    terminal.wait_for("half");
    assert_eq!(terminal.finish(), Some(1), "the build has failed all the same");
    assert!(!terminal.is_raw());
    // A build that fails otherwise leaves nothing to look at.
    context.dockerfile("FROM busybox\nCOPY missing /\n");
    let output = build_fails(&env, &context, &["--on-error", "shell"]);
    assert!(!output.stderr_text().contains("lap debug"), "{output}");
}

#[test]
fn the_difference_is_that_of_the_failed_step_alone() {
    for driver in ["overlay", "native"] {
        let env = TestEnv::new();
        let lap = |args: &[&str]| env.lap(["--storage-driver", driver]).args(args);
        let archive = env.work().join("busybox.tar");
        testkit::images::busybox().write_archive(&archive);
        lap(&["load", "-i"]).arg(&archive).ok();
        let context = env.context();
        context.dockerfile(
            "FROM busybox\nRUN mkdir -p /a/b /c && touch /a/old /a/same /c/x /c/y\n\
             RUN rm /a/old && echo 1 > /a/b/new && rm -r /c && mkdir /c && touch /c/z && ln -s /a /link && exit 1\n",
        );
        lap(&["build"]).arg(context.path()).fails(1);
        let diff = lap(&["debug", "diff"]).ok().stdout_text();
        let expected = "C /a\nC /a/b\nA /a/b/new\nD /a/old\nC /c\nD /c/x\nD /c/y\nA /c/z\nA /link\n";
        assert_eq!(diff, expected, "{driver}");
    }
}

#[test]
fn files_are_copied_out_as_docker_cp_does() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN mkdir -p /out/sub && echo r > /out/report && chmod 4755 /out/report && chown 7:8 /out/report \
         && echo s > /out/sub/s && ln -s /etc/passwd /out/link && ln -s ../../../../../../../../.. /up && exit 1\n",
    );
    build_fails(&env, &context, &[]);
    let build = newest_build(&env);
    let work = env.work();
    let cp = |from: &str, to: &Path| env.lap(["debug", "cp", from]).arg(to).run();
    let text = |path: &str| std::fs::read_to_string(work.join(path)).unwrap();
    assert_eq!(cp("/out/report", &work.join("named")).code(), Some(0));
    assert_eq!(text("named"), "r\n");
    let metadata = std::fs::metadata(work.join("named")).unwrap();
    let me = std::fs::metadata(&work).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (me.uid(), me.gid()), "it is the caller's");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o755, "it gives nobody rights");
    std::fs::create_dir(work.join("there")).unwrap();
    assert_eq!(cp(&format!("{build}:/out/report"), &work.join("there")).code(), Some(0));
    assert_eq!(text("there/report"), "r\n");
    assert_eq!(cp("/out", &work.join("there")).code(), Some(0));
    assert_eq!(text("there/out/sub/s"), "s\n");
    assert_eq!(cp("out", &work.join("new")).code(), Some(0));
    assert_eq!(text("new/sub/s"), "s\n");
    assert_eq!(std::fs::read_link(work.join("new/link")).unwrap(), Path::new("/etc/passwd"));
    // Links lead to the files of the step, however far up they go.
    assert_eq!(cp("/up/out/report", &work.join("up")).code(), Some(0));
    assert_eq!(text("up"), "r\n");
    let users = cp("/out/link", &work.join("users"));
    assert_eq!(users.code(), Some(0), "{users}");
    assert_ne!(text("users"), std::fs::read_to_string("/etc/passwd").unwrap());
    let missing = cp("/nothing", &work.join("x"));
    assert_eq!(missing.code(), Some(1));
    missing.stderr_has(&["\"/nothing\" not found"]);
    assert!(!work.join("x").exists());
}

#[test]
fn reports_of_a_failed_step_are_exported_by_the_build() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN mkdir /t && touch /t/before\nRUN echo a > /t/a.xml; echo b > /t/b.xml; mkdir /t/d; echo d > /t/d/d; exit 9\n",
    );
    let to = |name: &str| env.work().join(name).display().to_string();
    let args = [
        "--output-on-failure",
        &format!("/t/a.xml={}", to("one.xml")),
        "--output-on-failure",
        &format!("/t/*.xml={}/", to("all")),
        "--output-on-failure",
        &format!("/t/d={}", to("below/tree")),
        "--output-on-failure",
        &format!("/t/none={}", to("none")),
        "--output-on-failure",
        &to("made"),
    ];
    let output = build_fails(&env, &context, &args);
    output.stderr_has(&["the failed step left no /t/none", "exit code: 9"]);
    let text = |path: &str| std::fs::read_to_string(env.work().join(path)).unwrap();
    assert_eq!(
        (text("one.xml"), text("all/a.xml"), text("all/b.xml")),
        ("a\n".into(), "a\n".into(), "b\n".into())
    );
    assert_eq!(text("below/tree/d"), "d\n");
    assert!(!env.work().join("none").exists());
    let made = testkit::Tree::of_dir(&env.work().join("made"));
    let names: Vec<&str> = made.paths().collect();
    assert_eq!(names, ["t", "t/a.xml", "t/b.xml", "t/d", "t/d/d"]);
    // A build that succeeds writes none of them.
    context.dockerfile("FROM busybox\nRUN echo fine > /x\n");
    build(&env, &context, &["--output-on-failure", &format!("/x={}", to("fine"))]);
    assert!(!env.work().join("fine").exists());
}

#[test]
fn an_export_is_an_image_with_the_same_state() {
    let env = env();
    failed(&env);
    let archive = env.work().join("failed.tar");
    env.lap(["debug", "export", "-o"]).arg(&archive).ok().stderr_has(&["lap load"]);
    let other = TestEnv::new();
    let loaded = other.load_archive(&archive).stdout_text();
    let name = loaded.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(name.starts_with("failed-step:"), "{loaded}");
    let line = "pwd; id -u; echo $COLOUR $LEVEL; cat made old /context/report.txt";
    let output = other.lap(["run", "--rm", "--network", "none", &name, "sh", "-c", line]).ok();
    assert_eq!(output.stdout_text(), "/work\n1000\nblue 7\nhalf\nold\nmore\nfrom the context\n");
    let inspected = other.lap(["image", "inspect", &name]).ok().stdout_text();
    assert!(
        inspected.contains("lapstrake.failed-step") && inspected.contains("RUN --network=none"),
        "{inspected}"
    );
}

#[test]
fn a_build_goes_on_from_the_last_step_that_succeeded() {
    let env = env();
    let context = env.context();
    let dockerfile = |third: &str| {
        context.dockerfile(&format!(
            "FROM busybox\nRUN echo one > /one\nCOPY f /f\nRUN echo half > /half; {third}\nRUN test ! -e /wrong\n"
        ));
    };
    context.file("f", "f");
    dockerfile("touch /wrong; exit 1");
    build_fails(&env, &context, &[]);
    // Nothing of what failed is a result: the same build fails again, by running it.
    let again = build_fails(&env, &context, &[]);
    assert_eq!(outcome(&again, "[4/5]"), "ERROR");
    assert_eq!(steps_run(&again), Vec::<String>::new());
    dockerfile("true");
    let output = build(&env, &context, &[]);
    assert_eq!(steps_run(&output), ["[4/5] RUN echo half > /half; true", "[5/5] RUN test ! -e /wrong"]);
    assert_eq!((outcome(&output, "[2/5]"), outcome(&output, "[3/5]")), ("CACHED".into(), "CACHED".into()));
}

/// Whether a file below `directory` has `text` in it, or in its name.
fn has_text(directory: &Path, text: &str) -> Option<String> {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let found = if kind.is_dir() {
            has_text(&path, text).is_some()
        } else {
            let content = if kind.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            content.windows(text.len()).any(|window| window == text.as_bytes())
        };
        if found || entry.file_name().to_string_lossy().contains(text) {
            return Some(path.display().to_string());
        }
    }
    None
}

#[test]
fn secrets_are_not_kept_and_may_be_given_again() {
    const SECRET: &str = "correct-horse-battery-staple";
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=secret,id=token,required --mount=type=secret,id=token,env=TOKEN \
         test -s /run/secrets/token && test -n \"$TOKEN\" && touch /reached && exit 1\n",
    );
    let output = env
        .lap(["build", "--secret", "id=token,env=TOKEN"])
        .env("TOKEN", SECRET)
        .arg(context.path())
        .fails(1);
    output.stderr_has(&["exit code: 1"]);
    assert_eq!(has_text(&env.root(), SECRET), None);
    assert_eq!(
        says(&env, "ls /reached; cat /run/secrets/token 2>/dev/null; echo \"<$TOKEN>\""),
        "/reached\n<>\n"
    );
    let diff = env.lap(["debug", "diff"]).ok().stdout_text();
    assert!(diff.contains("A /reached") && !diff.contains("token"), "{diff}");
    let line = "cat /run/secrets/token; echo \"<$TOKEN>\"";
    let given = env
        .lap(["debug", "--secret", "id=token,env=AGAIN", "--", "sh", "-c", line])
        .env("AGAIN", "another")
        .ok();
    assert_eq!(given.stdout_text(), "another<another>\n");
    let mut typed = Terminal::start(&env, &["debug"]);
    typed.wait_for("The secret token is not here unless it is given again");
    typed.write("exit 0\n");
    assert_eq!(typed.finish(), Some(0));
    assert_eq!(has_text(&env.root(), SECRET), None);
}

#[test]
fn what_is_kept_is_bounded_and_goes_when_asked() {
    let env = env();
    let context = env.context();
    for number in 0..12 {
        context.dockerfile(&format!("FROM busybox\nRUN echo {number} > /number; exit 1\n"));
        build_fails(&env, &context, &[]);
    }
    let builds = env.lap(["history", "ls", "--format", "{{.ID}}"]).ok().stdout_text();
    let builds: Vec<&str> = builds.lines().collect();
    let is_kept = |build: &str| env.lap(["debug", "diff", build]).run().code() == Some(0);
    let kept: Vec<bool> = builds.iter().map(|build| is_kept(build)).collect();
    assert_eq!(kept, [[true; 10].as_slice(), &[false; 2]].concat());
    assert_eq!(says(&env, "cat /number"), "11\n");
    env.lap(["debug", "diff", builds[11]])
        .fails(1)
        .stderr_has(&["no failed step of the build", "for a week"]);
    // Collections leave them alone, and so does removing images.
    env.lap(["store", "gc"]).ok();
    env.lap(["image", "prune", "-af"]).ok();
    assert_eq!(says(&env, "cat /number"), "11\n");
    env.lap(["history", "rm", builds[0]]).ok();
    assert_eq!(says(&env, "cat /number"), "10\n");
    env.lap(["builder", "prune", "-f"]).ok();
    env.lap(["debug"]).fails(1).stderr_has(&["no failed step is kept"]);
    env.lap(["store", "check"]).ok();
    assert!(
        !Path::new(&env.root())
            .join("snapshots")
            .read_dir()
            .is_ok_and(|mut left| { left.any(|entry| entry.unwrap().path().join("fs/number").exists()) })
    );
}

#[test]
fn of_steps_that_fail_at_once_the_first_is_kept_and_of_a_cancelled_build_none() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox AS a\nRUN exit 1\nFROM busybox AS b\nRUN exit 1\nFROM busybox\nCOPY --from=a / /a\nCOPY --from=b / /b\n",
    );
    let output = build_fails(&env, &context, &[]);
    assert_eq!(output.stderr_text().matches("lap debug").count(), 1, "{output}");
    env.lap(["debug", "--", "true"]).ok();
    env.lap(["history", "rm", "--all"]).ok();
    context.dockerfile("FROM busybox\nRUN echo waiting; sleep 1000\n");
    let mut running = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    running.wait_for("waiting");
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.finish();
    env.lap(["debug", "diff"]).fails(1).stderr_has(&["no failed step is kept"]);
}

fn user_says(user: &OrdinaryUser, args: &[&str]) -> Output {
    user.lap(args).ok()
}

#[test]
fn an_ordinary_user_has_all_of_it() {
    let Some(user) = OrdinaryUser::new(Ranges::Usual) else { return };
    user.load(&testkit::images::busybox());
    let context = Context::create(&user.work());
    context.dockerfile(DOCKERFILE).file("report.txt", "from the context\n");
    let report = user.work().join("report");
    user.lap(["build", "--output-on-failure", &format!("/work/made={}", report.display())])
        .arg(context.path())
        .fails(1)
        .stderr_has(&["lap debug"]);
    assert_eq!(std::fs::read_to_string(&report).unwrap(), "half\n");
    let line = "pwd; id -u; echo $COLOUR; cat made old /context/report.txt /cache/kept";
    let said = user_says(&user, &["debug", "--", "sh", "-c", line]).stdout_text();
    assert_eq!(said, "/work\n1000\nblue\nhalf\nold\nmore\nfrom the context\nkept\n");
    let diff = user_says(&user, &["debug", "diff"]).stdout_text();
    assert!(diff.contains("A /work/made\n") && diff.contains("D /work/gone\n"), "{diff}");
    let copy = user.work().join("copy");
    user_says(&user, &["debug", "cp", "/work", &copy.display().to_string()]);
    let own = std::fs::metadata(user.work()).unwrap().uid();
    assert_eq!(std::fs::metadata(copy.join("made")).unwrap().uid(), own);
    let archive = user.work().join("failed.tar").display().to_string();
    user_says(&user, &["debug", "export", "-o", &archive]);
    let loaded = user_says(&user, &["load", "-i", &archive]).stdout_text();
    let name = loaded.trim().rsplit(' ').next().unwrap();
    assert_eq!(user_says(&user, &["run", "--rm", name, "cat", "made"]).stdout_text(), "half\n");
}

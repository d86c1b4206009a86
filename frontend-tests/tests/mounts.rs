//! `RUN --mount`, seen from outside: what a process sees, what stays, and what must stay nowhere.

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use common::ssh::{Agent, SSH_ADD, key, openssh, put_ssh_add};
use common::{build, build_fails, build_tree, env, outcome, steps_run};
use testkit::{Context, TestEnv};

const SECRET: &str = "correct horse battery staple";

/// A file with a secret, outside of any context.
fn secret_file(env: &TestEnv) -> String {
    let path = env.work().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    path.display().to_string()
}

#[test]
fn what_is_bound_can_be_seen_and_leaves_no_trace() {
    let env = env();
    let context = env.context();
    context.file("src/a", "A").file("src/b", "B").dockerfile(
        "FROM busybox\nRUN --mount=source=src,target=/deep/er/src cat /deep/er/src/a /deep/er/src/b > /out\n\
         RUN --mount=source=src,target=/m touch /m/x 2>/err || true\n",
    );
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("out"), "AB");
    assert!(tree.text("err").contains("Read-only file system"));
    assert!(tree.get("deep").is_none() && tree.get("m").is_none());
}

#[test]
fn what_is_written_to_a_bind_mount_reaches_nobody() {
    let env = env();
    let context = env.context();
    context.file("src/a", "A").dockerfile(
        "FROM busybox\nRUN --mount=source=src,target=/m,rw rm /m/a && echo new > /m/b && ls /m > /out\n\
         RUN --mount=source=src,target=/m cat /m/a > /again\n",
    );
    let tree = build_tree(&env, &context, &[]);
    assert_eq!((tree.text("out").as_str(), tree.text("again").as_str()), ("b\n", "A"));
    assert_eq!(std::fs::read_to_string(context.path().join("src/a")).unwrap(), "A");
    assert!(!context.path().join("src/b").exists());
}

#[test]
fn a_bind_mount_obeys_the_ignore_file_and_belongs_to_root() {
    let env = env();
    let context = env.context();
    context.file("src/a", "A").file("src/ignored", "I").file(".dockerignore", "**/ignored\n").dockerfile(
        "FROM busybox\nRUN --mount=target=/m find /m -name ignored > /out; stat -c %u:%g /m/src/a >> /out\n",
    );
    std::os::unix::fs::chown(context.path().join("src/a"), Some(1234), Some(1234)).unwrap();
    assert_eq!(build_tree(&env, &context, &[]).text("out"), "0:0\n");
}

#[test]
fn only_what_a_mount_shows_decides_whether_a_step_runs_again() {
    let env = env();
    let context = env.context();
    context.file("src/a", "A").file("other", "1").dockerfile(
        "FROM busybox AS tool\nCOPY other /other\nRUN mkdir /t && echo t > /t/f && cp /other /seen\n\
         FROM busybox\nRUN --mount=source=src,target=/m --mount=from=tool,source=/t,target=/t cat /m/a /t/f > /out\n",
    );
    build(&env, &context, &[]);
    context.file("other", "2");
    let again = build(&env, &context, &[]);
    assert_eq!(outcome(&again, "cat /m/a /t/f"), "CACHED");
    assert_eq!(outcome(&again, "cp /other /seen"), "DONE");
    context.file("src/a", "B");
    assert_eq!(outcome(&build(&env, &context, &[]), "cat /m/a /t/f"), "DONE");
}

#[test]
fn a_single_file_of_a_stage_or_image_can_be_mounted() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox AS a\nRUN echo hello > /f && ln -s f /link\nFROM scratch AS empty\nFROM busybox\n\
         RUN --mount=from=a,source=/link,target=/x/file cat /x/file > /out\n\
         RUN --mount=from=busybox,source=/bin/busybox,target=/x/busybox /x/busybox true && echo ran >> /out\n\
         RUN --mount=from=empty,target=/e ls -A /e >> /out\n",
    );
    assert_eq!(build_tree(&env, &context, &[]).text("out"), "hello\nran\n");
}

#[test]
fn a_mount_of_something_that_is_not_there_says_so() {
    let env = env();
    let context = env.context();
    context.file("real", "").dockerfile("FROM busybox\nRUN --mount=source=raal,target=/m true\n");
    build_fails(&env, &context, &[]).stderr_has(&["raal", "not found", "did you mean \"real\""]);
    context.dockerfile("FROM busybox\nRUN --mount=from=busybox,source=/nope,target=/m true\n");
    build_fails(&env, &context, &[]).stderr_has(&["/nope", "not found", "Dockerfile:2"]);
}

#[test]
fn a_cache_lives_on_and_is_in_no_image() {
    let env = env();
    let context = env.context();
    let text = |word: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c,mode=0711,uid=5,gid=6 echo {word} >> /c/f && cat /c/f > /out && stat -c %a:%u:%g /c >> /out\n"
        )
    };
    context.dockerfile(&text("one"));
    assert_eq!(build_tree(&env, &context, &[]).text("out"), "one\n711:5:6\n");
    context.dockerfile(&text("two"));
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("out"), "one\ntwo\n711:5:6\n");
    assert!(tree.get("c").is_none());
    assert_eq!(steps_run(&build(&env, &context, &[])), Vec::<String>::new());
}

#[test]
fn caches_are_told_apart_by_id_seed_and_namespace() {
    let env = env();
    let context = env.context();
    let build_with = |mount: &str, args: &[&str]| {
        let text = format!(
            "FROM busybox AS seed\nRUN mkdir /s && echo seed > /s/f\nFROM busybox\n\
             RUN --mount=type=cache,{mount} echo x >> /c/f; cat /c/f > /out\n"
        );
        context.dockerfile(&text);
        build_tree(&env, &context, &[args, &["--no-cache"]].concat()).text("out").to_owned()
    };
    assert_eq!(build_with("target=/c", &[]), "x\n");
    assert_eq!(build_with("target=/c", &[]), "x\nx\n");
    assert_eq!(build_with("target=/c,id=other", &[]), "x\n");
    assert_eq!(build_with("target=/c,from=seed,source=/s", &[]), "seed\nx\n");
    assert_eq!(build_with("target=/c,from=seed,source=/s", &[]), "seed\nx\nx\n");
    assert_eq!(build_with("target=/c", &["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"]), "x\n");
}

/// Two builds at once, each waiting in its step until `ready` says so or the other one is there too.
fn two_at_once(sharing: &str) -> (String, String) {
    let env = env();
    let contexts: Vec<Context> =
        ["a", "b"].into_iter().map(|name| context_for(&env, name, sharing)).collect();
    let start = |context: &Context| {
        env.lap(["build", "--progress", "plain", "--network", "none"]).arg(context.path()).spawn()
    };
    let running: Vec<_> = contexts.iter().map(start).collect();
    let mut texts = running.into_iter().map(|build| {
        let output = build.finish();
        assert_eq!(output.code(), Some(0), "{output}");
        output.stderr_text()
    });
    (texts.next().unwrap(), texts.next().unwrap())
}

/// A build that says in the cache that it is there, looks a while for the other one, and goes.
fn context_for(env: &TestEnv, name: &str, sharing: &str) -> Context {
    // Those that are to meet wait for each other.
    let looks = if sharing == "shared" { 600 } else { 20 };
    let context = env.context();
    context.dockerfile(&format!(
        "FROM busybox\nRUN --mount=type=cache,target=/c,id=both,sharing={sharing} touch /c/{name}; \
         met=no; for i in $(seq {looks}); do [ $(ls /c | wc -l) = 2 ] && met=yes && break; sleep 0.1; done; \
         echo met $met; [ {sharing} = shared ] || rm /c/{name}\n"
    ));
    context
}

#[test]
fn a_shared_cache_is_used_by_two_builds_at_once() {
    let (one, two) = two_at_once("shared");
    assert!(one.contains("met yes") && two.contains("met yes"), "{one}\n{two}");
}

#[test]
fn a_locked_cache_is_used_by_one_build_after_the_other() {
    let (one, two) = two_at_once("locked");
    assert!(one.contains("met no") && two.contains("met no"), "{one}\n{two}");
}

#[test]
fn a_private_cache_is_another_one_while_it_is_used() {
    let (one, two) = two_at_once("private");
    assert!(one.contains("met no") && two.contains("met no"), "{one}\n{two}");
}

#[test]
fn a_locked_cache_can_be_mounted_twice_by_one_step() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,id=x,target=/a,sharing=locked --mount=type=cache,id=x,target=/b,sharing=locked \
         echo one > /a/f && cat /b/f > /out\n",
    );
    assert_eq!(build_tree(&env, &context, &[]).text("out"), "one\n");
}

#[test]
fn memory_is_mounted_with_its_size() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m df -k /t | awk 'END {print $2}' > /out; \
         dd if=/dev/zero of=/t/f bs=1k count=2000 2>/dev/null || echo full >> /out\n",
    );
    let tree = build_tree(&env, &context, &[]);
    assert_eq!(tree.text("out"), "1024\nfull\n");
    assert!(tree.get("t").is_none());
}

#[test]
fn a_secret_is_a_file_or_a_variable_for_its_step_alone() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\n\
         RUN --mount=type=secret,id=s wc -c < /run/secrets/s > /out; stat -c %a:%u /run/secrets/s >> /out\n\
         RUN --mount=type=secret,id=s,target=/x/y,mode=0444,uid=7 stat -c %a:%u /x/y >> /out\n\
         RUN --mount=type=secret,id=s,env=S echo ${#S} >> /out; ls /run/secrets 2>/dev/null >> /out; true\n\
         RUN echo ${S:-none} >> /out; ls /run/secrets /x 2>/dev/null >> /out; true\n\
         RUN --mount=type=secret,id=missing ls /run/secrets 2>/dev/null >> /out; true\n",
    );
    let flag = format!("id=s,src={}", secret_file(&env));
    let tree = build_tree(&env, &context, &["--secret", &flag]);
    assert_eq!(tree.text("out"), "28\n400:0\n444:7\n28\nnone\n");
}

#[test]
fn a_secret_stays_nowhere_and_is_in_no_key() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=secret,id=s,env=S --mount=type=secret,id=s test -n \"$S\" && test -s /run/secrets/s\n",
    );
    let path = secret_file(&env);
    let flag = format!("id=s,src={path}");
    let first = build(&env, &context, &["--secret", &flag, "-t", "x"]);
    assert!(!first.stderr_text().contains(SECRET));
    let archive = env.work().join("x.tar");
    env.lap(["save", "-o"]).arg(&archive).arg("x").ok();
    std::fs::remove_file(&path).unwrap();
    let found = files_with(&env.root(), SECRET.as_bytes()) + files_with(&env.work(), SECRET.as_bytes());
    assert_eq!(found, 0, "the secret is in {found} files");
    // Another value, another place: the step is found all the same.
    let other = env.lap(["build", "--progress", "plain", "--secret", "id=s,env=OTHER"]).env("OTHER", "o");
    assert_eq!(steps_run(&other.arg(context.path()).ok()), Vec::<String>::new());
}

/// How many files below `dir` hold these bytes.
fn files_with(dir: &Path, wanted: &[u8]) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            found += files_with(&path, wanted);
        } else if metadata.is_file() && metadata.size() >= wanted.len() as u64 {
            let content = std::fs::read(&path).unwrap();
            found += usize::from(content.windows(wanted.len()).any(|window| window == wanted));
        }
    }
    found
}

#[test]
fn a_secret_that_is_needed_and_not_given_fails_the_step() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN --mount=type=secret,id=token,required true\n");
    build_fails(&env, &context, &[]).stderr_has(&[
        "secret \"token\" not found",
        "--secret id=token",
        "Dockerfile:2",
    ]);
    let huge = env.work().join("huge");
    std::fs::write(&huge, vec![b'x'; 600 * 1024]).unwrap();
    let flag = format!("id=token,src={}", huge.display());
    build_fails(&env, &context, &["--secret", &flag]).stderr_has(&["token", "larger than 512000 bytes"]);
}

#[test]
fn an_ssh_agent_is_forwarded_for_listing_and_signing_only() {
    let Some(()) = openssh() else { return };
    let env = env();
    let context = env.context();
    put_ssh_add(&context);
    let key = key(&env);
    let agent = Agent::start(&env, &key);
    context.dockerfile(&format!(
        "FROM busybox\nRUN --mount=type=ssh,uid=9,mode=0666 stat -c %F:%a:%u $SSH_AUTH_SOCK > /stat\n\
         RUN --mount=type=ssh {SSH_ADD} -L > /listed\n\
         RUN --mount=type=ssh {SSH_ADD} -D 2>&1 | tee /deleted\n\
         RUN ls /run/buildkit 2>/dev/null > /left; echo ${{SSH_AUTH_SOCK:-none}} >> /left\n"
    ));
    let flag = format!("default={}", agent.socket().display());
    let tree = build_tree(&env, &context, &["--ssh", &flag]);
    assert_eq!(tree.text("stat"), "socket:666:9\n");
    assert!(tree.text("listed").contains("test key"), "{}", tree.text("listed"));
    assert!(tree.text("deleted").contains("Failed"), "{}", tree.text("deleted"));
    assert_eq!(tree.text("left"), "none\n");
    agent.add().arg("-L").ok().stdout_has(&["test key"]);
}

#[test]
fn key_files_are_served_by_an_agent_of_their_own() {
    let Some(()) = openssh() else { return };
    let env = env();
    let context = env.context();
    put_ssh_add(&context);
    context.dockerfile(&format!("FROM busybox\nRUN --mount=type=ssh,id=k {SSH_ADD} -L > /listed\n"));
    let flag = format!("k={}", key(&env));
    let tree = build_tree(&env, &context, &["--ssh", &flag]);
    assert!(tree.text("listed").contains("test key"));
    let bad = env.work().join("bad");
    std::fs::write(&bad, "no key").unwrap();
    let flag = format!("k={}", bad.display());
    build_fails(&env, &context, &["--no-cache", "--ssh", &flag]).stderr_has(&["cannot use the ssh key"]);
}

#[test]
fn an_agent_that_is_needed_and_not_given_fails_the_step() {
    let env = env();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN --mount=type=ssh,required true\n");
    build_fails(&env, &context, &[]).stderr_has(&["ssh agent \"default\" not found", "--ssh default"]);
    context.dockerfile("FROM busybox\nRUN --mount=type=ssh [ ! -e /run/buildkit/ssh_agent.0 ]\n");
    build(&env, &context, &[]);
}

#[test]
fn a_device_is_there_for_its_step_alone_and_with_consent() {
    let env = env();
    let context = env.context();
    let described = env.work().join("cdi");
    std::fs::create_dir(&described).unwrap();
    let text = "cdiVersion: 0.6.0\nkind: example.com/source\ndevices:\n- name: ones\n  containerEdits:\n    \
                env: [KIND=zeros]\n    deviceNodes: [{path: /dev/own, hostPath: /dev/zero}]\n";
    std::fs::write(described.join("source.yaml"), text).unwrap();
    context.dockerfile(
        "FROM busybox\nRUN --device=example.com/source=ones head -c 3 /dev/own | od -An -tx1 > /out; echo $KIND >> /out\n\
         RUN ls /dev/own 2>/dev/null >> /out; echo ${KIND:-none} >> /out\n",
    );
    build_fails(&env, &context, &[]).stderr_has(&["--allow device", "Dockerfile:2"]);
    let directory = described.display().to_string();
    let args = ["--allow", "device", "--cdi-spec-dir", &directory];
    assert_eq!(build_tree(&env, &context, &args).text("out"), " 00 00 00\nzeros\nnone\n");
    context.dockerfile("FROM busybox\nRUN --device=example.com/source=none,required true\n");
    build_fails(&env, &context, &args).stderr_has(&["example.com/source=none", "not found"]);
}

#[test]
fn nonsense_in_mounts_is_refused_with_its_place() {
    let env = env();
    let context = env.context();
    for (mount, fragments) in [
        ("type=cache", &["a cache mount needs a target"][..]),
        ("type=bind,target=/", &["root directory"]),
        ("type=tmpfs,target=/t,size=lots", &["\"lots\" is not a size", "size=64m"]),
        ("type=tmpfs,target=/t,from=x", &["a tmpfs mount has no option \"from\""]),
        ("type=secret", &["id or a target"]),
        ("type=cahce,target=/c", &["did you mean cache"]),
        ("type=cache,target=/c,sharing=lock", &["sharing mode"]),
        ("from=later,target=/m", &["defined after"]),
    ] {
        let text = format!("FROM busybox AS main\nRUN --mount={mount} true\nFROM busybox AS later\n");
        context.dockerfile(&text);
        build_fails(&env, &context, &["--target", "main"])
            .stderr_has(fragments)
            .stderr_has(&["Dockerfile:2"]);
    }
}

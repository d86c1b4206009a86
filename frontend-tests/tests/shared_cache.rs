//! `--cache-to` and `--cache-from` with `type=records`: what one builder has made, no other makes again.

mod common;

use std::path::Path;

use common::{build, env, files_below, image_id, steps_run};
use testkit::{BuildGrid, Context, DockerRegistry, MotoServer, TestEnv};

const DOCKERFILE: &str = "FROM busybox\nCOPY one /one\nRUN cat /one > /a && echo made-one\nCOPY two /two\nRUN cat /one /two > /b\n\
                          LABEL done=yes\n";

/// A cache that builders share, with what is typed to write to it and to read from it.
struct Shared {
    to: String,
    from: String,
}

impl Shared {
    fn directory(path: &Path) -> Self {
        let path = path.display();
        Self { to: format!("type=records,dest={path}"), from: format!("type=records,src={path}") }
    }

    fn repository(reference: &str) -> Self {
        let text = format!("type=records,ref={reference}");
        Self { to: text.clone(), from: text }
    }

    fn bucket(server: &MotoServer) -> Self {
        let url = server.url();
        let text = format!(
            "type=records,s3=cache,endpoint_url={url},use_path_style=true,prefix=team/,access_key_id=id,secret_access_key=secret"
        );
        Self { to: text.clone(), from: text }
    }

    fn cluster(server: &BuildGrid) -> Self {
        let text = format!("type=reapi,endpoint={},instance=team", server.url());
        Self { to: text.clone(), from: text }
    }

    fn write(&self) -> [&str; 4] {
        ["--cache-to", &self.to, "-t", "x"]
    }

    fn read(&self) -> [&str; 4] {
        ["--cache-from", &self.from, "-t", "x"]
    }

    fn both(&self) -> [&str; 6] {
        ["--cache-from", &self.from, "--cache-to", &self.to, "-t", "x"]
    }
}

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.file("one", "1").file("two", "2").dockerfile(DOCKERFILE);
    context
}

/// The output of `lap run x cat FILES`.
fn cat(env: &TestEnv, files: &[&str]) -> String {
    env.lap(["run", "--rm", "x", "cat"]).args(files).ok().stdout_text()
}

/// One builder writes, another begins with nothing, and a third one has changed its last step.
fn is_shared(shared: &Shared) {
    let (first, second, third) = (env(), env(), env());
    let made = build(&first, &context(&first), &shared.write());
    assert_eq!(steps_run(&made).len(), 4);

    let found = build(&second, &context(&second), &shared.read());
    assert_eq!(steps_run(&found), Vec::<String>::new(), "written by {made}\nread by {found}");
    assert_eq!(image_id(&second, "x"), image_id(&first, "x"));
    assert_eq!(cat(&second, &["/a", "/b"]), "112");
    // From now on it is in the second one's own store.
    assert_eq!(steps_run(&build(&second, &context(&second), &["-t", "x"])), Vec::<String>::new());

    let changed = context(&third);
    changed.file("two", "3");
    let changed = build(&third, &changed, &shared.read());
    assert_eq!(steps_run(&changed), ["[4/5] COPY two /two", "[5/5] RUN cat /one /two > /b"]);
    assert_eq!(cat(&third, &["/a", "/b"]), "113");
}

#[test]
fn a_directory_is_shared() {
    let directory = tempfile::tempdir().unwrap();
    is_shared(&Shared::directory(&directory.path().join("not/there/yet")));
}

#[test]
fn a_repository_is_shared() {
    let Some(registry) = DockerRegistry::start() else { return };
    is_shared(&Shared::repository(&registry.reference("team/cache")));
}

#[test]
fn a_bucket_is_shared() {
    let Some(server) = MotoServer::start() else { return };
    is_shared(&Shared::bucket(&server));
    let (_, listing) = server.request("GET", "/cache?list-type=2");
    for part in ["team/records/v1/", "team/blobs/sha256:", "team/notes/v1/"] {
        assert!(listing.contains(part), "{part} is not in {listing}");
    }
}

#[test]
fn a_cluster_is_shared() {
    let Some(server) = BuildGrid::start() else { return };
    let shared = Shared::cluster(&server);
    is_shared(&shared);
    is_explained(&shared);
}

#[test]
fn a_cluster_with_a_certificate_of_its_own_is_shared_with_who_knows_its_authority() {
    let directory = tempfile::tempdir().unwrap();
    let Some(certificate) = testkit::certificates::self_signed(directory.path(), "cluster") else { return };
    let Some(server) = BuildGrid::start_with(Some(&certificate)) else { return };
    let endpoint = format!("type=reapi,endpoint={},instance=team", server.url());
    let known = format!("{endpoint},ca={},token=t,header=x-account: 7", certificate.file.display());
    is_shared(&Shared { to: known.clone(), from: known });
    let env = env();
    for (cache, words) in [
        (endpoint.clone(), "no connection"),
        (format!("{endpoint},ca={}", certificate.key.display()), "cannot read certificates from"),
        (format!("{endpoint},ca=/none"), "cannot read certificates from /none"),
        (format!("{endpoint},header=te: x"), "\"te\" cannot be sent as a header"),
    ] {
        let output = build(&env, &context(&env), &["--cache-to", &cache]);
        output.stderr_has(&["nothing more is written to the shared cache", words]);
    }
}

#[test]
fn what_was_in_the_store_before_is_shared_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let shared = Shared::directory(directory.path());
    let (first, second) = (env(), env());
    build(&first, &context(&first), &[]);
    for _ in 0..2 {
        assert_eq!(steps_run(&build(&first, &context(&first), &shared.write())), Vec::<String>::new());
    }
    assert_eq!(steps_run(&build(&second, &context(&second), &shared.read())), Vec::<String>::new());
}

#[test]
fn what_two_write_at_once_is_all_there() {
    let directory = tempfile::tempdir().unwrap();
    let shared = Shared::directory(directory.path());
    let (first, second, third) = (env(), env(), env());
    let other = context(&second);
    other.file("two", "other");
    std::thread::scope(|scope| {
        let _first = scope.spawn(|| build(&first, &context(&first), &shared.both()));
        build(&second, &other, &shared.both());
    });
    for context in [&context(&third), &other] {
        assert_eq!(steps_run(&build(&third, context, &shared.read())), Vec::<String>::new());
    }
}

#[test]
fn a_blob_that_is_gone_or_damaged_is_a_miss_and_is_healed() {
    for (damage, flags) in [("gone", &[][..]), ("damaged", &[]), ("damaged", &["--keep-going"])] {
        let directory = tempfile::tempdir().unwrap();
        let shared = Shared::directory(directory.path());
        let (first, second, third) = (env(), env(), env());
        build(&first, &context(&first), &shared.write());
        for blob in files_below(&directory.path().join("blobs")) {
            if damage == "gone" { std::fs::remove_file(blob) } else { std::fs::write(blob, "damaged") }
                .unwrap();
        }
        let alone = build(&second, &context(&second), &[&shared.both()[..], flags].concat());
        alone.stderr_has(&["a result in a shared cache is not whole", "blob sha256:", "made-one"]);
        assert_eq!(cat(&second, &["/a", "/b"]), "112");
        assert_eq!(
            steps_run(&build(&third, &context(&third), &shared.read())),
            Vec::<String>::new(),
            "{damage}"
        );
    }
}

#[test]
fn records_that_cannot_be_read_are_misses() {
    let directory = tempfile::tempdir().unwrap();
    let shared = Shared::directory(directory.path());
    let first = env();
    build(&first, &context(&first), &shared.write());
    let records = files_below(&directory.path().join("records"));
    assert!(records.len() >= 4);
    let whole = std::fs::read_to_string(&records[0]).unwrap();
    let newer = whole.replace("\"version\":1", "\"version\":9");
    assert_ne!(newer, whole);
    for content in ["", "no json", "{}", &whole[..whole.len() / 2], &newer, &"[".repeat(100_000)] {
        for record in &records {
            std::fs::write(record, content).unwrap();
        }
        let other = env();
        assert_eq!(steps_run(&build(&other, &context(&other), &shared.read())).len(), 4);
    }
}

#[test]
fn a_cache_that_cannot_be_reached_costs_a_warning() {
    let env = env();
    let nobody = testkit::FaultyRegistry::refused_address();
    let shared = Shared::repository(&format!("{nobody}/cache"));
    let output = build(&env, &context(&env), &shared.both());
    assert_eq!(steps_run(&output).len(), 4);
    output.stderr_has(&["the shared cache", "is not used", "nothing more is written to the shared cache"]);
    let bucket = format!("type=records,s3=cache,endpoint_url=http://{nobody},use_path_style=true");
    let output = build(&env, &context(&env), &["--cache-to", &bucket]);
    output.stderr_has(&["nothing more is written to the shared cache s3://cache/ at http://127.0.0.1:"]);
    let cluster = format!("type=reapi,endpoint=grpc://{nobody}");
    let output = build(&env, &context(&env), &["--cache-to", &cluster]);
    output.stderr_has(&["nothing more is written to the shared cache grpc://127.0.0.1:", "no connection"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let shared = Shared::directory(&file.path().join("below-a-file"));
    let changed = context(&env);
    changed.file("one", "changed");
    let output = build(&env, &changed, &shared.both());
    assert_eq!(steps_run(&output).len(), 4);
    output.stderr_has(&["nothing more is written to the shared cache"]);
}

/// A builder that has never seen the project says how it differs from what another one has built.
fn is_explained(shared: &Shared) {
    let (first, second) = (env(), env());
    // Checkouts have the last part of their path in common.
    let checkout = |env: &TestEnv| {
        let context = env.context();
        let path = context.path().join("checkout");
        std::fs::create_dir(&path).unwrap();
        for (name, content) in [("one", "1"), ("two", "2"), ("Dockerfile", DOCKERFILE)] {
            std::fs::write(path.join(name), content).unwrap();
        }
        (context, path)
    };
    let build = |env: &TestEnv, path: &Path, args: &[&str]| {
        env.lap(["build", "--progress", "plain"]).args(args).arg(path).ok()
    };
    let (_kept, path) = checkout(&first);
    build(&first, &path, &shared.write());
    let (_kept, path) = checkout(&second);
    std::fs::write(path.join("two"), "changed").unwrap();
    let output = build(&second, &path, &shared.read());
    assert_eq!(steps_run(&output), ["[4/5] COPY two /two", "[5/5] RUN cat /one /two > /b"]);
    output.stderr_has(&["not cached: two changed"]);
    let why = second.lap(["why"]).ok();
    why.stdout_has(&["[4/5] COPY two /two\n", "    two changed\n    compared with build "]);
}

#[test]
fn reasons_are_found_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    is_explained(&Shared::directory(directory.path()));
}

#[test]
fn reasons_are_found_in_a_bucket() {
    let Some(server) = MotoServer::start() else { return };
    is_explained(&Shared::bucket(&server));
}

#[test]
fn reasons_are_found_in_a_repository() {
    let Some(registry) = DockerRegistry::start() else { return };
    is_explained(&Shared::repository(&registry.reference("team/cache")));
}

#[test]
fn a_builder_that_cannot_give_files_their_owners_tells_nobody() {
    let Some(user) = testkit::OrdinaryUser::new(testkit::Ranges::None) else { return };
    user.load(&testkit::images::busybox());
    let context = Context::create(&user.work());
    context.dockerfile("FROM busybox\nRUN echo x > /x\n");
    let cache = user.work().join("cache");
    let to = format!("type=records,dest={}", cache.display());
    let build = user.lap(["build", "--progress", "plain", "--cache-to", &to]).arg(context.path()).ok();
    build.stderr_has(&["results are not shared with other builders: here are no users other than root"]);
    assert!(!cache.exists());
}

#[test]
fn no_cache_reads_nothing_and_writes_all() {
    let directory = tempfile::tempdir().unwrap();
    let shared = Shared::directory(directory.path());
    let (first, second) = (env(), env());
    build(&first, &context(&first), &shared.write());
    let again = build(&second, &context(&second), &[&shared.both()[..], &["--no-cache"]].concat());
    assert_eq!(steps_run(&again).len(), 4);
    build(&second, &context(&second), &shared.read());
}

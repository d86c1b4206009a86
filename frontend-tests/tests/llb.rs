//! Graphs of operations (LLB) as clients of BuildKit's API send them: each kind of operation, and what is wrong with some.

mod common;
#[path = "common/grpc/mod.rs"]
mod grpc;

use std::io::Read as _;

use common::daemon::Daemon;
use common::env;
use grpc::control::SolveRequest;
use grpc::frontend::{self, ReadDirRequest, ReadFileRequest, ReturnRequest};
use grpc::llb::{Llb, State, action, copy, mkfile, mount, shell};
use grpc::{Asked, Client, Offer, OpenSession, exporter, pb, unique};
use pb::file_action::Action;
use testkit::TestEnv;
use tonic::{Code, Status};

/// Files of a result, by their paths without a slash at the beginning. Directories end with one.
struct Files(Vec<(String, tar::Header, Vec<u8>)>);

impl Files {
    fn of(archive: &[u8]) -> Self {
        let mut archive = tar::Archive::new(archive);
        let file = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path.trim_start_matches("./").to_owned(), entry.header().clone(), content)
        };
        Self(archive.entries().unwrap().map(file).collect())
    }

    fn names(&self) -> Vec<&str> {
        let names = self.0.iter().map(|(path, ..)| path.trim_end_matches('/'));
        let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names
    }

    fn header(&self, path: &str) -> &tar::Header {
        let found = self.0.iter().find(|(name, ..)| name.trim_end_matches('/') == path);
        &found.unwrap_or_else(|| panic!("{path} is not among {:?}", self.names())).1
    }

    fn text(&self, path: &str) -> String {
        let found = self.0.iter().find(|(name, ..)| name == path);
        let (_, _, content) = found.unwrap_or_else(|| panic!("{path} is not among {:?}", self.names()));
        String::from_utf8_lossy(content).into_owned()
    }
}

/// A daemon, a client, and its session.
struct Builder<'a> {
    session: OpenSession,
    client: Client,
    _daemon: Daemon<'a>,
}

impl<'a> Builder<'a> {
    fn new(env: &'a TestEnv, offer: &Offer) -> Self {
        Self::with(env, offer, &[])
    }

    fn with(env: &'a TestEnv, offer: &Offer, args: &[&str]) -> Self {
        let daemon = Daemon::start_with(env, args);
        let client = Client::of(&daemon);
        let session = client.session(offer);
        Self { _daemon: daemon, client, session }
    }

    fn request(&self, llb: &Llb, result: &State) -> SolveRequest {
        SolveRequest {
            r#ref: unique("llb"),
            session: self.session.id().to_owned(),
            definition: Some(llb.definition(result)),
            ..SolveRequest::default()
        }
    }

    /// Builds, and gives the files of the result.
    fn files(&self, llb: &Llb, result: &State) -> Result<Files, Status> {
        let before = self.session.received().len();
        let exporters = vec![exporter("tar", &[])];
        self.client.solve(SolveRequest { exporters, ..self.request(llb, result) })?;
        let received = self.session.received();
        assert_eq!(received.len(), before + 1);
        Ok(Files::of(&received[before]))
    }

    fn fails(&self, llb: &Llb, result: &State) -> String {
        match self.client.solve(self.request(llb, result)) {
            Ok(_) => panic!("it is built"),
            Err(status) => status.message().to_owned(),
        }
    }

    /// The names of the vertices that had to run, in the order in which they were said.
    fn ran(&self, llb: &Llb, result: &State) -> Vec<String> {
        let request = self.request(llb, result);
        let id = request.r#ref.clone();
        self.client.solve(request).unwrap();
        let vertices = self.client.status(&id).unwrap().vertices;
        let ran = vertices.into_iter().filter(|vertex| !vertex.cached).map(|vertex| vertex.name);
        ran.filter(|name| !name.starts_with("[internal]")).collect()
    }
}

fn busybox(llb: &mut Llb) -> State {
    llb.source("docker-image://docker.io/library/busybox:latest", &[])
}

#[test]
fn a_process_leaves_several_filesystems() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let base = busybox(&mut llb);
    let data = llb.files(vec![action(-1, 0, mkfile("/before", "was there"))], &[]);
    let mut exec = shell(
        "echo root > /root-file; echo out > /out/file; cp /data/before /data/after; echo no > /lost/file",
    );
    exec.mounts.extend([mount("/out", -1, 1), mount("/data", 1, 2), mount("/lost", 1, -1)]);
    let made = llb.exec(exec, &[&base, &data]);
    let out = builder.files(&llb, &made.output(1)).unwrap();
    assert_eq!((out.names(), out.text("file")), (vec!["file"], "out\n".to_owned()));
    let data = builder.files(&llb, &made.output(2)).unwrap();
    assert_eq!(data.names(), ["after", "before"]);
    let root = builder.files(&llb, &made.output(0)).unwrap();
    assert!(root.names().contains(&"root-file") && !root.names().contains(&"out/file"));
    // All of them are found again, alone and together.
    assert_eq!(builder.ran(&llb, &made.output(2)), Vec::<String>::new());
    let both = llb.merge(&[&made.output(1), &made.output(2)]);
    assert_eq!(builder.files(&llb, &both).unwrap().names(), ["after", "before", "file"]);
    assert!(builder.fails(&llb, &made.output(3)).contains("uses result 3 of an operation with 3"));
}

#[test]
fn changes_to_files_are_chains_with_results_of_their_own() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let mkdir = Action::Mkdir(pb::FileActionMkDir {
        path: "/deep/dir".to_owned(),
        mode: 0o750,
        make_parents: true,
        owner: Some(pb::ChownOpt { user: by_id(7), group: by_id(8) }),
        timestamp: 1_000_000_000,
    });
    let link = Action::Symlink(pb::FileActionSymlink {
        oldpath: "../target".to_owned(),
        newpath: "/deep/link".to_owned(),
        timestamp: -1,
        ..Default::default()
    });
    let rm = |path: &str, allow_not_found: bool| {
        Action::Rm(pb::FileActionRm { path: path.to_owned(), allow_not_found, allow_wildcard: true })
    };
    let actions = vec![
        action(-1, -1, mkdir),
        action(0, 1, mkfile("/deep/dir/a", "a")),
        action(1, -1, mkfile("/deep/b", "b")),
        action(2, -1, link),
        action(3, 0, rm("/deep/dir/*", false)),
        action(4, 2, rm("/nothing", true)),
    ];
    let made = llb.files(actions, &[]);
    let whole = builder.files(&llb, &made).unwrap();
    assert_eq!(whole.names(), ["deep", "deep/b", "deep/dir", "deep/link"]);
    let dir = whole.header("deep/dir");
    assert_eq!((dir.mode().unwrap() & 0o7777, dir.uid().unwrap(), dir.gid().unwrap()), (0o750, 7, 8));
    assert_eq!(whole.header("deep/link").link_name().unwrap().unwrap().to_str(), Some("../target"));
    assert_eq!(builder.files(&llb, &made.output(1)).unwrap().names(), ["deep", "deep/dir", "deep/dir/a"]);
    assert_eq!(builder.files(&llb, &made.output(2)).unwrap().names(), whole.names());
    let strict = llb.files(vec![action(-1, 0, rm("/nothing", false))], &[]);
    let error = builder.fails(&llb, &strict);
    assert!(error.contains("cannot remove \"/nothing\": there is no such file"), "{error}");
}

fn by_id(id: u32) -> Option<pb::UserOpt> {
    Some(pb::UserOpt { user: Some(pb::user_opt::User::ById(id)) })
}

#[test]
fn copies_keep_to_what_they_are_told() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let make = |path: &str| {
        Action::Mkdir(pb::FileActionMkDir {
            path: path.to_owned(),
            mode: 0o700,
            make_parents: true,
            timestamp: 2_000_000_000,
            ..Default::default()
        })
    };
    let from = llb.files(
        vec![
            action(-1, -1, make("/d/sub")),
            action(0, -1, mkfile("/d/sub/x.c", "x")),
            action(1, -1, mkfile("/d/y.h", "y")),
            action(2, 0, mkfile("/d/z.txt", "z")),
        ],
        &[],
    );
    let mut copied = |copy: pb::FileActionCopy, onto: Option<&State>| {
        let inputs: Vec<&State> = onto.into_iter().chain([&from]).collect();
        let (input, secondary_input) = if onto.is_some() { (0, 1) } else { (-1, 0) };
        let copy = Action::Copy(copy);
        let action = pb::FileAction { input, secondary_input, output: 0, action: Some(copy) };
        let made = llb.files(vec![action], &inputs);
        builder.files(&llb, &made)
    };
    let files = copied(copy("/d", "/to"), None).unwrap();
    assert_eq!(files.names(), ["to", "to/sub", "to/sub/x.c", "to/y.h", "to/z.txt"]);
    assert_eq!(files.header("to").mode().unwrap(), 0o700);
    let contents =
        pb::FileActionCopy { dir_copy_contents: true, create_dest_path: true, ..copy("/d", "/a/b/") };
    assert_eq!(
        copied(contents, None).unwrap().names(),
        ["a", "a/b", "a/b/sub", "a/b/sub/x.c", "a/b/y.h", "a/b/z.txt"]
    );
    let chosen = pb::FileActionCopy {
        include_patterns: vec!["**/*.c".to_owned(), "*.h".to_owned()],
        dir_copy_contents: true,
        mode_str: "u=rw,go=".to_owned(),
        owner: Some(pb::ChownOpt { user: by_id(5), group: by_id(6) }),
        timestamp: 3_000_000_000,
        ..copy("/d", "/")
    };
    let files = copied(chosen, None).unwrap();
    assert_eq!(files.names(), ["sub", "sub/x.c", "y.h"]);
    let header = files.header("y.h");
    assert_eq!((header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap()), (0o600, 5, 3));
    let none = pb::FileActionCopy { allow_wildcard: true, ..copy("/*.rs", "/") };
    assert!(copied(none.clone(), None).err().unwrap().message().contains("not found"));
    assert!(
        copied(pb::FileActionCopy { allow_empty_wildcard: true, ..none }, None).unwrap().names().is_empty()
    );
    let required = pb::FileActionCopy {
        include_patterns: vec!["*.h".to_owned()],
        required_paths: vec!["missing".to_owned()],
        dir_copy_contents: true,
        ..copy("/d", "/")
    };
    assert!(copied(required, None).err().unwrap().message().contains("missing"));
}

#[test]
fn what_is_of_another_kind_is_replaced_if_that_is_said() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let dir = |path: &str| {
        Action::Mkdir(pb::FileActionMkDir {
            path: path.to_owned(),
            mode: 0o755,
            timestamp: -1,
            ..Default::default()
        })
    };
    let below = llb.files(
        vec![
            action(-1, -1, dir("/x")),
            action(0, -1, mkfile("/x/in", "")),
            action(1, 0, mkfile("/y", "file")),
        ],
        &[],
    );
    let above = llb.files(vec![action(-1, -1, mkfile("/x", "now a file")), action(0, 0, dir("/y"))], &[]);
    let mut laid = |replace: bool| {
        let copy = pb::FileActionCopy {
            dir_copy_contents: true,
            always_replace_existing_dest_paths: replace,
            ..copy("/", "/")
        };
        let action =
            pb::FileAction { input: 0, secondary_input: 1, output: 0, action: Some(Action::Copy(copy)) };
        let made = llb.files(vec![action], &[&below, &above]);
        builder.files(&llb, &made)
    };
    assert!(laid(false).is_err());
    let files = laid(true).unwrap();
    assert_eq!((files.names(), files.text("x")), (vec!["x", "y"], "now a file".to_owned()));
}

#[test]
fn differences_and_merges_undo_each_other() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let base = llb.files(vec![action(-1, -1, mkfile("/a", "a")), action(0, 0, mkfile("/b", "b"))], &[]);
    let rm = Action::Rm(pb::FileActionRm { path: "/a".to_owned(), ..Default::default() });
    let changed = llb.files(vec![action(0, -1, rm), action(1, 0, mkfile("/c", "c"))], &[&base]);
    let diff = llb.diff(&base, &changed);
    assert_eq!(builder.files(&llb, &diff).unwrap().names(), ["c"]);
    let other = llb.files(vec![action(-1, -1, mkfile("/a", "other")), action(0, 0, mkfile("/d", "d"))], &[]);
    let merged = llb.merge(&[&other, &diff]);
    assert_eq!(builder.files(&llb, &merged).unwrap().names(), ["c", "d"]);
    // Of filesystems that have nothing in common, files are compared.
    let unrelated = llb.diff(&other, &base);
    assert_eq!(builder.files(&llb, &unrelated).unwrap().text("a"), "a");
    let back = llb.merge(&[&other, &unrelated]);
    assert_eq!(builder.files(&llb, &back).unwrap().names(), ["a", "b"]);
}

#[test]
fn processes_see_what_they_are_given() {
    let env = env();
    let offer = Offer::new().secret("word", b"hidden");
    let builder = Builder::new(&env, &offer);
    let mut llb = Llb::default();
    let base = busybox(&mut llb);
    let command = "grep -q '10.1.2.3.*friend' /etc/hosts && hostname > /out/host && ulimit -n > /out/files \
                   && cat /run/word > /out/word && echo $WORD > /out/env && echo $PATH > /out/path && pwd > /out/pwd \
                   && echo $http_proxy > /out/proxy && ! touch /no 2>/dev/null && df /tmp > /out/df; exit 7";
    let mut exec = shell(command);
    let meta = exec.meta.as_mut().unwrap();
    meta.extra_hosts = vec![pb::HostIp { host: "friend".to_owned(), ip: "10.1.2.3".to_owned() }];
    meta.hostname = "named".to_owned();
    meta.ulimit = vec![pb::Ulimit { name: "nofile".to_owned(), soft: 99, hard: 100 }];
    meta.valid_exit_codes = vec![7];
    meta.cwd = "/etc".to_owned();
    meta.proxy_env = Some(pb::ProxyEnv { http_proxy: "http://proxy".to_owned(), ..Default::default() });
    exec.mounts[0].readonly = true;
    exec.mounts[0].output = -1;
    let kind = |kind: pb::MountType, dest: &str| pb::Mount { mount_type: kind.into(), ..mount(dest, -1, -1) };
    let secret = pb::SecretOpt { id: "word".to_owned(), mode: 0o400, ..Default::default() };
    exec.mounts.extend([
        mount("/out", -1, 0),
        pb::Mount { secret_opt: Some(secret), ..kind(pb::MountType::Secret, "/run/word") },
        pb::Mount { tmpfs_opt: Some(pb::TmpfsOpt { size: 1 << 20 }), ..kind(pb::MountType::Tmpfs, "/tmp") },
    ]);
    let secret = pb::SecretEnv { id: "word".to_owned(), name: "WORD".to_owned(), optional: false };
    exec.secretenv.push(secret);
    let made = llb.exec(exec, &[&base]);
    let files = builder.files(&llb, &made).unwrap();
    let line = |name: &str| files.text(name).trim().to_owned();
    assert_eq!([line("host"), line("files"), line("word"), line("env")], ["named", "99", "hidden", "hidden"]);
    assert!(line("path").contains("/usr/bin") && line("df").contains("1024"), "{}", files.text("df"));
    assert_eq!((line("pwd"), line("proxy")), ("/etc".to_owned(), "http://proxy".to_owned()));
}

#[test]
fn caches_are_shared_and_inputs_selected() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let base = busybox(&mut llb);
    let data = llb.files(vec![action(-1, 0, mkfile("/only", "selected"))], &[]);
    let mut step = |command: &str| {
        let mut exec = shell(command);
        let cache = pb::CacheOpt { id: "c".to_owned(), sharing: pb::CacheSharingOpt::Locked.into() };
        let kind = pb::MountType::Cache.into();
        exec.mounts.push(pb::Mount { mount_type: kind, cache_opt: Some(cache), ..mount("/cache", -1, -1) });
        let selected = pb::Mount { selector: "/only".to_owned(), readonly: true, ..mount("/file", 1, -1) };
        exec.mounts.push(selected);
        exec.mounts.push(mount("/out", -1, 1));
        let made = llb.exec(exec, &[&base, &data]);
        builder.files(&llb, &made.output(1)).unwrap()
    };
    step("cat /file > /cache/kept");
    assert_eq!(step("cp /cache/kept /out/found").text("found"), "selected");
}

#[test]
fn directories_of_the_client_come_as_they_are_asked_for() {
    let env = env();
    let context = env.context();
    context.file("src/a.c", "a").file("src/b.h", "b").file("docs/x", "x").file(".dockerignore", "src\n");
    let builder = Builder::new(&env, &Offer::new().directory("src", context.path()));
    let mut llb = Llb::default();
    let all = llb.source("local://src", &[]);
    assert_eq!(
        builder.files(&llb, &all).unwrap().names(),
        [".dockerignore", "docs", "docs/x", "src", "src/a.c", "src/b.h"]
    );
    let some = llb.source(
        "local://src",
        &[("local.includepattern", r#"["src"]"#), ("local.excludepatterns", r#"["**/*.h"]"#)],
    );
    builder.files(&llb, &some).unwrap();
    let asked = builder.session.asked();
    assert_eq!(asked[0], Asked { name: "src".to_owned(), ..Asked::default() });
    assert_eq!((&asked[1].include, &asked[1].exclude), (&vec!["src".to_owned()], &vec!["**/*.h".to_owned()]));
    let base = busybox(&mut llb);
    let mut exec = shell("cat /in/src/a.c /in/docs/x > /both");
    exec.mounts.push(pb::Mount { readonly: true, ..mount("/in", 1, -1) });
    let read = llb.exec(exec, &[&base, &all]);
    assert_eq!(builder.files(&llb, &read).unwrap().text("both"), "ax");
    let wrong = llb.source("local://src", &[("local.includepattern", "src")]);
    assert!(builder.fails(&llb, &wrong).contains("local.includepattern is not a JSON list"));
    let missing = llb.source("local://nothing", &[]);
    assert!(builder.fails(&llb, &missing).contains("nothing"));
}

#[test]
fn rights_need_both_sides_and_names_are_known() {
    let env = env();
    let builder = Builder::with(&env, &Offer::new(), &["--allow-insecure-entitlement", "network.host"]);
    let mut llb = Llb::default();
    let base = busybox(&mut llb);
    let host = pb::ExecOp { network: pb::NetMode::Host.into(), ..shell("true") };
    let host = llb.exec(host, &[&base]);
    assert!(builder.fails(&llb, &host).contains("needs the entitlement network.host, which was not given"));
    let allowed = vec!["network.host".to_owned()];
    builder.client.solve(SolveRequest { entitlements: allowed, ..builder.request(&llb, &host) }).unwrap();
    let insecure = pb::ExecOp { security: pb::SecurityMode::Insecure.into(), ..shell("true") };
    let insecure = llb.exec(insecure, &[&base]);
    let asked = SolveRequest {
        entitlements: vec!["security.insecure".to_owned()],
        ..builder.request(&llb, &insecure)
    };
    assert_eq!(builder.client.solve(asked).unwrap_err().code(), Code::PermissionDenied);
    let caps = [("exec.meta.from.the.future".to_owned(), true)].into();
    let metadata = pb::OpMetadata { caps, ..Default::default() };
    let future = llb.add_with(pb::op::Op::Exec(shell("echo")), &[&base], metadata);
    assert!(builder.fails(&llb, &future).contains("the capability exec.meta.from.the.future"));
    let scheme = llb.source("from-the-future://x", &[]);
    assert!(builder.fails(&llb, &scheme).contains("sources of the scheme from-the-future"));
}

#[test]
fn what_is_no_graph_is_refused_and_disturbs_nobody() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let good = {
        let mut llb = Llb::default();
        let made = llb.files(vec![action(-1, 0, mkfile("/a", "a"))], &[]);
        llb.definition(&made)
    };
    let refused = |definition: pb::Definition| {
        let request = SolveRequest {
            r#ref: unique("bad"),
            session: builder.session.id().to_owned(),
            definition: Some(definition),
            ..SolveRequest::default()
        };
        builder.client.solve(request).unwrap_err().message().to_owned()
    };
    let with = |def: Vec<Vec<u8>>| pb::Definition { def, ..good.clone() };
    assert!(refused(with(vec![vec![0xff; 20]])).contains("cannot be decoded"));
    // The result is of an operation that is not there: its digest is another's.
    let mut other = good.def.clone();
    other[0].extend([0x52, 0]);
    assert!(refused(with(other)).contains("which is not in the definition"));
    let mut llb = Llb::default();
    let missing = State { digest: base::Digest::of(b"x").to_string(), index: 0 };
    let lost = llb.run(&missing, "true");
    assert!(refused(llb.definition(&lost)).contains("which is not in the definition"));
    let none = llb.exec(pb::ExecOp { mounts: vec![mount("/", -1, 0)], ..Default::default() }, &[]);
    let error = refused(llb.definition(&none));
    assert!(error.contains("it has no command"), "{error}");
    let later = llb.files(vec![action(5, 0, mkfile("/a", ""))], &[]);
    assert!(refused(llb.definition(&later)).contains("which is no earlier one"));
    let many = vec![good.def[0].clone(); 100_001];
    assert!(refused(with(many)).contains("at most 100000"));
    assert!(builder.client.is_serving());
}

#[test]
fn a_long_chain_is_built_and_found_again() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let mut last = llb.files(vec![action(-1, 0, mkfile("/0", "0"))], &[]);
    // What is wide and deep: each layer is a merge over the one before in the end.
    let mut layers = vec![last.clone()];
    for number in 1..10_000 {
        last = llb.files(vec![action(0, 0, mkfile("/file", &number.to_string()))], &[&last]);
        if number % 2_000 == 0 {
            layers.push(last.clone());
        }
    }
    let request = builder.request(&llb, &layers[0]);
    // The whole definition is read; what the result does not need is left alone.
    builder.client.solve(request).unwrap();
    let wide: Vec<State> = (0..10_000)
        .map(|number| llb.files(vec![action(-1, 0, mkfile(&format!("/{number}"), ""))], &[]))
        .collect();
    let some: Vec<&State> = wide.iter().take(50).collect();
    let merged = llb.merge(&some);
    assert_eq!(builder.files(&llb, &merged).unwrap().names().len(), 50);
    assert_eq!(builder.ran(&llb, &merged), Vec::<String>::new());
}

#[test]
fn a_client_builds_one_graph_on_the_result_of_another() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let id = unique("build");
    let session = builder.session.id().to_owned();
    let request = SolveRequest { r#ref: id.clone(), session, ..SolveRequest::default() };
    let exporters = vec![exporter("oci", &[("name", "made:latest")])];
    let build = builder.client.begin(SolveRequest { exporters, ..request });
    let mut gateway = builder.client.gateway(&id);
    // What an image is, before it is used.
    let resolve = frontend::ResolveImageConfigRequest { r#ref: "busybox".to_owned(), ..Default::default() };
    let image = builder.client.wait(gateway.resolve_image_config(resolve)).unwrap();
    assert!(image.digest.starts_with("sha256:") && image.r#ref.ends_with(&image.digest), "{image:?}");
    let config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
    assert_eq!(config["os"], "linux");
    let source = pb::SourceOp { identifier: "docker-image://busybox".to_owned(), ..Default::default() };
    let meta = frontend::ResolveSourceMetaRequest { source: Some(source), ..Default::default() };
    let meta = builder.client.wait(gateway.resolve_source_meta(meta)).unwrap();
    assert_eq!(meta.image.unwrap().digest, image.digest);
    let mut llb = Llb::default();
    let base = busybox(&mut llb);
    let made = llb.run(&base, "mkdir /d && echo one > /d/1 && echo two > /d/2");
    let solve = |definition: pb::Definition| frontend::SolveRequest {
        definition: Some(definition),
        ..Default::default()
    };
    let result = builder.client.wait(gateway.solve(solve(llb.definition(&made)))).unwrap().result.unwrap();
    let Some(frontend::result::Result::Ref(root)) = result.result else { panic!("{result:?}") };
    let list = ReadDirRequest { dir_path: "/d".to_owned(), r#ref: root.id.clone(), ..Default::default() };
    let list = builder.client.wait(gateway.read_dir(list)).unwrap();
    assert_eq!(list.entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    let more = llb.run(&made, "cat /d/1 /d/2 > /d/3");
    let result = builder.client.wait(gateway.solve(solve(llb.definition(&more)))).unwrap().result.unwrap();
    let Some(frontend::result::Result::Ref(root)) = result.result.clone() else { panic!("{result:?}") };
    let read = ReadFileRequest { r#ref: root.id, file_path: "/d/3".to_owned(), ..Default::default() };
    assert_eq!(builder.client.wait(gateway.read_file(read)).unwrap().data, b"one\ntwo\n");
    let config =
        br#"{"os":"linux","architecture":"amd64","config":{"Cmd":["cat","/d/3"],"Labels":{"made":"so"}}}"#;
    let metadata = [("containerimage.config".to_owned(), config.to_vec())].into();
    let result = frontend::Result { metadata, ..result };
    builder.client.wait(gateway.r#return(ReturnRequest { result: Some(result), error: None })).unwrap();
    let response = builder.client.outcome(build).unwrap();
    assert!(response.contains_key("containerimage.digest"), "{response:?}");
    let archive = builder.session.received().pop().unwrap();
    let path = env.work().join("made.tar");
    std::fs::write(&path, archive).unwrap();
    env.lap(["load", "-i"]).arg(&path).ok();
    assert_eq!(env.lap(["run", "--rm", "made:latest"]).ok().stdout_text(), "one\ntwo\n");
}

#[test]
fn a_failed_operation_is_shown_in_the_text_it_came_from() {
    let env = env();
    let builder = Builder::new(&env, &Offer::new());
    let mut llb = Llb::default();
    let base = busybox(&mut llb);
    let failing = llb.run(&base, "echo before; exit 3");
    let text = b"steps:\n  - fail with 3\n".to_vec();
    let position = |line: i32, character: i32| Some(pb::Position { line, character });
    let range = pb::Range { start: position(2, 4), end: position(2, 10) };
    let location = pb::Location { source_index: 0, ranges: vec![range] };
    let locations = [(failing.digest.clone(), pb::Locations { locations: vec![location] })].into();
    let info = pb::SourceInfo {
        filename: "steps.yaml".to_owned(),
        data: text,
        language: "YAML".to_owned(),
        ..Default::default()
    };
    llb.source = Some(pb::Source { locations, infos: vec![info] });
    let error = builder.client.solve(builder.request(&llb, &failing)).unwrap_err();
    assert!(error.message().contains("exit code: 3"), "{}", error.message());
    let details = grpc::details(&error);
    let source = details.iter().find(|(kind, _)| kind.contains("errdefs.Source")).unwrap();
    assert_eq!(source.1["info"]["filename"], "steps.yaml");
    assert_eq!(source.1["ranges"][0]["start"]["line"], 2);
}

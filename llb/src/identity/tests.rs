//! What is in a key and what is not.

use std::collections::HashMap;

use base::{Digest, Platform};

use super::*;
use crate::aspects;
use crate::op::{ImageSource, LocalSource};

fn exec() -> ExecOp {
    ExecOp::new(vec!["true".to_owned()])
}

fn execs() -> Vec<Op> {
    let text = |text: &str| text.to_owned();
    let file = ScriptFile { path: text("/s"), mode: 0o755, content: b"x".to_vec() };
    let variants = [
        exec(),
        ExecOp { args: vec![text("true"), String::new()], ..exec() },
        ExecOp { env: vec![text("A=1"), text("B=2")], ..exec() },
        ExecOp { env: vec![text("B=2"), text("A=1")], ..exec() },
        ExecOp { cwd: text("/tmp"), ..exec() },
        ExecOp { user: text("0"), ..exec() },
        ExecOp { network: NetworkMode::None, ..exec() },
        ExecOp { network: NetworkMode::Host, ..exec() },
        ExecOp { files: vec![file.clone()], ..exec() },
        ExecOp { files: vec![ScriptFile { mode: 0o644, ..file.clone() }], ..exec() },
        ExecOp { files: vec![ScriptFile { content: b"y".to_vec(), ..file.clone() }], ..exec() },
        ExecOp { files: vec![ScriptFile { path: text("/t"), ..file }], ..exec() },
        ExecOp { has_root: true, ..exec() },
        ExecOp { security: SecurityMode::Insecure, ..exec() },
        ExecOp { hostname: Some(text("h")), ..exec() },
        ExecOp { devices: vec![DeviceRequest { name: text("v/c=d"), required: false }], ..exec() },
        ExecOp { devices: vec![DeviceRequest { name: text("v/c=d"), required: true }], ..exec() },
        ExecOp { read_only_root: true, ..exec() },
        ExecOp { hosts: vec![(text("a"), [1, 2, 3, 4].into())], ..exec() },
        ExecOp { hosts: vec![(text("a"), [1, 2, 3, 5].into())], ..exec() },
        ExecOp { rlimits: vec![Rlimit { name: text("nofile"), soft: 1, hard: 2 }], ..exec() },
        ExecOp { rlimits: vec![Rlimit { name: text("nofile"), soft: 1, hard: -1 }], ..exec() },
        ExecOp { exit_codes: vec![0], ..exec() },
        ExecOp { exit_codes: vec![0, 3], ..exec() },
    ];
    let mounts = mounts().into_iter().map(|mount| ExecOp { mounts: vec![mount], ..exec() });
    variants.into_iter().chain(mounts).map(Op::Exec).collect()
}

fn mount(kind: MountKind) -> ExecMount {
    ExecMount { target: "/m".to_owned(), kind }
}

fn cache() -> CacheMount {
    CacheMount {
        id: "i".to_owned(),
        input: None,
        source: "/".to_owned(),
        sharing: Sharing::Shared,
        read_only: false,
        mode: 0o755,
        uid: 0,
        gid: 0,
    }
}

fn mounts() -> Vec<ExecMount> {
    let text = |text: &str| text.to_owned();
    let bind = BindMount { input: None, source: text("/"), writable: false, kept: false };
    let secret =
        SecretMount { id: text("i"), as_file: true, env: None, required: false, mode: 0o400, uid: 0, gid: 0 };
    let ssh = SshMount { id: text("i"), required: false, mode: 0o600, uid: 0, gid: 0 };
    let kinds = [
        MountKind::Bind(bind.clone()),
        MountKind::Bind(BindMount { input: Some(0), ..bind.clone() }),
        MountKind::Bind(BindMount { source: text("/s"), ..bind.clone() }),
        MountKind::Bind(BindMount { writable: true, ..bind.clone() }),
        MountKind::Bind(BindMount { writable: true, kept: true, ..bind }),
        MountKind::Cache(cache()),
        MountKind::Cache(CacheMount { input: Some(0), ..cache() }),
        MountKind::Cache(CacheMount { source: text("/s"), ..cache() }),
        MountKind::Cache(CacheMount { sharing: Sharing::Private, ..cache() }),
        MountKind::Cache(CacheMount { sharing: Sharing::Locked, ..cache() }),
        MountKind::Cache(CacheMount { read_only: true, ..cache() }),
        MountKind::Cache(CacheMount { mode: 0o700, ..cache() }),
        MountKind::Cache(CacheMount { uid: 1, ..cache() }),
        MountKind::Cache(CacheMount { gid: 1, ..cache() }),
        MountKind::Tmpfs(TmpfsMount { size: None }),
        MountKind::Tmpfs(TmpfsMount { size: Some(1) }),
        MountKind::Secret(secret.clone()),
        MountKind::Secret(SecretMount { id: text("j"), ..secret.clone() }),
        MountKind::Secret(SecretMount { as_file: false, ..secret.clone() }),
        MountKind::Secret(SecretMount { env: Some(text("E")), ..secret.clone() }),
        MountKind::Secret(SecretMount { required: true, ..secret.clone() }),
        MountKind::Secret(SecretMount { mode: 0o440, ..secret.clone() }),
        MountKind::Secret(SecretMount { uid: 1, ..secret.clone() }),
        MountKind::Secret(SecretMount { gid: 1, ..secret }),
        MountKind::Ssh(ssh.clone()),
        MountKind::Ssh(SshMount { id: text("j"), ..ssh.clone() }),
        MountKind::Ssh(SshMount { required: true, ..ssh.clone() }),
        MountKind::Ssh(SshMount { mode: 0o660, ..ssh.clone() }),
        MountKind::Ssh(SshMount { uid: 1, ..ssh.clone() }),
        MountKind::Ssh(SshMount { gid: 1, ..ssh.clone() }),
    ];
    let elsewhere = ExecMount { target: text("/n"), kind: MountKind::Ssh(ssh) };
    kinds.into_iter().map(mount).chain([elsewhere]).collect()
}

fn copy() -> CopyAction {
    CopyAction::new(0, vec!["a".to_owned()], "/d")
}

fn files() -> Vec<Op> {
    let owner = |group| Some(Owner { user: UserName::Id(1), group });
    let named = |name: &str| Some(Owner { user: UserName::Name(name.to_owned()), group: None });
    let mkdir =
        MkdirAction { path: "/d".to_owned(), mode: 0o755, owner: None, make_parents: true, time: None };
    let rules = CopyRules::default();
    let other = |rules: CopyRules| FileAction::Copy(CopyAction { rules, ..copy() });
    let rm = RmAction { path: "/d".to_owned(), allow_missing: false, allow_wildcards: false };
    let link = SymlinkAction { path: "/d".to_owned(), target: "t".to_owned(), owner: None, time: None };
    let mkfile = MkfileAction {
        path: "/d".to_owned(),
        name: "f".to_owned(),
        mode: 0o644,
        chmod: None,
        content: b"x".to_vec(),
        owner: None,
        time: None,
    };
    let actions = [
        FileAction::Copy(copy()),
        FileAction::Copy(CopyAction { input: 1, ..copy() }),
        FileAction::Copy(CopyAction { sources: vec!["a".to_owned(), "b".to_owned()], ..copy() }),
        FileAction::Copy(CopyAction { allow_wildcards: true, ..copy() }),
        FileAction::Copy(CopyAction { destination: "/d/".to_owned(), ..copy() }),
        FileAction::Copy(CopyAction { owner: owner(None), ..copy() }),
        FileAction::Copy(CopyAction { owner: owner(Some(UserName::Id(1))), ..copy() }),
        FileAction::Copy(CopyAction { owner: named("1"), ..copy() }),
        FileAction::Copy(CopyAction { mode: Some(ChmodMode::Bits(0o644)), ..copy() }),
        FileAction::Copy(CopyAction { mode: Some(ChmodMode::Symbolic("420".to_owned())), ..copy() }),
        FileAction::Copy(CopyAction { unpack_archives: true, ..copy() }),
        FileAction::Copy(CopyAction { parents: true, ..copy() }),
        FileAction::Copy(CopyAction { excludes: vec!["x".to_owned()], ..copy() }),
        other(CopyRules { follow_links: false, ..rules.clone() }),
        other(CopyRules { allow_no_match: false, ..rules.clone() }),
        other(CopyRules { contents_only: false, ..rules.clone() }),
        other(CopyRules { make_parents: false, ..rules.clone() }),
        other(CopyRules { replace: true, ..rules.clone() }),
        other(CopyRules { includes: vec!["x".to_owned()], ..rules.clone() }),
        other(CopyRules { required: vec!["x".to_owned()], ..rules.clone() }),
        other(CopyRules { time: Some(0), ..rules.clone() }),
        other(CopyRules { time: Some(1), ..rules }),
        FileAction::Rm(rm.clone()),
        FileAction::Rm(RmAction { path: "/e".to_owned(), ..rm.clone() }),
        FileAction::Rm(RmAction { allow_missing: true, ..rm.clone() }),
        FileAction::Rm(RmAction { allow_wildcards: true, ..rm }),
        FileAction::Symlink(link.clone()),
        FileAction::Symlink(SymlinkAction { path: "/e".to_owned(), ..link.clone() }),
        FileAction::Symlink(SymlinkAction { target: "u".to_owned(), ..link.clone() }),
        FileAction::Symlink(SymlinkAction { owner: owner(None), ..link.clone() }),
        FileAction::Symlink(SymlinkAction { time: Some(1), ..link }),
        FileAction::Mkdir(mkdir.clone()),
        FileAction::Mkdir(MkdirAction { path: "/e".to_owned(), ..mkdir.clone() }),
        FileAction::Mkdir(MkdirAction { mode: 0o700, ..mkdir.clone() }),
        FileAction::Mkdir(MkdirAction { make_parents: false, ..mkdir.clone() }),
        FileAction::Mkdir(MkdirAction { time: Some(1), ..mkdir.clone() }),
        FileAction::Mkdir(MkdirAction { owner: owner(None), ..mkdir }),
        FileAction::Mkfile(mkfile.clone()),
        FileAction::Mkfile(MkfileAction { path: "/e".to_owned(), ..mkfile.clone() }),
        FileAction::Mkfile(MkfileAction { name: "g".to_owned(), ..mkfile.clone() }),
        FileAction::Mkfile(MkfileAction { mode: 0o600, ..mkfile.clone() }),
        FileAction::Mkfile(MkfileAction { chmod: Some(ChmodMode::Bits(0o644)), ..mkfile.clone() }),
        FileAction::Mkfile(MkfileAction { content: b"y".to_vec(), ..mkfile.clone() }),
        FileAction::Mkfile(MkfileAction { time: Some(1), ..mkfile.clone() }),
        FileAction::Mkfile(MkfileAction { owner: owner(None), ..mkfile }),
    ];
    let file = |action| Op::File(FileOp { has_base: false, actions: vec![action] });
    let mut all: Vec<Op> = actions.into_iter().map(file).collect();
    all.push(Op::File(FileOp { has_base: true, actions: vec![FileAction::Copy(copy())] }));
    all.push(Op::File(FileOp { has_base: false, actions: vec![FileAction::Copy(copy()); 2] }));
    all
}

fn image(reference: &str, chain: &str) -> Op {
    Op::Source(SourceOp::Image(ImageSource {
        reference: reference.to_owned(),
        manifest: Digest::of(reference.as_bytes()),
        chain_id: Digest::of(chain.as_bytes()),
        layers: None,
    }))
}

fn http(change: impl Fn(&mut HttpSource)) -> Op {
    let mut source = HttpSource {
        url: "http://a/f".to_owned(),
        digest: Digest::of(b"f"),
        filename: "f".to_owned(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: None,
    };
    change(&mut source);
    Op::Source(SourceOp::Http(source))
}

fn git(change: impl Fn(&mut GitSource)) -> Op {
    let mut source = GitSource {
        remote: "https://a/r.git".to_owned(),
        commit: "0".repeat(40),
        subdir: String::new(),
        keep_git_dir: false,
        submodules: true,
        commit_times: false,
    };
    change(&mut source);
    Op::Source(SourceOp::Git(source))
}

fn local(name: &str) -> Op {
    Op::Source(SourceOp::Local(LocalSource { name: name.to_owned() }))
}

fn host() -> Platform {
    Platform::new("linux", "amd64", "")
}

/// Operations that all differ in what decides their result.
fn different() -> Vec<Op> {
    let sources = [
        image("a", "1"),
        image("a", "2"),
        local("context"),
        local("other"),
        http(|_| {}),
        http(|file| file.digest = Digest::of(b"g")),
        http(|file| file.filename = "g".to_owned()),
        http(|file| file.mode = 0o644),
        http(|file| file.uid = 1),
        http(|file| file.gid = 1),
        http(|file| file.mtime = Some(0)),
        git(|_| {}),
        git(|commit| commit.remote = "https://b/r.git".to_owned()),
        git(|commit| commit.commit = "1".repeat(40)),
        git(|commit| commit.subdir = "s".to_owned()),
        git(|commit| commit.keep_git_dir = true),
        git(|commit| commit.submodules = false),
        git(|commit| commit.commit_times = true),
        Op::Merge,
    ];
    execs().into_iter().chain(files()).chain(sources).collect()
}

#[test]
fn everything_that_decides_the_result_is_in_the_key() {
    let all = different();
    let mut seen = HashMap::new();
    for op in &all {
        if let Some(other) = seen.insert(op_key(op, &host()), op) {
            panic!("{op:?} and {other:?} have one key");
        }
    }
    assert_eq!(seen.len(), all.len());
}

#[test]
fn the_platform_is_in_the_key() {
    let keys = [host(), Platform::new("linux", "arm64", ""), Platform::new("linux", "amd64", "v3")]
        .map(|platform| op_key(&Op::Exec(exec()), &platform));
    assert!(keys[0] != keys[1] && keys[0] != keys[2]);
}

#[test]
fn where_to_get_an_image_and_how_to_reach_the_network_are_not() {
    assert_eq!(op_key(&image("a", "1"), &host()), op_key(&image("b", "1"), &host()));
    let proxy_env = vec!["http_proxy=http://10.0.0.1".to_owned()];
    let with_proxy = Op::Exec(ExecOp { proxy_env, ..exec() });
    assert_eq!(op_key(&with_proxy, &host()), op_key(&Op::Exec(exec()), &host()));
    let moved = http(|file| file.url = "https://mirror/f".to_owned());
    assert_eq!(op_key(&moved, &host()), op_key(&http(|_| {}), &host()));
}

#[test]
fn the_name_of_a_cache_is_not() {
    let with = |id: &str| {
        let kind = MountKind::Cache(CacheMount { id: id.to_owned(), ..cache() });
        Op::Exec(ExecOp { mounts: vec![mount(kind)], ..exec() })
    };
    assert_eq!(op_key(&with("a"), &host()), op_key(&with("b"), &host()));
}

/// The names and values of an operation's aspects, without what is only shown.
fn said(op: &Op, platform: &Platform) -> Vec<(String, String)> {
    aspects(op, platform).into_iter().map(|aspect| (aspect.name, aspect.value)).collect()
}

#[test]
fn aspects_differ_where_keys_do() {
    let mut seen = HashMap::new();
    for op in different() {
        if let Some(other) = seen.insert(said(&op, &host()), op.clone()) {
            panic!("{op:?} and {other:?} have the same aspects");
        }
    }
    let arm = Platform::new("linux", "arm64", "");
    assert_ne!(said(&Op::Exec(exec()), &host()), said(&Op::Exec(exec()), &arm));
}

#[test]
fn aspects_are_equal_where_keys_are() {
    let cached = |id: &str| {
        let kind = MountKind::Cache(CacheMount { id: id.to_owned(), ..cache() });
        Op::Exec(ExecOp { mounts: vec![mount(kind)], ..exec() })
    };
    let proxy_env = vec!["http_proxy=http://10.0.0.1".to_owned()];
    let pairs = [
        (image("a", "1"), image("b", "1")),
        (http(|_| {}), http(|file| file.url = "https://mirror/f".to_owned())),
        (Op::Exec(exec()), Op::Exec(ExecOp { proxy_env, ..exec() })),
        (cached("a"), cached("b")),
    ];
    for (one, other) in pairs {
        assert_eq!(op_key(&one, &host()), op_key(&other, &host()));
        assert_eq!(said(&one, &host()), said(&other, &host()), "{one:?}");
    }
}

#[test]
fn the_way_a_source_is_written_is_in_no_key() {
    let key = |parents: bool, source: &str| {
        let copy = CopyAction { sources: vec![source.to_owned()], parents, allow_wildcards: true, ..copy() };
        let op = Op::File(FileOp { has_base: true, actions: vec![FileAction::Copy(copy)] });
        (op_key(&op, &host()), said(&op, &host()))
    };
    let copies = [
        &["f", "./f", "/f", "f/", "a/../f", "../f", ".//f/."][..],
        &[".", "/", "./", "a/..", "../.."],
        &["a/*.c", "./a//*.c", "/b/../a/*.c"],
        &["a/f", "a/./f"],
        &["*"],
    ];
    let with_parents = [
        &["a/b/f", "./a/b/f", "/./a/b/f", "a/b/f/", "a/../a/b/f", "x/.././a/b/f"][..],
        &["a/./b/f", "/a//./b/f", "a/./c/../b/f/", "a/././b/f"],
        &["a/b/./f"],
        &["a/b/./", "a/b/./."],
        &[".", "/", "/./"],
    ];
    for (parents, classes) in [(false, copies), (true, with_parents)] {
        let keys = classes.map(|class| key(parents, class[0]));
        for (class, expected) in classes.iter().zip(&keys) {
            for source in *class {
                assert_eq!(key(parents, source), *expected, "{source}, with parents: {parents}");
            }
        }
        for (index, one) in keys.iter().enumerate() {
            assert!(
                !keys[..index].iter().any(|other| other.0 == one.0 || other.1 == one.1),
                "{:?}",
                classes[index]
            );
        }
    }
}

#[test]
fn keys_are_pinned() {
    let copy = Op::File(FileOp { has_base: true, actions: vec![FileAction::Copy(copy())] });
    let keys = [Op::Exec(exec()), copy, image("a", "1")].map(|op| op_key(&op, &host()).hex());
    assert_eq!(keys, GOLDEN);
}

/// Change only together with the version in the domain.
const GOLDEN: [&str; 3] = [
    "bdc9db13a3407b2e13a8fb283aa7ea529ea7b05b672bcb07162416bdeb6a8a94",
    "3fe240c4df7eb035526a9f93770fa13b0042dce43cf0d593f702f932ae657f03",
    "6ce499a453c5443a3d0d661b56f331c05a72fb523d940912bfbd44f142733fa4",
];

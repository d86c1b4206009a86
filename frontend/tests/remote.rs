//! ADD from elsewhere, lowered: what is asked for, what the graph gets, and what is refused.

use std::cell::RefCell;

use base::{Digest, GitUrl, Platform, Reference};
use frontend::{
    HttpRequest, LowerError, Lowered, MetaResolver, Options, ResolveError, ResolvedHttp, ResolvedImage, lower,
};
use llb::{FileAction, GitSource, HttpSource, Op, SourceOp};

/// Every URL has one file, every repository one commit; what was asked for is noted.
#[derive(Default)]
struct Elsewhere {
    files: RefCell<Vec<HttpRequest>>,
    repositories: RefCell<Vec<GitUrl>>,
}

impl MetaResolver for Elsewhere {
    fn resolve(&self, reference: &Reference, _platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        Err(format!("no image {reference}").into())
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        if request.url.ends_with("/missing") {
            return Err("the server answered 404".into());
        }
        self.files.borrow_mut().push(request.clone());
        let digest = Digest::of(request.url.as_bytes());
        Ok(ResolvedHttp { digest, filename: "a[1].tar".to_owned(), last_modified: Some(7) })
    }

    fn git(&self, url: &GitUrl) -> Result<String, ResolveError> {
        self.repositories.borrow_mut().push(url.clone());
        Ok("c".repeat(40))
    }
}

fn try_lower(text: &str, elsewhere: &Elsewhere) -> Result<Lowered, LowerError> {
    let parsed = parser::parse(text.as_bytes());
    lower(&parsed.dockerfile, &Options::for_host(), elsewhere)
}

fn lowered(add: &str) -> Lowered {
    try_lower(&format!("FROM scratch\n{add}\n"), &Elsewhere::default()).unwrap()
}

fn refused(add: &str) -> String {
    let text = format!("FROM scratch\n{add}\n");
    let error = try_lower(&text, &Elsewhere::default()).map(|_| ()).unwrap_err();
    let span = error.span().unwrap();
    assert!(span.end <= text.len() && span.start < span.end, "{error} has no place");
    error.to_string()
}

fn sources(lowered: &Lowered) -> Vec<SourceOp> {
    let all = lowered.graph.topological().iter().map(|index| &lowered.graph.vertex(*index).op);
    all.filter_map(|op| if let Op::Source(source) = op { Some(source.clone()) } else { None }).collect()
}

fn file(lowered: &Lowered) -> HttpSource {
    match sources(lowered).as_slice() {
        [SourceOp::Http(source)] => source.clone(),
        other => panic!("{other:?}"),
    }
}

fn commit(add: &str) -> GitSource {
    match sources(&lowered(add)).as_slice() {
        [SourceOp::Git(source)] => source.clone(),
        other => panic!("{other:?}"),
    }
}

/// Sources, destination and unpacking of the copies.
fn copies(lowered: &Lowered) -> Vec<(Vec<String>, String, bool)> {
    let target = lowered.graph.vertex(lowered.images[0].target.unwrap().vertex);
    let Op::File(op) = &target.op else { panic!("the target is not a file operation") };
    let copy = |action: &FileAction| match action {
        FileAction::Copy(copy) => {
            Some((copy.sources.clone(), copy.destination.clone(), copy.unpack_archives))
        }
        _ => None,
    };
    op.actions.iter().filter_map(copy).collect()
}

#[test]
fn a_url_is_a_private_file_of_root_with_the_time_of_its_server() {
    let lowered = lowered("ADD https://host/dir/a.tar /dest/");
    let source = file(&lowered);
    assert_eq!(source.url, "https://host/dir/a.tar");
    assert_eq!((source.mode, source.uid, source.gid, source.mtime), (0o600, 0, 0, Some(7)));
    assert_eq!(source.filename, "a[1].tar");
    assert_eq!(copies(&lowered), [(vec!["a\\[1].tar".to_owned()], "/dest/".to_owned(), false)]);
    let history = &lowered.images[0].config.history.last().unwrap().created_by;
    assert_eq!(history, "ADD https://host/dir/a.tar /dest/ # buildkit");
}

#[test]
fn only_unpack_unpacks_what_comes_from_the_web() {
    let unpacks = |flags: &str| copies(&lowered(&format!("ADD {flags} https://host/a /d/")))[0].2;
    assert_eq!([unpacks(""), unpacks("--unpack"), unpacks("--unpack=false")], [false, true, false]);
    let mixed = lowered("ADD local.tar https://host/a /d/");
    assert_eq!(copies(&mixed).iter().map(|copy| copy.2).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_checksum_of_a_file_is_asked_for() {
    let digest = Digest::of(b"x");
    let elsewhere = Elsewhere::default();
    let text = format!("FROM scratch\nARG SUM={digest}\nADD --checksum=$SUM https://host/a /d\n");
    try_lower(&text, &elsewhere).unwrap();
    let expected = HttpRequest { url: "https://host/a".to_owned(), checksum: Some(digest) };
    assert_eq!(elsewhere.files.take(), [expected]);
}

#[test]
fn a_git_url_becomes_a_commit() {
    let source = commit("ADD https://host/r.git#v1:dir /d");
    assert_eq!(source.remote, "https://host/r.git");
    assert_eq!((source.commit.as_str(), source.subdir.as_str()), ("c".repeat(40).as_str(), "dir"));
    assert!(!source.keep_git_dir && source.submodules && !source.commit_times);
    assert!(commit("ADD --keep-git-dir git@host:r /d").keep_git_dir);
    assert!(commit("ADD git://host/r?keep-git-dir=1 /d").keep_git_dir);
    assert!(!commit("ADD git://host/r?submodules=0 /d").submodules);
    assert!(commit("ADD git://host/r?mtime=commit /d").commit_times);
    let whole = lowered("ADD git://host/r /d");
    assert_eq!(copies(&whole), [(vec!["/".to_owned()], "/d".to_owned(), false)]);
}

#[test]
fn the_flags_of_a_repository_join_its_url() {
    let elsewhere = Elsewhere::default();
    let text = "FROM scratch\nADD --checksum=ABCDEF0 https://host/r.git?tag=v1 /d\n";
    try_lower(text, &elsewhere).unwrap();
    let asked = elsewhere.repositories.take().remove(0);
    assert_eq!(asked.reference.as_deref(), Some("refs/tags/v1"));
    assert_eq!(asked.checksum.as_deref(), Some("abcdef0"));
}

#[test]
fn a_plain_url_is_a_download_and_a_name_without_scheme_a_file() {
    assert_eq!(file(&lowered("ADD https://github.com/user/repository /d")).filename, "a[1].tar");
    assert!(matches!(sources(&lowered("ADD github.com/user/repository /d"))[..], [SourceOp::Local(_)]));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let digest = Digest::of(b"x");
    let cases = [
        (format!("ADD --checksum={digest} https://host/a https://host/b /d/"), "is for one source"),
        (format!("ADD --checksum={digest} a /d"), "not for files of the build context"),
        ("ADD --checksum=md5:1 https://host/a /d".to_owned(), "invalid checksum \"md5:1\""),
        (format!("ADD --checksum={digest} git://host/r /d"), "is not the id of a commit"),
        ("ADD --checksum=1234567 git://host/r?checksum=abcdefa /d".to_owned(), "contradicts checksum"),
        ("ADD --keep-git-dir=false git://host/r?keep-git-dir=true /d".to_owned(), "contradicts keep-git-dir"),
        ("ADD git://host/r?ref=a#b /d".to_owned(), "asks for the ref"),
        ("ADD git://host/r?what=1 /d".to_owned(), "\"what\" is not a parameter"),
        ("ADD https://user:secret@host/missing /d".to_owned(), "https://user:xxxxx@host/missing"),
    ];
    for (add, expected) in cases {
        let message = refused(&add);
        assert!(message.contains(expected), "{add}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn passwords_do_not_reach_the_history() {
    let lowered = lowered("ADD https://user:secret@host/a /d");
    let history = format!("{:?}", lowered.images[0].config.history);
    assert!(history.contains("https://user:xxxxx@host/a") && !history.contains("secret"), "{history}");
}

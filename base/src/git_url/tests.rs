//! What names a repository, what is read from it, and what is refused.

use proptest::prelude::*;

use super::*;

fn git(text: &str) -> GitUrl {
    GitUrl::parse(text).unwrap().unwrap_or_else(|| panic!("{text} names no repository"))
}

fn problem(text: &str) -> String {
    GitUrl::parse(text).map_or_else(|error| error.problem.to_string(), |url| panic!("{text} is {url:?}"))
}

#[test]
fn repositories_are_told_from_downloads_and_files() {
    let repositories = [
        ("git@github.com:user/repository.git", "github.com"),
        ("deploy@host:path", "host"),
        ("ssh://git@host:2222/path", "host:2222"),
        ("git://host/path", "host"),
        ("https://host/path.git", "host"),
        ("http://127.0.0.1:80/path.git", "127.0.0.1:80"),
        ("https://user:secret@host/path.git", "host"),
        ("HTTPS://host/path.git", "host"),
    ];
    for (text, host) in repositories {
        let url = git(text);
        assert_eq!((url.remote.as_str(), url.host()), (text, host));
        assert_eq!((url.reference, url.subdir, url.submodules), (None, None, true));
    }
    let others = [
        "",
        ".",
        "/a",
        "a/b",
        "a.git",
        "./git@host:path",
        "https://host/file.tar.gz",
        "https://host/path?x=.git",
        "https://host/",
        "https://host/path#branch.git",
        "ftp://host/path.git",
        "github.com/user/repository",
        "file:///srv/path.git",
        "ext::sh -c id",
        "a:b",
        "@host:path",
    ];
    for text in others {
        assert_eq!(GitUrl::parse(text), Ok(None), "{text}");
    }
}

#[test]
fn a_context_may_leave_out_the_scheme_of_github() {
    let context = |text: &str| GitUrl::parse_context(text).unwrap().map(|url| (url.remote, url.reference));
    let remote = "https://github.com/user/repository.git".to_owned();
    assert_eq!(context("github.com/user/repository"), Some((remote.clone(), None)));
    assert_eq!(context("github.com/user/repository.git#v1:dir"), Some((remote, Some("v1".to_owned()))));
    assert_eq!(context("github.com"), None);
    assert_eq!(context("./github.com/user/repository"), None);
}

#[test]
fn a_fragment_is_a_ref_and_a_directory() {
    let cases = [
        ("#main", Some("main"), None),
        ("#v1.0:docker/image", Some("v1.0"), Some("docker/image")),
        ("#:docker", None, Some("docker")),
        ("#", None, None),
        ("#refs/pull/42/head:/a//b/./c/../d/", Some("refs/pull/42/head"), Some("a/b/d")),
        ("#feature%2Fx", Some("feature/x"), None),
        ("#main:/", Some("main"), None),
    ];
    for (fragment, reference, subdir) in cases {
        let url = git(&format!("https://host/path.git{fragment}"));
        assert_eq!((url.reference.as_deref(), url.subdir.as_deref()), (reference, subdir), "{fragment}");
        assert_eq!(url.remote, "https://host/path.git");
    }
}

#[test]
fn a_query_says_more() {
    let url = git(
        "https://host/path.git?branch=main&subdir=a%20b&commit=ABCDEF1&keep-git-dir&submodules=false&mtime=commit",
    );
    assert_eq!(url.reference.as_deref(), Some("refs/heads/main"));
    assert_eq!(url.subdir.as_deref(), Some("a b"));
    assert_eq!(url.checksum.as_deref(), Some("abcdef1"));
    assert_eq!((url.keep_git_dir, url.submodules, url.times), (Some(true), false, FileTimes::Commit));
    assert_eq!(git("git@host:p?tag=v1").reference.as_deref(), Some("refs/tags/v1"));
    assert_eq!(git("git://host/p?ref=pull/4/head#:d").subdir.as_deref(), Some("d"));
    let id = "0123456789abcdef0123456789abcdef01234567";
    assert!(git(&format!("git://host/p?checksum={id}&fetch-by-commit=1")).fetch_by_commit);
}

#[test]
fn values_that_agree_may_be_repeated() {
    assert_eq!(git("git://h/p?ref=a&subdir=b#a:b").reference.as_deref(), Some("a"));
    assert_eq!(git("git://h/p?ref=refs/heads/a&branch=a").reference.as_deref(), Some("refs/heads/a"));
    assert_eq!(git("git://h/p?subdir=b#:/b/").subdir.as_deref(), Some("b"));
}

#[test]
fn what_cannot_be_used_says_why() {
    let cases = [
        ("git://h/p?ref=a#b", "asks for the ref \"b\" and for \"a\""),
        ("git://h/p?tag=a&branch=a", "asks for the ref"),
        ("git://h/p?subdir=a#:b", "asks for the directory"),
        ("git://h/p?ref=a&ref=b", "asks for one parameter"),
        ("git://h/p?depth=1", "\"depth\" is not a parameter"),
        ("git://h/p?ref=", "ref has no value"),
        ("git://h/p?mtime=now", "checkout or commit"),
        ("git://h/p?submodules=maybe", "true or false"),
        ("git://h/p?checksum=123", "a commit id"),
        ("git://h/p?checksum=abcdefg", "a commit id"),
        ("git://h/p?fetch-by-commit=1&checksum=1234567", "complete commit id"),
        ("git://h/p?subdir=..", "outside the repository"),
        ("git://h/p#a:../b", "outside the repository"),
        ("git://h/p#--upload-pack=id", "cannot be a branch"),
        ("git://h/p#+refs/heads/a", "cannot be a branch"),
        ("git://h/p?ref=a:b", "cannot be a branch"),
        ("git://h/p?ref=a..b", "cannot be a branch"),
        ("git://h/p?ref=@{0}", "cannot be a branch"),
        ("git://h/p#%zz", "percent-encoded"),
        ("git://h/p#%2", "percent-encoded"),
        ("git://h/p#%ff", "percent-encoded"),
        ("ssh://-oProxyCommand=id/p", "is not a host"),
        ("ssh://git@-oProxyCommand/p", "is not a host"),
        ("git@-oProxyCommand:p", "is not a host"),
        ("git:///p", "is not a host"),
        ("git://h", "names no repository"),
        ("git@h:", "names no repository"),
        ("git://h/a b", "a blank"),
        ("git://h/a\nb", "a blank"),
    ];
    for (text, expected) in cases {
        assert!(problem(text).contains(expected), "{text}: {}", problem(text));
    }
}

#[test]
fn passwords_are_not_shown() {
    let url = git("https://user:secret@host/path.git");
    assert_eq!(url.shown(), "https://user:xxxxx@host/path.git");
    assert_eq!(url.remote, "https://user:secret@host/path.git");
    let error = GitUrl::parse("https://user:secret@host/path.git?x=1").unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(without_password("https://host/a@b:c"), "https://host/a@b:c");
    assert_eq!(without_password("git@host:path"), "git@host:path");
}

#[test]
fn commit_ids_are_complete_and_lower_case() {
    assert!(is_commit_id(&"a1".repeat(20)) && is_commit_id(&"0f".repeat(32)));
    for other in ["", "abc1234", &"A1".repeat(20), &"g1".repeat(20), &"a1".repeat(21)] {
        assert!(!is_commit_id(other), "{other}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC*") {
        let _ = GitUrl::parse(&text);
        let _ = GitUrl::parse_context(&text);
        let _ = without_password(&text);
    }

    /// Whatever comes through can stand among the arguments of git without meaning anything else.
    #[test]
    fn what_is_accepted_is_harmless(
        start in "(git@|ssh://|git://|https?://|user@)?",
        host in "[-a-z.\\[%]{0,6}",
        rest in "[:/][-a-z./~ ]{0,8}(\\.git)?",
        tail in "([?#&=:]|ref|tag|subdir|submodules|[-a-z%0-9./+^~*]){0,12}",
    ) {
        let text = format!("{start}{host}{rest}{tail}");
        if let Ok(Some(url)) = GitUrl::parse(&text) {
            prop_assert!(!url.remote.starts_with('-') && !url.host().starts_with('-'));
            prop_assert!(!url.remote.contains(char::is_whitespace));
            if let Some(reference) = &url.reference {
                prop_assert!(!reference.starts_with(['-', '+']) && !reference.contains([':', '*', ' ']));
            }
            if let Some(subdir) = &url.subdir {
                prop_assert!(!subdir.is_empty() && !subdir.starts_with('/'));
                prop_assert!(subdir.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }

    #[test]
    fn well_formed_names_come_back(
        reference in "[a-z][a-z0-9]{0,5}(/[a-z0-9]{1,5}){0,2}",
        subdir in "[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2}",
    ) {
        let fragment = git(&format!("https://host/path.git#{reference}:{subdir}"));
        let query = git(&format!("https://host/path.git?ref={reference}&subdir={subdir}"));
        prop_assert_eq!(&fragment, &query);
        prop_assert_eq!(fragment.reference, Some(reference));
        prop_assert_eq!(fragment.subdir, Some(subdir));
    }
}

//! What a listing keeps, and what is told of two of them.

use base::CancelToken;
use proptest::prelude::*;

use super::*;
use crate::content_key::listed_content_key;
use crate::merkle::Modes;
use crate::select::Selection;
use crate::tree::Tree;
use crate::tree_fixture::tree_of;

fn listing_of(spec: &str) -> (Key, Vec<u8>) {
    let (dir, _) = tree_of(spec);
    let tree = Tree::directory(dir.path(), None).unwrap();
    let options = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };
    let all = Selection::all(&tree).unwrap();
    let listed = listed_content_key(&tree, &all, &options, None, &|_| true, &CancelToken::new()).unwrap();
    (listed.key, listed.listing.unwrap())
}

/// What differs, found in the whole listings.
fn compared(before: &[u8], now: &[u8]) -> Vec<FileChange> {
    Listing::decode(before).unwrap().changes(&Listing::decode(now).unwrap())
}

fn changes(before: &str, now: &str) -> Vec<String> {
    let ((before_key, before), (now_key, now)) = (listing_of(before), listing_of(now));
    let changes = Listing::changes_between(&before, &now).unwrap();
    assert_eq!(changes, compared(&before, &now));
    assert_eq!(changes.is_empty(), before_key == now_key, "a difference is named exactly where keys differ");
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn each_kind_of_difference_is_named() {
    let base = "f a one\n d d\n f d/b two\n l d/link b";
    assert!(changes(base, base).is_empty());
    assert_eq!(changes(base, "f a other\n d d\n f d/b two\n l d/link b"), ["a changed"]);
    assert_eq!(changes(base, "f a one\n d d\n f d/b two\n l d/link c"), ["d/link changed"]);
    assert_eq!(changes(base, "f a one\n d d\n f d/b two"), ["d/link removed"]);
    assert_eq!(changes(base, "f a one\n d d\n f d/b two\n l d/link b\n f d/new x"), ["d/new added"]);
    assert_eq!(changes(base, "l a one\n d d\n f d/b two\n l d/link b"), ["a became another kind of file"]);
    assert_eq!(changes(base, "f a one\n d d\n f d/b two\n l d/link b\n d e"), ["e added"]);
}

#[test]
fn a_mode_is_named_with_what_it_was() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, _) = tree_of("f run x\n d d");
    let listing = || {
        let tree = Tree::directory(dir.path(), None).unwrap();
        let options = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };
        let all = Selection::all(&tree).unwrap();
        let listed = listed_content_key(&tree, &all, &options, None, &|_| true, &CancelToken::new());
        Listing::decode(&listed.unwrap().listing.unwrap()).unwrap()
    };
    let set = |name: &str, mode| {
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set("run", 0o644);
    set("d", 0o755);
    let before = listing();
    set("run", 0o755);
    set("d", 0o700);
    let told: Vec<String> = before.changes(&listing()).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["d mode 0755 -> 0700", "run mode 0644 -> 0755"]);
}

#[test]
fn a_listing_is_made_only_where_it_is_wanted() {
    let (dir, _) = tree_of("f a one");
    let tree = Tree::directory(dir.path(), None).unwrap();
    let options = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };
    let all = Selection::all(&tree).unwrap();
    let listed = listed_content_key(&tree, &all, &options, None, &|_| false, &CancelToken::new()).unwrap();
    assert_eq!(listed.listing, None);
}

/// Files in a few directories, by numbers: most are not there.
fn some_files() -> impl Strategy<Value = String> {
    prop::collection::btree_map((0..4_u8, 0..3_u8), 0..3_u8, 0..8).prop_map(|files| {
        let dirs: std::collections::BTreeSet<u8> = files.keys().map(|(dir, _)| *dir).collect();
        let dirs = dirs.iter().map(|dir| format!("d d{dir}"));
        let files = files.iter().map(|((dir, name), content)| format!("f d{dir}/f{name} {content}"));
        dirs.chain(files).collect::<Vec<_>>().join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn directories_that_are_the_same_change_nothing_of_what_is_told(
        before in prop::collection::vec(some_files(), 1..3),
        now in prop::collection::vec(some_files(), 1..3),
    ) {
        // Of several sources that have the same paths, as well.
        let listing = |sources: &[String]| {
            let listings: Vec<Vec<u8>> = sources.iter().map(|source| listing_of(source).1).collect();
            let parts = listings.iter().map(|listing| listing.strip_prefix(MAGIC).unwrap());
            [MAGIC.to_vec(), parts.collect::<Vec<_>>().concat()].concat()
        };
        let (before, now) = (listing(&before), listing(&now));
        prop_assert_eq!(Listing::changes_between(&before, &now).unwrap(), compared(&before, &now));
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Listing::decode(&bytes);
        let _ = Listing::decode(&[MAGIC, &bytes].concat());
    }
}

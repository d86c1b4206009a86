//! What a listing keeps, and what is told of two of them.

use base::CancelToken;
use proptest::prelude::*;

use super::*;
use crate::content_key::listed_content_key;
use crate::merkle::Modes;
use crate::select::Selection;
use crate::tree::Tree;
use crate::tree_fixture::tree_of;

fn listing_of(spec: &str) -> (Key, Listing) {
    let (dir, _) = tree_of(spec);
    let tree = Tree::directory(dir.path(), None).unwrap();
    let options = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };
    let all = Selection::all(&tree).unwrap();
    let listed = listed_content_key(&tree, &all, &options, None, &|_| true, &CancelToken::new()).unwrap();
    (listed.key, Listing::decode(&listed.listing.unwrap()).unwrap())
}

fn changes(before: &str, now: &str) -> Vec<String> {
    let ((before_key, before), (now_key, now)) = (listing_of(before), listing_of(now));
    let changes = before.changes(&now);
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

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Listing::decode(&bytes);
        let _ = Listing::decode(&[MAGIC, &bytes].concat());
    }
}

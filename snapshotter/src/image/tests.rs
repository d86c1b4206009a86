//! Images: names, what they keep, and documents that are wrong.

use std::collections::BTreeMap;

use super::*;
use crate::gc::Policy;
use crate::test_support::TestStore;

fn index(manifests: Vec<Descriptor>) -> Index {
    let media_type = media_type::OCI_INDEX.to_owned();
    Index { schema_version: 2, media_type, manifests, annotations: BTreeMap::new() }
}

#[test]
fn a_name_resolves_until_it_is_taken_away() {
    let test = TestStore::new();
    let target = test.image("docker.io/library/a:1", test.snapshot(None, "a"));
    let image = test.store.resolve("docker.io/library/a:1").unwrap().unwrap();
    assert_eq!((&image.descriptor, image.dangling), (&target, false));
    assert_eq!(test.reopened().images().unwrap(), [image]);
    assert!(test.store.untag("docker.io/library/a:1").unwrap());
    assert!(!test.store.untag("docker.io/library/a:1").unwrap());
    assert_eq!(test.store.resolve("docker.io/library/a:1").unwrap(), None);
}

#[test]
fn images_are_found_by_the_beginning_of_either_digest() {
    let test = TestStore::new();
    let target = test.image("a", test.snapshot(None, "a"));
    test.image("b", test.snapshot(None, "b"));
    let config = test.store.resolve("a").unwrap().unwrap().config.unwrap();
    let find = |prefix: &str| -> Vec<String> {
        test.store.find_images(prefix).unwrap().into_iter().map(|image| image.name).collect()
    };
    assert_eq!(find(&target.digest.to_string()), ["a"]);
    assert_eq!(find(&config.short()), ["a"]);
    assert_eq!(find(&config.hex()[..12]), ["a"]);
    assert!(find("").is_empty() && find("sha256:").is_empty() && find("zz").is_empty());
}

#[test]
fn the_image_that_loses_its_only_name_dangles() {
    let test = TestStore::new();
    let old = test.image("name", test.snapshot(None, "a"));
    let new = test.image("name", test.snapshot(None, "b"));
    let images = test.store.images().unwrap();
    let seen: Vec<_> = images.iter().map(|image| (image.dangling, &image.descriptor)).collect();
    assert_eq!(seen, [(true, &old), (false, &new)]);
    test.store.tag("second", &old).unwrap();
    assert!(test.store.images().unwrap().iter().all(|image| !image.dangling));
    test.store.tag("name", &old).unwrap();
    assert!(test.store.untag_dangling(&new).unwrap());
    assert_eq!(test.store.images().unwrap().len(), 2);
}

#[test]
fn a_nameless_image_is_kept_until_it_is_let_go() {
    let mut test = TestStore::new();
    let target = test.image("name", test.snapshot(None, "a"));
    test.store.tag_dangling(&target).unwrap();
    assert_eq!(test.store.images().unwrap().len(), 1, "it has a name already");
    test.store.untag("name").unwrap();
    test.store.tag_dangling(&target).unwrap();
    test.release();
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().blobs, 0);
    assert!(test.store.untag_dangling(&target).unwrap());
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().blobs, 3);
}

#[test]
fn an_index_keeps_what_is_there_of_it() {
    let mut test = TestStore::new();
    let here = test.image("tmp", test.snapshot(None, "a"));
    test.store.untag("tmp").unwrap();
    let absent = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"another platform"), 7);
    let strange = Descriptor::new("text/plain", Digest::of(b"a note"), 6);
    let target = test.document(media_type::OCI_INDEX, &index(vec![absent, strange, here.clone()]));
    test.store.tag("multi", &target).unwrap();
    assert_eq!(test.store.resolve("multi").unwrap().unwrap().config, None);
    test.release();
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap(), crate::Freed::default());
    assert!(test.store.open_blob(&here.digest).is_ok());
}

#[test]
fn a_layer_that_comes_later_is_kept_too() {
    let mut test = TestStore::new();
    let layer = Descriptor::new(media_type::OCI_LAYER, Digest::of(b"layer"), 5);
    let manifest = test.manifest(&[], vec![layer]);
    test.store.tag("lazy", &manifest).unwrap();
    test.store.put_blob(&test.lease, b"layer").unwrap();
    test.release();
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().blobs, 0);
}

#[test]
fn wrong_documents_are_refused_and_tag_nothing() {
    let test = TestStore::new();
    let store = &test.store;
    let absent = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"absent"), 6);
    assert!(matches!(store.tag("x", &absent), Err(StoreError::NoSuchBlob { .. })));
    let garbage = test.document(media_type::OCI_MANIFEST, &"no manifest");
    assert!(matches!(store.tag("x", &garbage), Err(StoreError::Document { kind: "manifest", .. })));
    let config = test.document(media_type::OCI_CONFIG, &"no manifest");
    assert!(matches!(store.tag("x", &config), Err(StoreError::NotAnImage { .. })));
    let mut nested = test.document(media_type::OCI_INDEX, &index(vec![]));
    for _ in 0..MAX_DEPTH {
        nested = test.document(media_type::OCI_INDEX, &index(vec![nested]));
    }
    assert!(matches!(store.tag("x", &nested), Err(StoreError::IndexTooDeep { .. })));
    assert!(store.images().unwrap().is_empty());
}

/// A name is a value in a row; whatever it holds, no file appears or disappears.
#[test]
fn hostile_names_are_only_names() {
    let test = TestStore::new();
    let target = test.image("good", test.snapshot(None, "a"));
    let names =
        ["../../etc/passwd", "/absolute", "a\0b", "'; DROP TABLE images; --", "%", "", "x\n\u{202e}y"];
    for name in names {
        test.store.tag(name, &target).unwrap();
        assert_eq!(test.store.resolve(name).unwrap().unwrap().name, name);
    }
    assert_eq!(test.store.images().unwrap().len(), names.len() + 1);
    assert!(test.store.check().unwrap().is_clean());
    for name in names {
        assert!(test.store.untag(name).unwrap());
    }
    assert!(test.store.resolve("good").unwrap().is_some());
}

#[test]
fn a_blob_knows_the_images_that_need_it() {
    let test = TestStore::new();
    let target = test.image("a", test.snapshot(None, "a"));
    let manifest: Manifest =
        serde_json::from_slice(&test.store.read_blob(&target.digest, MAX_DOCUMENT).unwrap().unwrap())
            .unwrap();
    let bytes = serde_json::to_vec(&index(vec![target.clone()])).unwrap();
    let outer = test.store.put_blob(&test.lease, &bytes).unwrap();
    let outer = Descriptor::new(media_type::OCI_INDEX, outer.digest, outer.size);
    test.store.tag("b", &outer).unwrap();
    let names = |digest: &Digest| test.store.names_of_images_with(digest).unwrap();
    assert_eq!(names(&manifest.config.digest), ["a", "b"]);
    assert_eq!(names(&target.digest), ["a", "b"]);
    assert_eq!(names(&outer.digest), ["b"]);
    test.store.untag("a").unwrap();
    assert!(test.store.is_part_of_an_image(&manifest.config.digest).unwrap());
    test.store.untag("b").unwrap();
    assert!(!test.store.is_part_of_an_image(&manifest.config.digest).unwrap());
    assert!(names(&outer.digest).is_empty());
}

//! What takes space, and for what.

use base::{CancelToken, Digest};

use super::*;
use crate::cache::CacheValue;
use crate::compress::Compression;
use crate::container::NewContainer;
use crate::snapshot::CommitInfo;
use crate::test_support::{TestStore, key};

#[test]
fn trees_are_counted_once_per_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/a"), vec![1; 100_000]).unwrap();
    let one = disk_usage(dir.path()).unwrap();
    std::fs::hard_link(dir.path().join("sub/a"), dir.path().join("b")).unwrap();
    assert!(one >= 100_000);
    assert_eq!(disk_usage(dir.path()).unwrap(), one);
}

#[test]
fn images_containers_and_cache_are_told_apart() {
    let mut test = TestStore::new();
    let layer = |parent, name: &str| {
        let active = test.store.prepare(&test.lease, parent).unwrap();
        std::fs::write(active.layer_dir().join(name), vec![1; 64 << 10]).unwrap();
        active.commit(CommitInfo::default()).unwrap()
    };
    let (used, idle, cached) = (layer(None, "a"), layer(None, "b"), layer(None, "c"));
    test.image("used", used);
    test.image("idle", idle);
    test.image("idle:again", idle);
    let dir = test.store.create_container_dir("c0ffee").unwrap();
    let image = test.store.resolve("used").unwrap().unwrap().descriptor.digest;
    let new = NewContainer {
        id: "c0ffee",
        name: "c1",
        image: &image,
        target: &image,
        parent: Some(used),
        volumes: &[],
        images: &[],
        networks: &[],
    };
    let container = test.store.begin_container(&new, &dir).unwrap().keep();
    let fs = test.store.layout().snapshot(container.snapshot).fs();
    std::fs::write(fs.join("d"), vec![1; 64 << 10]).unwrap();
    drop(dir);
    test.store.cache_put(&key(1), CacheValue { snapshot: Some(cached), ..CacheValue::default() }).unwrap();
    test.store.cache_put(&key(2), CacheValue { snapshot: Some(used), ..CacheValue::default() }).unwrap();
    test.release();

    let usage = test.store.usage().unwrap();
    assert_eq!((usage.images.total, usage.images.active), (2, 1));
    assert_eq!((usage.containers.total, usage.build_cache.total, usage.build_cache.active), (1, 2, 1));
    let one = 64 << 10;
    assert!(usage.images.bytes >= 2 * one && usage.images.bytes < 3 * one, "{usage:?}");
    assert!(usage.images.reclaimable >= one && usage.images.reclaimable < 2 * one, "{usage:?}");
    assert!(usage.build_cache.reclaimable >= one && usage.build_cache.reclaimable < 2 * one, "{usage:?}");
    // The native driver copies the parent.
    assert!(usage.containers.bytes >= 2 * one && usage.containers.bytes < 3 * one, "{usage:?}");
    let freed = test.store.gc(crate::Policy::DROP_CACHE).unwrap();
    assert_eq!(freed.bytes, usage.build_cache.reclaimable);
}

#[test]
fn every_part_is_told_apart() {
    let mut test = TestStore::new();
    let shared = test.snapshot(None, "shared");
    let own = test.snapshot(Some(shared), "own");
    let one = test.image("one", shared);
    let layer = |id| test.store.layer(&test.lease, id, Compression::GZIP, &CancelToken::new()).unwrap();
    let (below, above) = (layer(shared), layer(own));
    let two = test.manifest(&[below.diff_id, above.diff_id], vec![below.descriptor, above.descriptor]);
    test.store.tag("two", &two).unwrap();
    let value = CacheValue { snapshot: Some(own), cost_ms: 7, ..CacheValue::default() };
    test.store.cache_put(&key(1), value.clone()).unwrap();
    test.store.cache_put(&key(2), CacheValue { cost_ms: 0, ..value }).unwrap();
    let in_use = |test: &TestStore| {
        let details = test.store.usage_details().unwrap();
        (details.images.iter().all(|image| image.in_use), details.cache[0].in_use)
    };
    assert_eq!(in_use(&test), (true, true));
    test.release();
    assert_eq!(in_use(&test), (false, false));

    let details = test.store.usage_details().unwrap();
    let image = |target: Digest| details.images.iter().find(|image| image.target == target).unwrap();
    let shared_size = test.store.snapshot_info(shared).unwrap().size.unwrap();
    assert!(image(one.digest).bytes >= shared_size);
    assert!(image(two.digest).bytes - image(two.digest).unique_bytes >= shared_size);
    assert_eq!(details.cache.len(), 1);
    let result = &details.cache[0];
    assert_eq!((result.id.clone(), result.cost_ms, result.shared), (own.to_string(), Some(7), true));
}

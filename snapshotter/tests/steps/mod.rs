//! Pieces of work on a store, each with what brings the store back to where it was, and a look at everything
//! that the store would serve.

use std::collections::BTreeMap;
use std::path::Path;

use base::image::{Descriptor, ImageConfig, Manifest, media_type};
use base::{CancelToken, Digest, Key, Platform};
use snapshotter::{
    CacheMountRequest, CacheSeed, CacheValue, CacheWrite, CommitInfo, Compression, ConvertTo, Converted,
    DriverKind, LayerForm, Lease, Options, Policy, Sharing, SnapshotId, Store, StoreError,
};

use crate::common::Tar;

type Result<T = ()> = std::result::Result<T, StoreError>;

/// One piece of work.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// What must be there before.
    prepare: fn(&Store) -> Result,
    /// The work itself.
    pub(crate) run: fn(&Store) -> Result,
}

const fn nothing(_: &Store) -> Result {
    Ok(())
}

/// All pieces of work.
pub(crate) const WORKS: [Work; 10] = [
    Work { name: "ingest", prepare: nothing, run: ingest },
    Work { name: "apply", prepare: nothing, run: apply },
    Work { name: "commit", prepare: nothing, run: commit },
    Work { name: "merge", prepare: nothing, run: merge },
    Work { name: "cache-mount", prepare: commit, run: cache_mount },
    Work { name: "export", prepare: nothing, run: export },
    Work { name: "untag", prepare: export, run: untag },
    Work { name: "pack", prepare: commit, run: pack },
    Work { name: "unpack", prepare: commit_packed, run: unpack },
    Work { name: "collect", prepare: make_garbage, run: collect },
];

/// The image that is always there.
const KEPT: &str = "kept";
/// The image that the work `export` makes.
const MADE: &str = "made";
const OWN_FILE: &str = "content of the only file";
const LOWER_FILE: &str = "content below";

pub(crate) fn open(root: &Path, driver: DriverKind) -> Store {
    Store::open(root, Options { driver: Some(driver), ..Options::default() }).unwrap()
}

impl Work {
    /// Brings the store to where this work begins.
    pub(crate) fn set_up(&self, store: &Store) {
        keep_an_image(store).unwrap();
        store.untag(MADE).unwrap();
        store.gc(Policy::DROP_CACHE).unwrap();
        (self.prepare)(store).unwrap();
    }
}

fn key(number: u8) -> Key {
    Key::from_bytes([number; 32])
}

/// A snapshot of one file; with `cached`, found by the key 1 in the cache.
fn write_snapshot(
    store: &Store,
    lease: &Lease,
    parent: Option<SnapshotId>,
    cached: bool,
) -> Result<SnapshotId> {
    let active = store.prepare(lease, parent)?;
    std::fs::write(active.layer_dir().join("file"), OWN_FILE).unwrap();
    let value = CacheValue { snapshot: Some(active.id()), ..CacheValue::default() };
    let entry = CacheWrite::Value { output: key(1), value };
    active
        .commit(CommitInfo { cache: cached.then_some(entry).into_iter().collect(), ..CommitInfo::default() })
}

fn ingest(store: &Store) -> Result {
    let lease = store.lease("ingest")?;
    let mut writer = store.ingest(&lease)?;
    for _ in 0..3 {
        writer.copy_from(&mut &[7; 3000][..])?;
    }
    let blob = writer.finish(None)?;
    assert_eq!(store.read_blob(&blob.digest, 10_000)?.unwrap(), [7; 9000]);
    store.put_blob(&lease, b"small").map(drop)
}

fn lower_layer() -> Vec<u8> {
    Tar::new().dir("d").file("d/lower", LOWER_FILE).hard_link("d/link", "d/lower").symlink("l", "d").bytes()
}

fn upper_layer() -> Vec<u8> {
    Tar::new().file("file", OWN_FILE).file("d/.wh.link", "").dir("d/new").bytes()
}

fn apply(store: &Store) -> Result {
    let lease = store.lease("apply")?;
    let mut top = None;
    for layer in [lower_layer(), upper_layer()] {
        let blob = store.put_blob(&lease, &layer)?;
        let descriptor = Descriptor::new(media_type::OCI_LAYER, blob.digest, blob.size);
        top = Some(store.apply_layer(&lease, top, &descriptor, Some(&blob.digest), &CancelToken::new())?);
    }
    store.cache_put(&key(1), CacheValue { snapshot: top, ..CacheValue::default() })
}

fn commit(store: &Store) -> Result {
    let lease = store.lease("commit")?;
    let base = store.prepare(&lease, None)?.commit(CommitInfo::default())?;
    drop(store.prepare(&lease, Some(base))?);
    write_snapshot(store, &lease, Some(base), true).map(drop)
}

fn merge(store: &Store) -> Result {
    let lease = store.lease("merge")?;
    let base = store.prepare(&lease, None)?.commit(CommitInfo::default())?;
    let upper = write_snapshot(store, &lease, None, false)?;
    let merged = store.merge(&lease, Some(base), upper, Some(&key(3)), &CancelToken::new())?;
    store.cache_put(&key(1), CacheValue { snapshot: Some(merged), ..CacheValue::default() })
}

fn cache_mount(store: &Store) -> Result {
    let lease = store.lease("cache mount")?;
    let snapshot = store.cache_get(&lease, &key(1))?.and_then(|value| value.snapshot).unwrap();
    let (uid, gid) = sys::rootdir::own_ids();
    let seed = Some(CacheSeed { snapshot, path: "/" });
    let request = CacheMountRequest { id: "cache", sharing: Sharing::Locked, seed, mode: 0o755, uid, gid };
    let mount = store.cache_mount(&lease, &request, &CancelToken::new())?;
    // What is found must be complete: the seed is copied before the directory has a name.
    assert_eq!(std::fs::read_to_string(mount.dir().join("file")).unwrap(), OWN_FILE);
    Ok(())
}

fn export(store: &Store) -> Result {
    let lease = store.lease("export")?;
    let id = write_snapshot(store, &lease, None, false)?;
    let manifest = make_image(store, &lease, id)?;
    store.tag(MADE, &manifest)?;
    store.sync()
}

fn untag(store: &Store) -> Result {
    store.tag_dangling(&store.resolve(MADE)?.unwrap().descriptor)?;
    store.untag(MADE)?;
    Ok(())
}

fn make_garbage(store: &Store) -> Result {
    export(store)?;
    commit(store)?;
    cache_mount(store)?;
    store.untag(MADE)?;
    std::fs::write(store.scratch_dir().join("dead-lease.0"), [0; 5000]).unwrap();
    let tree = store.scratch_dir().join("dead-lease.1/tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("file"), [0; 100]).unwrap();
    Ok(())
}

/// Gives the upper layer that [`commit`] made another form. Where nothing can be packed, another work is done instead.
fn convert(store: &Store, to: ConvertTo) -> Result {
    let lease = store.lease("look")?;
    let snapshot = store.cache_get(&lease, &key(1))?.and_then(|value| value.snapshot).unwrap();
    drop(lease);
    match store.convert_layer(snapshot, to, &CancelToken::new()) {
        Ok(Converted::Done) => Ok(()),
        Ok(_) | Err(StoreError::CannotPack { .. }) => ingest(store),
        Err(error) => Err(error),
    }
}

fn pack(store: &Store) -> Result {
    convert(store, ConvertTo::Packed)
}

fn commit_packed(store: &Store) -> Result {
    commit(store)?;
    pack(store)
}

fn unpack(store: &Store) -> Result {
    convert(store, ConvertTo::Dir)
}

fn collect(store: &Store) -> Result {
    store.gc(Policy::DROP_CACHE).map(drop)
}

/// Makes the image that all works leave alone.
fn keep_an_image(store: &Store) -> Result {
    if store.resolve(KEPT)?.is_some() {
        return Ok(());
    }
    let lease = store.lease("keep")?;
    let active = store.prepare(&lease, None)?;
    std::fs::write(active.layer_dir().join("kept"), "kept").unwrap();
    let manifest = make_image(store, &lease, active.commit(CommitInfo::default())?)?;
    store.tag(KEPT, &manifest)
}

fn make_image(store: &Store, lease: &Lease, id: SnapshotId) -> Result<Descriptor> {
    // With the same time each time, so that the bytes are the same.
    let form = LayerForm { compression: Compression::GZIP, clamp_mtime: Some(0) };
    let layer = store.layer(lease, id, form, &CancelToken::new())?;
    let mut config = ImageConfig::scratch(&Platform::host());
    config.rootfs.diff_ids = vec![layer.diff_id];
    let manifest = Manifest {
        artifact_type: None,
        subject: None,
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        config: document(store, lease, media_type::OCI_CONFIG, &config)?,
        layers: vec![layer.descriptor],
        annotations: Default::default(),
    };
    document(store, lease, media_type::OCI_MANIFEST, &manifest)
}

fn document(store: &Store, lease: &Lease, kind: &str, value: &impl serde::Serialize) -> Result<Descriptor> {
    let blob = store.put_blob(lease, &serde_json::to_vec(value).unwrap())?;
    Ok(Descriptor::new(kind, blob.digest, blob.size))
}

/// Reads everything that the store would serve, and panics where it is not what it should be.
pub(crate) fn verify(store: &Store) {
    for image in store.images().unwrap() {
        let manifest = read_verified(store, &image.descriptor.digest);
        let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
        for part in manifest.layers.iter().chain([&manifest.config]) {
            assert_eq!(read_verified(store, &part.digest).len() as u64, part.size);
        }
    }
    assert!(store.resolve(KEPT).unwrap().is_some());
    for directory in std::fs::read_dir(store.root().join("blobs-v1/sha256")).unwrap() {
        for file in std::fs::read_dir(directory.unwrap().path()).unwrap() {
            let file = file.unwrap();
            let digest = Digest::of(&std::fs::read(file.path()).unwrap());
            assert_eq!(file.file_name().to_str(), Some(digest.hex().as_str()), "a name on other content");
        }
    }
    let lease = store.lease("verify").unwrap();
    let lower = Digest::of(&lower_layer());
    let applied = base::image::chain_id(&[lower, Digest::of(&upper_layer())]).unwrap();
    if let Some(id) = store.snapshot_by_chain_id(&lease, &lower).unwrap() {
        assert_eq!(read_file(store, id, "d/link"), LOWER_FILE);
    }
    let cached = store.cache_get(&lease, &key(1)).unwrap().and_then(|value| value.snapshot);
    for id in [cached, store.snapshot_by_chain_id(&lease, &applied).unwrap()].into_iter().flatten() {
        assert_eq!(read_file(store, id, "file"), OWN_FILE);
    }
}

fn read_verified(store: &Store, digest: &Digest) -> Vec<u8> {
    let bytes = store.read_blob(digest, 1 << 20).unwrap().unwrap();
    assert_eq!(Digest::of(&bytes), *digest);
    bytes
}

fn read_file(store: &Store, id: SnapshotId, name: &str) -> String {
    let dirs = store.view_dirs(id).unwrap();
    let found = dirs.iter().find_map(|dir| std::fs::read_to_string(dir.join(name)).ok());
    found.unwrap_or_else(|| panic!("{name} is missing in snapshot {id}"))
}

/// How many files, and how many bytes in them, each directory of the store holds. The database's own files, whose
/// length depends on history, are left out; so are names, which differ from one run to the next.
pub(crate) fn held(root: &Path) -> BTreeMap<String, (u64, u64)> {
    let mut held = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("meta-v1") {
            let mut sum = (0, 0);
            add(&entry.path(), &mut sum);
            held.insert(name, sum);
        }
    }
    held.retain(|_, sum| *sum != (0, 0));
    held
}

fn add(path: &Path, sum: &mut (u64, u64)) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| add(&entry.unwrap().path(), sum));
    } else {
        sum.0 += 1;
        sum.1 += metadata.len();
    }
}

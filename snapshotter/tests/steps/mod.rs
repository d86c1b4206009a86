//! Pieces of work on a store, each with what brings the store back to where it was, and a look at everything
//! that the store would serve.

use std::collections::BTreeMap;
use std::path::Path;

use base::image::{Descriptor, ImageConfig, Manifest, media_type};
use base::{CancelToken, Digest, Key, Platform, Timestamp};
use snapshotter::content_key::{KeyOptions, Modes, content_key};
use snapshotter::copy::{CopyError, CopyOptions};
use snapshotter::select::Selection;
use snapshotter::stat_cache::StatCache;
use snapshotter::tree::TreeError;
use snapshotter::writer::{LayerWriter, WriteError, WriterOptions};
use snapshotter::{
    ActiveSnapshot, CacheMountRequest, CacheSeed, CacheValue, CacheWrite, CommitInfo, Compression, ConvertTo,
    Converted, DriverKind, LayerForm, Lease, Options, Policy, Sharing, SnapshotId, Store, StoreError,
    StoredForm, Tree,
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

const fn work(name: &'static str, prepare: fn(&Store) -> Result, run: fn(&Store) -> Result) -> Work {
    Work { name, prepare, run }
}

const fn nothing(_: &Store) -> Result {
    Ok(())
}

/// All pieces of work.
pub(crate) const WORKS: [Work; 15] = [
    work("ingest", nothing, ingest),
    work("apply", nothing, apply),
    work("commit", nothing, commit),
    work("merge", nothing, merge),
    work("cache-mount", commit, cache_mount),
    work("export", nothing, export),
    work("untag", export, untag),
    work("pack", commit, pack),
    work("unpack", commit_packed, unpack),
    work("share", copy_first, copy_second),
    work("unshare", copy_both, unpack_first),
    work("unshare-last", unshare_first, unpack_second),
    work("learn", pull_first, copy_in_vain),
    work("pull-shared", pull_two, pull_second),
    work("collect", make_garbage, collect),
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

/// The same store, which packs what can be.
fn packing(store: &Store) -> Result<Store> {
    let options =
        Options { driver: Some(store.driver_kind()?), layer_form: StoredForm::Packed, ..Options::default() };
    Store::open(store.root(), options)
}

/// Copies two files into a layer, packed where it can be: one that is always the same, and one of this content.
fn copy(store: &Store, content: &str, output: Key) -> Result {
    let store = packing(store)?;
    let lease = store.lease("copy")?;
    let active = copying(&store, &lease, content)?;
    let value = CacheValue { snapshot: Some(active.id()), ..CacheValue::default() };
    let cache = vec![CacheWrite::Value { output, value }];
    active.commit(CommitInfo { cache, ..CommitInfo::default() }).map(drop)
}

/// The same in vain: what remains is what became known of a layer that is like it.
fn copy_in_vain(store: &Store) -> Result {
    let store = packing(store)?;
    copying(&store, &store.lease("copy")?, OWN_FILE).map(drop)
}

/// A copy that is not committed.
fn copying(store: &Store, lease: &Lease, content: &str) -> Result<ActiveSnapshot> {
    let context = store.root().with_file_name("context");
    if !context.exists() {
        std::fs::create_dir(&context).unwrap();
        std::fs::write(context.join("large"), [7; 100_000]).unwrap();
    }
    std::fs::write(context.join("file"), content).unwrap();
    // Nothing is too young to be remembered.
    let late = Timestamp::from_second(9_999_999_999).unwrap();
    let cache = StatCache::load(&context.with_extension("cache"), late);
    let cancel = CancelToken::new();
    let source = Tree::directory(&context, None).map_err(failed)?;
    let selection = Selection::all(&source).map_err(failed)?;
    let key = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };
    content_key(&source, &selection, &key, Some(&cache), &cancel).map_err(failed)?;
    let active = store.prepare(lease, None)?;
    let time = Timestamp::from_second(1_700_000_000).unwrap();
    let options = WriterOptions { full_copy: active.is_full_copy(), userxattr: false, time };
    let writer = LayerWriter::new(active.layer_dir(), None, options).map_err(failed)?;
    let options = CopyOptions { stat_cache: Some(&cache), ..CopyOptions::as_it_is() };
    active.copy_alone(&writer, &source, &selection, &options, &cancel).map_err(failed)?;
    Ok(active)
}

/// What went wrong with a file while something was copied.
fn failed(error: impl Into<CopyError>) -> StoreError {
    match error.into() {
        CopyError::Store(error) => *error,
        CopyError::Source(TreeError::File(error))
        | CopyError::Target(WriteError::File(error) | WriteError::Tree(TreeError::File(error))) => {
            error.into()
        }
        error => panic!("{error:?}"),
    }
}

fn copy_first(store: &Store) -> Result {
    copy(store, "another content of it", key(2))
}

fn copy_second(store: &Store) -> Result {
    copy(store, OWN_FILE, key(1))
}

fn copy_both(store: &Store) -> Result {
    copy_first(store)?;
    copy_second(store)
}

fn unpack_first(store: &Store) -> Result {
    convert(store, &key(2), ConvertTo::Dir)
}

fn unshare_first(store: &Store) -> Result {
    copy_both(store)?;
    unpack_first(store)
}

fn unpack_second(store: &Store) -> Result {
    convert(store, &key(1), ConvertTo::Dir)
}

/// Makes a layer of an archive with two files: one that is always the same, and one of this content.
fn pull(store: &Store, content: &str, output: Key) -> Result {
    let store = packing(store)?;
    let lease = store.lease("pull")?;
    let archive = Tar::new().file("file", content).file("large", &"7".repeat(100_000)).bytes();
    let blob = store.put_blob(&lease, &archive)?;
    let descriptor = Descriptor::new(media_type::OCI_LAYER, blob.digest, blob.size);
    let layer = store.apply_layer(&lease, None, &descriptor, Some(&blob.digest), &CancelToken::new())?;
    store.cache_put(&output, CacheValue { snapshot: Some(layer), ..CacheValue::default() })
}

fn pull_first(store: &Store) -> Result {
    pull(store, "another content of it", key(2))
}

/// What the first one holds is known when the second is there.
fn pull_two(store: &Store) -> Result {
    pull_first(store)?;
    pull(store, "the third content of it", key(3))
}

fn pull_second(store: &Store) -> Result {
    pull(store, OWN_FILE, key(1))
}

/// Gives a layer that was made before another form. Where nothing can be packed, another work is done instead.
fn convert(store: &Store, made: &Key, to: ConvertTo) -> Result {
    let lease = store.lease("look")?;
    let snapshot = store.cache_get(&lease, made)?.and_then(|value| value.snapshot).unwrap();
    drop(lease);
    match store.convert_layer(snapshot, to, &CancelToken::new()) {
        Ok(Converted::Done) => Ok(()),
        Ok(_) | Err(StoreError::CannotPack { .. }) => ingest(store),
        Err(error) => Err(error),
    }
}

fn pack(store: &Store) -> Result {
    convert(store, &key(1), ConvertTo::Packed)
}

fn commit_packed(store: &Store) -> Result {
    commit(store)?;
    pack(store)
}

fn unpack(store: &Store) -> Result {
    convert(store, &key(1), ConvertTo::Dir)
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
        // Lists of pieces have the numbers of layers in them, too.
        sum.1 += if path.ends_with("pieces") { 0 } else { metadata.len() };
    }
}

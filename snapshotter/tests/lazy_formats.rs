//! Layers that are made to be fetched piece by piece are ordinary layers to us: eStargz, a gzip member for every
//! entry with a table of contents as the last one, and zstd:chunked, zstd frames with a table of contents in
//! skippable frames behind them.
//!
//! Sources: the `estargz` format of stargz-snapshotter (docs/estargz.md), and RFC 8878, section 3.1.2, for
//! skippable frames.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a test says why it is skipped")]

use std::io::Write;

use base::image::{Descriptor, media_type};
use base::{CancelToken, Digest};
use flate2::write::GzEncoder;
use snapshotter::{CommitInfo, Compression, DriverKind, Options, SnapshotId, Store};
use testkit::{Image, Layer, LayerTar, Tree};

/// A tar in parts that are compressed separately.
struct Parts(Vec<Vec<u8>>);

impl Parts {
    /// The entries of an image, with what eStargz adds to them.
    fn estargz() -> Self {
        let toc = br#"{"version":1,"entries":[]}"#;
        let first = LayerTar::new().dir("d", 0o755).file(".no.prefetch.landmark", 0o644, [0x0f]);
        Self(vec![
            without_end(first.finish()),
            without_end(LayerTar::new().file("d/f", 0o640, "content").finish()),
            without_end(LayerTar::new().symlink("l", "d/f").finish()),
            LayerTar::new().file("stargz.index.json", 0o644, toc).finish(),
        ])
    }

    /// The same entries without them.
    fn chunked() -> Self {
        Self(vec![
            without_end(LayerTar::new().dir("d", 0o755).finish()),
            without_end(LayerTar::new().file("d/f", 0o640, "content").finish()),
            LayerTar::new().symlink("l", "d/f").finish(),
        ])
    }

    fn tar(&self) -> Vec<u8> {
        self.0.concat()
    }
}

/// A tar without the two blocks that end it.
fn without_end(mut tar: Vec<u8>) -> Vec<u8> {
    assert!(tar[tar.len() - 1024..].iter().all(|byte| *byte == 0));
    tar.truncate(tar.len() - 1024);
    tar
}

fn gzip_member(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An empty gzip member that says in an extra field where the table of contents begins.
fn estargz_footer(offset: usize) -> Vec<u8> {
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    footer.extend_from_slice(format!("{offset:016x}STARGZ").as_bytes());
    // An empty stored block, then checksum and length of nothing.
    footer.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer.extend_from_slice(&[0; 8]);
    assert_eq!(footer.len(), 51, "the length that readers look for");
    footer
}

fn estargz(parts: &Parts) -> Vec<u8> {
    let members: Vec<Vec<u8>> = parts.0.iter().map(|part| gzip_member(part)).collect();
    let toc = members[..members.len() - 1].iter().map(Vec::len).sum();
    [members.concat(), estargz_footer(toc)].concat()
}

fn skippable_frame(data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&[0x50, 0x2a, 0x4d, 0x18], &length[..], data].concat()
}

fn zstd_chunked(parts: &Parts) -> Vec<u8> {
    let frame = |data: &[u8]| zstd::encode_all(data, 3).unwrap();
    let frames = parts.0.iter().flat_map(|part| frame(part)).collect::<Vec<_>>();
    let toc = frame(br#"{"version":1,"entries":[]}"#);
    let mut footer = vec![0; 56];
    footer.extend_from_slice(b"GNUlInUx");
    [frames, skippable_frame(&toc), skippable_frame(&footer)].concat()
}

/// Unpacks a layer into a new store, checks what the store says about it, and returns the tree.
fn applied(blob: &[u8], kind: &str, diff_id: Digest) -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { driver: Some(DriverKind::Native), ..Options::default() };
    let store = Store::open(&dir.path().join("store"), options).unwrap();
    let lease = store.lease("test").unwrap();
    let stored = store.put_blob(&lease, blob).unwrap();
    let layer = Descriptor::new(kind, stored.digest, stored.size);
    let cancel = CancelToken::new();
    let id = store.apply_layer(&lease, None, &layer, Some(&diff_id), &cancel).unwrap();
    let info = store.snapshot_info(id).unwrap();
    assert_eq!((info.diff_id, info.chain_id), (Some(diff_id), Some(diff_id)));
    // It goes out as it came in.
    let out = store.layer(&lease, id, Compression::GZIP, &cancel).unwrap();
    assert_eq!((out.descriptor, out.diff_id), (layer, diff_id));
    assert_child_inherits(&store, id);
    Tree::of_dir(&store.view_dirs(id).unwrap()[0])
}

/// A layer on top is one of that tree like any other.
fn assert_child_inherits(store: &Store, id: SnapshotId) {
    let lease = store.lease("child").unwrap();
    let child = store.prepare(&lease, Some(id)).unwrap().commit(CommitInfo::default()).unwrap();
    let layer = store.layer(&lease, child, Compression::None, &CancelToken::new()).unwrap();
    let bytes = store.read_blob(&layer.descriptor.digest, 1 << 20).unwrap().unwrap();
    assert_eq!(Tree::of_tar(bytes.as_slice()), Tree::new());
}

fn ordinary() -> Tree {
    let tree = Tree::of_tar(Parts::chunked().tar().as_slice());
    if testkit::privilege::root().is_some() { tree } else { tree.without_owners() }
}

#[test]
fn estargz_is_gzip_and_its_table_of_contents_a_file() {
    let parts = Parts::estargz();
    let diff_id = Digest::of(&parts.tar());
    let tree = applied(&estargz(&parts), media_type::OCI_LAYER_GZIP, diff_id);
    assert_eq!(tree.text("stargz.index.json"), r#"{"version":1,"entries":[]}"#);
    assert_eq!(tree.text(".no.prefetch.landmark"), "\x0f");
    let tree = tree.without("stargz.index.json").without(".no.prefetch.landmark").without_owners();
    ordinary().without_owners().assert_is(&tree);
}

#[test]
fn zstd_chunked_is_zstd_and_its_table_of_contents_is_not_seen() {
    let parts = Parts::chunked();
    let blob = zstd_chunked(&parts);
    assert!(blob.ends_with(b"GNUlInUx"));
    let tree = applied(&blob, media_type::OCI_LAYER_ZSTD, Digest::of(&parts.tar()));
    ordinary().without_owners().assert_is(&tree.without_owners());
}

/// umoci unpacks what eStargz adds as well, so everybody has the same tree of one diffID.
#[test]
fn umoci_sees_the_same_tree_of_estargz() {
    let Some(umoci) = testkit::privilege::root().and_then(|()| testkit::judges::umoci()) else { return };
    let parts = Parts::estargz();
    let dir = tempfile::tempdir().unwrap();
    let (layout, bundle) = (dir.path().join("layout"), dir.path().join("bundle"));
    let layer = Layer::gzip_as(&parts.tar(), estargz(&parts));
    Image::new("lazy:latest").layer(layer).write_layout(&layout);
    let image = format!("{}:latest", layout.display());
    umoci.ok(["unpack", "--image", &image, &bundle.display().to_string()]);
    let ours = applied(&estargz(&parts), media_type::OCI_LAYER_GZIP, Digest::of(&parts.tar()));
    ours.assert_is(&Tree::of_dir(&bundle.join("rootfs")));
}

//! `umoci` and `skopeo` as independent judges: they read our layers and see the trees that we see, and we read
//! theirs.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "tests run the judges")]

mod common;
mod random_tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::CancelToken;
use base::image::{Index, Manifest};
use common::{OVERLAY, Sandbox, Seen, describe, layer_of, layer_over, without_directory_times};
use proptest::prelude::*;
use random_tree::{archive, tree};
use snapshotter::apply::{ApplyOptions, Layering, apply_blob};
use testkit::judges::{Judge, skopeo, umoci};
use testkit::{Image, Layer};

/// A program starts several times for each.
const CASES: u32 = 12;

/// What a judge keeps of a tree. Nobody agrees about the times of directories, and an extended attribute without a
/// value is for programs in Go a pax record that takes itself back.
fn seen(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = without_directory_times(describe(root));
    seen.values_mut().for_each(|file| file.xattrs.retain(|(_, value)| !value.is_empty()));
    seen
}

/// The same without who is whose hard link, which `umoci repack` does not look at.
fn seen_as_files(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = seen(root);
    seen.iter_mut().for_each(|(path, file)| file.first_name.clone_from(path));
    seen
}

/// The tree that these layers make, by us.
fn unpacked(layers: &[&[u8]]) -> Sandbox {
    let sandbox = Sandbox::new();
    for layer in layers {
        sandbox.unpack(layer, Layering::Flat).unwrap();
    }
    sandbox
}

/// The layers that we write for an overlay of these two.
fn rewritten(base: &[u8], change: &[u8]) -> [Vec<u8>; 2] {
    let (lower, upper) = (Sandbox::new(), Sandbox::new());
    lower.unpack(base, Layering::Flat).unwrap();
    let mut options = ApplyOptions::new(OVERLAY);
    options.lower = vec![lower.root()];
    upper.apply(change, &options).unwrap();
    [layer_of(&lower.root()), layer_over(&[lower.root()], &upper.root())]
}

/// An OCI layout in a directory.
struct Layout {
    dir: tempfile::TempDir,
}

impl Layout {
    fn of(layers: &[&[u8]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = Image::new("judged:latest");
        let image = layers.iter().fold(image, |image, layer| image.layer(Layer::tar(layer.to_vec())));
        image.write_layout(&dir.path().join("layout"));
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Unpacks the image and returns its root filesystem.
    fn unpack(&self, umoci: &Judge) -> PathBuf {
        umoci.ok(["unpack", "--image", &self.path("layout:latest"), &self.path("bundle")]);
        self.dir.path().join("bundle/rootfs")
    }

    /// The tree that we make of the image called `tag` in the layout called `name`.
    fn applied(&self, name: &str, tag: &str) -> Sandbox {
        let layout = self.dir.path().join(name);
        let read = |path: PathBuf| std::fs::read(layout.join(path)).unwrap();
        let blob = |digest: &base::Digest| read(PathBuf::from(format!("blobs/sha256/{}", digest.hex())));
        let index: Index = serde_json::from_slice(&read("index.json".into())).unwrap();
        let named = |annotations: &BTreeMap<String, String>| {
            annotations.get("org.opencontainers.image.ref.name").is_some_and(|name| name == tag)
        };
        let entry = index.manifests.iter().find(|entry| named(&entry.annotations)).unwrap();
        let manifest: Manifest = serde_json::from_slice(&blob(&entry.digest)).unwrap();
        let sandbox = Sandbox::new();
        for layer in &manifest.layers {
            let options = ApplyOptions::new(Layering::Flat);
            let bytes = blob(&layer.digest);
            apply_blob(bytes.as_slice(), None, &sandbox.root(), &options, &CancelToken::new()).unwrap();
        }
        sandbox
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Given layers, and the layers that we write of what we unpacked of them.
    #[test]
    fn umoci_unpacks_what_we_unpack(base in tree(false), change in tree(true)) {
        let Some(umoci) = testkit::privilege::root().and_then(|()| umoci()) else { return Ok(()) };
        let (base, change) = (archive(&base), archive(&change));
        let expected = seen(&unpacked(&[&base, &change]).root());
        let theirs = Layout::of(&[&base, &change]);
        prop_assert_eq!(&seen(&theirs.unpack(&umoci)), &expected);
        let [ours, our_change] = rewritten(&base, &change);
        let layout = Layout::of(&[&ours, &our_change]);
        prop_assert_eq!(&seen(&layout.unpack(&umoci)), &expected);
        prop_assert_eq!(&seen(&unpacked(&[&ours, &our_change]).root()), &expected);
    }

    /// Whatever changes in the tree that it unpacked, `umoci repack` writes a layer of it, and we unpack that.
    #[test]
    fn we_unpack_what_umoci_packs(base in tree(false), change in tree(true)) {
        let Some(umoci) = testkit::privilege::root().and_then(|()| umoci()) else { return Ok(()) };
        let layout = Layout::of(&[&archive(&base)]);
        let rootfs = layout.unpack(&umoci);
        let options = ApplyOptions::new(Layering::Flat);
        snapshotter::apply::apply(&archive(&change)[..], &rootfs, &options, &CancelToken::new()).unwrap();
        umoci.ok(["repack", "--image", &layout.path("layout:new"), &layout.path("bundle")]);
        prop_assert_eq!(seen_as_files(&layout.applied("layout", "new").root()), seen_as_files(&rootfs));
    }

    /// skopeo compares every layer with its diffID, and compresses it in its own way.
    #[test]
    fn skopeo_copies_our_layers_in_any_form(base in tree(false), change in tree(true)) {
        let Some(skopeo) = testkit::privilege::root().and_then(|()| skopeo()) else { return Ok(()) };
        let [base, change] = rewritten(&archive(&base), &archive(&change));
        let layout = Layout::of(&[&base, &change]);
        let expected = seen(&unpacked(&[&base, &change]).root());
        let source = format!("oci:{}", layout.path("layout:latest"));
        for format in ["gzip", "zstd"] {
            let target = format!("oci:{}", layout.path(&format!("{format}:new")));
            skopeo.ok(["copy", "-q", "--dest-compress-format", format, &source, &target]);
            let found = skopeo.json(["inspect", "--raw", &target]);
            let types = found["layers"].as_array().unwrap().iter().map(|layer| &layer["mediaType"]);
            let wanted = format!("application/vnd.oci.image.layer.v1.tar+{format}");
            prop_assert!(types.eq([&wanted; 2]), "{}", found);
            prop_assert_eq!(&seen(&layout.applied(format, "new").root()), &expected);
        }
        let archive = format!("docker-archive:{}:judged:latest", layout.path("archive.tar"));
        skopeo.ok(["copy", "-q", &source, &archive]);
    }
}

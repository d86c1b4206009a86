//! Every driver under the suite of `testkit::driver_suite`, each case as a test of its own:
//! `cargo test -p snapshotter --test drivers -- NAME`.
//!
//! The overlay driver is tried as root of the machine, with layers unpacked, packed, and packed over loop devices, and as root of a user namespace, where this program is
//! started again for each case, the native driver as root of the machine.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test is told what to do by its parent"
)]

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use base::image::{Descriptor, media_type};
use base::{CancelToken, Digest, Mount};
use libtest_mimic::{Arguments, Failed, Trial};
use snapshotter::tree::{Entry, Tree as Merged};
use snapshotter::{
    ActiveSnapshot, CommitInfo, Compression, DriverKind, Lease, Options, Policy, SnapshotId, Store,
    StoredForm,
};
use sys::erofs::{Backing, Way};
use sys::stat::Kind;
use sys::xattr::{self, Target};
use testkit::driver_suite::{CASES, Case, Id, Prepared, Subject};
use testkit::tree::{self, Tree, path_text};
use testkit::user_namespace;

/// Names the case for a process that was started in a user namespace.
const CASE: &str = "SNAPSHOTTER_TEST_CASE";

fn main() -> ExitCode {
    // As the engine does: many layers are many open directories.
    sys::open_files::raise_limit();
    if let Ok(name) = std::env::var(CASE) {
        assert!(user_namespace::is_inside());
        let case = CASES.iter().find(|case| case.name == name);
        case.expect("a case of the suite").run(&|root| open(root, DriverKind::Overlay, Options::default()));
        return ExitCode::SUCCESS;
    }
    if testkit::privilege::root().is_none() {
        return ExitCode::SUCCESS;
    }
    let trials = CASES.iter().flat_map(|case| {
        let here = |driver: DriverKind| {
            let name = format!("{driver}::{}", case.name);
            Trial::test(name, move || {
                case.run(&|root| open(root, driver, form(StoredForm::Dir)));
                Ok(())
            })
        };
        let packed = |name: &str, layer_way: Option<Way>| {
            Trial::test(format!("{name}::{}", case.name), move || {
                let options = || Options { layer_way, ..form(StoredForm::Packed) };
                case.run(&|root| open(root, DriverKind::Overlay, options()));
                Ok(())
            })
        };
        let over_loop = Way { backing: Backing::Loop, attached: false };
        let (packed, over_loop) = (packed("packed", None), packed("packed_over_loop", Some(over_loop)));
        let inside = format!("overlay_in_a_user_namespace::{}", case.name);
        let inside = Trial::test(inside, || run_in_user_namespace(case));
        [here(DriverKind::Overlay), here(DriverKind::Native), packed, over_loop, inside]
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn run_in_user_namespace(case: &Case) -> Result<(), Failed> {
    let result = user_namespace::run_self(&[], (CASE, case.name));
    result.unwrap_or(Ok(())).map_err(Failed::from)
}

/// A store, and what holds its snapshots.
struct StoreSubject {
    store: Store,
    leases: Mutex<HashMap<Id, Lease>>,
}

fn form(layer_form: StoredForm) -> Options {
    Options { layer_form, ..Options::default() }
}

fn open(root: &Path, driver: DriverKind, options: Options) -> Box<dyn Subject> {
    let store = Store::open(root, Options { driver: Some(driver), ..options }).unwrap();
    if let Some(obstacle) = store.packing_obstacle().unwrap() {
        println!("layers are unpacked: {obstacle}");
    }
    Box::new(StoreSubject { store, leases: Mutex::default() })
}

impl StoreSubject {
    fn keep(&self, id: SnapshotId, lease: Lease) -> Id {
        self.leases.lock().unwrap().insert(id.to_u64(), lease);
        id.to_u64()
    }
}

impl Subject for StoreSubject {
    fn prepare(&self, parent: Option<Id>) -> Box<dyn Prepared + '_> {
        let lease = self.store.lease("suite").unwrap();
        let active = self.store.prepare(&lease, parent.map(SnapshotId::from_u64)).unwrap();
        Box::new(Preparation { subject: self, lease, active })
    }

    fn view(&self, id: Id) -> Mount {
        let leases = self.leases.lock().unwrap();
        self.store.mount_read_only(&leases[&id], SnapshotId::from_u64(id)).unwrap()
    }

    fn tree(&self, id: Id) -> Tree {
        merged_tree(&Merged::overlay(self.store.view_dirs(SnapshotId::from_u64(id)).unwrap()).unwrap())
    }

    fn layer(&self, id: Id) -> Vec<u8> {
        let lease = self.store.lease("export").unwrap();
        let id = SnapshotId::from_u64(id);
        let layer = self.store.layer(&lease, id, Compression::None, &CancelToken::new()).unwrap();
        self.store.read_blob(&layer.descriptor.digest, 1 << 30).unwrap().unwrap()
    }

    fn apply(&self, parent: Option<Id>, layer: &[u8]) -> Id {
        let lease = self.store.lease("apply").unwrap();
        let blob = self.store.put_blob(&lease, layer).unwrap();
        let layer = Descriptor::new(media_type::OCI_LAYER, blob.digest, blob.size);
        let parent = parent.map(SnapshotId::from_u64);
        let expected: Option<&Digest> = Some(&blob.digest);
        let id = self.store.apply_layer(&lease, parent, &layer, expected, &CancelToken::new()).unwrap();
        self.keep(id, lease)
    }

    fn remove(&self, id: Id) {
        self.leases.lock().unwrap().remove(&id);
        self.store.gc(Policy::DROP_CACHE).unwrap();
        assert!(self.store.check().unwrap().is_clean());
    }

    fn layers_on_disk(&self) -> usize {
        std::fs::read_dir(self.store.root().join("snapshots-v1")).unwrap().count()
    }
}

struct Preparation<'s> {
    subject: &'s StoreSubject,
    lease: Lease,
    active: ActiveSnapshot,
}

impl Prepared for Preparation<'_> {
    fn mount(&self) -> Mount {
        self.active.mount().unwrap()
    }

    fn commit(self: Box<Self>) -> Id {
        let id = self.active.commit(CommitInfo::default()).unwrap();
        self.subject.keep(id, self.lease)
    }
}

/// A merged view as the suite's value.
fn merged_tree(merged: &Merged) -> Tree {
    let mut tree = Tree::new();
    let mut first_names: HashMap<(u64, u64), String> = HashMap::new();
    let mut waiting = vec![merged.root().unwrap()];
    while let Some(dir) = waiting.pop() {
        let open = merged.open_dir(&dir).unwrap();
        for entry in open.entries().unwrap() {
            let (path, stat) = (path_text(entry.path().as_os_str().as_bytes()), *entry.stat());
            let inode = (stat.device, stat.inode);
            if let Some(first) = first_names.get(&inode).filter(|_| stat.links > 1 && !stat.is_dir()) {
                tree = tree.hard_link(&path, first);
                continue;
            }
            first_names.insert(inode, path.clone());
            let mode = if stat.kind == Kind::Symlink { 0o777 } else { stat.mode };
            tree = tree.with(&path, kind_of(merged, &entry), mode).owner(&path, stat.uid, stat.gid);
            let target = Target::Name(open.holder(&entry), entry.name());
            for xattr in xattr::read_all(target, entry.path(), is_seen).unwrap() {
                tree = tree.xattr(&path, xattr.name.to_str().unwrap(), &xattr.value);
            }
            if entry.is_dir() {
                waiting.push(entry);
            }
        }
    }
    tree
}

/// overlayfs hides its own attributes.
fn is_seen(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
}

fn kind_of(merged: &Merged, entry: &Entry) -> tree::Kind {
    let device = (rustix::fs::major(entry.stat().rdev), rustix::fs::minor(entry.stat().rdev));
    match entry.kind() {
        Kind::File => tree::Kind::File(merged.read(entry, 1 << 30).unwrap()),
        Kind::Directory => tree::Kind::Dir,
        Kind::Symlink => tree::Kind::Symlink(path_text(merged.read_link(entry).unwrap().as_bytes())),
        Kind::CharDevice => tree::Kind::CharDevice(device.0, device.1),
        Kind::BlockDevice => tree::Kind::BlockDevice(device.0, device.1),
        Kind::Fifo => tree::Kind::Fifo,
        Kind::Socket => tree::Kind::Socket,
    }
}

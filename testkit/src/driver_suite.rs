//! What every snapshot driver must do, whatever it makes its layers of: a suite for anybody's driver.
//!
//! A driver takes part by an implementation of [`Subject`]; the suite then runs each of [`CASES`] on a new store.
//! A case works the way a container does, through the kernel and a real mount, and compares what comes of it
//! with a [`Tree`] that it states itself. Every result is looked at in four ways that have to agree:
//!
//! * mounted, as a container would see it;
//! * merged in user space, as a build reads it;
//! * as the exported layers say, put together by the rules of the OCI image specification (`layer.md`);
//! * mounted again after those layers were unpacked into another store.
//!
//! ```
//! use testkit::driver_suite::{CASES, Make};
//!
//! fn try_driver(make: Make<'_>) {
//!     CASES.iter().for_each(|case| case.run(make));
//! }
//! ```

mod attributes;
mod depth;
mod kinds;
mod layering;
mod lifetime;
mod links;
mod no_change;

use std::path::Path;

use base::Mount;
use tempfile::TempDir;

use crate::mounted;
use crate::tree::Tree;

/// A committed snapshot of a subject.
pub type Id = u64;

/// A store with the driver under test. Methods panic when they fail.
pub trait Subject {
    /// Begins a snapshot on top of another one, or of nothing.
    fn prepare(&self, parent: Option<Id>) -> Box<dyn Prepared + '_>;

    /// What to mount to see a committed snapshot.
    fn view(&self, id: Id) -> Mount;

    /// The same, seen without mounting anything.
    fn tree(&self, id: Id) -> Tree;

    /// The uncompressed layer of a committed snapshot: what it changes in its parent.
    fn layer(&self, id: Id) -> Vec<u8>;

    /// A committed snapshot of this layer on top of another one, or of nothing.
    fn apply(&self, parent: Option<Id>, layer: &[u8]) -> Id;

    /// Gives up a committed snapshot, and removes all that nobody needs any more.
    fn remove(&self, id: Id);

    /// How many directories of layers are on the disk.
    fn layers_on_disk(&self) -> usize;
}

/// A snapshot that is written to. Dropped, it leaves nothing behind.
pub trait Prepared {
    /// What to mount to write to it.
    fn mount(&self) -> Mount;

    /// Ends the writing. It is not mounted any more.
    fn commit(self: Box<Self>) -> Id;
}

/// Makes a store with the driver under test below a path that does not exist yet.
pub type Make<'m> = &'m dyn Fn(&Path) -> Box<dyn Subject>;

/// One thing that a driver must do.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, as a test's.
    pub name: &'static str,
    work: fn(&Bench<'_>),
}

impl Case {
    /// Runs the case on a store of its own. Panics with what is wrong.
    pub fn run(&self, make: Make<'_>) {
        (self.work)(&Bench::new(make));
    }
}

/// All of them.
pub const CASES: [Case; 26] = [
    Case { name: "layers_add_and_replace", work: layering::layers_add_and_replace },
    Case { name: "deleted_files_are_gone", work: layering::deleted_files_are_gone },
    Case { name: "deleted_and_made_again", work: layering::deleted_and_made_again },
    Case { name: "kinds_replace_each_other", work: layering::kinds_replace_each_other },
    Case { name: "an_opaque_directory", work: layering::an_opaque_directory },
    Case { name: "an_emptied_directory_stays", work: layering::an_emptied_directory_stays },
    Case { name: "renamed_directories", work: layering::renamed_directories },
    Case { name: "odd_names", work: layering::odd_names },
    Case { name: "hard_links_within_a_layer", work: links::within_a_layer },
    Case { name: "hard_links_across_layers", work: links::across_layers },
    Case { name: "one_name_of_several_is_changed", work: links::one_name_is_changed },
    Case { name: "chown_of_one_file_of_many", work: attributes::chown_of_one_file_of_many },
    Case { name: "modes_and_owners", work: attributes::modes_and_owners },
    Case { name: "extended_attributes", work: attributes::extended_attributes },
    Case { name: "file_capabilities", work: attributes::file_capabilities },
    Case { name: "access_control_lists", work: attributes::access_control_lists },
    Case { name: "the_root_directory", work: attributes::the_root_directory },
    Case { name: "device_nodes", work: kinds::device_nodes },
    Case { name: "fifos_and_sockets", work: kinds::fifos_and_sockets },
    Case { name: "files_with_holes", work: kinds::files_with_holes },
    Case { name: "what_is_only_touched_is_no_change", work: no_change::only_touched },
    Case { name: "what_comes_and_goes_is_no_change", work: no_change::comes_and_goes },
    Case { name: "five_hundred_layers", work: depth::five_hundred_layers },
    Case { name: "long_paths_of_layers", work: depth::long_paths_of_layers },
    Case { name: "views_refuse_writes_and_parents_stay", work: lifetime::views_and_parents },
    Case { name: "what_is_given_up_is_removed", work: lifetime::given_up },
];

/// A new store, and what cases do with it.
struct Bench<'m> {
    make: Make<'m>,
    subject: Box<dyn Subject>,
    dir: TempDir,
}

impl<'m> Bench<'m> {
    fn new(make: Make<'m>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { make, subject: make(&dir.path().join("store")), dir }
    }

    /// A snapshot with what `work` changes, given the path of the mounted root.
    fn change(&self, parent: Option<Id>, work: impl FnOnce(&Path) + Send) -> Id {
        let prepared = self.subject.prepare(parent);
        mounted::with(&prepared.mount(), work);
        prepared.commit()
    }

    /// The snapshots that come of these changes, each on top of the one before.
    fn chain(&self, changes: &[fn(&Path)]) -> Vec<Id> {
        let mut chain = Vec::new();
        for change in changes {
            chain.push(self.change(chain.last().copied(), change));
        }
        chain
    }

    /// What a layer says.
    fn layer(&self, id: Id) -> Tree {
        Tree::of_tar(self.subject.layer(id).as_slice())
    }

    /// What is seen of a snapshot, mounted.
    fn mounted(&self, id: Id) -> Tree {
        mounted::with(&self.subject.view(id), Tree::of_dir)
    }

    /// The last snapshot of `chain` is `expected`, however it is looked at.
    fn expect(&self, chain: &[Id], expected: &Tree) {
        self.expect_seen(chain, expected);
        self.expect_exported(chain, expected);
    }

    /// In this store.
    fn expect_seen(&self, chain: &[Id], expected: &Tree) {
        let top = *chain.last().expect("a chain has a snapshot");
        expected.assert_shows(&self.mounted(top), "mounted");
        expected.assert_shows(&self.subject.tree(top), "merged in user space");
    }

    /// By its layers, alone and in another store.
    fn expect_exported(&self, chain: &[Id], expected: &Tree) {
        let layers: Vec<Vec<u8>> = chain.iter().map(|id| self.subject.layer(*id)).collect();
        let tree = layers.iter().fold(Tree::new(), |tree, layer| tree.with_layer(Tree::of_tar(&layer[..])));
        expected.assert_shows(&tree, "by its layers");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let other = (self.make)(&dir.path().join("store"));
        let applied = layers.iter().fold(None, |parent, layer| Some(other.apply(parent, layer)));
        let applied = applied.expect("a chain has a snapshot");
        expected.assert_shows(&mounted::with(&other.view(applied), Tree::of_dir), "unpacked again");
        expected.assert_shows(&other.tree(applied), "unpacked again and merged in user space");
    }
}

/// Writes a file with mode 0644, whatever the umask is.
fn put(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    set_mode(path, 0o644);
}

/// Makes a directory with mode 0755, and those above it.
fn make_dir(path: &Path) {
    if !path.exists() {
        make_dir(path.parent().expect("the root exists"));
        std::fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        set_mode(path, 0o755);
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Runs a program of the host, as a step of a build would run its own. It sees what is mounted.
fn run(program: &str, args: &[&Path]) {
    let output = std::process::Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

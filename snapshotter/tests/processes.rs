//! Several real processes on one store, some of which are killed in the middle of their work.
//!
//! A process is this test binary again, running only the test [`worker`], which does what the environment
//! variable `SNAPSHOTTER_TEST_WORK` says. It tells how far it is by lines on its standard output.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test starts processes and speaks with them"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use base::{CancelToken, Key};
use snapshotter::{
    CacheMount, CacheMountRequest, CacheValue, CommitInfo, DriverKind, Lease, Options, Policy, Sharing, Store,
};

const WORK: &str = "SNAPSHOTTER_TEST_WORK";
const ROOT: &str = "SNAPSHOTTER_TEST_ROOT";

fn open(root: &Path) -> Store {
    Store::open(root, Options { driver: Some(DriverKind::Native), ..Options::default() }).unwrap()
}

/// A process that works on a store.
struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(work: &str, root: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--nocapture", "--test-threads=1"])
            .env(WORK, work)
            .env(ROOT, root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits for the line that begins with `said:` and returns the rest of it.
    fn wait_for_word(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the worker ended without a word");
            if let Some(at) = line.find("said:") {
                return line[at + 5..].trim().to_owned();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn finish(mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

fn say(word: &str) {
    println!("said:{word}");
    std::io::stdout().flush().unwrap();
}

/// Stays until killed.
fn hang() {
    loop {
        std::thread::park();
    }
}

/// Not a test by itself when the parent asks for work; else checks that work which does not exist fails.
#[test]
fn worker() {
    let (Ok(work), Some(root)) = (std::env::var(WORK), std::env::var_os(ROOT)) else {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Worker::start("no such work", &dir.path().join("store")).finish());
        return;
    };
    let store = open(Path::new(&root));
    match work.split_once(' ').unwrap_or((&work, "")) {
        ("hammer", seed) => hammer(&store, seed.parse().unwrap()),
        ("collect", _) => {
            for _ in 0..30 {
                store.gc(Policy::DROP_CACHE).unwrap();
            }
        }
        ("die-ingesting", _) => {
            let lease = store.lease("dying").unwrap();
            let mut writer = store.ingest(&lease).unwrap();
            writer.write_all(&[1; 100_000]).unwrap();
            say("ingesting");
            hang();
        }
        ("die-preparing", _) => {
            let lease = store.lease("dying").unwrap();
            let base = store.prepare(&lease, None).unwrap().commit(CommitInfo::default()).unwrap();
            let active = store.prepare(&lease, Some(base)).unwrap();
            std::fs::write(active.layer_dir().join("half"), b"x").unwrap();
            say("preparing");
            hang();
        }
        ("die-at-random", seed) => {
            say("working");
            hammer(&store, seed.parse().unwrap());
        }
        ("hold-claim", _) => {
            let _claim = store.claim(&key(1), &CancelToken::new()).unwrap();
            say("claimed");
            hang();
        }
        ("compute", _) => compute_once(&store),
        ("count-locked", _) => count_alone(&store),
        ("hold-mount", sharing) => {
            let lease = store.lease("holder").unwrap();
            let mount = cache_mount(&store, &lease, sharing_of(sharing));
            say(mount.dir().to_str().unwrap());
            hang();
        }
        (other, _) => panic!("no such work: {other}"),
    }
}

fn key(number: u8) -> Key {
    Key::from_bytes([number; 32])
}

/// Uses everything a build uses, and checks what it finds.
fn hammer(store: &Store, seed: u8) {
    let mut parent = None;
    for round in 0..40u8 {
        let lease = store.lease("hammer").unwrap();
        let content = [round % 5; 5000];
        let blob = store.put_blob(&lease, &content).unwrap();
        assert_eq!(store.read_blob(&blob.digest, 5000).unwrap().unwrap(), content);
        let cached = store.cache_get(&lease, &key(round % 7)).unwrap().and_then(|value| value.snapshot);
        if let Some(id) = cached {
            // What was found under a lease stays, with all below it.
            for dir in store.view_dirs(id).unwrap() {
                assert!(dir.join("by").exists());
            }
        }
        parent = if round % 8 == 0 {
            None
        } else {
            cached.or(parent.filter(|id| store.hold(&lease, *id).is_ok()))
        };
        let active = store.prepare(&lease, parent).unwrap();
        std::fs::write(active.layer_dir().join("by"), [seed]).unwrap();
        let id = active.commit(CommitInfo::default()).unwrap();
        let value = CacheValue { snapshot: Some(id), ..CacheValue::default() };
        store.cache_put(&key(round % 7), value).unwrap();
        store.cache_link(&key(200), 0, &key(seed), &key(round % 7)).unwrap();
        parent = Some(id);
    }
}

/// Does the work of key 1 unless another process has done it, and counts how often it was done.
fn compute_once(store: &Store) {
    let lease = store.lease("compute").unwrap();
    let _claim = store.claim(&key(1), &CancelToken::new()).unwrap();
    if store.cache_get(&lease, &key(1)).unwrap().is_none() {
        let id = store.prepare(&lease, None).unwrap().commit(CommitInfo::default()).unwrap();
        store.kv_put("computed", &id.to_u64().to_le_bytes(), b"").unwrap();
        store.cache_put(&key(1), CacheValue { snapshot: Some(id), ..CacheValue::default() }).unwrap();
    }
}

fn sharing_of(name: &str) -> Sharing {
    match name {
        "shared" => Sharing::Shared,
        "private" => Sharing::Private,
        "locked" => Sharing::Locked,
        other => panic!("no such sharing: {other}"),
    }
}

fn cache_mount(store: &Store, lease: &Lease, sharing: Sharing) -> CacheMount {
    let (uid, gid) = sys::rootdir::own_ids();
    let request = CacheMountRequest { id: "cache", sharing, seed: None, mode: 0o755, uid, gid };
    store.cache_mount(lease, &request, &CancelToken::new()).unwrap()
}

const ROUNDS: u32 = 20;

/// Counts in a file, as only one that is alone can.
fn count_alone(store: &Store) {
    for _ in 0..ROUNDS {
        let lease = store.lease("counter").unwrap();
        let mount = cache_mount(store, &lease, Sharing::Locked);
        let file = mount.dir().join("count");
        let count: u32 = std::fs::read_to_string(&file).map_or(0, |text| text.parse().unwrap());
        std::fs::write(&file, (count + 1).to_string()).unwrap();
    }
}

fn assert_all_goes(store: &Store) {
    assert!(store.check().unwrap().is_sound(), "{:?}", store.check().unwrap());
    store.gc(Policy::DROP_CACHE).unwrap();
    assert!(store.check().unwrap().is_clean(), "{:?}", store.check().unwrap());
}

#[test]
fn processes_and_a_collector_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let works = ["hammer 1", "hammer 2", "hammer 3", "collect"];
    let workers = works.map(|work| Worker::start(work, &root));
    for worker in workers {
        assert!(worker.finish());
    }
    assert_all_goes(&open(&root));
}

#[test]
fn killed_writers_leave_only_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    for work in ["die-ingesting", "die-preparing"] {
        let mut worker = Worker::start(work, store.root());
        worker.wait_for_word();
        // While it lives, nothing of it is touched.
        assert_eq!(store.gc(Policy::DROP_CACHE).unwrap().snapshots, 0);
        worker.kill();
        assert!(!store.check().unwrap().is_clean());
        assert_all_goes(&store);
    }
    let usage = store.usage().unwrap();
    assert_eq!(usage.total_bytes(), usage.metadata_bytes);
}

#[test]
fn processes_killed_at_any_moment_break_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    for seed in 0..12u8 {
        let mut dying = Worker::start(&format!("die-at-random {seed}"), &root);
        dying.wait_for_word();
        // The moment of death depends on how fast another process is.
        let store = open(&root);
        hammer_a_little(&store, seed);
        dying.kill();
        assert!(store.check().unwrap().is_sound());
        if seed % 3 == 0 {
            store.gc(Policy::KEEP_CACHE).unwrap();
        }
    }
    assert_all_goes(&open(&root));
}

fn hammer_a_little(store: &Store, rounds: u8) {
    for round in 0..rounds {
        let lease = store.lease("other").unwrap();
        store.put_blob(&lease, &[round; 100]).unwrap();
    }
}

#[test]
fn a_step_is_computed_by_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let workers: Vec<Worker> = (0..4).map(|_| Worker::start("compute", &root)).collect();
    for worker in workers {
        assert!(worker.finish());
    }
    assert_eq!(open(&root).kv_list("computed").unwrap().len(), 1);
}

#[test]
fn a_claim_dies_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let mut holder = Worker::start("hold-claim", store.root());
    holder.wait_for_word();
    assert!(store.try_claim(&key(1)).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.claim(&key(1), &CancelToken::new()).unwrap());
        holder.kill();
        drop(waiting.join().unwrap());
    });
    store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(store.try_claim(&key(1)).unwrap().is_some());
}

#[test]
fn processes_use_a_locked_cache_mount_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let workers: Vec<Worker> = (0..4).map(|_| Worker::start("count-locked", &root)).collect();
    for worker in workers {
        assert!(worker.finish());
    }
    let store = open(&root);
    let mount = cache_mount(&store, &store.lease("test").unwrap(), Sharing::Shared);
    assert_eq!(std::fs::read_to_string(mount.dir().join("count")).unwrap(), (4 * ROUNDS).to_string());
    assert_eq!(store.cache_mounts().unwrap().len(), 1);
}

#[test]
fn processes_share_a_cache_mount_or_have_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let holding = |sharing: &str| {
        let mut worker = Worker::start(&format!("hold-mount {sharing}"), store.root());
        let dir = worker.wait_for_word();
        (worker, dir)
    };
    let (first, first_dir) = holding("shared");
    let (second, second_dir) = holding("shared");
    let (private, private_dir) = holding("private");
    assert_eq!(first_dir, second_dir);
    assert_ne!(first_dir, private_dir);
    for worker in [first, second, private] {
        worker.kill();
    }
    assert_eq!(store.cache_mounts().unwrap().len(), 2);
    assert_all_goes(&store);
}

#[test]
fn a_cache_mount_in_use_stays_until_its_user_dies() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let mut holder = Worker::start("hold-mount locked", store.root());
    let held = std::path::PathBuf::from(holder.wait_for_word());
    assert_eq!(store.gc(Policy::DROP_CACHE).unwrap().loose, 0);
    assert!(held.exists() && store.cache_mounts().unwrap()[0].in_use);
    let lease = store.lease("test").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cache_mount(&store, &lease, Sharing::Locked));
        holder.kill();
        assert_eq!(waiting.join().unwrap().dir(), held);
    });
    assert_eq!(store.gc(Policy::DROP_CACHE).unwrap().loose, 1);
    assert!(!held.exists());
}

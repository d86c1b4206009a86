//! What it costs to give back disk space: a collection that drops 2,000 layers of 20 files each, and one
//! that finds nothing to do. Prints milliseconds, and how many
//! bytes or snapshots it was about.
//!
//! Run by `cargo bench -p snapshotter --bench collect`, with a directory on the disk to be measured in
//! `LAPSTRAKE_BENCH_DIR` (else under the target directory). It checks nothing: that is what the tests are
//! for.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark prints and reads the clock"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base::Key;
use snapshotter::{CacheValue, CacheWrite, CommitInfo, Lease, Options, Policy, SnapshotId, Store};

/// Chains of layers, and how many layers each has.
const CHAINS: u32 = 100;
const DEPTH: u32 = 20;
/// Files of each layer, in four directories.
const FILES: u32 = 20;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let base = std::env::var_os("LAPSTRAKE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let work = tempfile::tempdir_in(base)?;
    let store = Store::open(&work.path().join("store"), Options::default())?;
    fill(&store)?;
    measure("collect, nothing to do", || Ok(store.gc(Policy::KEEP_CACHE)?.bytes))?;
    measure("count the usage, first time", || Ok(store.usage()?.total_bytes()))?;
    measure("count the usage again", || Ok(store.usage()?.total_bytes()))?;
    let mut decided = None;
    measure("drop 2,000 layers, rows and names", || {
        let collection = store.collect(&[Policy::DROP_CACHE])?;
        let snapshots = collection.freed().snapshots;
        decided = Some(collection);
        Ok(snapshots)
    })?;
    measure("drop 2,000 layers, files", || match decided {
        Some(collection) => Ok(collection.remove_files()?.bytes),
        None => Ok(0),
    })
}

fn fill(store: &Store) -> Outcome<()> {
    let lease = store.lease("bench")?;
    for chain in 0..CHAINS {
        let mut parent = None;
        for depth in 0..DEPTH {
            parent = Some(layer(store, &lease, parent, chain * DEPTH + depth)?);
        }
    }
    Ok(store.sync()?)
}

fn layer(store: &Store, lease: &Lease, parent: Option<SnapshotId>, number: u32) -> Outcome<SnapshotId> {
    let active = store.prepare(lease, parent)?;
    write_files(active.layer_dir())?;
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    let value = CacheValue { snapshot: Some(active.id()), cost_ms: 5, ..CacheValue::default() };
    let cache = vec![CacheWrite::Value { output: Key::from_bytes(key), value }];
    Ok(active.commit(CommitInfo { cache, ..CommitInfo::default() })?)
}

fn write_files(dir: &Path) -> Outcome<()> {
    for file in 0..FILES {
        let dir = dir.join(format!("part{}", file % 4));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("file{file}")), [7; 4096])?;
    }
    Ok(())
}

fn measure(what: &str, run: impl FnOnce() -> Outcome<u64>) -> Outcome<()> {
    let started = Instant::now();
    let count = run()?;
    println!("{what:<40} {:>8} ms   {count}", started.elapsed().as_millis());
    Ok(())
}

//! What the store's own bookkeeping costs: opening, preparing and committing an empty snapshot, looking up
//! a cache entry, storing a small blob. Prints the median and the slowest of many runs, in microseconds.
//!
//! Run by `cargo bench -p snapshotter --bench store`, with a directory on the disk to be measured in
//! `LAPSTRAKE_BENCH_DIR` (else under the target directory). It checks nothing: that is what the tests are
//! for.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark prints and reads the clock"
)]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use base::Key;
use snapshotter::{CacheValue, CommitInfo, Options, Store};

const RUNS: u32 = 300;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let base = std::env::var_os("LAPSTRAKE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let work = tempfile::tempdir_in(base)?;
    let root = work.path().join("store");
    let started = Instant::now();
    drop(Store::open(&root, Options::default())?);
    println!("{:<40} {:>8} µs", "open, new store", started.elapsed().as_micros());
    measure("open and close, warm", |_| Ok(Store::open(&root, Options::default())?))?;

    let store = Store::open(&root, Options::default())?;
    let lease = store.lease("bench")?;
    let parent = store.prepare(&lease, None)?.commit(CommitInfo::default())?;
    measure("lease and release", |_| Ok(store.lease("bench")?))?;
    measure("prepare and commit, empty", |_| {
        store.prepare(&lease, Some(parent))?.commit(CommitInfo::default())?;
        Ok(())
    })?;
    measure("cache_put", |run| {
        let snapshot = store.prepare(&lease, Some(parent))?.commit(CommitInfo::default())?;
        store.cache_put(&key(run), CacheValue { snapshot: Some(snapshot), ..CacheValue::default() })?;
        Ok(())
    })?;
    measure("cache_get, miss", |run| Ok(store.cache_get(&lease, &key(run + 1_000_000))?))?;
    measure("cache_get, hit under the same lease", |run| Ok(store.cache_get(&lease, &key(run))?))?;
    let other = store.lease("bench")?;
    measure("cache_get, hit under a new lease", |run| Ok(store.cache_get(&other, &key(run))?))?;
    measure("put_blob, 1 KiB", |run| {
        let mut bytes = vec![0; 1024];
        bytes[..4].copy_from_slice(&run.to_le_bytes());
        Ok(store.put_blob(&lease, &bytes)?)
    })?;
    let started = Instant::now();
    store.sync()?;
    println!("{:<40} {:>8} µs", "sync, all of the above", started.elapsed().as_micros());
    measure("sync, nothing new", |_| Ok(store.sync()?))?;
    drop((store, lease, other));
    measure("open and close, after all of this", |_| Ok(Store::open(&root, Options::default())?))
}

fn key(number: u32) -> Key {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    Key::from_bytes(bytes)
}

fn measure<T>(what: &str, mut run: impl FnMut(u32) -> Outcome<T>) -> Outcome<()> {
    let mut times = Vec::new();
    for number in 0..RUNS {
        let started = Instant::now();
        run(number)?;
        times.push(started.elapsed().as_micros());
    }
    times.sort_unstable();
    println!("{what:<40} {:>8} µs   slowest {:>6} µs", times[times.len() / 2], times[times.len() - 1]);
    Ok(())
}

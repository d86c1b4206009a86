//! How long copying and hashing a build context takes, beside `cp -a` on the same files.
//!
//! `cargo bench -p snapshotter --bench copy [-- FILES [FILES_PER_DIRECTORY [THREADS]]]`. Without
//! arguments: 50 000 files of 4 KiB in directories of 100, with as many threads as there are processors.
//! Everything happens in the directory for temporary files (`TMPDIR`).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base::CancelToken;
use base::time::Clock as _;
use snapshotter::content_key::{KeyOptions, Modes, content_key};
use snapshotter::copy::{CopyOptions, copy};
use snapshotter::select::Selection;
use snapshotter::stat_cache::StatCache;
use snapshotter::tree::Tree;
use snapshotter::writer::{LayerWriter, WriterOptions};

const SIZE: usize = 4096;
const ROUNDS: usize = 5;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let files = numbers.next().unwrap_or(50_000);
    let per_dir = numbers.next().unwrap_or(100);
    if let Some(threads) = numbers.next() {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("one pool");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let context = dir.path().join("context");
    make_context(&context, files, per_dir);
    println!(
        "{files} files of {SIZE} bytes, {per_dir} per directory, {} threads",
        rayon::current_num_threads()
    );
    report("cp -a", dir.path(), |target| cp(&context, target));
    report("copy", dir.path(), |target| copy_context(&context, target, None, false));
    report("copy with key", dir.path(), |target| copy_context(&context, target, None, true));
    report("key, nothing remembered", dir.path(), |_| key(&context, None));
    let cache = dir.path().join("cache");
    report("copy with key, filling a cache", dir.path(), |target| {
        copy_context(&context, target, Some(&cache), true)
    });
    report("loading the cache", dir.path(), |_| assert!(!load(&cache).is_empty()));
    report("key, all remembered", dir.path(), |_| key(&context, Some(&cache)));
}

fn make_context(context: &Path, files: usize, per_dir: usize) {
    for index in 0..files {
        let dir = context.join(format!("d{}", index / per_dir));
        if index % per_dir == 0 {
            std::fs::create_dir_all(&dir).expect("a directory");
        }
        let content: Vec<u8> = (0..SIZE).map(|byte| (byte * 31 + index) as u8).collect();
        std::fs::write(dir.join(format!("f{index}")), content).expect("a file");
    }
}

/// Prints the best and the median of some rounds, each into a new directory, and the processor time of the
/// best, which says more than the clock when the machine is busy.
fn report(what: &str, dir: &Path, mut run: impl FnMut(&Path)) {
    let mut times: Vec<(Duration, Duration)> = (0..ROUNDS)
        .map(|_| {
            let target = dir.join("target");
            std::fs::create_dir(&target).expect("a directory");
            // Writing back what the last round left must not be this round's time.
            rustix::fs::syncfs(std::fs::File::open(dir).expect("open")).expect("synced");
            let (start, processor) = (Instant::now(), processor_time());
            run(&target);
            let times = (start.elapsed(), processor_time() - processor);
            std::fs::remove_dir_all(&target).expect("removed");
            times
        })
        .collect();
    times.sort();
    let (best, median, processor) = (times[0].0, times[ROUNDS / 2].0, times[0].1);
    println!("{what:32} best {best:>8.1?}  median {median:>8.1?}  processor {processor:>8.1?}");
}

/// Time in user and kernel mode of this process and its children that ended (`proc_pid_stat(5)`).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(4).map(|n| n.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

fn cp(context: &Path, target: &Path) {
    let status = Command::new("cp").arg("-a").arg(context).arg(target).status().expect("cp");
    assert!(status.success());
}

fn load(cache: &Path) -> StatCache {
    StatCache::load(cache, sys::clock::SystemClock.now())
}

const KEY: KeyOptions = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };

fn key(context: &Path, cache: Option<&Path>) {
    let tree = Tree::directory(context, None).expect("a tree");
    let selection = Selection::all(&tree).expect("a selection");
    let cache = cache.map(load);
    let key = content_key(&tree, &selection, &KEY, cache.as_ref(), &CancelToken::new()).expect("a key");
    std::hint::black_box(key);
    cache.map(|cache| cache.save().expect("saved"));
}

fn copy_context(context: &Path, target: &Path, cache: Option<&Path>, with_key: bool) {
    let now = sys::clock::SystemClock.now();
    let tree = Tree::directory(context, None).expect("a tree");
    let selection = Selection::all(&tree).expect("a selection");
    let options = WriterOptions { full_copy: false, userxattr: false, time: now };
    let writer = LayerWriter::new(target, None, options).expect("a writer");
    let cache = cache.map(|path| StatCache::load(path, now));
    let options = CopyOptions {
        destination: Path::new("/app/"),
        dest_is_dir: true,
        chown: Some((0, 0)),
        key: with_key.then_some(KEY),
        stat_cache: cache.as_ref(),
        ..CopyOptions::as_it_is()
    };
    copy(&writer, &tree, &selection, &options, &CancelToken::new()).expect("copied");
    cache.map(|cache| cache.save().expect("saved"));
}

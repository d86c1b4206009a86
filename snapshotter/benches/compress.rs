//! Compresses a layer of 500 MB, beside `pigz` and `zstd -T0`, and prints times and ratios.
//!
//! Run by `cargo bench -p snapshotter --bench compress`, with a directory for the files in `LAPSTRAKE_BENCH_DIR`
//! (else under the target directory). The layer is the beginning of a tar of this machine's `/usr`. The candidates
//! take turns; each figure is the median of the runs. Ours also hash what goes in and what comes out, as an export
//! does.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a benchmark prints and runs pigz")]

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use snapshotter::compress::{Compression, LayerEncoder};

const SIZE: u64 = 500_000_000;
const RUNS: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is measured, and how.
type Candidate<'a> = (&'a str, Box<dyn Fn() -> Outcome<()> + 'a>);

fn main() -> Outcome<()> {
    let base = std::env::var_os("LAPSTRAKE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let work = tempfile::tempdir_in(base)?;
    let (layer, out) = (work.path().join("layer.tar"), work.path().join("out"));
    make_layer(&layer)?;
    let peer = |program: &'static str, arguments: &'static [&str]| -> Box<dyn Fn() -> Outcome<()> + '_> {
        let (layer, out) = (&layer, &out);
        Box::new(move || filter(program, arguments, layer, out))
    };
    let hashed = |filter: &'static str| -> Box<dyn Fn() -> Outcome<()> + '_> {
        let (layer, out) = (&layer, &out);
        Box::new(move || filter_and_hash(filter, layer, out))
    };
    let ours = |compression: Compression, cores: Cores| -> Box<dyn Fn() -> Outcome<()> + '_> {
        let (layer, out) = (&layer, &out);
        Box::new(move || on(cores, || encode(layer, out, compression)))
    };
    compare(&[
        ("pigz -6", peer("pigz", &["-6", "-c"])),
        ("pigz -6, sha256sum twice", hashed("pigz -6 -c")),
        ("gzip 6, all cores", ours(Compression::GZIP, Cores::All)),
        ("gzip 6, one core", ours(Compression::GZIP, Cores::One)),
        ("sha256 of the input", Box::new(|| hash(&layer))),
    ])?;
    compare(&[
        ("zstd -3 -T0", peer("zstd", &["-3", "-T0", "-c", "-q"])),
        ("zstd -3 -T0, sha256sum twice", hashed("zstd -3 -T0 -c -q")),
        ("zstd 3, all cores", ours(Compression::ZSTD, Cores::All)),
        ("zstd 3, one core", ours(Compression::ZSTD, Cores::One)),
    ])
}

/// The first bytes of a tar of `/usr`.
fn make_layer(path: &Path) -> Outcome<()> {
    let mut tar = Command::new("tar").args(["-C", "/", "-c", "usr"]).stdout(Stdio::piped()).spawn()?;
    if let Some(stream) = tar.stdout.take() {
        io::copy(&mut stream.take(SIZE), &mut File::create(path)?)?;
    }
    // It has more to say than is wanted.
    tar.kill()?;
    tar.wait()?;
    Ok(())
}

fn filter(program: &str, arguments: &[&str], from: &Path, to: &Path) -> Outcome<()> {
    let (input, output) = (File::open(from)?, File::create(to)?);
    let status = Command::new(program).args(arguments).stdin(input).stdout(output).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed").into()) }
}

/// What an export does with other programs: compress, and hash both sides.
fn filter_and_hash(filter: &str, from: &Path, to: &Path) -> Outcome<()> {
    let (from, to) = (from.display(), to.display());
    let script =
        format!("sha256sum {from} >{to}.in & {filter} <{from} | tee {to} | sha256sum >{to}.out; wait");
    let status = Command::new("sh").arg("-c").arg(script).status()?;
    if status.success() { Ok(()) } else { Err(format!("{filter} failed").into()) }
}

/// On which cores something runs.
#[derive(Clone, Copy)]
enum Cores {
    All,
    One,
}

/// Does `work` with a pool of its own, on these cores. Threads inherit what their maker may use.
fn on(cores: Cores, work: impl FnOnce() -> Result<(), String> + Send) -> Outcome<()> {
    let all = rustix::thread::sched_getaffinity(None)?;
    if let (Cores::One, Some(first)) =
        (cores, (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)))
    {
        let mut one = rustix::thread::CpuSet::new();
        one.set(first);
        rustix::thread::sched_setaffinity(None, &one)?;
    }
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    let done = pool.install(work);
    rustix::thread::sched_setaffinity(None, &all)?;
    Ok(done?)
}

fn encode(from: &Path, to: &Path, compression: Compression) -> Result<(), String> {
    let failed = |error: &dyn Error| error.to_string();
    let output = File::create(to).map_err(|error| failed(&error))?;
    let mut encoder = LayerEncoder::new(output, compression).map_err(|error| failed(&error))?;
    let input = File::open(from).map_err(|error| failed(&error))?;
    io::copy(&mut BufReader::with_capacity(1 << 18, input), &mut encoder).map_err(|error| failed(&error))?;
    encoder.finish().map(drop).map_err(|error| failed(&error))
}

fn hash(layer: &Path) -> Outcome<()> {
    let mut digester = base::digest::Digester::new();
    io::copy(&mut BufReader::with_capacity(1 << 18, File::open(layer)?), &mut digester)?;
    std::hint::black_box(digester.finish());
    Ok(())
}

/// Runs the candidates in turn and prints the median of each, and its ratio to the first.
fn compare(candidates: &[Candidate<'_>]) -> Outcome<()> {
    let mut times = vec![Vec::new(); candidates.len()];
    for _ in 0..RUNS {
        for ((_, run), times) in candidates.iter().zip(&mut times) {
            let start = Instant::now();
            run()?;
            times.push(start.elapsed());
        }
    }
    let mut medians: Vec<Duration> = Vec::new();
    for times in &mut times {
        times.sort();
        medians.push(times[times.len() / 2]);
    }
    for ((name, _), median) in candidates.iter().zip(&medians) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        println!("{name:28} {:8.3} s  {ratio:5.2}", median.as_secs_f64());
    }
    Ok(())
}

//! Unpacks and writes a layer of 50,000 files of 4 KiB, beside GNU tar, and prints times and ratios.
//!
//! Run by `cargo bench -p snapshotter --bench layers`, with a directory on the disk to be measured in
//! `LAPSTRAKE_BENCH_DIR` (else under the target directory). Each figure is the best of three runs, taken in
//! turns. It checks nothing: that is what the tests are for.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a benchmark prints and runs tar")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base::CancelToken;
use snapshotter::apply::{ApplyOptions, Layering, apply, apply_blob};
use snapshotter::compress::{Compression, LayerEncoder};
use snapshotter::diff::{DiffOptions, LayerSource, write_layer};

const FILES: usize = 50_000;
const FILES_PER_DIRECTORY: usize = 100;
const SIZE: usize = 4096;
const RUNS: usize = 3;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let base = std::env::var_os("LAPSTRAKE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let work = tempfile::tempdir_in(base)?;
    let tree = work.path().join("tree");
    make_tree(&tree)?;
    let archive = work.path().join("layer.tar");
    tar(&["-C", text(&tree), "-cf", text(&archive), "."])?;
    unpacking(work.path(), &archive)?;
    writing(work.path(), &tree)?;
    compressing(work.path(), &archive)
}

fn unpacking(work: &Path, archive: &Path) -> Outcome<()> {
    let target = work.join("out");
    let options = ApplyOptions::new(Layering::Overlay { userxattr: false });
    let blob = |path: &Path| -> Outcome<()> {
        apply_blob(File::open(path)?, None, &target, &options, &CancelToken::new())?;
        Ok(())
    };
    let plain = || -> Outcome<()> {
        apply(File::open(archive)?, &target, &options, &CancelToken::new())?;
        Ok(())
    };
    let gz = archive.with_extension("tar.gz");
    encode(archive, &gz, Compression::GZIP)?;
    compare(
        &target,
        &[
            ("tar -x", &|| tar(&["-C", text(&target), "-xf", text(archive)])),
            ("apply", &plain),
            ("apply_blob (digest too)", &|| blob(archive)),
        ],
    )?;
    compare(
        &target,
        &[
            ("tar -xz", &|| tar(&["-C", text(&target), "-xzf", text(&gz)])),
            ("apply_blob, gzip", &|| blob(&gz)),
        ],
    )
}

fn writing(work: &Path, tree: &Path) -> Outcome<()> {
    let target = work.join("out");
    let result = target.join("layer.tar");
    let source = LayerSource::Overlay { upper: tree, lower: &[], userxattr: false };
    let plain = || -> Outcome<()> {
        write_layer(source, DiffOptions::default(), File::create(&result)?, &CancelToken::new())?;
        Ok(())
    };
    let digested = || -> Outcome<()> {
        let mut encoder = LayerEncoder::new(File::create(&result)?, Compression::None)?;
        write_layer(source, DiffOptions::default(), &mut encoder, &CancelToken::new())?;
        encoder.finish()?;
        Ok(())
    };
    // To a file in every case: GNU tar reads nothing when its output is /dev/null.
    compare(
        &target,
        &[
            ("tar -c", &|| tar(&["-C", text(tree), "-cf", text(&result), "."])),
            ("write_layer", &plain),
            ("write_layer (with digests)", &digested),
        ],
    )
}

fn compressing(work: &Path, archive: &Path) -> Outcome<()> {
    let target = work.join("out");
    let result = target.join("layer");
    let gzip = || -> Outcome<()> {
        let (input, output) = (File::open(archive)?, File::create(&result)?);
        let status = Command::new("gzip").arg("-6c").stdin(input).stdout(output).status()?;
        if status.success() { Ok(()) } else { Err("gzip failed".into()) }
    };
    compare(
        &target,
        &[
            ("gzip -6", &gzip),
            ("LayerEncoder, gzip 6", &|| encode(archive, &result, Compression::GZIP)),
            ("LayerEncoder, zstd 3", &|| encode(archive, &result, Compression::ZSTD)),
        ],
    )
}

fn encode(from: &Path, to: &Path, compression: Compression) -> Outcome<()> {
    let mut encoder = LayerEncoder::new(File::create(to)?, compression)?;
    io::copy(&mut BufReader::with_capacity(1 << 18, File::open(from)?), &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

/// Files whose content is half text and half noise, so that it compresses somewhat.
fn make_tree(tree: &Path) -> Outcome<()> {
    let mut state = 1u32;
    for number in 0..FILES {
        let directory = tree.join(format!("directory-{:03}", number / FILES_PER_DIRECTORY));
        fs::create_dir_all(&directory)?;
        let mut content = format!("file {number}\n").repeat(SIZE / 2 / 8).into_bytes();
        content.truncate(SIZE / 2);
        while content.len() < SIZE {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            content.extend_from_slice(&state.to_le_bytes());
        }
        File::create(directory.join(format!("file-{number}")))?.write_all(&content)?;
    }
    Ok(())
}

/// Runs the candidates in turn, several times, each in a new directory and with no writes waiting for the
/// disk; prints the best time of each and its ratio to the first. What a run leaves is moved aside, not
/// removed: for some seconds ext4 does not use the inodes of removed files again, and the search for others
/// would be measured.
fn compare(target: &Path, candidates: &[(&str, &dyn Fn() -> Outcome<()>)]) -> Outcome<()> {
    let mut best = vec![Duration::MAX; candidates.len()];
    for _ in 0..RUNS {
        for ((_, run), best) in candidates.iter().zip(&mut best) {
            fs::create_dir(target)?;
            rustix::fs::sync();
            let start = Instant::now();
            run()?;
            *best = start.elapsed().min(*best);
            fs::rename(target, tempfile::tempdir_in(target.parent().unwrap_or(target))?.keep())?;
        }
    }
    for ((name, _), time) in candidates.iter().zip(&best) {
        let ratio = time.as_secs_f64() / best[0].as_secs_f64();
        println!("{name:28} {:8.3} s  {ratio:5.2}", time.as_secs_f64());
    }
    Ok(())
}

fn tar(arguments: &[&str]) -> Outcome<()> {
    let status = Command::new("tar").args(arguments).status()?;
    if status.success() { Ok(()) } else { Err("tar failed".into()) }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

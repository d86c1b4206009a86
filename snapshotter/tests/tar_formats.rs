//! Archives that other programs make, and what other programs make of ours.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "tests run tar")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use base::CancelToken;
use common::{OVERLAY, Sandbox, Tar, describe, is_root, layer_of};
use snapshotter::apply::{ApplyOptions, Layering, Ownership};
use snapshotter::archive::{extract_archive, is_archive};
use snapshotter::compress::{Compression, LayerEncoder};
use snapshotter::tar_entry::{Entry, Kind, Mtime, Xattr};
use snapshotter::tar_read::Reader;

/// What GNU tar writes for a directory, in one of its formats.
fn gnu_tar(directory: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .arg("-C")
        .arg(directory)
        .args(options)
        .args(["--sort=name", "-cf", "-", "."])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn plain() -> ApplyOptions {
    let mut options = ApplyOptions::new(Layering::Plain);
    options.ownership = Ownership::Ignore;
    options
}

/// Runs a program on bytes.
fn filter(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that has seen enough may close its end.
            let _ = std::io::Write::write_all(&mut stdin, input);
        });
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_format_of_gnu_tar_is_read() {
    let source = tempfile::tempdir().unwrap();
    let deep = source.path().join("directory-with-a-long-name/".repeat(6));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("n".repeat(200)), "long").unwrap();
    fs::write(source.path().join("line\nbreak"), "odd").unwrap();
    fs::write(source.path().join(common::path(b"not-utf8-\xff")), "odd").unwrap();
    fs::hard_link(source.path().join("line\nbreak"), source.path().join("second name")).unwrap();
    std::os::unix::fs::symlink("t".repeat(300), source.path().join("link")).unwrap();
    for format in ["gnu", "oldgnu", "posix"] {
        let sandbox = Sandbox::new();
        sandbox.apply(&gnu_tar(source.path(), &["--format", format]), &plain()).unwrap();
        assert_eq!(describe(&sandbox.root()), describe(source.path()), "{format}");
    }
    fs::remove_dir_all(source.path().join("directory-with-a-long-name")).unwrap();
    fs::remove_file(source.path().join("link")).unwrap();
    fs::write(source.path().join("second name"), "short").unwrap();
    for format in ["v7", "ustar"] {
        let sandbox = Sandbox::new();
        sandbox.apply(&gnu_tar(source.path(), &["--format", format]), &plain()).unwrap();
        assert_eq!(describe(&sandbox.root()), describe(source.path()), "{format}");
    }
}

#[test]
fn every_encoding_of_sparse_files_is_read() {
    let source = tempfile::tempdir().unwrap();
    let file = fs::File::create(source.path().join("sparse")).unwrap();
    // More pieces than the header block and one block after it hold in the old encoding.
    for piece in 0..40 {
        file.write_all_at(format!("piece {piece}").as_bytes(), piece * (64 << 10)).unwrap();
    }
    file.set_len(4_000_001).unwrap();
    fs::File::create(source.path().join("only a hole")).unwrap().set_len(1_000_000).unwrap();
    fs::write(source.path().join("zz-after"), "what follows is found").unwrap();
    let formats: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for format in formats {
        let archive = gnu_tar(source.path(), &[&["-S"], format].concat());
        assert!(archive.len() < 1_000_000, "tar did not see the holes: {} bytes", archive.len());
        let sandbox = Sandbox::new();
        sandbox.apply(&archive, &plain()).unwrap();
        assert_eq!(describe(&sandbox.root()), describe(source.path()), "{format:?}");
    }
}

#[test]
fn large_numbers_and_fractions_of_seconds_of_gnu_tar_are_read() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "").unwrap();
    let options =
        ["--owner=:3000000000", "--group=:2097152", "--mtime=@-100.25", "--format=posix", "--no-recursion"];
    let read = |options: &[&str]| {
        let archive = gnu_tar(source.path(), options);
        Reader::new(archive.as_slice()).next_entry().unwrap().unwrap()
    };
    let entry = read(&options);
    assert_eq!((entry.uid, entry.gid), (3_000_000_000, 2_097_152));
    assert_eq!(entry.mtime, Mtime { seconds: -101, nanos: 750_000_000 });
    let entry = read(&["--owner=:3000000000", "--mtime=@-100", "--format=gnu", "--no-recursion"]);
    assert_eq!((entry.uid, entry.mtime.seconds), (3_000_000_000, -100));
}

/// An entry with everything that needs more than a ustar header.
fn demanding_entries() -> Vec<Entry> {
    let mut large = Entry::new(Kind::HardLink, [b"d/".repeat(120), b"\xff\n".to_vec()].concat());
    large.link = "ä".repeat(100).into_bytes();
    (large.uid, large.gid) = (3_000_000_000, 4_000_000_000);
    large.mtime = Mtime { seconds: -2, nanos: 999_999_999 };
    large.mode = 0o7777;
    let mut attributes = Entry::new(Kind::File, "ä");
    attributes.mtime = Mtime { seconds: 1 << 40, nanos: 1 };
    attributes.xattrs = vec![
        Xattr { name: b"user.a".to_vec(), value: b"=\n\0 12 path=evil\n".to_vec() },
        Xattr { name: b"user.b".to_vec(), value: Vec::new() },
    ];
    let mut link = Entry::new(Kind::Symlink, "l");
    link.link = vec![b'x'; 5000];
    let mut device = Entry::new(Kind::BlockDevice, "b");
    device.device = (4095, 1_048_575);
    let mut split = Entry::new(Kind::Directory, [b"p".repeat(150), b"/".to_vec(), b"n".repeat(98)].concat());
    split.path.push(b'/');
    vec![large, attributes, link, device, split, Entry::new(Kind::Fifo, vec![b'f'; 256])]
}

#[test]
fn what_the_writer_writes_the_reader_reads() {
    let mut tar = Tar::new();
    for entry in demanding_entries() {
        tar = tar.entry(&entry, b"");
    }
    let archive = tar.bytes();
    let mut reader = Reader::new(archive.as_slice());
    for expected in demanding_entries() {
        assert_eq!(reader.next_entry().unwrap(), Some(expected));
    }
    assert_eq!(reader.next_entry().unwrap(), None);
}

#[test]
fn a_file_of_more_than_eight_gigabytes_is_described() {
    let mut entry = Entry::new(Kind::File, "large");
    entry.size = (8 << 30) + 1;
    // Only the header is of interest: the data ends early.
    let mut archive = Vec::new();
    let result = snapshotter::tar_write::Writer::new(&mut archive).append(&entry, &mut std::io::empty());
    assert!(matches!(result, Err(snapshotter::tar_write::TarWriteError::Shrunk { .. })));
    assert_eq!(Reader::new(archive.as_slice()).next_entry().unwrap().unwrap().size, entry.size);
}

#[test]
fn gnu_tar_reads_our_layers() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let long = "long/".repeat(50) + "name";
    let content = Tar::new()
        .dir("d")
        .file("d/a", "content")
        .hard_link("d/b", "d/a")
        .symlink("d/link", &"t".repeat(150))
        .file(long, "deep")
        .file(b"odd-\xff\n", "odd")
        .file("wörter", "utf-8")
        .device("pipe", Kind::Fifo, (0, 0))
        .file(".wh.gone", "")
        .bytes();
    sandbox.unpack(&content, OVERLAY).unwrap();
    let layer = layer_of(&sandbox.root());
    let listing = String::from_utf8(filter("tar", &["-tvf", "-"], &layer)).unwrap();
    assert!(listing.contains("d/b link to d/a"), "{listing}");
    assert!(listing.contains(".wh.gone"), "{listing}");
    let judged = tempfile::tempdir().unwrap();
    filter("tar", &["-C", judged.path().to_str().unwrap(), "--xattrs", "-xpf", "-"], &layer);
    let mut expected = describe(&sandbox.root());
    expected.remove(Path::new("gone"));
    let mut found = describe(judged.path());
    found.remove(Path::new(".wh.gone"));
    assert_eq!(found, expected);
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::read::BzEncoder::new(data, bzip2::Compression::default());
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).unwrap();
    out
}

fn xz(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new(data, 1).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn archives_in_every_compression_are_recognised_and_extracted() {
    let archive = Tar::new().dir("d").file("d/file", "content").bytes();
    let compressed = [
        archive.clone(),
        filter("gzip", &["-c"], &archive),
        bzip2(&archive),
        xz(&archive),
        zstd::encode_all(archive.as_slice(), 3).unwrap(),
        // Several members in a row are one file.
        [filter("gzip", &["-c"], &archive[..700]), filter("gzip", &["-c"], &archive[700..])].concat(),
        [bzip2(&archive[..700]), bzip2(&archive[700..])].concat(),
        [xz(&archive[..700]), xz(&archive[700..])].concat(),
    ];
    for data in compressed {
        assert!(is_archive(data.as_slice()).unwrap(), "{:?}", &data[..6]);
        let sandbox = Sandbox::new();
        extract_archive(data.as_slice(), &sandbox.root(), &plain(), &CancelToken::new()).unwrap();
        assert_eq!(sandbox.read("d/file"), "content");
    }
}

#[test]
fn what_is_compressed_but_no_archive_is_not_extracted() {
    let text = b"plain text that is long enough to fill a block or two. ".repeat(40);
    for data in [text.clone(), filter("gzip", &["-c"], &text), xz(&text)] {
        assert!(!is_archive(data.as_slice()).unwrap());
    }
    assert!(!is_archive(&b""[..]).unwrap());
    assert!(!is_archive(&[0u8; 1024][..]).unwrap(), "an archive of nothing");
    assert!(!is_archive(&b"\x1f\x8b\x08broken"[..]).unwrap());
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_something_else() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(5))
        }
    }
    assert_eq!(is_archive(Broken).unwrap_err().raw_os_error(), Some(5));
}

/// Text that compresses and noise that does not, of a size that is no multiple of any block.
fn sample() -> Vec<u8> {
    let mut state = 7u64;
    let mut data = Vec::new();
    while data.len() < 11_000_003 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match state >> 62 {
            0 => data.extend_from_slice(&state.to_le_bytes()),
            1 => data.extend_from_slice(b"the same words again and again, "),
            _ => data.extend_from_slice(format!("number {}\n", state >> 40).as_bytes()),
        }
    }
    data
}

fn encode(data: &[u8], compression: Compression, threads: usize, piece: usize) -> Vec<u8> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut out = Vec::new();
        let mut encoder = LayerEncoder::new(&mut out, compression).unwrap();
        for piece in data.chunks(piece) {
            std::io::Write::write_all(&mut encoder, piece).unwrap();
        }
        let encoded = encoder.finish().unwrap();
        assert_eq!(encoded.diff_id, base::Digest::of(data));
        assert_eq!(encoded.uncompressed_size, data.len() as u64);
        assert_eq!((encoded.digest, encoded.size), (base::Digest::of(&out), out.len() as u64));
        out
    })
}

#[test]
fn compressed_bytes_depend_on_neither_threads_nor_write_sizes() {
    let data = sample();
    for compression in [Compression::GZIP, Compression::Gzip(9), Compression::Gzip(1), Compression::ZSTD] {
        let one = encode(&data, compression, 1, data.len());
        assert!(one.len() < data.len() * 3 / 4, "{compression:?}: {} bytes", one.len());
        assert!(one == encode(&data, compression, 2, 4096), "{compression:?}, two threads");
        assert!(one == encode(&data, compression, 5, 1_000_003), "{compression:?}, five threads");
    }
}

#[test]
fn other_programs_read_our_compression() {
    let data = sample();
    let has_zstd = Command::new("zstd").arg("--version").output().is_ok();
    for end in [0, 1, 1 << 18, (1 << 18) + 1, 16 << 18, data.len()] {
        let data = &data[..end.min(data.len())];
        for level in [0, 1, 6, 9] {
            let gzip = encode(data, Compression::Gzip(level), 2, 65536);
            assert!(filter("gzip", &["-dc"], &gzip) == data, "level {level}, {end} bytes");
            assert_eq!(&gzip[..10], b"\x1f\x8b\x08\0\0\0\0\0\0\xff");
        }
        let zstd = encode(data, Compression::ZSTD, 2, 65536);
        assert!(zstd::decode_all(zstd.as_slice()).unwrap() == data, "{end} bytes");
        if has_zstd {
            assert!(filter("zstd", &["-dc"], &zstd) == data, "{end} bytes");
        }
        assert!(encode(data, Compression::None, 2, 65536) == data);
    }
    // One member: nothing is left behind its end.
    let gzip = encode(&data, Compression::GZIP, 2, 65536);
    let mut member = flate2::bufread::GzDecoder::new(gzip.as_slice());
    let mut decoded = Vec::new();
    member.read_to_end(&mut decoded).unwrap();
    assert!(decoded == data && member.into_inner().is_empty());
}

#[test]
fn levels_that_do_not_exist_are_refused() {
    for compression in [Compression::Gzip(10), Compression::Zstd(23)] {
        assert!(LayerEncoder::new(Vec::new(), compression).is_err(), "{compression:?}");
    }
}

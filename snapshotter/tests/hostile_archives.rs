//! Archives that try to harm: each ends in its own error or does something harmless, and none touches
//! anything beside the root.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "tests say why they are skipped")]

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use base::CancelToken;
use common::{OVERLAY, Sandbox, Tar, is_root};
use proptest::prelude::*;
use snapshotter::apply::{ApplyError, ApplyOptions, Devices, Layering, Limits, Ownership, apply, apply_blob};
use snapshotter::compress::{Compression, LayerEncoder};
use snapshotter::tar_entry::{Entry, Kind, Xattr};
use snapshotter::tar_read::{Reader, TarError};
use snapshotter::tar_write::Writer;

/// Unpacks into a new root in each of the three ways, and hands each result to `check`.
fn each_layering(archive: &[u8], check: impl Fn(&Sandbox, Result<(), ApplyError>)) {
    if !is_root() {
        return;
    }
    for layering in [OVERLAY, Layering::Flat, Layering::Plain] {
        let sandbox = Sandbox::new();
        let result = sandbox.unpack(archive, layering).map(|_| ());
        check(&sandbox, result);
    }
}

fn assert_escape(archive: &[u8], name: &str) {
    each_layering(archive, |_, result| {
        let error = result.unwrap_err();
        assert!(matches!(error, ApplyError::Escape { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "the message names the entry: {error}");
    });
}

#[test]
fn dot_dot_that_leaves_the_root_is_refused() {
    assert_escape(&Tar::new().file("../beside/secret", "pwned").bytes(), "../beside/secret");
    assert_escape(&Tar::new().file("a/../../beside/new", "pwned").bytes(), "a/../../beside/new");
    assert_escape(&Tar::new().file("/../beside/new", "pwned").bytes(), "/../beside/new");
    assert_escape(&Tar::new().dir("..").bytes(), "..");
}

#[test]
fn dot_dot_that_stays_is_resolved_as_text() {
    each_layering(&Tar::new().file("a/../b", "fine").bytes(), |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("b"), "fine");
    });
}

#[test]
fn absolute_names_count_from_the_root() {
    let name = "/etc/lapstrake-test-passwd";
    each_layering(&Tar::new().file(name, "inside").bytes(), |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read(&name[1..]), "inside");
        assert!(!std::path::Path::new(name).exists());
    });
}

#[test]
fn writing_through_a_symlink_that_climbs_is_refused() {
    let archive = Tar::new().symlink("link", "../beside").file("link/secret", "pwned").bytes();
    assert_escape(&archive, "link/secret");
    let deeper = Tar::new().dir("a").symlink("a/link", "../../beside").file("a/link/new", "pwned").bytes();
    assert_escape(&deeper, "a/link/new");
    let chained = Tar::new().symlink("a", "b").symlink("b", "..").file("a/beside/new", "pwned").bytes();
    assert_escape(&chained, "a/beside/new");
}

#[test]
fn writing_through_an_absolute_symlink_stays_in_the_root() {
    let sandbox = Sandbox::new();
    let beside = sandbox.beside();
    let archive =
        Tar::new().symlink("link", beside.to_str().unwrap()).dir("tmp").file("link/secret", "inside");
    if !is_root() {
        return;
    }
    // The target does not exist inside, so there is no directory to write into.
    let error = sandbox.unpack(&archive.bytes(), OVERLAY).unwrap_err();
    assert!(matches!(error, ApplyError::NotADirectory { .. }), "{error:?}");
    let archive = Tar::new().dir("run").symlink("var-run", "/run").file("var-run/pid", "1").bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("run/pid"), "1");
    });
}

#[test]
fn a_symlink_as_the_last_component_is_replaced_and_not_followed() {
    let target = Sandbox::new();
    let secret = target.beside().join("secret");
    let archive = Tar::new().symlink("link", secret.to_str().unwrap()).file("link", "mine").bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("link"), "mine");
    });
    let directory = Tar::new().symlink("link", "../beside").dir("link").file("link/new", "inside").bytes();
    each_layering(&directory, |sandbox, result| {
        result.unwrap();
        assert!(sandbox.root().join("link").symlink_metadata().unwrap().is_dir());
    });
    target.assert_nothing_escaped();
}

#[test]
fn symlinks_in_a_circle_end() {
    let archive = Tar::new().symlink("a", "/b").symlink("b", "/a").file("a/x", "").bytes();
    each_layering(&archive, |_, result| {
        assert!(matches!(result.unwrap_err(), ApplyError::Io { .. }));
    });
}

#[test]
fn hard_links_do_not_reach_outside() {
    assert_escape(&Tar::new().hard_link("link", "../beside/secret").bytes(), "link");
    let through = Tar::new().symlink("up", "..").hard_link("link", "up/beside/secret").bytes();
    assert_escape(&through, "link");
    let missing = Tar::new().hard_link("link", "/etc/passwd").bytes();
    each_layering(&missing, |sandbox, result| {
        let error = result.unwrap_err();
        assert!(matches!(error, ApplyError::LinkTarget { .. }), "{error:?}");
        assert!(error.to_string().contains("/etc/passwd"), "{error}");
        assert!(!sandbox.exists("link"));
    });
    let directory = Tar::new().dir("d").hard_link("link", "d").bytes();
    each_layering(&directory, |_, result| {
        assert!(matches!(result.unwrap_err(), ApplyError::LinkTarget { .. }));
    });
}

#[test]
fn a_hard_link_to_a_symlink_does_not_write_through_it() {
    let archive = Tar::new()
        .symlink("link", "../beside/secret")
        .hard_link("other", "link")
        .file("other", "pwned")
        .bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("other"), "pwned");
        assert!(sandbox.root().join("link").symlink_metadata().unwrap().is_symlink());
    });
}

#[test]
fn a_hard_link_over_the_directory_of_its_target_is_refused() {
    let archive = Tar::new().file("a/x", "").hard_link("a", "a/x").bytes();
    each_layering(&archive, |_, result| {
        assert!(matches!(result.unwrap_err(), ApplyError::LinkTarget { .. }));
    });
}

#[test]
fn names_without_a_file_are_refused() {
    for archive in [Tar::new().file("", "").bytes(), Tar::new().file(".", "").bytes()] {
        each_layering(&archive, |_, result| {
            assert!(matches!(result.unwrap_err(), ApplyError::Name { .. }));
        });
    }
    each_layering(&Tar::new().dir("./").bytes(), |_, result| result.unwrap());
}

/// Runs on a thread that has given up all privileges, like an ordinary user's process.
fn without_privileges<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    std::thread::scope(|scope| {
        let unprivileged = move || {
            let none = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
                .unwrap();
            work()
        };
        scope.spawn(unprivileged).join().unwrap()
    })
}

#[test]
fn a_device_without_the_right_to_make_it_is_a_clear_error_or_left_out() {
    let sandbox = Sandbox::new();
    let archive = Tar::new().device("null", Kind::CharDevice, (1, 3)).file("a", "").bytes();
    let mut options = ApplyOptions::new(OVERLAY);
    options.ownership = Ownership::Ignore;
    let error = without_privileges(|| sandbox.apply(&archive, &options)).unwrap_err();
    assert!(matches!(error, ApplyError::Device { .. }), "{error:?}");
    assert!(error.to_string().contains("needs root privileges"), "{error}");
    options.devices = Devices::Skip;
    let applied = without_privileges(|| sandbox.apply(&archive, &options)).unwrap();
    assert_eq!(applied.skipped_devices, 1);
    assert!(!sandbox.exists("null") && sandbox.exists("a"));
}

#[test]
fn an_ordinary_user_unpacks_owners_attributes_and_whiteouts() {
    let sandbox = Sandbox::new();
    let mut file = Entry::new(Kind::File, "closed/file");
    file.uid = 1234;
    file.mode = 0o4755;
    file.xattrs = vec![
        Xattr { name: b"user.note".to_vec(), value: b"kept".to_vec() },
        Xattr { name: b"security.capability".to_vec(), value: capability() },
        Xattr { name: b"trusted.note".to_vec(), value: b"lost".to_vec() },
    ];
    let mut closed = Entry::new(Kind::Directory, "closed");
    closed.mode = 0o500;
    let archive = Tar::new().entry(&closed, b"").entry(&file, b"").file(".wh.gone", "").bytes();
    let mut options = ApplyOptions::new(Layering::Overlay { userxattr: true });
    options.ownership = Ownership::Ignore;
    let applied = without_privileges(|| sandbox.apply(&archive, &options)).unwrap();
    assert_eq!(applied.skipped_xattrs, 2);
    let metadata = fs::metadata(sandbox.root().join("closed/file")).unwrap();
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(metadata.mode() & 0o7777, 0o4755);
    assert_eq!(fs::metadata(sandbox.root().join("closed")).unwrap().mode() & 0o7777, 0o500);
    assert!(sandbox.is_whiteout("gone"));
}

/// `cap_net_raw=ep` as the kernel stores it (`linux/capability.h`, revision 2).
fn capability() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn whiteouts_with_bad_names_are_refused() {
    if !is_root() {
        return;
    }
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/x", ".wh..wh..opq/x"] {
        for layering in [OVERLAY, Layering::Flat] {
            let result = Sandbox::new().unpack(&Tar::new().file(name, "").bytes(), layering);
            assert!(matches!(result, Err(ApplyError::Whiteout { .. })), "{name}: {result:?}");
        }
    }
    let directory = Tar::new().dir(".wh.a").bytes();
    assert!(matches!(Sandbox::new().unpack(&directory, OVERLAY), Err(ApplyError::Whiteout { .. })));
}

#[test]
fn a_whiteout_does_not_delete_outside() {
    assert_layered_escape("../.wh.beside");
    assert_layered_escape("../beside/.wh..wh..opq");
    let through = Tar::new().symlink("up", "../beside").file("up/.wh.secret", "").bytes();
    for layering in [OVERLAY, Layering::Flat] {
        let result = Sandbox::new().unpack(&through, layering);
        assert!(matches!(result, Err(ApplyError::Escape { .. })), "{result:?}");
    }
    // Replacing a directory removes a symlink in it, not what the symlink leads to.
    let archive = Tar::new().dir("d").symlink("d/up", "../../beside").file("d", "now a file").bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("d"), "now a file");
    });
}

fn assert_layered_escape(name: &str) {
    for layering in [OVERLAY, Layering::Flat] {
        let result = Sandbox::new().unpack(&Tar::new().file(name, "").bytes(), layering);
        assert!(matches!(result, Err(ApplyError::Escape { .. })), "{name}: {result:?}");
    }
}

#[test]
fn attributes_of_overlayfs_are_not_set() {
    if !is_root() {
        return;
    }
    let mut entry = Entry::new(Kind::Directory, "d");
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.opaque"] {
        entry.xattrs.push(Xattr { name: name.into(), value: b"y".to_vec() });
    }
    let sandbox = Sandbox::new();
    let applied = sandbox.unpack(&Tar::new().entry(&entry, b"").bytes(), OVERLAY).unwrap();
    assert_eq!(applied.skipped_xattrs, 3);
    assert!(common::describe(&sandbox.root())[std::path::Path::new("d")].xattrs.is_empty());
}

#[test]
fn a_device_that_overlayfs_shows_as_deleted_is_a_whiteout_in_every_layering() {
    if !is_root() {
        return;
    }
    let archive = Tar::new().device("gone", Kind::CharDevice, (0, 0)).bytes();
    let overlay = Sandbox::new();
    overlay.unpack(&archive, OVERLAY).unwrap();
    assert!(overlay.is_whiteout("gone"));
    let flat = Sandbox::new();
    fs::write(flat.root().join("gone"), "").unwrap();
    flat.unpack(&archive, Layering::Flat).unwrap();
    assert!(!flat.exists("gone"));
}

/// A stream of zeros or of one repeated block, without end.
struct Endless<'a>(&'a [u8]);

impl std::io::Read for Endless<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = into.len() / self.0.len() * self.0.len();
        for block in into[..length].chunks_exact_mut(self.0.len()) {
            block.copy_from_slice(self.0);
        }
        Ok(length)
    }
}

fn limited(max_entries: u64, max_bytes: u64) -> ApplyOptions {
    let mut options = ApplyOptions::new(Layering::Plain);
    options.limits = Limits { max_entries, max_bytes };
    options.ownership = Ownership::Ignore;
    options
}

/// A compressed archive, which is never in memory uncompressed.
fn compressed(fill: impl FnOnce(&mut Writer<&mut LayerEncoder<&mut Vec<u8>>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = LayerEncoder::new(&mut bytes, Compression::ZSTD).unwrap();
    let mut writer = Writer::new(&mut encoder);
    fill(&mut writer);
    writer.finish().unwrap();
    encoder.finish().unwrap();
    bytes
}

#[test]
fn a_decompression_bomb_meets_the_limit_of_bytes() {
    let sandbox = Sandbox::new();
    let bomb = compressed(|tar| {
        let mut entry = Entry::new(Kind::File, "zeros");
        entry.size = 1 << 28;
        tar.append(&entry, &mut std::io::repeat(0)).unwrap();
    });
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let options = limited(10, 1 << 20);
    let result = apply_blob(bomb.as_slice(), None, &sandbox.root(), &options, &CancelToken::new());
    assert!(matches!(result, Err(ApplyError::TooManyBytes { limit: 1_048_576 })), "{result:?}");
    assert!(fs::metadata(sandbox.root().join("zeros")).unwrap().len() < 4 << 20);
}

#[test]
fn endless_padding_and_endless_entries_meet_the_limits() {
    let sandbox = Sandbox::new();
    let options = limited(1000, 8 << 20);
    let result = apply(Endless(&[0; 512]), &sandbox.root(), &options, &CancelToken::new());
    assert!(matches!(result, Err(ApplyError::TooManyBytes { .. })), "{result:?}");
    let entry = &Tar::new().file("same", "").bytes()[..512];
    let result = apply(Endless(entry), &sandbox.root(), &options, &CancelToken::new());
    assert!(matches!(result, Err(ApplyError::TooManyEntries { limit: 1000 })), "{result:?}");
}

fn plain() -> ApplyOptions {
    limited(u64::MAX, u64::MAX)
}

#[test]
fn a_size_that_lies_is_a_truncated_entry() {
    let mut archive = Tar::new().file("short", "four").bytes();
    // 1 GiB in octal, and the checksum that goes with it.
    archive[124..135].copy_from_slice(b"10000000000");
    fix_checksum(&mut archive);
    let error = Sandbox::new().apply(&archive, &plain()).unwrap_err();
    let ApplyError::Archive(TarError::TruncatedData { entry, missing }) = &error else { panic!("{error:?}") };
    assert_eq!(entry.0, b"short");
    assert!(*missing > 1 << 29);
    assert!(error.to_string().contains("\"short\""), "{error}");
}

/// Corrects the checksum of the header at the beginning.
fn fix_checksum(archive: &mut [u8]) {
    archive[148..156].copy_from_slice(b"        ");
    let sum: u32 = archive[..512].iter().map(|&byte| u32::from(byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Reads an archive with all its data and padding.
fn read_all(archive: &[u8]) -> Result<(), TarError> {
    let mut reader = Reader::new(archive);
    while reader.next_entry()?.is_some() {
        while reader.next_chunk()?.is_some() {}
    }
    while reader.read_padding()? {}
    Ok(())
}

#[test]
fn every_truncation_is_noticed_or_lies_between_entries() {
    let name = "long-name/".repeat(30);
    let archive = Tar::new().file("a", "content of a").dir("b").file(name + "c", "x").bytes();
    // The end is two blocks; the second one adds nothing.
    let end = archive.len() - 512;
    let after_entries = [0, 1024, 1536, end - 512];
    for length in 0..end {
        let result = read_all(&archive[..length]);
        if after_entries.contains(&length) {
            assert!(result.is_ok(), "{length}: {result:?}");
            continue;
        }
        let error = result.unwrap_err();
        let truncated = matches!(
            error,
            TarError::TruncatedHeader { .. }
                | TarError::TruncatedData { .. }
                | TarError::StrayMetadata { .. }
        );
        assert!(truncated, "{length}: {error:?}");
    }
}

#[test]
fn a_truncated_compressed_layer_is_an_error_of_the_stream() {
    for compression in [Compression::GZIP, Compression::ZSTD] {
        let mut blob = Vec::new();
        let mut encoder = LayerEncoder::new(&mut blob, compression).unwrap();
        let archive = Tar::new().file("a", &"text ".repeat(10_000)).bytes();
        std::io::Write::write_all(&mut encoder, &archive).unwrap();
        encoder.finish().unwrap();
        for length in [blob.len() / 2, blob.len() - 1] {
            let sandbox = Sandbox::new();
            let cut = &blob[..length];
            let result = apply_blob(cut, None, &sandbox.root(), &plain(), &CancelToken::new());
            let error = result.unwrap_err();
            assert!(
                matches!(error, ApplyError::Archive(TarError::Read { .. })),
                "{compression:?}: {error:?}"
            );
        }
    }
}

#[test]
fn data_after_the_end_is_refused_and_zeros_are_not() {
    let archive = Tar::new().file("a", "x").bytes();
    let padded = [archive.as_slice(), &[0; 20 * 512]].concat();
    Sandbox::new().apply(&padded, &plain()).unwrap();
    let garbage = [archive.as_slice(), b"garbage"].concat();
    let error = Sandbox::new().apply(&garbage, &plain()).unwrap_err();
    let at = archive.len() as u64;
    assert!(
        matches!(error, ApplyError::Archive(TarError::TrailingData { offset }) if offset == at),
        "{error:?}"
    );
    let second = [archive.as_slice(), &archive].concat();
    let error = Sandbox::new().apply(&second, &plain()).unwrap_err();
    assert!(matches!(error, ApplyError::Archive(TarError::TrailingData { .. })), "{error:?}");
}

#[test]
fn what_is_no_archive_is_refused() {
    let noise = b"this is not a tar archive, but long enough to be one. ".repeat(20);
    let error = Sandbox::new().apply(&noise, &plain()).unwrap_err();
    assert!(matches!(error, ApplyError::Archive(TarError::Checksum { offset: 0 })), "{error:?}");
}

#[test]
fn a_million_tiny_entries_are_unpacked() {
    let layer = compressed(|tar| {
        for number in 0..1_000_000 {
            let path = format!("d{}/f{number}", number % 1000);
            tar.append(&Entry::new(Kind::File, path), &mut std::io::empty()).unwrap();
        }
    });
    let sandbox = Sandbox::in_memory();
    let (applied, _) =
        apply_blob(layer.as_slice(), None, &sandbox.root(), &plain(), &CancelToken::new()).unwrap();
    assert_eq!(applied.entries, 1_000_000);
    assert!(sandbox.exists("d999/f999999") && sandbox.exists("d0/f0"));
}

#[test]
fn of_duplicate_entries_the_last_one_wins() {
    let archive = Tar::new()
        .file("a", "first, and longer")
        .file("b", "b")
        .hard_link("c", "a")
        .file("./a", "second")
        .bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("a"), "second");
        // The link keeps what it was a name of.
        assert_eq!(sandbox.read("c"), "first, and longer");
    });
}

#[test]
fn files_and_directories_replace_each_other() {
    let archive = Tar::new()
        .dir("d")
        .file("d/x/y", "")
        .file("d", "file")
        .file("f", "file")
        .dir("f")
        .file("f/x", "below")
        .bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("d"), "file");
        assert_eq!(sandbox.read("f/x"), "below");
    });
}

#[test]
fn a_file_in_the_place_of_a_parent_is_refused() {
    for first in [Tar::new().file("a", ""), Tar::new().symlink("a", "nowhere")] {
        each_layering(&first.file("a/b", "").bytes(), |_, result| {
            let error = result.unwrap_err();
            assert!(matches!(error, ApplyError::NotADirectory { .. }), "{error:?}");
        });
    }
}

#[test]
fn a_directory_replaced_by_a_symlink_leaves_no_way_around_it() {
    // The handle of `d` is in use when it becomes a link; what follows must see the link.
    let archive =
        Tar::new().dir("d").file("d/one", "").symlink("d", "../beside").file("d/secret", "pwned").bytes();
    assert_escape(&archive, "d/secret");
}

#[test]
fn a_tree_deeper_than_the_limit_of_open_files_is_replaced() {
    let deep = "d/".repeat(1800);
    let archive = Tar::new().file(format!("{deep}x"), "").file("d", "flat").bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        assert_eq!(sandbox.read("d"), "flat");
    });
}

#[test]
fn a_name_longer_than_a_path_may_be_is_an_error_that_stays_short() {
    let archive = Tar::new().file("n/".repeat(100_000), "").bytes();
    each_layering(&archive, |_, result| {
        let error = result.unwrap_err();
        assert!(matches!(error, ApplyError::Io { .. }), "{error:?}");
        assert!(error.to_string().len() < 500);
    });
}

#[test]
fn a_wrong_diff_id_is_an_error() {
    let archive = Tar::new().file("a", "x").bytes();
    let right = base::Digest::of(&archive);
    let run = |expected| {
        let sandbox = Sandbox::new();
        let cancel = CancelToken::new();
        apply_blob(archive.as_slice(), Some(expected), &sandbox.root(), &plain(), &cancel)
    };
    assert_eq!(run(right).unwrap().1, right);
    let wrong = base::Digest::of(b"something else");
    assert!(
        matches!(run(wrong), Err(ApplyError::DiffId { expected, actual }) if expected == wrong && actual == right)
    );
}

#[test]
fn cancelling_stops_the_work() {
    let sandbox = Sandbox::new();
    let cancel = CancelToken::new();
    cancel.cancel();
    let archive = Tar::new().file("a", "x").bytes();
    let result = apply(archive.as_slice(), &sandbox.root(), &plain(), &cancel);
    assert!(matches!(result, Err(ApplyError::Cancelled)), "{result:?}");
    assert!(!sandbox.exists("a"));
}

#[test]
fn unknown_types_are_refused_by_name() {
    let mut archive = Tar::new().file("odd", "").bytes();
    archive[156] = b'M';
    fix_checksum(&mut archive);
    let error = Sandbox::new().apply(&archive, &plain()).unwrap_err();
    assert!(matches!(error, ApplyError::Archive(TarError::Type { flag: 'M', .. })), "{error:?}");
    assert!(error.to_string().contains("\"odd\""), "{error}");
}

#[test]
fn fifos_and_devices_are_made_with_their_numbers() {
    let archive = Tar::new()
        .device("pipe", Kind::Fifo, (0, 0))
        .device("null", Kind::CharDevice, (1, 3))
        .device("disk", Kind::BlockDevice, (259, 1_000_000))
        .bytes();
    each_layering(&archive, |sandbox, result| {
        result.unwrap();
        let metadata = |name: &str| sandbox.root().join(name).symlink_metadata().unwrap();
        assert!(metadata("pipe").file_type().is_fifo());
        assert_eq!(metadata("null").rdev(), rustix::fs::makedev(1, 3));
        assert!(metadata("disk").file_type().is_block_device());
        assert_eq!(metadata("disk").rdev(), rustix::fs::makedev(259, 1_000_000));
    });
}

/// An archive with every kind of entry, for random changes.
fn seed() -> Vec<u8> {
    let mut noted = Entry::new(Kind::File, "d/noted");
    noted.xattrs = vec![Xattr { name: b"user.note".to_vec(), value: b"value".to_vec() }];
    Tar::new()
        .dir("d")
        .entry(&noted, b"data of a file")
        .symlink("d/up", "../../beside")
        .symlink("d/abs", "/d")
        .file("d/abs/through", "x")
        .hard_link("d/hard", "d/noted")
        .file("d/.wh.gone", "")
        .file("e/.wh..wh..opq", "")
        .file(b"long/".repeat(50), "x")
        .device("pipe", Kind::Fifo, (0, 0))
        .bytes()
}

/// One change: a byte, or a short text that matters to archives, somewhere.
fn change() -> impl Strategy<Value = (prop::sample::Index, Vec<u8>)> {
    let texts =
        ["..", "/", "../", ".wh.", ".wh..wh..opq", "d/up/secret", "1", "2", "5", "x", "S", "L", "7777777"];
    let text = prop::sample::select(texts.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    (any::<prop::sample::Index>(), prop_oneof![any::<u8>().prop_map(|byte| vec![byte]), text])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random changes, with the checksums made right again: whatever comes of it stays in the root.
    #[test]
    fn damaged_archives_neither_panic_nor_escape(
        changes in proptest::collection::vec(change(), 1..8),
        layering in prop::sample::select(vec![OVERLAY, Layering::Flat, Layering::Plain]),
    ) {
        let mut archive = seed();
        for (index, text) in changes {
            let at = index.index(archive.len() - 16);
            archive[at..at + text.len()].copy_from_slice(&text);
        }
        for header in archive.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
            fix_checksum(header);
        }
        let mut options = limited(100, 1 << 20);
        options.layering = layering;
        options.devices = Devices::Skip;
        // The sandbox checks what is beside the root.
        let _ = Sandbox::new().apply(&archive, &options);
    }
}

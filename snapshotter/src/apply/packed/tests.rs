//! Packed layers are what unpacking them makes: random archives in both forms, bad ones, and those that have to be unpacked.

use std::io::BufReader;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use proptest::prelude::*;

use super::super::{Limits, apply};
use sys::erofs::Backing;

use super::*;
use crate::erofs::BlockBits;
use crate::tar_entry::BLOCK;
use crate::tar_write::Writer;
use crate::tree_fixture::{build, is_root};
use crate::tree_seen::{compare, show};

/// The bytes of an archive of these entries, whose files have content that fits their size.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let content: Vec<u8> = (0..entry.size).map(|byte| (byte + entry.size) as u8).collect();
        writer.append(entry, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

fn entry(kind: Kind, path: &str) -> Entry {
    Entry { mode: 0o750, mtime: Mtime { seconds: 1_600_000_000, nanos: 7 }, ..Entry::new(kind, path) }
}

fn root() -> Entry {
    Entry { uid: 4, mode: 0o711, ..entry(Kind::Directory, "./") }
}

fn options(layering: Layering, lower: Option<&Path>) -> ApplyOptions {
    ApplyOptions { lower: lower.into_iter().map(Path::to_owned).collect(), ..ApplyOptions::new(layering) }
}

/// Packs an archive, mounts it, and runs `look` on its root.
fn mounted<T>(
    bytes: &[u8],
    options: &ApplyOptions,
    look: impl FnOnce(&Path, &Packed) -> T,
) -> Result<T, ApplyError> {
    let dir = tempfile::tempdir().unwrap();
    let tar = File::options().read(true).write(true).create_new(true).open(dir.path().join("tar")).unwrap();
    let packed = pack_blob(bytes, None, &tar, options, &CancelToken::new())?;
    assert_eq!(std::fs::read(dir.path().join("tar")).unwrap(), bytes, "the archive is kept as it is");
    assert_eq!(packed.diff_id, Digest::of(bytes));
    let mut index = Vec::new();
    packed.tree.write(BlockBits::TAR, &(bytes.len() as u64), &mut index).unwrap();
    let path = dir.path().join("index");
    std::fs::write(&path, &index).unwrap();
    let (again, _) = index_of(BufReader::new(bytes), options, &CancelToken::new()).unwrap();
    let mut same = Vec::new();
    again.write(BlockBits::TAR, &(bytes.len() as u64), &mut same).unwrap();
    assert!(same == index, "the index of the kept archive is the same");
    let image = File::open(&path).unwrap();
    let root = sys::erofs::mount(image.as_fd(), &[tar.as_fd()], Backing::File).unwrap();
    Ok(look(Path::new(&format!("/proc/self/fd/{}", root.as_raw_fd())), &packed))
}

/// Unpacks and packs the same and compares. Answers whether both worked.
fn same(entries: &[Entry], layering: Layering, lower: Option<&Path>) -> Result<bool, TestCaseError> {
    let bytes = archive(entries);
    let options = options(layering, lower);
    let dir = tempfile::tempdir().unwrap();
    let unpacked = apply(bytes.as_slice(), dir.path(), &options, &CancelToken::new());
    let packed = mounted(&bytes, &options, |root, packed| (show(root), packed.applied));
    match (unpacked, packed) {
        (Ok(unpacked), Ok((packed, applied))) => {
            compare(&packed, &show(dir.path()));
            prop_assert_eq!(
                (unpacked.entries, unpacked.bytes, unpacked.root_opaque),
                (applied.entries, applied.bytes, applied.root_opaque)
            );
            Ok(true)
        }
        (_, Err(ApplyError::Unfit { .. })) => Ok(false),
        (Err(unpacked), Err(packed)) => {
            prop_assert_eq!(unpacked.to_string(), packed.to_string());
            Ok(false)
        }
        (unpacked, packed) => Err(TestCaseError::fail(format!("{unpacked:?} but {packed:?}"))),
    }
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => "[a-d]".prop_map(|name| name),
        1 => "\\.wh\\.[a-d]".prop_map(|name| name),
        1 => Just(".wh..wh..opq".to_owned()),
    ];
    let parents = prop::collection::vec("[a-d]|\\./[ab]", 0..3);
    (parents, name).prop_map(|(mut parts, name)| {
        parts.push(name);
        parts.join("/")
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        4 => Just(Kind::Directory),
        4 => Just(Kind::File),
        2 => Just(Kind::HardLink),
        1 => Just(Kind::Symlink),
        1 => Just(Kind::CharDevice),
        1 => Just(Kind::BlockDevice),
        1 => Just(Kind::Fifo),
    ];
    let xattrs = prop::collection::vec(
        prop::sample::select(vec![
            "user.a",
            "trusted.b",
            "security.c",
            "user.a",
            "odd.d",
            "trusted.overlay.opaque",
        ]),
        0..3,
    );
    (kind, path(), path(), (0..0o10000u32, 0..70_000u32, 0..5u32), 0..2000u64, xattrs).prop_map(
        |(kind, path, link, (mode, owner, device), size, names)| {
            let mut entry = Entry { mode, uid: owner, gid: owner / 2, ..entry(kind, &path) };
            entry.mtime.nanos = owner;
            match kind {
                Kind::File => entry.size = size,
                Kind::HardLink | Kind::Symlink => entry.link = link.into_bytes(),
                Kind::CharDevice | Kind::BlockDevice => entry.device = (device, device),
                _ => {}
            }
            let xattr = |name: &str| Xattr { name: name.into(), value: size.to_string().into_bytes() };
            if kind != Kind::HardLink {
                entry.xattrs = names.into_iter().map(xattr).collect();
            }
            entry
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn packed_is_what_unpacking_makes(entries in prop::collection::vec(any_entry(), 0..24)) {
        if !is_root() {
            return Ok(());
        }
        let entries: Vec<Entry> = std::iter::once(root()).chain(entries).collect();
        let lower = tempfile::tempdir().unwrap();
        build(lower.path(), "d a/b\nf c file\nd d\nw b\nl a/c d");
        std::fs::set_permissions(lower.path().join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o2750)).unwrap();
        same(&entries, Layering::Flat, None)?;
        same(&entries, Layering::Overlay { userxattr: false }, Some(lower.path()))?;
    }
}

#[test]
fn layers_as_tools_write_them_stay_packed() {
    if !is_root() {
        return;
    }
    let mut setuid = Entry { size: 700, mode: 0o4755, ..entry(Kind::File, "usr/bin/su") };
    setuid.xattrs.push(Xattr { name: b"user.note".to_vec(), value: b"kept".to_vec() });
    let entries = [
        root(),
        entry(Kind::Directory, "usr/"),
        entry(Kind::Directory, "usr/bin/"),
        setuid,
        Entry { link: b"usr/bin/su".to_vec(), ..entry(Kind::HardLink, "usr/bin/sudo") },
        Entry { link: b"/usr/bin".to_vec(), ..entry(Kind::Symlink, "bin") },
        Entry { device: (1, 3), ..entry(Kind::CharDevice, "dev/null") },
        entry(Kind::File, "etc/.wh.motd"),
        entry(Kind::File, "var/.wh..wh..opq"),
        Entry { size: 3, ..entry(Kind::File, "var/run") },
    ];
    assert!(same(&entries, Layering::Flat, None).unwrap());
    let lower = tempfile::tempdir().unwrap();
    build(lower.path(), "d etc\nd var/log");
    assert!(same(&entries, Layering::Overlay { userxattr: false }, Some(lower.path())).unwrap());
}

#[test]
fn what_cannot_stay_packed_says_why() {
    let refused = |entries: &[Entry]| {
        let dir = tempfile::tempfile().unwrap();
        let options = options(Layering::Flat, None);
        pack_blob(archive(entries).as_slice(), None, &dir, &options, &CancelToken::new())
            .unwrap_err()
            .to_string()
    };
    let link = Entry { link: b"b".to_vec(), ..entry(Kind::Symlink, "a") };
    let through = entry(Kind::Fifo, "a/c");
    assert_eq!(refused(&[link, through]), r#"archive entry "a/c" cannot be part of a packed layer"#);
    let mut list = entry(Kind::Fifo, "x");
    list.xattrs.push(Xattr { name: b"system.posix_acl_access".to_vec(), value: vec![2] });
    assert_eq!(refused(&[list]), r#"archive entry "x" cannot be part of a packed layer"#);
    let deep = entry(Kind::Fifo, &"d/".repeat(2050));
    assert!(
        refused(&[Entry { path: [&deep.path[..], b"f"].concat(), ..deep }])
            .ends_with("cannot be part of a packed layer")
    );
    let long = entry(Kind::Fifo, &"n".repeat(256));
    assert!(refused(&[long]).ends_with("cannot be part of a packed layer"));
}

#[test]
fn bad_archives_are_refused_as_always() {
    let pack = |bytes: &[u8], limits: Limits, expected| {
        let options = ApplyOptions { limits, ..options(Layering::Flat, None) };
        let file = tempfile::tempfile().unwrap();
        pack_blob(bytes, expected, &file, &options, &CancelToken::new()).unwrap_err()
    };
    let large = archive(&[Entry { size: 4000, ..entry(Kind::File, "f") }]);
    let few = Limits { max_bytes: 3000, ..Limits::default() };
    assert!(matches!(pack(&large, few, None), ApplyError::TooManyBytes { limit: 3000 }));
    let none = Limits { max_entries: 0, ..Limits::default() };
    assert!(matches!(pack(&large, none, None), ApplyError::TooManyEntries { limit: 0 }));
    let cut = &large[..large.len() - 4 * BLOCK];
    assert!(matches!(pack(cut, Limits::default(), None), ApplyError::Archive(_)));
    let other = Digest::of(b"other");
    assert!(matches!(pack(&large, Limits::default(), Some(other)), ApplyError::DiffId { .. }));
    let escaping = archive(&[entry(Kind::Fifo, "../x")]);
    assert!(matches!(pack(&escaping, Limits::default(), None), ApplyError::Escape { .. }));
}

#[test]
fn a_full_disk_is_not_a_bad_archive() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let bytes = archive(&[entry(Kind::Fifo, "x")]);
    let options = options(Layering::Flat, None);
    let error = pack_blob(bytes.as_slice(), None, &full, &options, &CancelToken::new()).unwrap_err();
    assert!(
        matches!(&error, ApplyError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
}

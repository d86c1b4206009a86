//! What the entries of a layer do: whiteouts and opaque directories in an overlay and in a flat tree, and
//! the attributes of what is unpacked.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "tests say why they are skipped")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use common::{OVERLAY, Sandbox, Tar, describe, is_root, layer_of};
use snapshotter::apply::{ApplyOptions, Layering, Ownership};
use snapshotter::tar_entry::{Entry, Extent, Kind, Mtime, Xattr};

fn unpacked(archive: &[u8], layering: Layering) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.unpack(archive, layering).unwrap();
    sandbox
}

/// A flat root that holds these files, each with its own path as content.
fn flat(files: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    for file in files {
        let path = sandbox.root().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    sandbox
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    describe(&sandbox.root()).into_keys().map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn in_an_overlay_a_whiteout_is_a_device_and_an_opaque_directory_has_an_attribute() {
    if !is_root() {
        return;
    }
    let archive = Tar::new().file("a/.wh.gone", "").file("b/.wh..wh..opq", "").file("b/new", "").bytes();
    let sandbox = unpacked(&archive, OVERLAY);
    assert!(sandbox.is_whiteout("a/gone"));
    assert!(sandbox.is_opaque("b") && !sandbox.is_opaque("a"));
    assert_eq!(names(&sandbox), ["a", "a/gone", "b", "b/new"]);
}

#[test]
fn in_an_overlay_a_whiteout_spares_what_its_own_layer_has() {
    if !is_root() {
        return;
    }
    let orders = [
        Tar::new().file("f", "new").dir("d").file("d/x", "new").file(".wh.f", "").file(".wh.d", ""),
        Tar::new().file(".wh.f", "").file(".wh.d", "").file("f", "new").dir("d").file("d/x", "new"),
        // The directory is only implied by what is in it.
        Tar::new().file(".wh.f", "").file(".wh.d", "").file("f", "new").file("d/x", "new"),
    ];
    for archive in orders {
        let sandbox = unpacked(&archive.bytes(), OVERLAY);
        assert_eq!(sandbox.read("f"), "new");
        assert_eq!(sandbox.read("d/x"), "new");
        assert!(sandbox.is_opaque("d"), "what lower layers have in d is deleted");
    }
}

#[test]
fn a_hard_link_to_a_deleted_name_is_refused() {
    if !is_root() {
        return;
    }
    let archive = Tar::new().file(".wh.a", "").hard_link("b", "a").bytes();
    let error = Sandbox::new().unpack(&archive, OVERLAY).unwrap_err();
    assert!(matches!(error, snapshotter::apply::ApplyError::LinkTarget { .. }), "{error:?}");
}

#[test]
fn an_opaque_root_is_reported_because_overlayfs_ignores_it() {
    if !is_root() {
        return;
    }
    let applied = Sandbox::new().unpack(&Tar::new().file(".wh..wh..opq", "").bytes(), OVERLAY).unwrap();
    assert!(applied.root_opaque);
    let applied = Sandbox::new().unpack(&Tar::new().file("a/.wh..wh..opq", "").bytes(), OVERLAY).unwrap();
    assert!(!applied.root_opaque);
}

#[test]
fn in_a_flat_tree_whiteouts_delete() {
    if !is_root() {
        return;
    }
    let sandbox = flat(&["a", "d/x", "d/e/y", "keep/z"]);
    let archive = Tar::new().file(".wh.a", "").file(".wh.d", "").file("none/.wh.b", "").bytes();
    sandbox.unpack(&archive, Layering::Flat).unwrap();
    assert_eq!(names(&sandbox), ["keep", "keep/z"]);
}

#[test]
fn in_a_flat_tree_a_whiteout_spares_what_its_own_layer_has() {
    if !is_root() {
        return;
    }
    let new = |tar: Tar| tar.dir("d").file("d/new", "new").dir("d/e").file("d/e/new", "new").file("f", "new");
    let orders = [
        new(Tar::new()).file(".wh.d", "").file(".wh.f", ""),
        new(Tar::new().file(".wh.d", "").file(".wh.f", "")),
    ];
    for archive in orders {
        let sandbox = flat(&["d/old", "d/e/old", "d/g/old", "f"]);
        sandbox.unpack(&archive.bytes(), Layering::Flat).unwrap();
        assert_eq!(names(&sandbox), ["d", "d/e", "d/e/new", "d/new", "f"]);
        assert_eq!(sandbox.read("f"), "new");
    }
}

#[test]
fn in_a_flat_tree_an_opaque_directory_keeps_its_own_siblings() {
    if !is_root() {
        return;
    }
    let orders = [
        Tar::new().dir("d").file("d/new", "").file("d/.wh..wh..opq", ""),
        Tar::new().dir("d").file("d/.wh..wh..opq", "").file("d/new", ""),
    ];
    for archive in orders {
        let sandbox = flat(&["d/old", "d/e/old", "other/old"]);
        sandbox.unpack(&archive.bytes(), Layering::Flat).unwrap();
        assert_eq!(names(&sandbox), ["d", "d/new", "other", "other/old"]);
    }
}

#[test]
fn in_a_flat_tree_a_whiteout_sees_through_a_symlink_what_its_layer_wrote() {
    if !is_root() {
        return;
    }
    let sandbox = flat(&["usr/lib/old"]);
    std::os::unix::fs::symlink("usr/lib", sandbox.root().join("lib")).unwrap();
    let archive = Tar::new().file("lib/new", "").file("usr/.wh.lib", "").bytes();
    sandbox.unpack(&archive, Layering::Flat).unwrap();
    assert_eq!(names(&sandbox), ["lib", "usr", "usr/lib", "usr/lib/new"]);
}

#[test]
fn replacing_a_file_of_a_flat_tree_leaves_its_other_names_alone() {
    if !is_root() {
        return;
    }
    let sandbox = flat(&["a"]);
    fs::hard_link(sandbox.root().join("a"), sandbox.root().join("b")).unwrap();
    sandbox.unpack(&Tar::new().file("a", "new").bytes(), Layering::Flat).unwrap();
    assert_eq!((sandbox.read("a").as_str(), sandbox.read("b").as_str()), ("new", "a"));
}

#[test]
fn a_directory_entry_replaces_the_attributes_of_a_directory_and_keeps_its_content() {
    if !is_root() {
        return;
    }
    let sandbox = flat(&["d/old"]);
    let mut first = Entry::new(Kind::Directory, "d");
    first.xattrs = vec![Xattr { name: b"user.old".to_vec(), value: b"1".to_vec() }];
    sandbox.unpack(&Tar::new().entry(&first, b"").bytes(), Layering::Flat).unwrap();
    let mut second = Entry::new(Kind::Directory, "d");
    second.mode = 0o1750;
    second.uid = 7;
    second.mtime.seconds = 99;
    second.xattrs = vec![Xattr { name: b"user.new".to_vec(), value: b"2".to_vec() }];
    sandbox.unpack(&Tar::new().entry(&second, b"").bytes(), Layering::Flat).unwrap();
    let seen = describe(&sandbox.root());
    let directory = &seen[Path::new("d")];
    assert_eq!((directory.mode, directory.owner, directory.mtime), (0o1750, (7, 0), 99));
    assert_eq!(directory.xattrs, [(b"user.new".to_vec(), b"2".to_vec())]);
    assert!(seen.contains_key(Path::new("d/old")));
}

#[test]
fn in_a_plain_archive_whiteout_names_are_names() {
    let mut options = ApplyOptions::new(Layering::Plain);
    options.ownership = Ownership::Ignore;
    let sandbox = Sandbox::new();
    sandbox.apply(&Tar::new().file(".wh.a", "x").file("b/.wh..wh..opq", "").bytes(), &options).unwrap();
    assert_eq!(names(&sandbox), [".wh.a", "b", "b/.wh..wh..opq"]);
}

#[test]
fn owner_mode_times_and_attributes_are_those_of_the_entry() {
    if !is_root() {
        return;
    }
    let mut capability = vec![1, 0, 0, 2];
    capability.extend_from_slice(&[0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut file = Entry::new(Kind::File, "d/file");
    file.mode = 0o6755;
    (file.uid, file.gid) = (1000, 2_000_000_000);
    file.mtime = Mtime { seconds: -5, nanos: 123_456_789 };
    file.xattrs = vec![
        Xattr { name: b"security.capability".to_vec(), value: capability },
        Xattr { name: b"user.note".to_vec(), value: b"any\0bytes\n=".to_vec() },
    ];
    let mut directory = Entry::new(Kind::Directory, "d");
    directory.mode = 0o2550;
    directory.mtime.seconds = 1_000_000_000;
    let archive = Tar::new().entry(&directory, b"").entry(&file, b"data").bytes();
    let sandbox = unpacked(&archive, OVERLAY);
    let seen = describe(&sandbox.root());
    let found = &seen[Path::new("d/file")];
    assert_eq!((found.mode, found.owner), (0o6755, (1000, 2_000_000_000)));
    let xattrs: Vec<_> = file.xattrs.into_iter().map(|xattr| (xattr.name, xattr.value)).collect();
    assert_eq!(found.xattrs, xattrs, "file capabilities outlive the change of owner");
    let metadata = fs::metadata(sandbox.root().join("d/file")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-5, 123_456_789));
    let found = &seen[Path::new("d")];
    assert_eq!((found.mode, found.mtime), (0o2550, 1_000_000_000), "set after the file was made in it");
}

#[test]
fn an_inherited_acl_does_not_reach_new_files() {
    if !is_root() {
        return;
    }
    let mut directory = Entry::new(Kind::Directory, "d");
    directory.mode = 0o755;
    directory.xattrs = vec![Xattr { name: b"system.posix_acl_default".to_vec(), value: default_acl() }];
    let archive = Tar::new().entry(&directory, b"").file("d/file", "").bytes();
    let sandbox = unpacked(&archive, OVERLAY);
    let seen = describe(&sandbox.root());
    assert_eq!(seen[Path::new("d")].xattrs.len(), 1);
    assert_eq!(seen[Path::new("d/file")].mode, 0o644);
    assert!(seen[Path::new("d/file")].xattrs.is_empty());
}

/// user::rwx, user:1:rwx, group::r-x, mask::rwx, other::--- (`linux/posix_acl_xattr.h`).
fn default_acl() -> Vec<u8> {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 7u16, u32::MAX), (2, 7, 1), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

#[test]
fn directories_without_an_entry_take_after_the_layers_below() {
    if !is_root() {
        return;
    }
    let lower = tempfile::tempdir().unwrap();
    fs::create_dir_all(lower.path().join("tmp/known")).unwrap();
    fs::set_permissions(lower.path().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let mut options = ApplyOptions::new(OVERLAY);
    options.lower = vec![lower.path().to_owned()];
    let sandbox = Sandbox::new();
    sandbox.apply(&Tar::new().file("tmp/unknown/file", "").bytes(), &options).unwrap();
    let seen = describe(&sandbox.root());
    assert_eq!(seen[Path::new("tmp")].mode, 0o1777);
    assert_eq!((seen[Path::new("tmp/unknown")].mode, seen[Path::new("tmp/unknown")].mtime), (0o755, 0));
}

#[test]
fn hard_links_may_come_before_their_target() {
    if !is_root() {
        return;
    }
    let archive = Tar::new().hard_link("before", "a").file("a", "x").hard_link("after", "./a").bytes();
    let sandbox = unpacked(&archive, OVERLAY);
    let inode = |name: &str| fs::metadata(sandbox.root().join(name)).unwrap().ino();
    assert_eq!((inode("before"), inode("after")), (inode("a"), inode("a")));
    unpacked(&Tar::new().file("a", "x").hard_link("a", "a").bytes(), OVERLAY);
}

#[test]
fn xattrs_of_users_on_symlinks_are_left_out() {
    if !is_root() {
        return;
    }
    let mut link = Entry::new(Kind::Symlink, "link");
    link.link = b"nowhere".to_vec();
    link.mtime.seconds = 77;
    link.xattrs = vec![
        Xattr { name: b"trusted.note".to_vec(), value: b"kept".to_vec() },
        Xattr { name: b"user.note".to_vec(), value: b"lost".to_vec() },
    ];
    let sandbox = Sandbox::new();
    let applied = sandbox.unpack(&Tar::new().entry(&link, b"").bytes(), OVERLAY).unwrap();
    assert_eq!(applied.skipped_xattrs, 1);
    let seen = &describe(&sandbox.root())[Path::new("link")];
    assert_eq!((seen.kind, seen.mtime), ('l', 77));
    assert_eq!(seen.xattrs, [(b"trusted.note".to_vec(), b"kept".to_vec())]);
}

/// A sparse entry is only read, so this one is made by GNU tar (see `tar_formats.rs` for its content).
#[test]
fn holes_stay_holes() {
    let directory = tempfile::tempdir().unwrap();
    let file = fs::File::create(directory.path().join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 32 << 20).unwrap();
    drop(file);
    let output =
        Command::new("tar").args(["-C", directory.path().to_str().unwrap(), "-Scf", "-", "sparse"]).output();
    let mut options = ApplyOptions::new(Layering::Plain);
    options.ownership = Ownership::Ignore;
    let sandbox = Sandbox::new();
    sandbox.apply(&output.unwrap().stdout, &options).unwrap();
    let metadata = fs::metadata(sandbox.root().join("sparse")).unwrap();
    assert_eq!(metadata.len(), 64 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let extents = Extent { offset: 32 << 20, length: 6 };
    let mut middle = [0; 6];
    let file = fs::File::open(sandbox.root().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut middle, extents.offset).unwrap();
    assert_eq!(&middle, b"middle");
}

/// The kernel as the judge: layers unpacked for an overlay, and the same layers unpacked into one tree, are
/// the same files once the overlay is mounted.
#[test]
fn a_mounted_overlay_shows_what_a_flat_tree_has() {
    if !is_root() {
        return;
    }
    let base = Tar::new()
        .dir("etc")
        .file("etc/a", "base")
        .file("etc/b", "base")
        .dir("usr")
        .dir("usr/lib")
        .file("usr/lib/x", "base")
        .file("var/log/old", "base")
        .file("swap", "a file")
        .dir("gone")
        .file("gone/deep/file", "base")
        .bytes();
    let change = Tar::new()
        .dir("etc")
        .file("etc/.wh.a", "")
        .file("etc/c", "change")
        .dir("usr")
        .file("usr/.wh.lib", "")
        .dir("usr/lib")
        .file("usr/lib/y", "change")
        .dir("var")
        .dir("var/log")
        .file("var/log/.wh..wh..opq", "")
        .file("var/log/new", "change")
        .file(".wh.gone", "")
        .dir("swap")
        .file("swap/in", "change")
        .bytes();
    let (lower, upper, flat) = (Sandbox::new(), Sandbox::new(), Sandbox::new());
    lower.unpack(&base, OVERLAY).unwrap();
    upper.unpack(&change, OVERLAY).unwrap();
    flat.unpack(&base, Layering::Flat).unwrap();
    flat.unpack(&change, Layering::Flat).unwrap();
    let Some(listing) = list_mounted(&[upper.root().as_path(), lower.root().as_path()]) else {
        println!("skipped: overlayfs cannot be mounted here");
        return;
    };
    assert_eq!(listing, list(&flat.root()));
    // And the change can be read back out of its directory.
    let again = unpacked(&layer_of(&upper.root()), OVERLAY);
    assert_eq!(describe(&again.root()), describe(&upper.root()));
}

const LIST: &str = r#"cd "$1" && find . -mindepth 1 -printf '%p %y %m\n' -type f -exec cat {} \; | sort"#;

fn list(root: &Path) -> String {
    let output = Command::new("sh").args(["-ec", LIST, "sh"]).arg(root).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What a read-only overlay of these directories shows, topmost first; `None` where it cannot be mounted.
fn list_mounted(layers: &[&Path]) -> Option<String> {
    let target = tempfile::tempdir().unwrap();
    let lower: Vec<&str> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    let mount = format!(r#"mount -t overlay overlay -o lowerdir="$2" "$1" || exit 9; {LIST}"#);
    let output = Command::new("unshare")
        .args(["-m", "sh", "-ec", &mount, "sh"])
        .arg(target.path())
        .arg(lower.join(":"))
        .output()
        .unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

//! What files have beside their content: owners, modes, extended attributes, capabilities, access control lists.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::XattrFlags;

use super::{Bench, make_dir, put, set_mode};
use crate::mounted;
use crate::tree::Tree;
use crate::user_namespace;

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{}: {name}: {error}", path.display()));
}

/// One small change in a large tree is a small layer.
pub(super) fn chown_of_one_file_of_many(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            make_dir(&root.join("many"));
            (0..1000).for_each(|number| put(&root.join(format!("many/{number:03}")), [b'x'; 100]));
        },
        |root| chown(root.join("many/250"), Some(1000), Some(50)).unwrap(),
    ]);
    let layer = bench.layer(chain[1]);
    let expected =
        Tree::new().dir("many", 0o755).file("many/250", 0o644, [b'x'; 100]).owner("many/250", 1000, 50);
    expected.assert_shows(&layer, "the layer");
    let expected = bench.mounted(chain[0]).owner("many/250", 1000, 50);
    bench.expect(&chain, &expected);
}

pub(super) fn modes_and_owners(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            make_dir(&root.join("d/e"));
            put(&root.join("d/e/tool"), "#!");
            chown(root.join("d/e/tool"), Some(7), Some(8)).unwrap();
            set_mode(&root.join("d/e/tool"), 0o6755);
            symlink("nowhere", root.join("link")).unwrap();
            make_dir(&root.join("closed"));
            put(&root.join("closed/f"), "");
            set_mode(&root.join("closed"), 0o000);
        },
        |root| {
            set_mode(&root.join("d"), 0o1777);
            chown(root.join("d/e"), Some(65534), None).unwrap();
            lchown(root.join("link"), Some(9), Some(9)).unwrap();
            set_mode(&root.join("d/e/tool"), 0o400);
        },
    ]);
    let first = Tree::new()
        .dir("closed", 0o000)
        .file("closed/f", 0o644, "")
        .dir("d", 0o755)
        .dir("d/e", 0o755)
        .file("d/e/tool", 0o6755, "#!")
        .owner("d/e/tool", 7, 8)
        .symlink("link", "nowhere");
    bench.expect(&chain[..1], &first);
    let second = first
        .dir("d", 0o1777)
        .owner("d/e", 65534, 0)
        .owner("link", 9, 9)
        .file("d/e/tool", 0o400, "#!")
        .owner("d/e/tool", 7, 8);
    bench.expect(&chain, &second);
}

pub(super) fn extended_attributes(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            make_dir(&root.join("d"));
            put(&root.join("d/f"), "");
            set_xattr(&root.join("d"), "user.dir", b"of a directory");
            set_xattr(&root.join("d/f"), "user.kept", b"");
            set_xattr(&root.join("d/f"), "user.changed", b"before\0\xff");
            set_xattr(&root.join("d/f"), "user.gone", &[7; 3000]);
        },
        |root| {
            set_xattr(&root.join("d/f"), "user.changed", b"after");
            rustix::fs::lremovexattr(root.join("d/f"), "user.gone").unwrap();
            // Only root of the machine may.
            if !user_namespace::is_inside() {
                set_xattr(&root.join("d/f"), "trusted.note", b"kept");
            }
        },
        |root| rustix::fs::lremovexattr(root.join("d"), "user.dir").unwrap(),
    ]);
    let plain = Tree::new().dir("d", 0o755).file("d/f", 0o644, "").xattr("d/f", "user.kept", b"");
    let first = plain
        .clone()
        .xattr("d", "user.dir", b"of a directory")
        .xattr("d/f", "user.changed", b"before\0\xff")
        .xattr("d/f", "user.gone", &[7; 3000]);
    bench.expect(&chain[..1], &first);
    let mut last = plain.xattr("d/f", "user.changed", b"after");
    if !user_namespace::is_inside() {
        last = last.xattr("d/f", "trusted.note", b"kept");
    }
    bench.expect(&chain[..2], &last.clone().xattr("d", "user.dir", b"of a directory"));
    bench.expect(&chain, &last);
}

/// `cap_net_bind_service` and `cap_net_raw` in `linux/capability.h`'s `vfs_cap_data`, permitted and effective.
const BIND: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub(super) fn file_capabilities(bench: &Bench<'_>) {
    const NAME: &str = "security.capability";
    let chain = bench.chain(&[
        |root| {
            for name in ["kept", "changed", "lost"] {
                put(&root.join(name), "program");
                set_xattr(&root.join(name), NAME, &BIND);
            }
        },
        |root| {
            set_mode(&root.join("kept"), 0o755);
            set_xattr(&root.join("changed"), NAME, &RAW);
            // A change of owner takes capabilities away.
            chown(root.join("lost"), Some(1), Some(1)).unwrap();
        },
    ]);
    let file = |tree: Tree, name, mode| tree.file(name, mode, "program");
    let all = file(file(file(Tree::new(), "kept", 0o644), "changed", 0o644), "lost", 0o644);
    let first = all.clone().xattr("kept", NAME, &BIND).xattr("changed", NAME, &BIND);
    bench.expect(&chain[..1], &first.xattr("lost", NAME, &BIND));
    let second = file(all, "kept", 0o755).xattr("kept", NAME, &BIND).xattr("changed", NAME, &RAW);
    bench.expect(&chain, &second.owner("lost", 1, 1));
}

/// `user::rw-, user:1:r--, group::r--, mask::r--, other::---` (`linux/posix_acl_xattr.h`).
fn access_control_list() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}

pub(super) fn access_control_lists(bench: &Bench<'_>) {
    const ACCESS: &str = "system.posix_acl_access";
    const DEFAULT: &str = "system.posix_acl_default";
    let chain = bench.chain(&[
        |root| {
            make_dir(&root.join("d"));
            put(&root.join("d/f"), "");
            set_xattr(&root.join("d/f"), ACCESS, &access_control_list());
        },
        |root| {
            set_xattr(&root.join("d"), DEFAULT, &access_control_list());
            rustix::fs::lremovexattr(root.join("d/f"), ACCESS).unwrap();
        },
        |root| put(&root.join("other"), ""),
    ]);
    let first =
        Tree::new().dir("d", 0o755).file("d/f", 0o640, "").xattr("d/f", ACCESS, &access_control_list());
    bench.expect(&chain[..1], &first);
    let second =
        Tree::new().dir("d", 0o755).xattr("d", DEFAULT, &access_control_list()).file("d/f", 0o640, "");
    bench.expect(&chain[..2], &second);
    bench.expect(&chain, &second.file("other", 0o644, ""));
}

/// No layer says anything about the root directory, but snapshots on top of each other keep it.
pub(super) fn the_root_directory(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            set_mode(root, 0o1711);
            chown(root, Some(3), Some(4)).unwrap();
            set_xattr(root, "user.root", b"1");
        },
        |root| put(&root.join("f"), ""),
    ]);
    for id in chain {
        mounted::with(&bench.subject.view(id), |root| {
            let metadata = fs::metadata(root).unwrap();
            let seen = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
            assert_eq!(seen, (0o1711, 3, 4));
            let mut value = [0; 8];
            assert_eq!(rustix::fs::lgetxattr(root, "user.root", &mut value), Ok(1));
        });
    }
}

//! Kinds of files beside the usual ones.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use super::{Bench, put, set_mode};
use crate::mounted;
use crate::tree::{Kind, Tree};
use crate::user_namespace;

fn make_node(path: &Path, kind: FileType, device: (u32, u32)) -> Result<(), Errno> {
    mknodat(CWD, path, kind, Mode::RUSR, makedev(device.0, device.1))?;
    set_mode(path, 0o620);
    Ok(())
}

/// Nobody can make devices in a user namespace, so there the case is that the kernel says so.
pub(super) fn device_nodes(bench: &Bench<'_>) {
    let inside = user_namespace::is_inside();
    let make = move |root: &Path| {
        for (name, kind, device) in [
            ("character", FileType::CharacterDevice, (1, 3)),
            ("block", FileType::BlockDevice, (259, 70_000)),
        ] {
            let expected = if inside { Err(Errno::PERM) } else { Ok(()) };
            assert_eq!(make_node(&root.join(name), kind, device), expected);
        }
    };
    let base = bench.change(None, make);
    let top = bench.change(Some(base), |root| {
        if !inside {
            fs::remove_file(root.join("block")).unwrap();
            set_mode(&root.join("character"), 0o600);
        }
        put(&root.join("block"), "a file now");
    });
    if inside {
        return bench.expect(&[base, top], &Tree::new().file("block", 0o644, "a file now"));
    }
    let character = |mode| Tree::new().with("character", Kind::CharDevice(1, 3), mode);
    bench.expect(&[base], &character(0o620).with("block", Kind::BlockDevice(259, 70_000), 0o620));
    bench.expect(&[base, top], &character(0o600).file("block", 0o644, "a file now"));
}

/// A socket is nothing without the process behind it, so it is in no layer. But a file that it took the place of
/// is gone there, too.
pub(super) fn fifos_and_sockets(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            make_node(&root.join("fifo"), FileType::Fifo, (0, 0)).unwrap();
            put(&root.join("file"), "");
            put(&root.join("other"), "");
        },
        |root| {
            fs::remove_file(root.join("file")).unwrap();
            for name in ["file", "socket"] {
                drop(UnixListener::bind(root.join(name)).unwrap());
                set_mode(&root.join(name), 0o755);
            }
            set_mode(&root.join("fifo"), 0o644);
        },
    ]);
    let exported = Tree::new().with("fifo", Kind::Fifo, 0o644).file("other", 0o644, "");
    let seen = exported.clone().with("file", Kind::Socket, 0o755).with("socket", Kind::Socket, 0o755);
    bench.expect_seen(&chain, &seen);
    bench.expect_exported(&chain, &exported);
}

pub(super) fn files_with_holes(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            put(&root.join("sparse"), "");
            let file = fs::OpenOptions::new().write(true).open(root.join("sparse")).unwrap();
            file.write_all_at(b"middle", 8 << 20).unwrap();
            file.set_len(16 << 20).unwrap();
        },
        |root| set_mode(&root.join("sparse"), 0o600),
    ]);
    mounted::with(&bench.subject.view(chain[1]), |root| {
        let metadata = fs::metadata(root.join("sparse")).unwrap();
        assert_eq!(metadata.len(), 16 << 20);
        assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks", metadata.blocks());
    });
    let mut content = vec![0; 16 << 20];
    content[8 << 20..][..6].copy_from_slice(b"middle");
    bench.expect(&chain, &Tree::new().file("sparse", 0o600, content));
}

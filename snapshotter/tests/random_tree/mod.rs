//! Random trees, and the archives that make them: hard links, devices, odd and long names, attributes, times with
//! fractions, and, in a layer, whiteouts and opaque directories.

use std::collections::BTreeMap;

use proptest::prelude::*;
use snapshotter::tar_entry::{Entry, Kind, Mtime, Xattr};

use crate::common::Tar;

/// A file of a random tree.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    File {
        content: u8,
        length: usize,
    },
    Directory {
        opaque: bool,
        children: BTreeMap<Vec<u8>, (Node, Attributes)>,
    },
    Symlink(Vec<u8>),
    /// Another name of the file with this number, counted as they come, modulo how many there are.
    HardLink(usize),
    Special(Kind, (u32, u32)),
    Whiteout,
}

#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    mode: u32,
    owner: (u32, u32),
    seconds: i64,
    nanos: u32,
    xattrs: Vec<Xattr>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-d]".prop_map(String::into_bytes),
        1 => Just(b"line\nbreak".to_vec()),
        1 => Just(b"\xff\xfe".to_vec()),
        1 => Just("ünï".as_bytes().to_vec()),
        1 => Just(b"a.wh.b".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just(vec![b'n'; 120]),
        1 => Just(vec![b'm'; 255]),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let owner = prop_oneof![Just((0, 0)), Just((1000, 50)), Just((3_000_000_000, 2_097_152))];
    let xattrs = prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|value| vec![Xattr { name: b"user.note".to_vec(), value }]),
    ];
    let seconds = prop_oneof![Just(0), Just(1_700_000_000), Just(-3), Just(9_000_000_000)];
    (0u32..0o10000, owner, seconds, prop_oneof![Just(0), Just(5_000)], xattrs)
        .prop_map(|(mode, owner, seconds, nanos, xattrs)| Attributes { mode, owner, seconds, nanos, xattrs })
}

/// A tree; with `layered`, one that hides things of layers below.
pub(crate) fn tree(layered: bool) -> impl Strategy<Value = Node> {
    let file = (any::<u8>(), prop_oneof![Just(0usize), Just(1), 1usize..2000, Just(100_000)])
        .prop_map(|(content, length)| Node::File { content, length });
    let symlink = prop_oneof![Just(b"a/b".to_vec()), Just(b"/etc".to_vec()), Just(vec![b'\xfa'; 200])];
    let special = prop_oneof![
        Just(Node::Special(Kind::Fifo, (0, 0))),
        Just(Node::Special(Kind::CharDevice, (1, 3))),
        Just(Node::Special(Kind::BlockDevice, (259, 70_000))),
    ];
    let whiteout = if layered { Node::Whiteout } else { Node::File { content: 1, length: 3 } };
    let leaf = prop_oneof![
        4 => file,
        1 => symlink.prop_map(Node::Symlink),
        2 => any::<usize>().prop_map(Node::HardLink),
        1 => special,
        1 => Just(whiteout),
    ];
    let node = leaf.prop_recursive(4, 40, 6, move |inner| directory(inner, layered));
    directory(node, layered)
}

fn directory(node: impl Strategy<Value = Node> + 'static, layered: bool) -> BoxedStrategy<Node> {
    let children = proptest::collection::btree_map(name(), (node, attributes()), 0..6);
    (prop::bool::weighted(if layered { 0.2 } else { 0.0 }), children)
        .prop_map(|(opaque, children)| Node::Directory { opaque, children })
        .boxed()
}

/// The archive of a tree, entries in the order of the tree.
pub(crate) fn archive(tree: &Node) -> Vec<u8> {
    let mut files = Vec::new();
    add(Tar::new(), b"", tree, None, &mut files).bytes()
}

fn add(tar: Tar, path: &[u8], node: &Node, attributes: Option<&Attributes>, files: &mut Vec<Vec<u8>>) -> Tar {
    let entry = |kind| {
        let mut entry = Entry::new(kind, path);
        if let Some(attributes) = attributes {
            entry.mode = attributes.mode;
            (entry.uid, entry.gid) = attributes.owner;
            entry.mtime = Mtime { seconds: attributes.seconds, nanos: attributes.nanos };
            if matches!(kind, Kind::File | Kind::Directory) {
                entry.xattrs.clone_from(&attributes.xattrs);
            }
        }
        entry
    };
    match node {
        Node::HardLink(number) if !files.is_empty() => {
            let mut entry = entry(Kind::HardLink);
            entry.link.clone_from(&files[number % files.len()]);
            tar.entry(&entry, b"")
        }
        Node::HardLink(_) => add(tar, path, &Node::File { content: 0, length: 1 }, attributes, files),
        Node::File { content, length } => {
            files.push(path.to_vec());
            tar.entry(&entry(Kind::File), &vec![*content; *length])
        }
        Node::Symlink(target) => {
            let mut entry = entry(Kind::Symlink);
            entry.link.clone_from(target);
            tar.entry(&entry, b"")
        }
        Node::Special(kind, device) => {
            let mut entry = entry(*kind);
            entry.device = *device;
            tar.entry(&entry, b"")
        }
        Node::Whiteout => tar.file(beside(path, |name| [b".wh.", name].concat()), ""),
        Node::Directory { opaque, children } => {
            let mut tar = if path.is_empty() { tar } else { tar.entry(&entry(Kind::Directory), b"") };
            if *opaque {
                tar = tar.file(below(path, b".wh..wh..opq"), "");
            }
            for (name, (child, attributes)) in children {
                tar = add(tar, &below(path, name), child, Some(attributes), files);
            }
            tar
        }
    }
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn beside(path: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => below(&path[..slash], &change(&path[slash + 1..])),
        None => change(path),
    }
}

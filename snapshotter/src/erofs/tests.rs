//! Random trees as images, judged by the kernel and by the programs of erofs-utils, and what cannot be an image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use sys::erofs::Backing;

use super::*;
use crate::tree_fixture::is_root;
use crate::tree_seen::{Seen, compare, show};

/// A tree with the content of its files.
#[derive(Debug)]
struct Made {
    tree: Tree,
    data: Vec<u8>,
}

impl Made {
    fn new() -> Self {
        Self { tree: Tree::new(attributes(0o755)), data: Vec::new() }
    }

    fn put(&mut self, directory: NodeId, name: &[u8], content: Content, attributes: Attributes) -> NodeId {
        let node = self.tree.add(content, attributes).unwrap();
        self.tree.insert(directory, name, node).unwrap();
        node
    }

    /// Places content as a block device of this kind of blocks wants it.
    fn file(&mut self, content: &[u8]) -> Content {
        self.data.resize(self.data.len().next_multiple_of(4096), 0);
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(content);
        Content::File { size: content.len() as u64, offset }
    }

    /// Everything in the tree, by path.
    fn expected(&self) -> BTreeMap<PathBuf, Seen> {
        let mut links = BTreeMap::new();
        let mut found = vec![(PathBuf::new(), ROOT)];
        let mut next = 0;
        while let Some((path, node)) = found.get(next).cloned() {
            if let Content::Directory(names) = self.tree.content(node) {
                for (name, child) in names {
                    *links.entry(*child).or_insert(u64::from(self.tree.is_directory(*child))) += 1;
                    if self.tree.is_directory(*child) {
                        *links.entry(node).or_insert(2) += 1;
                    }
                    found.push((path.join(std::ffi::OsStr::from_bytes(name)), *child));
                }
            }
            next += 1;
        }
        let links = |node| links.get(&node).copied().unwrap_or(2);
        found.into_iter().map(|(path, node)| (path, self.seen(node, links(node)))).collect()
    }

    fn seen(&self, node: NodeId, links: u64) -> Seen {
        let Attributes { mode, uid, gid, mtime, xattrs } = self.tree.attributes(node).clone();
        let shows = match self.tree.content(node) {
            Content::Directory(_) => "directory".to_owned(),
            Content::File { size, offset } => {
                let bytes = &self.data[*offset as usize..(*offset + *size) as usize];
                format!("file {}", base::Digest::of(bytes))
            }
            Content::Symlink(target) => format!("link {}", base::Digest::of(target)),
            Content::CharDevice(major, minor) => format!("char {major}:{minor}"),
            Content::BlockDevice(major, minor) => format!("block {major}:{minor}"),
            Content::Fifo => "fifo".to_owned(),
        };
        let mode = if shows.starts_with("link") { 0o777 } else { mode };
        let mut xattrs: Vec<_> = xattrs.into_iter().map(|x| (x.name, x.value)).collect();
        xattrs.sort();
        (shows, mode, (uid, gid), (mtime.seconds, mtime.nanos), links, xattrs)
    }

    /// Writes image and device into a directory.
    fn write(&self, dir: &Path, bits: BlockBits) -> (PathBuf, PathBuf) {
        let (image, device) = (dir.join(format!("image-{}", bits.0)), dir.join("device"));
        let mut data = self.data.clone();
        data.resize(data.len().next_multiple_of(4096), 0);
        std::fs::write(&device, &data).unwrap();
        let mut out = Vec::new();
        self.tree.write(bits, &(data.len() as u64), &mut out).unwrap();
        File::create(&image).unwrap().write_all(&out).unwrap();
        (image, device)
    }

    /// Mounts the image and compares what the kernel shows.
    fn check_mounted(&self, bits: BlockBits) {
        let dir = tempfile::tempdir().unwrap();
        let (image, device) = self.write(dir.path(), bits);
        let (image, device) = (File::open(image).unwrap(), File::open(device).unwrap());
        let root = sys::erofs::mount(image.as_fd(), &[device.as_fd()], Backing::File).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&root)));
        compare(&show(&path), &self.expected());
    }

    /// Has `fsck.erofs` read everything and `dump.erofs` the numbers.
    fn judge(&self) {
        let dir = tempfile::tempdir().unwrap();
        let (image, device) = self.write(dir.path(), BlockBits::PAGE);
        // It reads the length of attributes behind each inode, also behind one that has none and is the last thing there is.
        let length = image.metadata().unwrap().len();
        File::options().write(true).open(&image).unwrap().set_len(length + BlockBits::PAGE.size()).unwrap();
        let out = dir.path().join("out");
        let run = |program: &str, arguments: &[String]| {
            let device = format!("--device={}", device.display());
            let output = Command::new(program).arg(device).args(arguments).arg(&image).output().unwrap();
            let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            assert!(output.status.success(), "{program}: {}{}", text[0], text[1]);
            text.concat()
        };
        let checked = run("fsck.erofs", &[format!("--extract={}", out.display()), "--preserve".to_owned()]);
        assert!(!checked.contains("<E>"), "{checked}");
        // It copies hard links and knows no attributes. Its change of owners takes away what gives rights, and the times
        // of what it makes are its own.
        let plain = |all: BTreeMap<PathBuf, Seen>| -> BTreeMap<PathBuf, (String, u32, (u32, u32))> {
            all.into_iter().map(|(path, seen)| (path, (seen.0, seen.1 & 0o1777, seen.2))).collect()
        };
        compare(&plain(show(&out)), &plain(self.expected()));
        let summary = run("dump.erofs", &["-s".to_owned()]);
        let count = self.expected_inodes();
        let line = summary.lines().find(|line| line.contains("inode count")).unwrap_or_default().to_owned();
        assert!(line.ends_with(&format!(" {count}")), "{line}: {count}");
    }

    fn expected_inodes(&self) -> usize {
        let mut seen = std::collections::BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(node) = open.pop() {
            if let Content::Directory(names) = self.tree.content(node) {
                open.extend(names.values().filter(|child| seen.insert(**child)));
            }
        }
        seen.len()
    }
}

fn attributes(mode: u32) -> Attributes {
    Attributes { mode, mtime: Mtime { seconds: 1_700_000_000, nanos: 5 }, ..Attributes::default() }
}

/// A new name: which directory it is in, of which length or oddity, and what it leads to.
type Choice = (u16, (u8, u16), (u8, u16), (u32, u32), (u8, u8));

fn choice() -> impl Strategy<Value = Choice> {
    (
        any::<u16>(),
        any::<(u8, u16)>(),
        any::<(u8, u16)>(),
        (0..0o10000u32, 0..3_000_000_000u32),
        any::<(u8, u8)>(),
    )
}

/// Builds a tree out of choices. Every choice means something.
fn build(choices: &[Choice]) -> Made {
    let mut made = Made::new();
    let mut directories = vec![ROOT];
    let mut others: Vec<NodeId> = Vec::new();
    for (number, (at, (odd, length), (kind, size), (mode, owner), (xattrs, value))) in
        choices.iter().enumerate()
    {
        let directory = directories[usize::from(*at) % directories.len()];
        let mut name = format!("{number}").into_bytes();
        match odd % 8 {
            0 => name.insert(0, b'!'),
            1 => name.splice(0..0, *b".!").for_each(drop),
            2 => name.splice(0..0, *b"..").for_each(drop),
            3 => name.splice(0..0, [0xff, b'\n']).for_each(drop),
            4 => name.resize(usize::from(*length) % 250 + 6, b'x'),
            _ => {}
        }
        let mut attributes = Attributes {
            mode: *mode,
            uid: *owner,
            gid: owner / 3,
            mtime: Mtime { seconds: i64::from(*owner) * 2 - 1_000_000, nanos: owner % 1_000_000_000 },
            xattrs: Vec::new(),
        };
        let content = match kind % 8 {
            0 | 1 => Content::Directory(BTreeMap::new()),
            2 | 3 => made.file(&(0..*size).map(|byte| byte as u8).collect::<Vec<_>>()),
            4 => Content::Symlink(vec![b'a' + kind % 26; usize::from(*size) % 4095 + 1]),
            5 => Content::CharDevice(u32::from(*size) % 4096, *owner % (1 << 20)),
            6 if !others.is_empty() => {
                let node = others[usize::from(*size) % others.len()];
                made.tree.insert(directory, &name, node).unwrap();
                continue;
            }
            6 => Content::BlockDevice(u32::from(*size) % 4096, *owner % (1 << 20)),
            _ => Content::Fifo,
        };
        let is_plain = matches!(content, Content::Directory(_) | Content::File { .. });
        for number in 0..xattrs % 4 {
            let name = format!("{}note.{number}", if is_plain { "user." } else { "trusted." }).into_bytes();
            let value = vec![*value; usize::from(*value) * usize::from(number)];
            attributes.xattrs.push(Xattr { name, value });
        }
        let is_directory = matches!(content, Content::Directory(_));
        let node = made.put(directory, &name, content, attributes);
        if is_directory { directories.push(node) } else { others.push(node) }
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_shows_what_was_written(choices in prop::collection::vec(choice(), 0..120)) {
        if is_root() {
            let made = build(&choices);
            made.check_mounted(BlockBits::TAR);
            made.check_mounted(BlockBits::PAGE);
        }
    }

    #[test]
    fn the_format_is_what_others_take_it_for(choices in prop::collection::vec(choice(), 0..60)) {
        if is_root() {
            build(&choices).judge();
        }
    }
}

#[test]
fn large_directories_are_searched_and_listed() {
    if !is_root() {
        return;
    }
    let mut made = Made::new();
    let file = made.file(b"content");
    for number in 0..5000 {
        made.put(ROOT, format!("{number:x}").as_bytes(), file.clone(), attributes(0o644));
    }
    made.check_mounted(BlockBits::TAR);
    made.judge();
}

#[test]
fn the_last_inode_may_end_with_the_image() {
    let mut made = Made::new();
    for number in 0..51 {
        made.put(ROOT, number.to_string().as_bytes(), Content::Fifo, attributes(0o644));
    }
    let plan = super::place::plan(&made.tree, BlockBits::PAGE, 1).unwrap();
    let last = plan.inodes.last().unwrap();
    assert_eq!((last.behind(), plan.blocks), (BlockBits::PAGE.size(), plan.data_block));
    if is_root() {
        made.check_mounted(BlockBits::PAGE);
        made.judge();
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let choices = [(0, (4, 300), (0, 0), (0o755, 7), (3, 9)), (1, (5, 0), (2, 700), (0o644, 8), (1, 1))];
    let bytes = || {
        let mut out = Vec::new();
        build(&choices).tree.write(BlockBits::TAR, &(1u64 << 20), &mut out).unwrap();
        out
    };
    assert_eq!(bytes(), bytes());
    assert_eq!(bytes().len() % 512, 0);
}

#[test]
fn what_the_format_cannot_hold_is_said() {
    let unfit = |content: Content, attributes: Attributes| {
        let mut made = Made::new();
        made.put(ROOT, b"x", content, attributes);
        match made.tree.write(BlockBits::TAR, &0u64, &mut std::io::sink()) {
            Err(WriteError::Unfit(unfit)) => unfit,
            other => panic!("{other:?}"),
        }
    };
    let with = |name: &[u8], length: usize| Attributes {
        xattrs: vec![Xattr { name: name.to_vec(), value: vec![0; length] }],
        ..Attributes::default()
    };
    let plain = Attributes::default;
    assert_eq!(unfit(Content::File { size: 1, offset: 5 }, plain()), Unfit::Content);
    assert_eq!(unfit(Content::File { size: u64::MAX, offset: 0 }, plain()), Unfit::Content);
    assert_eq!(unfit(Content::File { size: 1, offset: !511 }, plain()), Unfit::Content);
    assert_eq!(unfit(Content::Symlink(Vec::new()), plain()), Unfit::Link);
    assert_eq!(unfit(Content::Symlink(vec![b'x'; 4096]), plain()), Unfit::Link);
    assert_eq!(unfit(Content::Symlink(b"a\0b".to_vec()), plain()), Unfit::Link);
    assert_eq!(unfit(Content::CharDevice(4096, 0), plain()), Unfit::Device);
    assert_eq!(unfit(Content::BlockDevice(0, 1 << 20), plain()), Unfit::Device);
    assert_eq!(unfit(Content::Fifo, with(b"system.posix_acl_access", 1)), Unfit::Xattr);
    assert_eq!(unfit(Content::Fifo, with(b"user.", 1)), Unfit::Xattr);
    assert_eq!(unfit(Content::Fifo, with(b"user.x", 1 << 16)), Unfit::Xattr);
    assert_eq!(unfit(Content::Fifo, with(&[b"user.", &[b'x'; 251][..]].concat(), 1)), Unfit::Xattr);

    let mut tree = Tree::new(plain());
    let node = tree.add(Content::Fifo, plain()).unwrap();
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
        assert_eq!(tree.insert(ROOT, name, node), Err(Unfit::Name), "{name:?}");
    }
}

//! Which names within one scanned tree are the same file.

use std::collections::HashMap;

use sys::stat::{Kind, Stat};

use crate::scan::Scan;

/// A name, as (directory, child) of the scan.
type Name = (usize, usize);

/// The names of files that share an inode within one scan.
pub(crate) struct HardLinks {
    /// Later names and the first name of each such file.
    later: HashMap<Name, Name>,
}

impl HardLinks {
    pub(crate) fn find(scan: &Scan) -> Self {
        let (mut first, mut later) = (HashMap::new(), HashMap::new());
        for (dir, scanned) in scan.dirs.iter().enumerate() {
            for (index, child) in scanned.children.iter().enumerate() {
                let stat = child.entry.stat();
                if stat.links < 2 || child.entry.is_dir() || is_whiteout(stat) {
                    continue;
                }
                let leader = *first.entry((stat.device, stat.inode)).or_insert((dir, index));
                if leader != (dir, index) {
                    later.insert((dir, index), leader);
                }
            }
        }
        Self { later }
    }

    /// Whether a child of a directory of the scan is a later name of a file.
    pub(crate) fn is_later(&self, dir: usize, child: usize) -> bool {
        self.later.contains_key(&(dir, child))
    }

    /// Later names with the first name of their file, in the order of the scan.
    pub(crate) fn pairs(&self) -> Vec<(Name, Name)> {
        let mut pairs: Vec<_> = self.later.iter().map(|(later, first)| (*later, *first)).collect();
        pairs.sort_unstable();
        pairs
    }
}

/// The kernel makes all whiteouts of a mount names of one device (`ovl_whiteout` in fs/overlayfs/dir.c).
fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == Kind::CharDevice && stat.rdev == 0
}

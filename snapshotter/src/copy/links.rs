//! Hard links within one copied tree: the first name is copied, the others are linked to it.

use std::collections::HashMap;

use super::dirs::TargetDir;
use super::{Job, Result};
use crate::content_key::Leaf;
use crate::scan::Scan;

/// The names of files that share an inode within one scan.
pub(super) struct HardLinks {
    /// Later names and the first name of each such file, as (directory, child) of the scan.
    later: HashMap<(usize, usize), (usize, usize)>,
}

impl HardLinks {
    pub(super) fn find(scan: &Scan) -> Self {
        let (mut first, mut later) = (HashMap::new(), HashMap::new());
        for (dir, scanned) in scan.dirs.iter().enumerate() {
            for (index, child) in scanned.children.iter().enumerate() {
                let stat = child.entry.stat();
                if stat.links < 2 || child.entry.is_dir() {
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
    pub(super) fn is_later(&self, dir: usize, child: usize) -> bool {
        self.later.contains_key(&(dir, child))
    }
}

impl Job<'_> {
    /// Gives files their later names. Answers how many.
    pub(super) fn make_hard_links(
        &self,
        scan: &Scan,
        targets: &[TargetDir],
        links: &HardLinks,
        leaves: &mut [Vec<Option<Leaf>>],
    ) -> Result<u64> {
        let mut later: Vec<_> = links.later.iter().map(|(later, first)| (*later, *first)).collect();
        later.sort_unstable();
        for ((dir, index), (first_dir, first_index)) in later.iter().copied() {
            let (from, to) = (targets[first_dir].open(self)?, self.open_both(scan, &targets[dir], dir)?);
            let child = &scan.dirs[dir].children[index];
            to.make_room(child.name())?;
            to.target.create_hard_link(
                child.name(),
                &from,
                scan.dirs[first_dir].children[first_index].name(),
            )?;
            leaves[dir][index] = leaves[first_dir][first_index].as_ref().map(|first| Leaf {
                key: first.key,
                record: first.record,
                remembered: first.record.is_some()
                    && self.remembered(child, child.entry.stat()) == first.record,
            });
        }
        Ok(later.len() as u64)
    }
}

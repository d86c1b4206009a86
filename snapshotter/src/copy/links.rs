//! Hard links within one copied tree: the first name is copied, the others are linked to it.

use super::dirs::TargetDir;
use super::{Job, Result};
use crate::content_key::Leaf;
use crate::hard_links::HardLinks;
use crate::scan::{Child, Scan};

impl Job<'_> {
    /// Gives files their later names. Answers how many.
    pub(super) fn make_hard_links(
        &self,
        scan: &Scan,
        targets: &[TargetDir],
        links: &HardLinks,
        leaves: &mut [Vec<Option<Leaf>>],
    ) -> Result<u64> {
        let later = links.pairs();
        for ((dir, index), (first_dir, first_index)) in later.iter().copied() {
            let (from, to) = (targets[first_dir].open(self)?, self.open_both(scan, &targets[dir], dir)?);
            let child = &scan.dirs[dir].children[index];
            to.make_room(child.name(), self)?;
            to.target.create_hard_link(
                child.name(),
                &from,
                scan.dirs[first_dir].children[first_index].name(),
            )?;
            leaves[dir][index] =
                leaves[first_dir][first_index].as_ref().map(|first| self.leaf_of_later(first, child));
        }
        Ok(later.len() as u64)
    }

    /// What becomes known of a later name of a file that is known by its first one.
    fn leaf_of_later(&self, first: &Leaf, child: &Child) -> Leaf {
        let remembered = first.record.is_some() && self.remembered(child, child.entry.stat()) == first.record;
        Leaf { key: first.key, record: first.record, remembered }
    }

    /// Gives the later names of files what is known of their first ones.
    pub(super) fn give_later_names_their_leaves(
        &self,
        scan: &Scan,
        links: &HardLinks,
        leaves: &mut [Vec<Option<Leaf>>],
    ) {
        for ((dir, index), (first_dir, first_index)) in links.pairs() {
            let child = &scan.dirs[dir].children[index];
            let leaf = leaves[first_dir][first_index].as_ref().map(|first| self.leaf_of_later(first, child));
            leaves[dir][index] = leaf;
        }
    }
}

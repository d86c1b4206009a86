//! The mark phase of the collector: what can be reached from what is needed. Pure.

use std::collections::{HashMap, HashSet};

use base::Digest;

use crate::snapshot::SnapshotId;

/// Something that can be kept or collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Node {
    /// A snapshot: needs its parent, the owner of its layer directory, and the layers whose archives its own is part of; keeps
    /// the blobs made from it or for it.
    Snapshot(SnapshotId),
    /// A blob: a document needs what it refers to.
    Blob(Digest),
}

/// Who needs whom.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    needs: HashMap<Node, Vec<Node>>,
}

impl Graph {
    /// Records that `from` needs `to`.
    pub(crate) fn refer(&mut self, from: Node, to: Node) {
        self.needs.entry(from).or_default().push(to);
    }

    /// What `node` needs itself.
    pub(crate) fn needs(&self, node: &Node) -> &[Node] {
        self.needs.get(node).map_or(&[], Vec::as_slice)
    }

    /// Adds to `marked` all of `roots` and everything they need, directly or not. Returns what was added.
    /// Documents come from outside, so the graph may be deep and anything but a tree.
    pub(crate) fn mark(
        &self,
        roots: impl IntoIterator<Item = Node>,
        marked: &mut HashSet<Node>,
    ) -> Vec<Node> {
        let mut added: Vec<Node> = roots.into_iter().filter(|node| marked.insert(*node)).collect();
        let mut next = 0;
        while let Some(node) = added.get(next) {
            let needs = self.needs(node).iter();
            let new: Vec<Node> = needs.copied().filter(|node| marked.insert(*node)).collect();
            added.extend(new);
            next += 1;
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(number: u8) -> Node {
        match number % 2 {
            0 => Node::Snapshot(SnapshotId::from_row(number.into())),
            _ => Node::Blob(Digest::of(&[number])),
        }
    }

    /// The same by its definition: the smallest set with the roots that is closed under `needs`.
    fn model(edges: &[(u8, u8)], roots: &[u8]) -> HashSet<Node> {
        let mut marked: HashSet<u8> = roots.iter().copied().collect();
        for _ in 0..=edges.len() {
            for (from, to) in edges {
                if marked.contains(from) {
                    marked.insert(*to);
                }
            }
        }
        marked.into_iter().map(node).collect()
    }

    proptest! {
        #[test]
        fn marks_what_the_definition_says(
            edges in proptest::collection::vec((0u8..24, 0u8..24), 0..60),
            first in proptest::collection::vec(0u8..24, 0..4),
            second in proptest::collection::vec(0u8..24, 0..4),
        ) {
            let mut graph = Graph::default();
            for (from, to) in &edges {
                graph.refer(node(*from), node(*to));
            }
            let mut marked = HashSet::new();
            let added = graph.mark(first.iter().map(|n| node(*n)), &mut marked);
            prop_assert_eq!(added.len(), marked.len());
            prop_assert_eq!(&marked, &model(&edges, &first));
            graph.mark(second.iter().map(|n| node(*n)), &mut marked);
            prop_assert_eq!(&marked, &model(&edges, &[first, second].concat()));
        }
    }
}

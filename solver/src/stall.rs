//! What waits for what, for a plan that came to a stop though it should not have.

use std::fmt;

use llb::{Graph, VertexIndex};

use crate::planner::Planner;

/// How many vertices are told: whoever looks for the reason finds it at the bottom, and that comes first.
const MOST_TOLD: usize = 40;

/// The vertices that have no result, inputs before those that use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitGraph {
    /// The first of them.
    pub vertices: Vec<WaitingVertex>,
    /// How many more there are.
    pub more: usize,
}

/// A vertex without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingVertex {
    /// Its name, as progress shows it.
    pub name: String,
    /// Where it stands, in words.
    pub state: &'static str,
    /// For how many keys it waits.
    pub keys_awaited: usize,
    /// The names of the inputs that have no result either.
    pub waits_for: Vec<String>,
}

impl WaitGraph {
    /// What `planner` waits for: `targets`, and what they use.
    pub fn of<T: Clone>(graph: &Graph, planner: &Planner<T>, targets: &[VertexIndex]) -> Self {
        let name = |vertex: &VertexIndex| graph.vertex(*vertex).metadata.name.clone();
        let mut reached = vec![false; graph.len()];
        let mut pending: Vec<VertexIndex> =
            targets.iter().copied().filter(|target| planner.output(*target).is_none()).collect();
        while let Some(vertex) = pending.pop() {
            if !std::mem::replace(&mut reached[vertex.index()], true) {
                pending.extend(planner.waits_for(vertex));
            }
        }
        let waiting = graph.topological().iter().filter(|vertex| reached[vertex.index()]);
        let count = waiting.clone().count();
        let told = waiting.take(MOST_TOLD).map(|vertex| WaitingVertex {
            name: name(vertex),
            state: planner.state(*vertex).name(),
            keys_awaited: planner.keys_awaited(*vertex),
            waits_for: planner.waits_for(*vertex).iter().map(name).collect(),
        });
        Self { vertices: told.collect(), more: count.saturating_sub(MOST_TOLD) }
    }
}

impl fmt::Display for WaitGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for vertex in &self.vertices {
            write!(f, "\n  \"{}\": {}", vertex.name, vertex.state)?;
            if vertex.keys_awaited > 0 {
                write!(f, ", {} keys to come", vertex.keys_awaited)?;
            }
            for input in &vertex.waits_for {
                write!(f, ", waits for \"{input}\"")?;
            }
        }
        if self.more > 0 { write!(f, "\n  and {} more", self.more) } else { Ok(()) }
    }
}

//! Where the time of a build went: the chain of steps that nothing could have been faster than, and what the cache
//! saved.

use std::time::Duration;

use base::Timestamp;
use llb::{Graph, VertexIndex};

use super::document::{OtherDocument, StepDocument, StepOutcome};

/// Where the time went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// From the beginning to the end.
    pub total: Duration,
    /// The steps of the chain that took longest, and work beside the steps, in their order.
    pub critical: Vec<(String, Duration)>,
    /// How much longer the longest chain of steps would have been without the cache.
    pub saved: Duration,
}

impl Timing {
    /// The timing of a build whose steps are those of `graph`, in its order.
    pub(crate) fn of(
        graph: Option<&Graph>,
        steps: &[StepDocument],
        other: &[OtherDocument],
        started: Timestamp,
        ended: Timestamp,
    ) -> Self {
        let mut critical: Vec<(String, Duration)> =
            other.iter().map(|other| (other.name.clone(), between(other.started, other.ended))).collect();
        let mut saved = Duration::ZERO;
        if let Some(graph) = graph.filter(|graph| graph.len() == steps.len()) {
            let paths = Paths::of(graph, steps);
            critical.splice(0..0, paths.longest(graph, steps));
            saved = paths.saved();
        }
        Self { total: between(started, ended), critical, saved }
    }
}

/// How long it took to come to each step's result.
struct Paths {
    /// What this build spent.
    spent: Vec<Duration>,
    /// What a build without a cache would have.
    without_cache: Vec<Duration>,
    /// The input that was waited for longest.
    after: Vec<Option<VertexIndex>>,
}

impl Paths {
    fn of(graph: &Graph, steps: &[StepDocument]) -> Self {
        let count = steps.len();
        let mut paths = Self {
            spent: vec![Duration::ZERO; count],
            without_cache: vec![Duration::ZERO; count],
            after: vec![None; count],
        };
        for index in graph.topological() {
            let inputs = graph.inputs(*index);
            let step = &steps[index.index()];
            let slowest =
                inputs.iter().map(|input| input.vertex).max_by_key(|input| paths.spent[input.index()]);
            let below = |of: &[Duration]| {
                inputs.iter().map(|input| of[input.vertex.index()]).max().unwrap_or_default()
            };
            let own = spent_on(step);
            let without_cache = match (step.outcome, step.path_ms) {
                (StepOutcome::Cached, Some(path)) => Duration::from_millis(path),
                _ => own + below(&paths.without_cache),
            };
            paths.spent[index.index()] = own + below(&paths.spent);
            paths.without_cache[index.index()] = without_cache;
            paths.after[index.index()] = slowest;
        }
        paths
    }

    /// The chain that took longest, without what took no time.
    fn longest(&self, graph: &Graph, steps: &[StepDocument]) -> Vec<(String, Duration)> {
        let mut chain = Vec::new();
        let mut next = graph.topological().iter().copied().max_by_key(|index| self.spent[index.index()]);
        while let Some(index) = next {
            let own = spent_on(&steps[index.index()]);
            if !own.is_zero() {
                chain.push((graph.vertex(index).metadata.name.clone(), own));
            }
            next = self.after[index.index()];
        }
        chain.reverse();
        chain
    }

    fn saved(&self) -> Duration {
        let longest = |of: &[Duration]| of.iter().max().copied().unwrap_or_default();
        longest(&self.without_cache).saturating_sub(longest(&self.spent))
    }
}

fn spent_on(step: &StepDocument) -> Duration {
    match (step.started, step.ended) {
        (Some(started), Some(ended)) => between(started, ended),
        _ => Duration::ZERO,
    }
}

fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

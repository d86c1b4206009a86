//! What the solver does with a large graph of which everything is in the cache: give keys, look up, run nothing.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{CancelToken, Key, KeyHasher, Platform};
use llb::{ExecOp, Graph, GraphBuilder, GraphError, Input, Metadata, Op, VertexIndex};
use solver::{Executed, Limits, Ops, StepOutcome};

/// Chains of steps, and how long each is.
const CHAINS: usize = 100;
const LENGTH: usize = 100;

/// A graph of 10,000 steps, and a cache that has the results of all.
pub(crate) struct Planning {
    graph: Graph,
    targets: Vec<VertexIndex>,
    cache: Cache,
}

/// A cache that says of each key whether it has been saved.
#[derive(Default)]
struct Cache {
    known: Mutex<HashSet<Key>>,
    /// How many steps were run.
    run: AtomicUsize,
}

impl Planning {
    /// Builds it once, with every step a target: nothing that is found spares another look-up.
    pub(crate) fn prepare() -> Result<Self, GraphError> {
        let platform = Platform::new("linux", "amd64", "");
        let mut builder = GraphBuilder::new();
        let mut targets = Vec::with_capacity(CHAINS * LENGTH);
        for chain in 0..CHAINS {
            let mut below: Option<Input> = None;
            for step in 0..LENGTH {
                let op = Op::Exec(ExecOp::new(vec![format!("step {step} of {chain}")]));
                let inputs: Vec<Input> = below.into_iter().collect();
                let made = builder.add(op, &platform, &inputs, Metadata::default());
                targets.push(made.vertex);
                below = Some(made);
            }
        }
        let planning = Self { graph: builder.finish()?, targets, cache: Cache::default() };
        planning.solve();
        Ok(planning)
    }

    /// Solves it and says how many results there are.
    pub(crate) fn solve(&self) -> usize {
        let limits = Limits::for_cores(1);
        let solved = solver::solve(&self.graph, &self.targets, limits, &self.cache, &CancelToken::new());
        solved.map_or(0, |solved| solved.outputs.len())
    }
}

impl Cache {
    fn with<T>(&self, look: impl FnOnce(&mut HashSet<Key>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Ops for Cache {
    type Output = Key;
    type Error = std::convert::Infallible;

    fn part(&self, outputs: &Key, output: u32) -> Key {
        solver::key::of_output(outputs, output)
    }

    fn local_key(&self, _: VertexIndex, _: usize, _: &CancelToken) -> Result<Key, Self::Error> {
        Ok(KeyHasher::new("none").finish())
    }

    fn content_key(
        &self,
        _: VertexIndex,
        _: usize,
        input: &Key,
        _: &CancelToken,
    ) -> Result<Key, Self::Error> {
        Ok(*input)
    }

    fn lookup(&self, _: VertexIndex, key: &Key) -> Result<Option<Key>, Self::Error> {
        Ok(self.with(|known| known.get(key).copied()))
    }

    fn save(&self, key: &Key, _: &Key) -> Result<(), Self::Error> {
        self.with(|known| known.insert(*key));
        Ok(())
    }

    fn execute(
        &self,
        _: VertexIndex,
        _: &[Option<Key>],
        content: &Key,
        _: &CancelToken,
    ) -> Result<Executed<Key>, Self::Error> {
        self.save(content, content)?;
        Ok(Executed { output: *content, reused: false })
    }

    fn expected_costs(&self) -> Vec<Option<u64>> {
        Vec::new()
    }

    fn keyed(&self, _: VertexIndex, _: &Key) {}

    fn started(&self, _: VertexIndex) {
        self.run.fetch_add(1, Ordering::Relaxed);
    }

    fn completed(&self, _: VertexIndex, _: StepOutcome<'_, Self::Error>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_steps_are_found_and_none_runs() {
        let planning = Planning::prepare().unwrap();
        let run = || planning.cache.run.load(Ordering::Relaxed);
        assert_eq!((run(), planning.solve()), (CHAINS * LENGTH, CHAINS * LENGTH));
        assert_eq!(run(), CHAINS * LENGTH, "nothing has run since");
    }
}

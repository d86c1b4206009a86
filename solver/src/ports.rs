//! What the solver asks of its surroundings.

use base::{CancelToken, Key};
use llb::VertexIndex;

/// Carries out what the solver decides. Called from several threads at once.
pub trait Ops: Sync {
    /// A handle to all results of a vertex, or to one of them; cheap to clone.
    type Output: Clone + Send + Sync;
    /// Why an action failed.
    type Error: Send;

    /// One of the results of a vertex, from 0. What is alone is result 0 of itself.
    fn part(&self, outputs: &Self::Output, output: u32) -> Self::Output;

    /// The content key of what `vertex` selects from its input `slot`, which is a local directory.
    fn local_key(&self, vertex: VertexIndex, slot: usize, cancel: &CancelToken) -> Result<Key, Self::Error>;

    /// The content key of what `vertex` uses of `input`, the result in its input `slot`. Equal keys promise
    /// that the operation cannot tell the inputs apart.
    fn content_key(
        &self,
        vertex: VertexIndex,
        slot: usize,
        input: &Self::Output,
        cancel: &CancelToken,
    ) -> Result<Key, Self::Error>;

    /// The results saved for `vertex` under `key`, if all of them still exist. Must be quick: look-ups by definition
    /// key are made on the scheduling thread.
    fn lookup(&self, vertex: VertexIndex, key: &Key) -> Result<Option<Self::Output>, Self::Error>;

    /// Remembers that `key` leads to `output`; what was remembered for it before is forgotten.
    fn save(&self, key: &Key, output: &Self::Output) -> Result<(), Self::Error>;

    /// Runs the operation. `inputs` are the results by slot; a slot of a local directory has none.
    ///
    /// The result must be saved under `content`, its content key, before others that wait to run the same
    /// may go on; the solver saves it under the definition key. If the vertex may use the cache, a result
    /// that another process has meanwhile saved under `content` may be given instead of running. No other
    /// key may be used for that: inputs that were made anew in this build have the same definition as ever.
    ///
    /// When cancelled, this gives an error, or a result that is complete.
    fn execute(
        &self,
        vertex: VertexIndex,
        inputs: &[Option<Self::Output>],
        content: &Key,
        cancel: &CancelToken,
    ) -> Result<Executed<Self::Output>, Self::Error>;

    /// How long vertices took to run in earlier builds, by index, in milliseconds; what is left out is not known.
    /// Asked once at most, when the first vertex has to run.
    fn expected_costs(&self) -> Vec<Option<u64>>;

    /// The definition key of `vertex` is known; its inputs' were told before. Called on the scheduling thread.
    fn keyed(&self, vertex: VertexIndex, definition: &Key);

    /// Work on `vertex` begins. Called on the scheduling thread.
    fn started(&self, vertex: VertexIndex);

    /// `vertex` has ended; told once at most, on the scheduling thread. A vertex that a failed or cancelled
    /// solve never got to has not ended, and nothing is told of it.
    fn completed(&self, vertex: VertexIndex, outcome: StepOutcome<'_, Self::Error>);
}

/// What [`Ops::execute`] gives.
#[derive(Debug, Clone)]
pub struct Executed<T> {
    /// The result.
    pub output: T,
    /// Whether another process had made it meanwhile, so that nothing ran here.
    pub reused: bool,
}

/// How a vertex ended.
#[derive(Debug)]
pub enum StepOutcome<'a, E> {
    /// Its result was found, or not needed because a result above it was found.
    Cached,
    /// It ran.
    Done,
    /// It could not run or its command failed. Unless the solve keeps going, the first failure alone is told
    /// as one: it cancels all else, and what ends after that ends for this reason.
    Failed(&'a E),
    /// It had started and was stopped.
    Cancelled,
}

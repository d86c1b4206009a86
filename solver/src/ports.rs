//! What the solver asks of its surroundings.

use base::{CancelToken, Key};
use llb::VertexIndex;

/// Carries out what the solver decides. Called from several threads at once.
pub trait Ops: Sync {
    /// A handle to a vertex's result; cheap to clone.
    type Output: Clone + Send;
    /// Why an action failed.
    type Error: Send;

    /// The content key of what `vertex` selects from its input `slot`, which is a local directory.
    fn local_key(&self, vertex: VertexIndex, slot: usize, cancel: &CancelToken) -> Result<Key, Self::Error>;

    /// The content key of what `vertex` uses of `input`, the result in its input `slot`.
    fn content_key(
        &self,
        vertex: VertexIndex,
        slot: usize,
        input: &Self::Output,
        cancel: &CancelToken,
    ) -> Result<Key, Self::Error>;

    /// The result saved for `vertex` under `key`, if it still exists. Must be quick; called on the
    /// scheduling thread.
    fn lookup(&self, vertex: VertexIndex, key: &Key) -> Result<Option<Self::Output>, Self::Error>;

    /// Remembers that `key` leads to `output`.
    fn save(&self, key: &Key, output: &Self::Output) -> Result<(), Self::Error>;

    /// Runs the operation. `inputs` are the results by slot; a slot of a local directory has none.
    /// `keys` are what the result will be saved under: the definition key first.
    fn execute(
        &self,
        vertex: VertexIndex,
        inputs: &[Option<Self::Output>],
        keys: &[Key],
        cancel: &CancelToken,
    ) -> Result<Executed<Self::Output>, Self::Error>;

    /// Work on `vertex` begins.
    fn started(&self, vertex: VertexIndex);

    /// `vertex` has ended.
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
    /// Its result was found.
    Cached,
    /// It ran.
    Done,
    /// It could not run or its command failed.
    Failed(&'a E),
    /// It was stopped, or never started because something it needs failed.
    Cancelled,
}

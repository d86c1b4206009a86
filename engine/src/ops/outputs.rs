//! The results of one vertex. Nearly all have one; a process may leave several filesystems.

use std::sync::Arc;

use super::{Filesystem, StepResult};

/// All results of a vertex, or one of them.
#[derive(Debug, Clone)]
pub(crate) struct StepOutputs {
    first: StepResult,
    /// Those from 1 on.
    others: Option<Arc<[StepResult]>>,
}

impl StepOutputs {
    /// One result after the other. `None` when there is none.
    pub(super) fn of(results: impl IntoIterator<Item = StepResult>) -> Option<Self> {
        let mut results = results.into_iter();
        let first = results.next()?;
        let others: Arc<[StepResult]> = results.collect();
        Some(Self { first, others: Some(others).filter(|others| !others.is_empty()) })
    }

    /// A result alone.
    pub(super) fn one(result: StepResult) -> Self {
        Self { first: result, others: None }
    }

    /// The first result.
    pub(crate) fn first(&self) -> StepResult {
        self.first
    }

    /// The result of this number. The graph has been checked: nobody asks for one that there is not.
    pub(crate) fn part(&self, output: u32) -> StepResult {
        let others = self.others.as_deref().unwrap_or_default();
        match output.checked_sub(1).and_then(|index| others.get(index as usize)) {
            Some(result) => *result,
            None => self.first,
        }
    }

    /// All of them with their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, StepResult)> + '_ {
        let others = self.others.as_deref().unwrap_or_default();
        (0u32..).zip(std::iter::once(self.first).chain(others.iter().copied()))
    }
}

impl From<Vec<Filesystem>> for Filesystems {
    fn from(all: Vec<Filesystem>) -> Self {
        Self(all)
    }
}

/// What a vertex left in the store: at least one.
pub(super) struct Filesystems(Vec<Filesystem>);

impl From<Filesystem> for Filesystems {
    fn from(one: Filesystem) -> Self {
        Self(vec![one])
    }
}

impl Filesystems {
    /// Each with its number.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = (u32, &Filesystem)> {
        self.0.iter().enumerate().map(|(index, filesystem)| (index as u32, filesystem))
    }

    /// The same as results.
    pub(super) fn into_outputs(self) -> Option<StepOutputs> {
        StepOutputs::of(self.0.into_iter().map(StepResult::Here))
    }
}

//! What goes into the planner and what comes out: plain values.

use base::Key;
use llb::VertexIndex;

/// Something to do. Every action leads to exactly one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Find the content key of what `vertex` selects from the local directory in `slot`.
    LocalKey {
        /// Which vertex.
        vertex: VertexIndex,
        /// Which input.
        slot: usize,
    },
    /// Look `vertex` up by its definition key.
    Probe {
        /// Which vertex.
        vertex: VertexIndex,
        /// The key.
        key: Key,
    },
    /// All inputs exist: find the content keys of what `vertex` uses of them, and look it up by these.
    ProbeContent {
        /// Which vertex.
        vertex: VertexIndex,
        /// Whether a result may be used. If not, the keys are still needed for saving.
        lookup: bool,
    },
    /// Run `vertex`, then save its result under both keys.
    Execute {
        /// Which vertex.
        vertex: VertexIndex,
        /// Its definition key.
        definition: Key,
        /// Its content key.
        content: Key,
    },
}

/// Something that happened, the answer to an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<T> {
    /// Answer to [`Action::LocalKey`].
    LocalKey {
        /// Which vertex.
        vertex: VertexIndex,
        /// Which input.
        slot: usize,
        /// The content key.
        key: Key,
    },
    /// Answer to [`Action::Probe`].
    Probed {
        /// Which vertex.
        vertex: VertexIndex,
        /// The result, on a hit.
        found: Option<T>,
    },
    /// Answer to [`Action::ProbeContent`].
    ContentProbed {
        /// Which vertex.
        vertex: VertexIndex,
        /// Content keys of the inputs in slot order.
        inputs: Vec<Key>,
        /// The result, on a hit.
        found: Option<T>,
    },
    /// Answer to [`Action::Execute`].
    Executed {
        /// Which vertex.
        vertex: VertexIndex,
        /// The result.
        output: T,
        /// Whether another process had made it meanwhile, so that nothing ran here.
        reused: bool,
    },
    /// Any action on this vertex failed.
    Failed {
        /// Which vertex.
        vertex: VertexIndex,
    },
}

impl<T> Event<T> {
    /// The vertex that an event is about.
    pub fn vertex(&self) -> VertexIndex {
        match self {
            Self::LocalKey { vertex, .. }
            | Self::Probed { vertex, .. }
            | Self::ContentProbed { vertex, .. }
            | Self::Executed { vertex, .. }
            | Self::Failed { vertex } => *vertex,
        }
    }
}

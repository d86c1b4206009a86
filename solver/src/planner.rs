//! The whole scheduler as a pure state machine: [`Planner::handle`] takes what happened and says what to
//! do next. No threads, no clock, no I/O; the same events always give the same actions.
//!
//! A vertex only moves forward:
//!
//! ```text
//! Unkeyed ─► Keyed ─► Probing ─► Missing ─► ProbingContent ─► Running ─► Done
//!                        └───────── hit ─────────┴── hit ───────────────► Done
//! ```
//!
//! A vertex that is still `Keyed` at the end was not needed: something above it hit. Local directories
//! have no key and no result and stay `Local`.

use base::Key;
use llb::{Graph, Op, SourceOp, VertexIndex};

use crate::key;

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
    /// All inputs exist: find the content keys of what `vertex` uses, and look it up by them.
    ProbeContent {
        /// Which vertex.
        vertex: VertexIndex,
        /// Whether a result may be used. If not, the keys are still needed for saving.
        lookup: bool,
    },
    /// Run `vertex`, then save its result under `keys`.
    Execute {
        /// Which vertex.
        vertex: VertexIndex,
        /// The definition key first, then the content key.
        keys: Vec<Key>,
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
    },
    /// Any action on this vertex failed.
    Failed {
        /// Which vertex.
        vertex: VertexIndex,
    },
}

/// Where a vertex stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State<T> {
    /// A local directory: never looked up, never run.
    Local,
    /// Its definition key is not known yet.
    Unkeyed,
    /// Its definition key is known; nobody has asked for its result.
    Keyed,
    /// A look-up by definition key is under way.
    Probing,
    /// It was not found; inputs are being made available.
    Missing,
    /// A look-up by content is under way.
    ProbingContent,
    /// It runs.
    Running,
    /// There is a result.
    Done {
        /// The result.
        output: T,
        /// Whether it was found rather than made.
        cached: bool,
    },
    /// It failed.
    Failed,
}

struct Node<T> {
    state: State<T>,
    inputs: Vec<VertexIndex>,
    consumers: Vec<VertexIndex>,
    /// What consumers match through; unique to the build if the cache must not be used here.
    definition: Option<Key>,
    /// What the result is saved under.
    saved_as: Option<Key>,
    /// Content keys of what it selects from local directories, by slot; kept after it has its own key.
    local_keys: Vec<Option<Key>>,
    ignore_cache: bool,
    op_key: Key,
}

/// The state of one solve.
pub struct Planner<T> {
    nodes: Vec<Node<T>>,
    targets: Vec<VertexIndex>,
    order: Vec<VertexIndex>,
    build: Key,
    failed: bool,
}

impl<T: Clone> Planner<T> {
    /// A plan for `targets`. `build` is unique to this build and serves vertices that must not hit.
    pub fn new(graph: &Graph, targets: &[VertexIndex], build: Key) -> Self {
        let mut nodes: Vec<(VertexIndex, Node<T>)> =
            graph.topological().iter().map(|index| (*index, Node::new(graph, *index))).collect();
        nodes.sort_unstable_by_key(|(index, _)| *index);
        Self {
            nodes: nodes.into_iter().map(|(_, node)| node).collect(),
            targets: targets.to_vec(),
            order: graph.topological().to_vec(),
            build,
            failed: false,
        }
    }

    /// The first actions.
    pub fn start(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for vertex in self.order.clone() {
            for slot in 0..self.node(vertex).inputs.len() {
                if matches!(self.node(self.node(vertex).inputs[slot]).state, State::Local) {
                    actions.push(Action::LocalKey { vertex, slot });
                }
            }
        }
        for vertex in self.order.clone() {
            self.try_key(vertex);
        }
        self.probe_targets(&mut actions);
        actions
    }

    /// Takes an event and gives the actions that follow from it. After a failure nothing follows.
    pub fn handle(&mut self, event: Event<T>) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::LocalKey { vertex, slot, key } => {
                self.node_mut(vertex).local_keys[slot] = Some(key);
                self.key_upwards(vertex);
                self.probe_targets(&mut actions);
            }
            Event::Probed { vertex, found: Some(output) } => self.done(vertex, output, true, &mut actions),
            Event::Probed { vertex, found: None } => self.missing(vertex, &mut actions),
            Event::ContentProbed { vertex, found: Some(output), .. } => {
                self.done(vertex, output, true, &mut actions);
            }
            Event::ContentProbed { vertex, inputs, found: None } => self.run(vertex, &inputs, &mut actions),
            Event::Executed { vertex, output } => self.done(vertex, output, false, &mut actions),
            Event::Failed { vertex } => {
                self.node_mut(vertex).state = State::Failed;
                self.failed = true;
            }
        }
        if self.failed { Vec::new() } else { actions }
    }

    /// Where `vertex` stands.
    pub fn state(&self, vertex: VertexIndex) -> &State<T> {
        &self.node(vertex).state
    }

    /// The key that `vertex`'s result is saved under, once known.
    pub fn saved_as(&self, vertex: VertexIndex) -> Option<Key> {
        self.node(vertex).saved_as
    }

    /// The results of `vertex`'s inputs by slot; local directories have none.
    pub fn input_outputs(&self, vertex: VertexIndex) -> Vec<Option<T>> {
        self.node(vertex).inputs.iter().map(|input| self.output(*input)).collect()
    }

    /// The content keys of what `vertex` selects from local directories, by slot.
    pub fn local_keys(&self, vertex: VertexIndex) -> Vec<Option<Key>> {
        self.node(vertex).local_keys.clone()
    }

    /// The result of `vertex`, once there is one.
    pub fn output(&self, vertex: VertexIndex) -> Option<T> {
        match &self.node(vertex).state {
            State::Done { output, .. } => Some(output.clone()),
            _ => None,
        }
    }

    /// Gives every vertex its key whose inputs have theirs, starting at `vertex` and going up.
    fn key_upwards(&mut self, vertex: VertexIndex) {
        let mut pending = vec![vertex];
        while let Some(vertex) = pending.pop() {
            if self.try_key(vertex) {
                pending.extend(self.node(vertex).consumers.iter().copied());
            }
        }
    }

    /// Gives `vertex` its definition key if all it is made of is known. Says whether it got one now.
    fn try_key(&mut self, vertex: VertexIndex) -> bool {
        let node = self.node(vertex);
        if !matches!(node.state, State::Unkeyed) {
            return false;
        }
        let collect = |pick: fn(&Node<T>) -> Option<Key>| -> Option<Vec<Key>> {
            let slots = node.inputs.iter().zip(&node.local_keys);
            slots.map(|(input, local)| local.or_else(|| pick(self.node(*input)))).collect()
        };
        let (Some(definitions), Some(saved)) = (collect(|n| n.definition), collect(|n| n.saved_as)) else {
            return false;
        };
        let plain = key::definition(&node.op_key, &definitions);
        let definition = if node.ignore_cache { key::unique(&self.build, &plain) } else { plain };
        let saved_as = key::definition(&node.op_key, &saved);
        let node = self.node_mut(vertex);
        node.definition = Some(definition);
        node.saved_as = Some(saved_as);
        node.state = State::Keyed;
        true
    }

    fn probe_targets(&mut self, actions: &mut Vec<Action>) {
        for target in self.targets.clone() {
            self.probe(target, actions);
        }
    }

    /// Asks for the result of `vertex`, unless somebody has.
    fn probe(&mut self, vertex: VertexIndex, actions: &mut Vec<Action>) {
        let node = self.node(vertex);
        let (State::Keyed, Some(key)) = (&node.state, node.definition) else { return };
        if node.ignore_cache {
            self.missing(vertex, actions);
        } else {
            self.node_mut(vertex).state = State::Probing;
            actions.push(Action::Probe { vertex, key });
        }
    }

    /// `vertex` has to be made: asks for its inputs.
    fn missing(&mut self, vertex: VertexIndex, actions: &mut Vec<Action>) {
        self.node_mut(vertex).state = State::Missing;
        for input in self.node(vertex).inputs.clone() {
            self.probe(input, actions);
        }
        self.try_content(vertex, actions);
    }

    /// Goes on with a missing vertex once all its inputs exist.
    fn try_content(&mut self, vertex: VertexIndex, actions: &mut Vec<Action>) {
        let node = self.node(vertex);
        let exists =
            |input: &VertexIndex| matches!(self.node(*input).state, State::Local | State::Done { .. });
        if !matches!(node.state, State::Missing) || !node.inputs.iter().all(exists) {
            return;
        }
        let lookup = !node.ignore_cache;
        if node.inputs.is_empty() {
            self.run(vertex, &[], actions);
        } else {
            self.node_mut(vertex).state = State::ProbingContent;
            actions.push(Action::ProbeContent { vertex, lookup });
        }
    }

    fn run(&mut self, vertex: VertexIndex, input_contents: &[Key], actions: &mut Vec<Action>) {
        let node = self.node_mut(vertex);
        node.state = State::Running;
        let content = key::content(&node.op_key, input_contents);
        let keys = node.saved_as.into_iter().chain([content]).collect();
        actions.push(Action::Execute { vertex, keys });
    }

    fn done(&mut self, vertex: VertexIndex, output: T, cached: bool, actions: &mut Vec<Action>) {
        self.node_mut(vertex).state = State::Done { output, cached };
        for consumer in self.node(vertex).consumers.clone() {
            self.try_content(consumer, actions);
        }
    }

    fn node(&self, vertex: VertexIndex) -> &Node<T> {
        &self.nodes[vertex.index()]
    }

    fn node_mut(&mut self, vertex: VertexIndex) -> &mut Node<T> {
        &mut self.nodes[vertex.index()]
    }
}

impl<T> Node<T> {
    fn new(graph: &Graph, index: VertexIndex) -> Self {
        let vertex = graph.vertex(index);
        let inputs: Vec<VertexIndex> = graph.inputs(index).iter().map(|input| input.vertex).collect();
        let state = match &vertex.op {
            Op::Source(SourceOp::Local(_)) => State::Local,
            _ => State::Unkeyed,
        };
        Self {
            state,
            local_keys: vec![None; inputs.len()],
            inputs,
            consumers: graph.consumers(index),
            definition: None,
            saved_as: None,
            ignore_cache: vertex.metadata.ignore_cache,
            op_key: vertex.op_key,
        }
    }
}

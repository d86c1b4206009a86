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
//! Two steps are left out where they could not help: a vertex whose definition key must not find anything
//! goes from `Keyed` to `Missing`, and one without inputs, whose two keys say the same, from `Missing` to
//! `Running`.
//!
//! A vertex that is still `Keyed` at the end was not needed: something above it hit. What no target uses
//! stays `Unkeyed` and is never touched. Local directories have no key and no result and stay `Local`.
//!
//! A failure ends the plan, unless it is to go on ([`Planner::keep_going`]). Then a vertex whose inputs can no
//! longer all come about is `Blocked`, once it is known that it needs them: what is found above a failure is as
//! good as ever. One whose definition key can no longer be known counts as looked up and not found, so all else
//! that it needs is still made.
//!
//! A vertex counts what it waits for, so that all events of a solve together cost as much as the graph
//! has vertices and edges.

use base::Key;
use llb::{Graph, Op, SourceOp, VertexIndex};

use crate::event::{Action, Event};
use crate::key;

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
    /// Something that it needs failed, and the plan went on without it.
    Blocked,
}

impl<T> State<T> {
    /// In one or two words, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local => "local directory",
            Self::Unkeyed => "without key",
            Self::Keyed => "not asked for",
            Self::Probing => "being looked up",
            Self::Missing => "waiting for inputs",
            Self::ProbingContent => "being looked up by content",
            Self::Running => "running",
            Self::Done { .. } => "done",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
        }
    }

    /// Whether there will be no result.
    fn is_lost(&self) -> bool {
        matches!(self, Self::Failed | Self::Blocked)
    }
}

struct Node<T> {
    state: State<T>,
    /// By slot.
    inputs: Vec<VertexIndex>,
    /// Which of their results, by slot.
    outputs: Vec<u32>,
    /// Those that a target uses, once for each slot that this vertex is in.
    consumers: Vec<VertexIndex>,
    op_key: Key,
    definition: Option<Key>,
    /// Content keys of what it selects from local directories, by slot.
    local_keys: Vec<Option<Key>>,
    /// For how many slots the key is unknown: the input's definition key, or the content key of what is
    /// selected from a local directory.
    keys_awaited: usize,
    /// For how many slots there is no result yet.
    results_awaited: usize,
    ignore_cache: bool,
    /// Whether the definition key may find a result. Not if this vertex or one below it must not use the
    /// cache: that one may come out different this time, under the same definition.
    findable: bool,
    is_target: bool,
    /// Whether its result is asked for as soon as it has a key. Targets are wanted.
    wanted: bool,
}

/// The state of one solve.
pub struct Planner<T> {
    nodes: Vec<Node<T>>,
    /// How many wanted vertices have no definition key yet.
    wanted_unkeyed: usize,
    /// How many vertices are being looked up by definition key.
    probing: usize,
    /// Those that got their definition key since somebody asked.
    newly_keyed: Vec<VertexIndex>,
    failed: bool,
    keep_going: bool,
}

impl<T: Clone> Planner<T> {
    /// A plan for `targets` and what they use, directly or not. It ends with the first failure.
    pub fn new(graph: &Graph, targets: &[VertexIndex]) -> Self {
        let mut nodes: Vec<Node<T>> =
            (0..graph.len()).map(|index| Node::new(graph, VertexIndex::new(index))).collect();
        for target in targets {
            nodes[target.index()].is_target = true;
            nodes[target.index()].wanted = true;
        }
        connect(&mut nodes, targets);
        let unkeyed = |node: &&Node<T>| node.is_target && matches!(node.state, State::Unkeyed);
        let wanted_unkeyed = nodes.iter().filter(unkeyed).count();
        let newly_keyed = Vec::new();
        Self { nodes, wanted_unkeyed, probing: 0, newly_keyed, failed: false, keep_going: false }
    }

    /// The same plan, which goes on after failures with all that does not depend on them.
    #[must_use]
    pub fn keep_going(self) -> Self {
        Self { keep_going: true, ..self }
    }

    /// The first actions. To be called once, before any event.
    pub fn start(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut keyable = Vec::new();
        for index in 0..self.nodes.len() {
            let vertex = VertexIndex::new(index);
            let node = self.node(vertex);
            if !node.is_needed() {
                continue;
            }
            let is_local = |slot: &usize| matches!(self.node(node.inputs[*slot]).state, State::Local);
            let local_slots = (0..node.inputs.len()).filter(is_local);
            actions.extend(local_slots.map(|slot| Action::LocalKey { vertex, slot }));
            if node.keys_awaited == 0 {
                keyable.push(vertex);
            }
        }
        self.give_keys(keyable, &mut actions);
        actions
    }

    /// Takes an event and gives the actions that follow from it. After a failure nothing follows, unless the
    /// plan keeps going.
    pub fn handle(&mut self, event: Event<T>) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::LocalKey { vertex, slot, key } => self.local_key(vertex, slot, key, &mut actions),
            Event::Probed { vertex, found } => {
                self.probing -= 1;
                match found {
                    Some(output) => self.done(vertex, output, true, &mut actions),
                    None => self.missing(vertex, &mut actions),
                }
            }
            Event::ContentProbed { vertex, found: Some(output), .. } => {
                self.done(vertex, output, true, &mut actions);
            }
            Event::ContentProbed { vertex, inputs, found: None } => self.run(vertex, &inputs, &mut actions),
            Event::Executed { vertex, output, reused } => self.done(vertex, output, reused, &mut actions),
            Event::Failed { vertex } => {
                self.failed = true;
                self.lose(vertex, State::Failed, &mut actions);
            }
        }
        if self.failed && !self.keep_going { Vec::new() } else { actions }
    }

    /// Where `vertex` stands.
    pub fn state(&self, vertex: VertexIndex) -> &State<T> {
        &self.node(vertex).state
    }

    /// Whether it is settled what the targets need: a vertex that is `Keyed` now will stay so.
    pub fn needs_are_settled(&self) -> bool {
        self.wanted_unkeyed == 0 && self.probing == 0
    }

    /// The definition key of `vertex`, once known.
    pub fn definition(&self, vertex: VertexIndex) -> Option<Key> {
        self.node(vertex).definition
    }

    /// The vertices that got their definition key since this was called last, inputs before those that use them.
    pub fn take_keyed(&mut self) -> Vec<(VertexIndex, Key)> {
        let keyed = std::mem::take(&mut self.newly_keyed);
        keyed.into_iter().filter_map(|vertex| Some((vertex, self.definition(vertex)?))).collect()
    }

    /// The inputs of `vertex` that have neither a result nor lost the prospect of one, if it is without a result
    /// itself. Local directories are not among them.
    pub fn waits_for(&self, vertex: VertexIndex) -> Vec<VertexIndex> {
        let node = self.node(vertex);
        if matches!(node.state, State::Done { .. } | State::Local) || node.state.is_lost() {
            return Vec::new();
        }
        let is_open = |input: &&VertexIndex| {
            let state = &self.node(**input).state;
            !matches!(state, State::Done { .. } | State::Local) && !state.is_lost()
        };
        node.inputs.iter().filter(is_open).copied().collect()
    }

    /// How many keys `vertex` waits for before it has one of its own.
    pub fn keys_awaited(&self, vertex: VertexIndex) -> usize {
        self.node(vertex).keys_awaited
    }

    /// What `vertex`'s inputs gave, by slot, with all their results; local directories have none.
    pub fn input_outputs(&self, vertex: VertexIndex) -> Vec<Option<T>> {
        self.node(vertex).inputs.iter().map(|input| self.output(*input)).collect()
    }

    /// The content keys of what `vertex` selects from local directories, by slot.
    pub fn local_keys(&self, vertex: VertexIndex) -> &[Option<Key>] {
        &self.node(vertex).local_keys
    }

    /// The result of `vertex`, once there is one.
    pub fn output(&self, vertex: VertexIndex) -> Option<T> {
        match &self.node(vertex).state {
            State::Done { output, .. } => Some(output.clone()),
            _ => None,
        }
    }

    fn local_key(&mut self, vertex: VertexIndex, slot: usize, key: Key, actions: &mut Vec<Action>) {
        let node = self.node_mut(vertex);
        node.local_keys[slot] = Some(key);
        node.keys_awaited -= 1;
        if node.keys_awaited == 0 && matches!(node.state, State::Unkeyed) {
            self.give_keys(vec![vertex], actions);
        }
    }

    /// Gives their keys to `keyable` vertices, and to all above whose inputs have theirs then.
    fn give_keys(&mut self, mut keyable: Vec<VertexIndex>, actions: &mut Vec<Action>) {
        while let Some(vertex) = keyable.pop() {
            let Some((definition, below_findable)) = self.define(vertex) else { continue };
            self.newly_keyed.push(vertex);
            let node = self.node_mut(vertex);
            node.definition = Some(definition);
            node.findable = below_findable && !node.ignore_cache;
            node.state = State::Keyed;
            for consumer in node.consumers.clone() {
                let node = self.node_mut(consumer);
                node.keys_awaited -= 1;
                if node.keys_awaited == 0 && matches!(node.state, State::Unkeyed) {
                    keyable.push(consumer);
                }
            }
            if self.node(vertex).wanted {
                self.wanted_unkeyed -= 1;
                self.ask_for(vec![vertex], actions);
            }
        }
    }

    /// The definition key of `vertex`, and whether all inputs may be found by theirs. `None` while
    /// something that it is made of is unknown.
    fn define(&self, vertex: VertexIndex) -> Option<(Key, bool)> {
        let node = self.node(vertex);
        let mut findable = true;
        let mut keys = Vec::with_capacity(node.inputs.len());
        for ((input, output), local) in node.inputs.iter().zip(&node.outputs).zip(&node.local_keys) {
            let input = self.node(*input);
            let definition = || input.definition.map(|definition| key::of_output(&definition, *output));
            keys.push(local.or_else(definition)?);
            findable &= local.is_some() || input.findable;
        }
        Some((key::definition(&node.op_key, &keys), findable))
    }

    /// Asks for the results of `asked`, unless somebody has: looks them up, or goes down to what they are
    /// made of where looking them up is of no use.
    fn ask_for(&mut self, mut asked: Vec<VertexIndex>, actions: &mut Vec<Action>) {
        while let Some(vertex) = asked.pop() {
            let node = self.node_mut(vertex);
            if matches!(node.state, State::Unkeyed) && !node.wanted {
                node.wanted = true;
                self.wanted_unkeyed += 1;
                continue;
            }
            if node.state.is_lost() && !node.wanted && node.definition.is_none() {
                node.wanted = true;
                asked.extend(&node.inputs);
                continue;
            }
            let (State::Keyed, Some(key)) = (&node.state, node.definition) else { continue };
            if node.findable {
                node.state = State::Probing;
                self.probing += 1;
                actions.push(Action::Probe { vertex, key });
            } else {
                node.state = State::Missing;
                asked.extend(&node.inputs);
                self.begin(vertex, actions);
            }
        }
    }

    /// `vertex` was not found: asks for its inputs.
    fn missing(&mut self, vertex: VertexIndex, actions: &mut Vec<Action>) {
        let node = self.node_mut(vertex);
        node.state = State::Missing;
        let inputs = node.inputs.clone();
        self.ask_for(inputs, actions);
        self.begin(vertex, actions);
    }

    /// Goes on with a vertex that has just become missing, unless it has lost an input before.
    fn begin(&mut self, vertex: VertexIndex, actions: &mut Vec<Action>) {
        let is_lost = |input: &VertexIndex| self.node(*input).state.is_lost();
        if self.failed && self.node(vertex).inputs.iter().any(is_lost) {
            self.lose(vertex, State::Blocked, actions);
        } else {
            self.go_on(vertex, actions);
        }
    }

    /// Goes on with a missing vertex once all its inputs exist.
    fn go_on(&mut self, vertex: VertexIndex, actions: &mut Vec<Action>) {
        let node = self.node_mut(vertex);
        if !matches!(node.state, State::Missing) || node.results_awaited > 0 {
            return;
        }
        if node.inputs.is_empty() {
            self.run(vertex, &[], actions);
        } else {
            node.state = State::ProbingContent;
            actions.push(Action::ProbeContent { vertex, lookup: !node.ignore_cache });
        }
    }

    fn run(&mut self, vertex: VertexIndex, input_contents: &[Key], actions: &mut Vec<Action>) {
        let node = self.node_mut(vertex);
        // A vertex is asked for only after it got its definition key.
        let Some(definition) = node.definition else { return };
        let content = key::content(&node.op_key, input_contents);
        node.state = State::Running;
        actions.push(Action::Execute { vertex, definition, content });
    }

    fn done(&mut self, vertex: VertexIndex, output: T, cached: bool, actions: &mut Vec<Action>) {
        let node = self.node_mut(vertex);
        node.state = State::Done { output, cached };
        for consumer in node.consumers.clone() {
            self.node_mut(consumer).results_awaited -= 1;
            self.go_on(consumer, actions);
        }
    }

    /// `lost` will have no result, for the reason that `state` says; and so will what needs it.
    fn lose(&mut self, lost: VertexIndex, state: State<T>, actions: &mut Vec<Action>) {
        let mut all_lost = vec![(lost, state)];
        while let Some((vertex, state)) = all_lost.pop() {
            let node = self.node_mut(vertex);
            if node.state.is_lost() {
                continue;
            }
            let before = std::mem::replace(&mut node.state, state);
            let (wanted, has_key, inputs) = (node.wanted, node.definition.is_some(), node.inputs.clone());
            match before {
                State::Probing => self.probing -= 1,
                State::Unkeyed if wanted => {
                    self.wanted_unkeyed -= 1;
                    self.ask_for(inputs, actions);
                }
                _ => {}
            }
            for consumer in &self.node(vertex).consumers {
                match self.node(*consumer).state {
                    State::Unkeyed if !has_key => all_lost.push((*consumer, State::Blocked)),
                    State::Missing => all_lost.push((*consumer, State::Blocked)),
                    _ => {}
                }
            }
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
    /// A node that knows its inputs and nothing of its consumers.
    fn new(graph: &Graph, index: VertexIndex) -> Self {
        let vertex = graph.vertex(index);
        let (inputs, outputs): (Vec<VertexIndex>, Vec<u32>) =
            graph.inputs(index).iter().map(|input| (input.vertex, input.output)).unzip();
        let state = match &vertex.op {
            Op::Source(SourceOp::Local(_)) => State::Local,
            _ => State::Unkeyed,
        };
        Self {
            state,
            local_keys: vec![None; inputs.len()],
            inputs,
            outputs,
            consumers: Vec::new(),
            op_key: vertex.op_key,
            definition: None,
            keys_awaited: 0,
            results_awaited: 0,
            ignore_cache: vertex.metadata.ignore_cache,
            findable: false,
            is_target: false,
            wanted: false,
        }
    }

    /// Whether a target uses it, or it is one, and it can have a result.
    fn is_needed(&self) -> bool {
        (self.is_target || !self.consumers.is_empty()) && !matches!(self.state, State::Local)
    }
}

/// Joins everything that `targets` use to what uses it, and counts what each waits for.
fn connect<T>(nodes: &mut [Node<T>], targets: &[VertexIndex]) {
    let mut seen = vec![false; nodes.len()];
    let mut pending = targets.to_vec();
    while let Some(vertex) = pending.pop() {
        if std::mem::replace(&mut seen[vertex.index()], true) {
            continue;
        }
        let slots = nodes[vertex.index()].inputs.clone();
        nodes[vertex.index()].keys_awaited = slots.len();
        for input in slots {
            if matches!(nodes[input.index()].state, State::Local) {
                continue;
            }
            nodes[vertex.index()].results_awaited += 1;
            nodes[input.index()].consumers.push(vertex);
            pending.push(input);
        }
    }
}

//! The graph: vertices joined by input slots, without cycles, each vertex once.
//!
//! It is built from the inputs up, and an input is named by what adding it gave. So the order of adding is
//! a topological order, and a cycle cannot be expressed.

use std::collections::{BTreeSet, HashMap, HashSet};

use base::{Digest, Fault, Faulty, Key, KeyHasher, Platform};
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::identity::op_key;
use crate::op::{ExecMount, FileAction, Op};

/// Names a vertex within one graph.
pub type VertexIndex = NodeIndex<u32>;

/// What people see of a vertex. Never part of its identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// As BuildKit prints it: `[stage 2/5] RUN make`.
    pub name: String,
    /// The stage that it belongs to, with the platform where a build has several; empty for none.
    pub stage: String,
    /// The text that this vertex came from.
    pub source: Option<SourceRange>,
    /// Whether the cache must not be asked (`--no-cache`); the result is still saved.
    pub ignore_cache: bool,
    /// What it is shown as a part of.
    pub group: Option<Group>,
}

/// Vertices that are shown as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What tells it from others.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Whether a vertex of it is shown by itself if it is the only one.
    pub weak: bool,
}

/// Bytes `start..end` of a file that a graph was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRange {
    /// Which of the files; a Dockerfile is the only one.
    pub file: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// One input: the result of another vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Input {
    /// The vertex whose result it is.
    pub vertex: VertexIndex,
    /// Which of its results, from 0.
    pub output: u32,
}

/// How an input is used.
#[derive(Debug, Clone, Copy)]
struct Use {
    slot: u32,
    output: u32,
}

/// An operation with everything that makes it what it is.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// The operation.
    pub op: Op,
    /// The platform it is for.
    pub platform: Platform,
    /// For people.
    pub metadata: Metadata,
    /// The key of operation and platform, without inputs.
    pub op_key: Key,
    /// Names the vertex in events; unique in the graph, the same in every build of the same text.
    pub id: Digest,
}

/// An immutable graph.
#[derive(Debug, Clone)]
pub struct Graph {
    /// An edge leads from an input to the vertex that uses it.
    nodes: DiGraph<Vertex, Use>,
    order: Vec<VertexIndex>,
}

/// Why a graph is not one: a defect of the frontend that made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// An operation names an input slot that is not there.
    #[error("\"{name}\" uses input {slot}, but has only {inputs}")]
    MissingInput {
        /// The vertex.
        name: String,
        /// The slot.
        slot: u32,
        /// How many there are.
        inputs: usize,
    },
    /// A vertex uses a result that another one does not have.
    #[error("\"{name}\" uses result {output} of \"{input}\", which has {outputs}")]
    MissingOutput {
        /// The vertex.
        name: String,
        /// The name of its input.
        input: String,
        /// The result.
        output: u32,
        /// How many there are.
        outputs: u32,
    },
    /// Two copies or mounts of one operation use the same slot, whose key could then tell of one alone.
    #[error("\"{name}\" uses input {slot} twice")]
    SlotUsedTwice {
        /// The vertex.
        name: String,
        /// The slot.
        slot: u32,
    },
}

impl Faulty for GraphError {
    fn fault(&self) -> Fault {
        Fault::Bug
    }
}

impl Graph {
    /// The vertex at `index`.
    pub fn vertex(&self, index: VertexIndex) -> &Vertex {
        &self.nodes[index]
    }

    /// The inputs of a vertex in slot order.
    pub fn inputs(&self, index: VertexIndex) -> Vec<Input> {
        let edges = self.nodes.edges_directed(index, Direction::Incoming);
        let mut slots: Vec<(Use, VertexIndex)> = edges.map(|e| (*e.weight(), e.source())).collect();
        slots.sort_unstable_by_key(|(of, _)| of.slot);
        slots.into_iter().map(|(of, vertex)| Input { vertex, output: of.output }).collect()
    }

    /// The vertices that use the result of `index`, each once.
    pub fn consumers(&self, index: VertexIndex) -> Vec<VertexIndex> {
        let mut all: Vec<VertexIndex> = self.nodes.neighbors_directed(index, Direction::Outgoing).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All vertices, inputs before those that use them, in the order in which they were added.
    pub fn topological(&self) -> &[VertexIndex] {
        &self.order
    }

    /// How many vertices there are.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there is no vertex.
    pub fn is_empty(&self) -> bool {
        self.nodes.node_count() == 0
    }
}

/// Builds a [`Graph`] from the inputs up.
#[derive(Default)]
pub struct GraphBuilder {
    nodes: DiGraph<Vertex, Use>,
    known: HashMap<Digest, VertexIndex>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a vertex, or finds the one that is the same: equal in operation, platform, inputs and whether it
    /// may use the cache. The first one stays, with its metadata and whatever else is not identity. Answers its
    /// first result.
    ///
    /// # Panics
    /// If an input comes from another builder and has no counterpart here.
    pub fn add(&mut self, op: Op, platform: &Platform, inputs: &[Input], metadata: Metadata) -> Input {
        let op_key = op_key(&op, platform);
        let id = self.identity(&op_key, inputs, metadata.ignore_cache);
        if let Some(vertex) = self.known.get(&id) {
            return Input { vertex: *vertex, output: 0 };
        }
        let vertex = self.nodes.add_node(Vertex { op, platform: platform.clone(), metadata, op_key, id });
        for (slot, input) in (0u32..).zip(inputs) {
            self.nodes.add_edge(input.vertex, vertex, Use { slot, output: input.output });
        }
        self.known.insert(id, vertex);
        Input { vertex, output: 0 }
    }

    /// Checks the graph and gives it out.
    pub fn finish(self) -> Result<Graph, GraphError> {
        let order = self.nodes.node_indices().collect();
        let graph = Graph { nodes: self.nodes, order };
        for index in graph.topological() {
            let inputs = graph.inputs(*index);
            check_slots(graph.vertex(*index), inputs.len())?;
            check_outputs(&graph, *index, &inputs)?;
        }
        Ok(graph)
    }

    fn identity(&self, op_key: &Key, inputs: &[Input], ignore_cache: bool) -> Digest {
        let mut hasher = KeyHasher::new("lapstrake/vertex-id/v2");
        hasher.add(op_key).bool(ignore_cache).u64(inputs.len() as u64);
        for input in inputs {
            hasher.add(&self.nodes[input.vertex].id).u64(input.output.into());
        }
        Digest::of(hasher.finish().as_bytes())
    }
}

/// The results that a vertex uses must exist.
fn check_outputs(graph: &Graph, index: VertexIndex, inputs: &[Input]) -> Result<(), GraphError> {
    let name = |index| graph.vertex(index).metadata.name.clone();
    for Input { vertex, output } in inputs {
        let outputs = graph.vertex(*vertex).op.outputs();
        if *output >= outputs {
            let (name, input) = (name(index), name(*vertex));
            return Err(GraphError::MissingOutput { name, input, output: *output, outputs });
        }
    }
    Ok(())
}

/// The slots that an operation names must exist, and be named once.
fn check_slots(vertex: &Vertex, inputs: usize) -> Result<(), GraphError> {
    let name = || vertex.metadata.name.clone();
    let mut used = HashSet::new();
    for slot in slots(&vertex.op) {
        if slot as usize >= inputs {
            return Err(GraphError::MissingInput { name: name(), slot, inputs });
        }
        if !used.insert(slot) {
            return Err(GraphError::SlotUsedTwice { name: name(), slot });
        }
    }
    Ok(())
}

/// The input slots that an operation uses.
fn slots(op: &Op) -> Vec<u32> {
    let first = |used: bool| used.then_some(0);
    match op {
        Op::Source(_) => Vec::new(),
        Op::Merge => vec![0],
        Op::Diff => vec![0, 1],
        Op::Exec(exec) => {
            first(exec.has_root).into_iter().chain(exec.mounts.iter().filter_map(ExecMount::input)).collect()
        }
        Op::File(file) => {
            let copies = file.actions.iter().filter_map(|action| match action {
                FileAction::Copy(copy) => Some(copy.input),
                _ => None,
            });
            let owners: BTreeSet<u32> = file.actions.iter().flat_map(FileAction::owner_slots).collect();
            first(file.has_base).into_iter().chain(copies).chain(owners).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{BindMount, CopyAction, ExecOp, FileOp, LocalSource, MountKind, SourceOp};

    fn exec(command: &str) -> Op {
        Op::Exec(ExecOp::new(vec![command.to_owned()]))
    }

    fn named(name: &str) -> Metadata {
        Metadata { name: name.to_owned(), ..Metadata::default() }
    }

    fn local() -> Op {
        Op::Source(SourceOp::Local(LocalSource { name: "context".to_owned() }))
    }

    #[test]
    fn equal_vertices_are_one_and_names_do_not_count() {
        let mut builder = GraphBuilder::new();
        let platform = Platform::host();
        let first = builder.add(exec("a"), &platform, &[], named("one"));
        let second = builder.add(exec("a"), &platform, &[], named("two"));
        let other = builder.add(exec("b"), &platform, &[first], named("three"));
        assert_eq!(first, second);
        let graph = builder.finish().unwrap();
        assert_eq!(graph.len(), 2);
        assert_eq!(graph.inputs(other.vertex), [first]);
        assert_eq!(graph.consumers(first.vertex), [other.vertex]);
    }

    #[test]
    fn identity_depends_on_inputs_platform_and_cache_use() {
        let mut builder = GraphBuilder::new();
        let host = Platform::new("linux", "amd64", "");
        let other = Platform::new("linux", "arm64", "");
        let context = builder.add(local(), &host, &[], named("context"));
        let plain = builder.add(exec("a"), &host, &[], named(""));
        let with_input = builder.add(exec("a"), &host, &[context], named(""));
        let foreign = builder.add(exec("a"), &other, &[], named(""));
        let uncached =
            builder.add(exec("a"), &host, &[], Metadata { ignore_cache: true, ..Metadata::default() });
        let all: HashSet<VertexIndex> =
            [context, plain, with_input, foreign, uncached].iter().map(|input| input.vertex).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(builder.finish().unwrap().len(), 5);
    }

    #[test]
    fn a_copy_from_a_slot_that_is_missing_is_refused() {
        let copy = CopyAction::new(1, vec!["/".to_owned()], "/");
        let mut builder = GraphBuilder::new();
        let context = builder.add(local(), &Platform::host(), &[], named("context"));
        let op = Op::File(FileOp { has_base: false, actions: vec![FileAction::Copy(copy)] });
        builder.add(op, &Platform::host(), &[context], named("COPY"));
        assert!(matches!(builder.finish(), Err(GraphError::MissingInput { slot: 1, inputs: 1, .. })));
    }

    #[test]
    fn two_copies_from_one_slot_are_refused() {
        let copy = CopyAction::new(0, vec!["/".to_owned()], "/");
        let mut builder = GraphBuilder::new();
        let context = builder.add(local(), &Platform::host(), &[], named("context"));
        let actions = vec![FileAction::Copy(copy.clone()), FileAction::Copy(copy)];
        let op = Op::File(FileOp { has_base: false, actions });
        builder.add(op, &Platform::host(), &[context], named("COPY"));
        assert!(matches!(builder.finish(), Err(GraphError::SlotUsedTwice { slot: 0, .. })));
    }

    #[test]
    fn results_of_one_vertex_are_different_inputs_and_must_exist() {
        let bind = BindMount { input: None, source: "/".to_owned(), writable: true, kept: true };
        let mount = ExecMount { target: "/out".to_owned(), kind: MountKind::Bind(bind) };
        let two = Op::Exec(ExecOp { mounts: vec![mount], ..ExecOp::new(vec!["make".to_owned()]) });
        let (host, copy) = (Platform::host(), CopyAction::new(0, vec!["/".to_owned()], "/"));
        let copy = Op::File(FileOp { has_base: false, actions: vec![FileAction::Copy(copy)] });
        let with = |output: u32| {
            let mut builder = GraphBuilder::new();
            let first = builder.add(two.clone(), &host, &[], named("RUN"));
            builder.add(copy.clone(), &host, &[first], named("COPY"));
            builder.add(copy.clone(), &host, &[Input { output, ..first }], named("COPY"));
            builder.finish()
        };
        assert_eq!(with(0).unwrap().len(), 2);
        assert_eq!(with(1).unwrap().len(), 3);
        assert!(matches!(with(2), Err(GraphError::MissingOutput { output: 2, outputs: 2, .. })));
    }

    #[test]
    fn a_base_that_is_missing_is_refused() {
        let mut builder = GraphBuilder::new();
        let op = Op::File(FileOp { has_base: true, actions: Vec::new() });
        builder.add(op, &Platform::host(), &[], named("WORKDIR"));
        let error = builder.finish().unwrap_err();
        assert_eq!(error.to_string(), "\"WORKDIR\" uses input 0, but has only 0");
    }
}

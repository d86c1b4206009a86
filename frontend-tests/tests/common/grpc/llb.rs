//! Graphs of operations, as a frontend or another client would write them.

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb;
use prost::Message as _;

/// A graph that is being written.
#[derive(Default)]
pub(crate) struct Llb {
    def: Vec<Vec<u8>>,
    metadata: BTreeMap<String, pb::OpMetadata>,
    pub(crate) source: Option<pb::Source>,
}

/// A result of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) digest: String,
    pub(crate) index: i64,
}

impl State {
    /// Another result of the same operation.
    pub(crate) fn output(&self, index: i64) -> Self {
        Self { index, ..self.clone() }
    }

    fn input(&self) -> pb::Input {
        pb::Input { digest: self.digest.clone(), index: self.index }
    }
}

impl Llb {
    /// Adds an operation.
    pub(crate) fn add(&mut self, op: pb::op::Op, inputs: &[&State]) -> State {
        self.add_with(op, inputs, pb::OpMetadata::default())
    }

    pub(crate) fn add_with(&mut self, op: pb::op::Op, inputs: &[&State], metadata: pb::OpMetadata) -> State {
        let inputs = inputs.iter().map(|state| state.input()).collect();
        let bytes = pb::Op { op: Some(op), inputs, ..pb::Op::default() }.encode_to_vec();
        let digest = base::Digest::of(&bytes).to_string();
        self.metadata.insert(digest.clone(), metadata);
        if !self.def.contains(&bytes) {
            self.def.push(bytes);
        }
        State { digest, index: 0 }
    }

    pub(crate) fn source(&mut self, identifier: &str, attributes: &[(&str, &str)]) -> State {
        let attrs =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let source = pb::SourceOp { identifier: identifier.to_owned(), attrs };
        self.add(pb::op::Op::Source(source), &[])
    }

    /// Runs a shell command over `root`.
    pub(crate) fn run(&mut self, root: &State, command: &str) -> State {
        self.exec(shell(command), &[root])
    }

    pub(crate) fn exec(&mut self, exec: pb::ExecOp, inputs: &[&State]) -> State {
        self.add(pb::op::Op::Exec(exec), inputs)
    }

    pub(crate) fn files(&mut self, actions: Vec<pb::FileAction>, inputs: &[&State]) -> State {
        self.add(pb::op::Op::File(pb::FileOp { actions }), inputs)
    }

    pub(crate) fn merge(&mut self, layers: &[&State]) -> State {
        let inputs = (0i64..).take(layers.len()).map(|input| pb::MergeInput { input }).collect();
        self.add(pb::op::Op::Merge(pb::MergeOp { inputs }), layers)
    }

    pub(crate) fn diff(&mut self, lower: &State, upper: &State) -> State {
        let diff = pb::DiffOp {
            lower: Some(pb::LowerDiffInput { input: 0 }),
            upper: Some(pb::UpperDiffInput { input: 1 }),
        };
        self.add(pb::op::Op::Diff(diff), &[lower, upper])
    }

    /// The graph whose result is `result`.
    pub(crate) fn definition(&self, result: &State) -> pb::Definition {
        let last = pb::Op { inputs: vec![result.input()], ..pb::Op::default() };
        let def = self.def.iter().cloned().chain([last.encode_to_vec()]).collect();
        pb::Definition { def, metadata: self.metadata.clone(), source: self.source.clone() }
    }
}

/// A shell command over input 0, whose changes are result 0.
pub(crate) fn shell(command: &str) -> pb::ExecOp {
    let args = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
    let meta = pb::Meta { args, cwd: "/".to_owned(), ..pb::Meta::default() };
    pb::ExecOp { meta: Some(meta), mounts: vec![mount("/", 0, 0)], ..pb::ExecOp::default() }
}

/// An input at a place; its changes are result `output`, unless that is -1.
pub(crate) fn mount(dest: &str, input: i64, output: i64) -> pb::Mount {
    pb::Mount { dest: dest.to_owned(), input, output, ..pb::Mount::default() }
}

/// A change over input or action `input`, which is result `output` unless that is -1.
pub(crate) fn action(input: i64, output: i64, action: pb::file_action::Action) -> pb::FileAction {
    pb::FileAction { input, secondary_input: -1, output, action: Some(action) }
}

pub(crate) fn mkfile(path: &str, data: &str) -> pb::file_action::Action {
    pb::file_action::Action::Mkfile(pb::FileActionMkFile {
        path: path.to_owned(),
        mode: 0o644,
        data: data.as_bytes().to_vec(),
        timestamp: -1,
        ..Default::default()
    })
}

pub(crate) fn copy(src: &str, dest: &str) -> pb::FileActionCopy {
    pb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        ..Default::default()
    }
}

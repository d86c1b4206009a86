//! LLB: the graph of operations that BuildKit's clients and frontends send, as one of ours.
//!
//! A definition is a list of encoded operations, which name their inputs by digest (BuildKit, `solver/pb/ops.proto`). An
//! operation of theirs may become several of ours: changes to files are a chain for each result, and a directory of the client
//! that is used as a filesystem is copied into one. What this builder has not announced is refused by name, never skipped:
//! [`capabilities`] are the names.
//!
//! Definitions come from anybody. Nothing is assumed of them but what is checked.

pub mod capabilities;
mod error;
mod exec;
mod file;
mod nested;
mod operations;
mod sources;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base::{Platform, Reference};
pub use bollard_buildkit_proto::pb;
use llb::{CopyAction, FileAction, FileOp, Graph, GraphBuilder, Group, Input, Metadata, Op};

pub use self::error::DefinitionError;
pub use self::exec::{Container, container};
pub use self::nested::{NestedBuild, nested};
use self::operations::{Operation, Operations};
pub use self::sources::{BLOB_FILE, LAYOUT_BLOB, LocalDirectory, Needs};
use crate::options::Entitlement;
use crate::ports::MetaResolver;

/// What a definition is lowered with.
#[derive(Debug, Clone, Default)]
pub struct DefinitionOptions {
    /// What operations may do beyond what a container may.
    pub allow: BTreeSet<Entitlement>,
    /// Whether no operation may use the cache.
    pub no_cache: bool,
    /// Sources that are images of the store, by their identifiers.
    pub images: BTreeMap<String, Reference>,
    /// What nested builds are, by the digests of their operations.
    pub nested: BTreeMap<String, pb::Definition>,
}

/// What a definition becomes.
#[derive(Debug)]
pub struct LoweredDefinition {
    /// The operations that the result needs.
    pub graph: Arc<Graph>,
    /// The result; `None` is an empty filesystem.
    pub target: Option<Input>,
    /// The platform of the result, if it says so.
    pub platform: Option<Platform>,
    /// The texts that operations came from, which their metadata names by place.
    pub files: Vec<SourceText>,
}

/// A text that operations came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// What errors call it.
    pub name: String,
    /// What it is written in: `Dockerfile`.
    pub language: String,
    /// The text.
    pub text: String,
}

/// Lowers a definition. Sources are resolved through `resolver`.
///
/// # Errors
/// [`DefinitionError`] names the operation and what is wrong with it.
pub fn lower(
    definition: &pb::Definition,
    options: &DefinitionOptions,
    resolver: &dyn MetaResolver,
) -> Result<LoweredDefinition, DefinitionError> {
    let operations = Operations::of(definition)?;
    let mut lowering = Lowering {
        operations: &operations,
        options,
        resolver,
        graph: GraphBuilder::new(),
        results: HashMap::new(),
        depth: 0,
    };
    lowering.all()?;
    let (mut target, mut platform) = (None, None);
    if let Some(result) = operations.result() {
        let operation = operations.get(result.operation);
        let value = lowering.value(operation, result)?;
        target = lowering.filesystem(operation, value);
        platform = operation.op.platform.as_ref().map(platform_of);
    }
    let graph = Arc::new(lowering.graph.finish()?);
    let text = |info: &pb::SourceInfo| SourceText {
        name: info.filename.clone(),
        language: info.language.clone(),
        text: String::from_utf8_lossy(&info.data).into_owned(),
    };
    let files = definition.source.iter().flat_map(|source| &source.infos).map(text).collect();
    Ok(LoweredDefinition { graph, target, platform, files })
}

/// A result of an operation.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// An empty filesystem.
    Scratch,
    /// A directory of the client, from which may be copied.
    Local(Input),
    /// Any other.
    Filesystem(Input),
}

/// The lowering of one definition.
struct Lowering<'a> {
    operations: &'a Operations<'a>,
    options: &'a DefinitionOptions,
    resolver: &'a dyn MetaResolver,
    graph: GraphBuilder,
    /// The results of operations, by place.
    results: HashMap<usize, Vec<Value>>,
    /// How many definitions this one is nested in.
    depth: usize,
}

impl Lowering<'_> {
    /// Lowers what the result needs.
    fn all(&mut self) -> Result<(), DefinitionError> {
        for index in self.operations.needed()? {
            let values = self.operation(self.operations.get(index))?;
            self.results.insert(index, values);
        }
        Ok(())
    }

    fn operation(&mut self, operation: &Operation<'_>) -> Result<Vec<Value>, DefinitionError> {
        use pb::op::Op as Kind;
        let caps = operation.metadata.iter().flat_map(|metadata| &metadata.caps);
        if let Some((name, _)) =
            caps.into_iter().find(|(name, needed)| **needed && !capabilities::is_known(name))
        {
            return Err(operation.unsupported(format!("the capability {name}")));
        }
        let platform = operation.op.platform.as_ref().map_or_else(Platform::host, platform_of);
        match &operation.op.op {
            Some(Kind::Source(source)) => Ok(vec![self.source(operation, source, &platform)?]),
            Some(Kind::Exec(exec)) => self.exec(operation, exec, &platform),
            Some(Kind::File(file)) => self.file(operation, file, &platform),
            Some(Kind::Merge(merge)) => {
                let slots: Vec<i64> = merge.inputs.iter().map(|input| input.input).collect();
                Ok(vec![self.merge(operation, &slots, &platform)?])
            }
            Some(Kind::Diff(diff)) => {
                let lower = diff.lower.as_ref().map_or(-1, |lower| lower.input);
                let upper = diff.upper.as_ref().map_or(-1, |upper| upper.input);
                Ok(vec![self.diff(operation, (lower, upper), &platform)?])
            }
            Some(Kind::Build(_)) => Ok(vec![self.nested(operation)?]),
            None => Err(operation.invalid("it does nothing, and only the last operation may")),
        }
    }

    /// What an input slot of an operation has; a negative one is empty.
    fn input(&self, operation: &Operation<'_>, slot: i64) -> Result<Value, DefinitionError> {
        let Ok(index) = usize::try_from(slot) else { return Ok(Value::Scratch) };
        let reference = operation.inputs.get(index).ok_or_else(|| {
            operation.invalid(format!("it uses input {slot}, and has {}", operation.inputs.len()))
        })?;
        self.value(operation, *reference)
    }

    /// A result of an operation that `user` uses.
    fn value(
        &self,
        user: &Operation<'_>,
        reference: operations::Reference,
    ) -> Result<Value, DefinitionError> {
        let values = self.results.get(&reference.operation).map(Vec::as_slice).unwrap_or_default();
        let found = usize::try_from(reference.output).ok().and_then(|output| values.get(output));
        found.copied().ok_or_else(|| DefinitionError::MissingOutput {
            operation: user.name(),
            output: reference.output,
            outputs: values.len(),
        })
    }

    /// A value as a filesystem; `None` is an empty one. A directory of the client is copied.
    fn filesystem(&mut self, operation: &Operation<'_>, value: Value) -> Option<Input> {
        match value {
            Value::Scratch => None,
            Value::Filesystem(input) => Some(input),
            Value::Local(input) => {
                let copy = FileAction::Copy(CopyAction::new(0, vec!["/".to_owned()], "/"));
                let op = Op::File(FileOp { has_base: false, actions: vec![copy] });
                Some(self.add(operation, op, &Platform::host(), &[input]))
            }
        }
    }

    /// An empty filesystem as a result.
    fn empty(&mut self, operation: &Operation<'_>) -> Input {
        let op = Op::File(FileOp { has_base: false, actions: Vec::new() });
        self.add(operation, op, &Platform::host(), &[])
    }

    fn add(&mut self, operation: &Operation<'_>, op: Op, platform: &Platform, inputs: &[Input]) -> Input {
        let metadata = Metadata {
            name: operation.name(),
            stage: String::new(),
            // Errors show the texts of the definition that was sent.
            source: self.operations.source(operation).filter(|_| self.depth == 0),
            ignore_cache: self.options.no_cache
                || operation.metadata.is_some_and(|metadata| metadata.ignore_cache),
            group: operation.metadata.and_then(|metadata| metadata.progress_group.as_ref()).map(group),
        };
        self.graph.add(op, platform, inputs, metadata)
    }

    fn merge(
        &mut self,
        operation: &Operation<'_>,
        slots: &[i64],
        platform: &Platform,
    ) -> Result<Value, DefinitionError> {
        let mut inputs = Vec::new();
        for slot in slots {
            let value = self.input(operation, *slot)?;
            inputs.extend(self.filesystem(operation, value));
        }
        Ok(match inputs.as_slice() {
            [] => Value::Scratch,
            [only] => Value::Filesystem(*only),
            several => Value::Filesystem(self.add(operation, Op::Merge, platform, several)),
        })
    }

    fn diff(
        &mut self,
        operation: &Operation<'_>,
        (lower, upper): (i64, i64),
        platform: &Platform,
    ) -> Result<Value, DefinitionError> {
        let (lower, upper) = (self.input(operation, lower)?, self.input(operation, upper)?);
        let upper = match self.filesystem(operation, upper) {
            Some(upper) => upper,
            None => self.empty(operation),
        };
        let Some(lower) = self.filesystem(operation, lower) else { return Ok(Value::Filesystem(upper)) };
        Ok(Value::Filesystem(self.add(operation, Op::Diff, platform, &[lower, upper])))
    }
}

/// What an operation is shown as a part of.
fn group(group: &pb::ProgressGroup) -> Group {
    Group { id: group.id.clone(), name: group.name.clone(), weak: group.weak }
}

fn platform_of(platform: &pb::Platform) -> Platform {
    let pb::Platform { architecture, os, variant, os_version, os_features } = platform;
    let named = Platform::new(os, architecture, variant);
    Platform { os_version: os_version.clone(), os_features: os_features.clone(), ..named }
}

#[cfg(test)]
mod tests;

//! Builds inside of definitions: an operation that stands for the result of another definition, which is a file of one of its inputs.
//!
//! Lowering does no I/O. So whoever has the files reads one such definition after the other ([`nested`] names the next), until all that
//! the result needs are known.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::pb;
use prost::Message as _;

use super::error::DefinitionError;
use super::operations::{Operation, Operations};
use super::{Lowering, Value};

/// The only builder of nested builds that there is.
const BUILDER: i64 = -1;

/// The input with the definition, and its file if none is named.
const INPUT: &str = "buildkit.llb.definition";

/// The attribute that names the file.
const FILENAME: &str = "llbbuild.filename";

/// How deep definitions may be nested.
const DEEPEST: usize = 8;

/// A nested build whose definition has to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct NestedBuild {
    /// The digest of its operation.
    pub digest: String,
    /// What gives the filesystem that the file is in.
    pub input: pb::Definition,
    /// The file.
    pub filename: String,
}

/// The next nested build that a definition needs and `known` does not have, by the digest of its operation. What it needs itself is
/// known by then.
///
/// # Errors
/// The definition cannot be decoded, or a nested build makes no sense.
pub fn nested(
    definition: &pb::Definition,
    known: &BTreeMap<String, pb::Definition>,
) -> Result<Option<NestedBuild>, DefinitionError> {
    below(definition, known, 0)
}

fn below(
    definition: &pb::Definition,
    known: &BTreeMap<String, pb::Definition>,
    depth: usize,
) -> Result<Option<NestedBuild>, DefinitionError> {
    let operations = Operations::of(definition)?;
    for index in operations.needed()? {
        let operation = operations.get(index);
        let Some(pb::op::Op::Build(build)) = &operation.op.op else { continue };
        check_depth(operation, depth)?;
        match known.get(operation.digest()) {
            Some(inner) => {
                if let Some(found) = below(inner, known, depth + 1)? {
                    return Ok(Some(found));
                }
            }
            None => return unread(definition, operation, build).map(Some),
        }
    }
    Ok(None)
}

fn check_depth(operation: &Operation<'_>, depth: usize) -> Result<(), DefinitionError> {
    if depth >= DEEPEST {
        return Err(operation.invalid(format!("more than {DEEPEST} definitions are nested")));
    }
    Ok(())
}

fn unread(
    definition: &pb::Definition,
    operation: &Operation<'_>,
    build: &pb::BuildOp,
) -> Result<NestedBuild, DefinitionError> {
    if build.builder != BUILDER {
        return Err(operation.unsupported("another builder of a nested build"));
    }
    let input = build.inputs.get(INPUT).and_then(|input| usize::try_from(input.input).ok());
    let input = input.and_then(|slot| operation.op.inputs.get(slot)).cloned();
    let input = input.ok_or_else(|| operation.invalid(format!("its input {INPUT} is not there")))?;
    let last = pb::Op { inputs: vec![input], ..pb::Op::default() }.encode_to_vec();
    let def = definition.def.split_last().map(|(_, before)| before).unwrap_or_default();
    // The operation that names the result may be the nested build itself, in a definition without another.
    let def = def.iter().cloned().chain([last]).collect();
    let filename = build.attrs.get(FILENAME).filter(|name| !name.is_empty()).map_or(INPUT, String::as_str);
    Ok(NestedBuild {
        digest: operation.digest().to_owned(),
        input: pb::Definition { def, ..definition.clone() },
        filename: filename.to_owned(),
    })
}

impl Lowering<'_> {
    /// The result of a nested build.
    pub(super) fn nested(&mut self, operation: &Operation<'_>) -> Result<Value, DefinitionError> {
        check_depth(operation, self.depth)?;
        let definition = self.options.nested.get(operation.digest());
        let definition =
            definition.ok_or_else(|| operation.unsupported("a nested build that nobody has read"))?;
        let operations = Operations::of(definition)?;
        let mut inner = Lowering {
            operations: &operations,
            options: self.options,
            resolver: self.resolver,
            graph: std::mem::take(&mut self.graph),
            results: HashMap::new(),
            depth: self.depth + 1,
        };
        let lowered = inner.all();
        let value = lowered.and_then(|()| match operations.result() {
            Some(result) => inner.value(operations.get(result.operation), result),
            None => Ok(Value::Scratch),
        });
        self.graph = inner.graph;
        value
    }
}

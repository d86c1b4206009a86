//! The operations of a definition, decoded and found by their digests.

use std::collections::{BTreeSet, HashMap};

use base::Digest;
use bollard_buildkit_proto::pb;
use llb::SourceRange;
use prost::Message as _;

use super::error::DefinitionError;
use crate::options::Entitlement;

/// The most operations that a definition may have.
const MOST: usize = 100_000;

/// A decoded definition.
pub(super) struct Operations<'a> {
    definition: &'a pb::Definition,
    all: Vec<Operation<'a>>,
    /// The result that is asked for: an operation and the number of its result. Nothing is asked of an empty definition.
    result: Option<Reference>,
    /// Where the lines of each text begin.
    lines: Vec<Vec<usize>>,
}

/// One operation.
pub(super) struct Operation<'a> {
    pub(super) op: pb::Op,
    /// By slot.
    pub(super) inputs: Vec<Reference>,
    pub(super) metadata: Option<&'a pb::OpMetadata>,
    digest: String,
    /// The digest of an input that is not there.
    missing: Option<String>,
}

/// A result of an operation, by the operation's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) operation: usize,
    pub(super) output: i64,
}

impl<'a> Operations<'a> {
    /// Decodes a definition. The last operation does nothing but name the result.
    pub(super) fn of(definition: &'a pb::Definition) -> Result<Self, DefinitionError> {
        let operations = definition.def.len();
        if operations > MOST {
            return Err(DefinitionError::TooMany { operations, most: MOST });
        }
        let mut decoded = Vec::with_capacity(operations);
        let mut places = HashMap::new();
        for (position, bytes) in definition.def.iter().enumerate() {
            let op = pb::Op::decode(bytes.as_slice())
                .map_err(|source| DefinitionError::Decode { position, source })?;
            let digest = Digest::of(bytes).to_string();
            places.insert(digest.clone(), position);
            decoded.push((op, digest));
        }
        let find = |input: &pb::Input| {
            Some(Reference { operation: *places.get(&input.digest)?, output: input.index })
        };
        let mut all = Vec::with_capacity(operations);
        for (op, digest) in decoded {
            let missing = op.inputs.iter().find(|input| find(input).is_none());
            let missing = missing.map(|input| input.digest.clone());
            let inputs = op.inputs.iter().filter_map(find).collect();
            let metadata = definition.metadata.get(&digest);
            all.push(Operation { op, inputs, metadata, digest, missing });
        }
        let result = match all.last() {
            None => None,
            Some(last) => match (&last.op.op, last.inputs.as_slice()) {
                _ if last.missing.is_some() => return Err(last.is_missing()),
                (None, [result]) => Some(*result),
                (None, inputs) => {
                    let why = format!("it names {} results, and not one", inputs.len());
                    return Err(last.invalid(why));
                }
                (Some(_), _) => Some(Reference { operation: all.len() - 1, output: 0 }),
            },
        };
        let infos = definition.source.iter().flat_map(|source| &source.infos);
        let lines = infos.map(|info| line_starts(&info.data)).collect();
        Ok(Self { definition, all, result, lines })
    }

    pub(super) fn get(&self, index: usize) -> &Operation<'a> {
        &self.all[index]
    }

    /// What is asked for.
    pub(super) fn result(&self) -> Option<Reference> {
        self.result
    }

    /// Those that the result needs, inputs before what uses them.
    pub(super) fn needed(&self) -> Result<Vec<usize>, DefinitionError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            No,
            Entered,
            Left,
        }
        let mut seen = vec![Seen::No; self.all.len()];
        let mut order = Vec::new();
        let mut waiting: Vec<usize> = self.result.iter().map(|result| result.operation).collect();
        while let Some(index) = waiting.last().copied() {
            match seen[index] {
                Seen::No => {
                    seen[index] = Seen::Entered;
                    if self.all[index].missing.is_some() {
                        return Err(self.all[index].is_missing());
                    }
                    for input in &self.all[index].inputs {
                        match seen[input.operation] {
                            Seen::No => waiting.push(input.operation),
                            Seen::Entered => {
                                let operation = self.all[index].name();
                                return Err(DefinitionError::Circle { operation });
                            }
                            Seen::Left => {}
                        }
                    }
                }
                Seen::Entered => {
                    seen[index] = Seen::Left;
                    order.push(index);
                    waiting.pop();
                }
                Seen::Left => drop(waiting.pop()),
            }
        }
        Ok(order)
    }

    /// The text that an operation came from, by the place of the text.
    pub(super) fn source(&self, operation: &Operation<'_>) -> Option<SourceRange> {
        let source = self.definition.source.as_ref()?;
        let location = source.locations.get(&operation.digest)?.locations.first()?;
        let range = location.ranges.first()?;
        let file = usize::try_from(location.source_index).ok()?;
        let text = Text { data: &source.infos.get(file)?.data, lines: self.lines.get(file)? };
        let first = range.start.as_ref()?;
        let start = text.offset(first);
        let end = text.end_of_line(range.end.as_ref().unwrap_or(first).line);
        Some(SourceRange { file, start, end: end.max(start) })
    }
}

impl Operation<'_> {
    /// One that is in no definition.
    pub(super) fn alone(op: pb::Op) -> Self {
        Self { op, inputs: Vec::new(), metadata: None, digest: String::new(), missing: None }
    }

    /// Its name in the definition.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    fn is_missing(&self) -> DefinitionError {
        let digest = self.missing.clone().unwrap_or_default();
        DefinitionError::MissingInput { operation: self.name(), digest }
    }

    /// Refuses what the client, or this builder, has not agreed to.
    pub(super) fn entitled(
        &self,
        allow: &BTreeSet<Entitlement>,
        entitlement: Entitlement,
    ) -> Result<(), DefinitionError> {
        if allow.contains(&entitlement) {
            return Ok(());
        }
        Err(DefinitionError::NotEntitled { operation: self.name(), entitlement })
    }

    /// What people call it: what its maker says, or what it does.
    pub(super) fn name(&self) -> String {
        name(&self.op, self.metadata)
    }

    pub(super) fn invalid(&self, why: impl Into<String>) -> DefinitionError {
        DefinitionError::Invalid { operation: self.name(), why: why.into() }
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> DefinitionError {
        DefinitionError::Unsupported { operation: self.name(), what: what.into() }
    }
}

/// How far into a line a column is looked for, in bytes.
const LONGEST_LINE: usize = 4096;

/// Where the lines of a text begin.
fn line_starts(data: &[u8]) -> Vec<usize> {
    let newlines = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    std::iter::once(0).chain(newlines.map(|(offset, _)| offset + 1)).collect()
}

/// A text, and where its lines begin.
struct Text<'a> {
    data: &'a [u8],
    lines: &'a [usize],
}

impl Text<'_> {
    /// The bytes of a line, from 1, without its end; the end of the text for lines that there are not.
    fn line(&self, number: i32) -> (usize, usize) {
        let index = usize::try_from(number).unwrap_or(0).saturating_sub(1);
        let length = self.data.len();
        match self.lines.get(index) {
            Some(start) => (*start, self.lines.get(index + 1).map_or(length, |next| next - 1)),
            None => (length, length),
        }
    }

    /// The byte at a line, from 1, and a column in characters, from 0.
    fn offset(&self, position: &pb::Position) -> usize {
        let (start, end) = self.line(position.line);
        let column = usize::try_from(position.character).unwrap_or(0);
        let line = &self.data[start..end.min(start + LONGEST_LINE)];
        let line = String::from_utf8_lossy(line);
        let before: usize = line.chars().take(column).map(char::len_utf8).sum();
        (start + before).min(end)
    }

    fn end_of_line(&self, number: i32) -> usize {
        self.line(number).1
    }
}

/// How many actions of a file operation its name tells of.
const SHOWN_ACTIONS: usize = 4;

/// What is shown of an operation.
fn name(op: &pb::Op, metadata: Option<&pb::OpMetadata>) -> String {
    use pb::file_action::Action;
    use pb::op::Op;
    if let Some(name) = metadata.and_then(|metadata| metadata.description.get("llb.customname")) {
        return name.clone();
    }
    match &op.op {
        Some(Op::Source(source)) => source.identifier.clone(),
        Some(Op::Exec(exec)) => exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default(),
        Some(Op::File(file)) => {
            let action = |action: &pb::FileAction| match &action.action {
                Some(Action::Copy(copy)) => format!("copy {} {}", copy.src, copy.dest),
                Some(Action::Mkfile(file)) => format!("mkfile {}", file.path),
                Some(Action::Mkdir(directory)) => format!("mkdir {}", directory.path),
                Some(Action::Rm(rm)) => format!("rm {}", rm.path),
                Some(Action::Symlink(link)) => format!("symlink {} -> {}", link.newpath, link.oldpath),
                None => "nothing".to_owned(),
            };
            file.actions.iter().take(SHOWN_ACTIONS).map(action).collect::<Vec<_>>().join(", ")
        }
        Some(Op::Merge(_)) => "merge".to_owned(),
        Some(Op::Diff(_)) => "diff".to_owned(),
        Some(Op::Build(_)) => "build".to_owned(),
        None => "result".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bytes_of_the_text() {
        let data = "first\nzweite é ü\nlast".as_bytes();
        let text = Text { data, lines: &line_starts(data) };
        let at = |line, character| text.offset(&pb::Position { line, character });
        assert_eq!((at(1, 0), at(2, 0), at(2, 8)), (0, 6, 15));
        assert_eq!((at(3, 99), at(99, 0), at(-1, -1)), (data.len(), data.len(), 0));
        assert_eq!((text.end_of_line(1), text.end_of_line(3)), (5, data.len()));
    }
}

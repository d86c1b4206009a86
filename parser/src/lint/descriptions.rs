//! Comments above FROM and ARG that describe a stage or an argument: `# name what it is for`.

use super::Findings;
use crate::ast::{Dockerfile, Instruction, InstructionKind, Word};

/// What the comment above an instruction says about `name`: the rest of the line that begins with it.
///
/// ```
/// let parsed = parser::parse(b"# VERSION of the compiler\nARG VERSION\nFROM scratch\n");
/// let arg = &parsed.dockerfile.instructions[0];
/// assert_eq!(parser::lint::description(arg, "VERSION"), Some("of the compiler"));
/// ```
pub fn description<'a>(instruction: &'a Instruction, name: &str) -> Option<&'a str> {
    let mut lines = instruction.comments.iter();
    lines.find_map(|line| line.text.strip_prefix(name)?.strip_prefix(' ')).map(str::trim)
}

pub(super) fn invalid_definition_description(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for instruction in &dockerfile.instructions {
        let (names, what): (Vec<&Word>, _) = match &instruction.kind {
            InstructionKind::From(from) => (from.name.iter().collect(), "build stage"),
            InstructionKind::Arg(declarations) => {
                (declarations.iter().map(|declaration| &declaration.name).collect(), "arg")
            }
            _ => continue,
        };
        let has_comment = instruction.comments.iter().any(|comment| !is_option(&comment.text));
        let is_described = names.iter().any(|name| description(instruction, &name.text).is_some());
        if let (Some(name), true, false) = (names.first(), has_comment, is_described) {
            let message =
                format!("Comment for {what} should follow the format: `# {} <description>`", name.text);
            findings.add(name.span, message, "put an empty line below a comment that is no description");
        }
    }
}

/// `check=…` above an instruction is for us, not a description.
fn is_option(comment: &str) -> bool {
    comment.split_once('=').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case("check"))
}

//! The house rules that neither the compiler nor clippy checks. One file for each rule.
//!
//! A rule looks at the workspace as text: manifests, and sources without their comments and strings. That is
//! enough for rules that people keep on purpose; nothing here defends against somebody who wants to get around it.

mod arrows;
mod doc_files;
mod error_messages;
mod leftovers;
mod module_doc;
mod purity;
mod size;
mod source;
mod workspace;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use self::workspace::Workspace;

/// A place where a rule is broken, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// Relative to the workspace.
    file: String,
    /// From 1.
    line: usize,
    rule: &'static str,
    advice: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.advice)
    }
}

/// All rules, in the order in which they run.
const RULES: [fn(&Workspace) -> Vec<Violation>; 7] = [
    arrows::check,
    purity::check,
    module_doc::check,
    size::check,
    leftovers::check,
    error_messages::check,
    doc_files::check,
];

/// Prints a line for each violation. Fails if there is one, or if the workspace cannot be read.
pub(crate) fn run(root: &Path) -> ExitCode {
    let workspace = match Workspace::read(root) {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let violations = check(&workspace);
    violations.iter().for_each(|violation| println!("{violation}"));
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut violations: Vec<Violation> = RULES.iter().flat_map(|rule| rule(workspace)).collect();
    violations.sort();
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_tidy() {
        let workspace = Workspace::read(crate::workspace()).unwrap();
        assert!(workspace.packages.len() > 10, "the workspace was not read: {:?}", workspace.packages.len());
        let lines: Vec<String> = check(&workspace).iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}

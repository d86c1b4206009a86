//! A file that grew past what a reader takes in at once is probably two files.

use super::Violation;
use super::source::Source;
use super::workspace::Workspace;

/// How many lines a file may have before its tests.
const MOST: usize = 600;

/// Files that may be longer, and why. Tables are easier to read whole.
const EXEMPT: [(&str, &str); 0] = [];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.sources().filter_map(check_source).collect()
}

fn check_source(source: &Source) -> Option<Violation> {
    let lines = source.shipped_lines();
    let exempt = EXEMPT.iter().any(|(path, _)| *path == source.path);
    (lines > MOST && !exempt).then(|| Violation {
        file: source.path.clone(),
        line: MOST + 1,
        rule: "size",
        advice: format!("{lines} lines; divide it, or if it is a table say so in xtask/src/tidy/size.rs"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count() {
        let code = |lines: usize| "let a = 1;\n".repeat(lines);
        let fits = |text: &str| check_source(&Source::new("a/src/b.rs", text)).is_none();
        assert!(fits(&code(MOST)));
        assert!(!fits(&code(MOST + 1)));
        assert!(fits(&format!("{}#[cfg(test)]\n{}", code(MOST), code(MOST))));
    }
}

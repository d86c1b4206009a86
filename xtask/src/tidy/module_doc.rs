//! Every file says at its top what it does and, where it matters, what it does not.

use super::Violation;
use super::source::Source;
use super::workspace::Workspace;

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.sources().filter_map(check_source).collect()
}

fn check_source(source: &Source) -> Option<Violation> {
    let first = source.text.lines().next().unwrap_or_default();
    let says_something = first.strip_prefix("//! ").is_some_and(|text| text.contains(' '));
    (!says_something).then(|| Violation {
        file: source.path.clone(),
        line: 1,
        rule: "module-doc",
        advice: "begin the file with `//! ` and a sentence on what it does".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_wanted_on_the_first_line() {
        let fits = |text: &str| check_source(&Source::new("a/src/b.rs", text)).is_none();
        assert!(fits("//! Reads a thing.\nfn a() {}\n"));
        assert!(!fits("fn a() {}\n"));
        assert!(!fits("//! Things\n"));
        assert!(!fits("// Reads a thing.\n"));
        assert!(!fits(""));
    }
}

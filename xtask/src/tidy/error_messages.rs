//! Error messages are put into sentences by whoever shows them: lower case at the start, no full stop at the end.

use super::Violation;
use super::source::Source;
use super::workspace::Workspace;

/// Words that are written so wherever they stand.
const NAMES: [&str; 3] = ["Docker", "Dockerfile", "Linux"];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.sources().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let messages =
        source.text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, message(line)?)));
    let faults = messages.filter_map(|(line, message)| Some((line, fault(message)?)));
    let violation = |(line, advice): (usize, &str)| Violation {
        file: source.path.clone(),
        line,
        rule: "error-messages",
        advice: advice.to_owned(),
    };
    faults.map(violation).collect()
}

/// The message of an `error` attribute that stands on one line.
fn message(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("#[error(\"")?;
    let end = rest.rfind('"')?;
    Some(&rest[..end])
}

fn fault(message: &str) -> Option<&'static str> {
    let first = message.split([' ', ':']).next().unwrap_or_default();
    let mut chars = first.chars();
    let capital =
        chars.next().is_some_and(char::is_uppercase) && chars.next().is_some_and(char::is_lowercase);
    if capital && !NAMES.contains(&first) {
        return Some("begin the message in lower case");
    }
    message.ends_with('.').then_some("end the message without a full stop")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_found_and_phrases_are_not() {
        let found = |line: &str| check_source(&Source::new("a/src/b.rs", line)).len();
        assert_eq!(found("    #[error(\"Cannot open {path}\")]"), 1);
        assert_eq!(found("    #[error(\"cannot open {path}.\")]"), 1);
        assert_eq!(found("    #[error(\"cannot open {path}\")]"), 0);
        assert_eq!(found("    #[error(\"COPY needs a source\")]"), 0);
        assert_eq!(found("    #[error(\"Dockerfile is empty\")]"), 0);
        assert_eq!(found("    #[error(transparent)]"), 0);
    }
}

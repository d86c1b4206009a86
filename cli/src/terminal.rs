//! The one place that prints: standard output for results, standard error for messages.

use std::io::Write as _;

/// Prints a result. A reader that has gone away (a closed pipe) is not an error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints a result and a newline.
pub(crate) fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

/// Prints a message for people.
pub(crate) fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

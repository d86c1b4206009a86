//! The one place that prints and asks: standard output for results, standard error for messages.

use std::io::{BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Prints a result. A reader that has gone away (a closed pipe) is not an error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints bytes of a result. `false` when nobody reads them any more.
pub(crate) fn print_bytes(bytes: &[u8]) -> bool {
    std::io::stdout().write_all(bytes).is_ok()
}

/// The same, on standard error.
pub(crate) fn print_error_bytes(bytes: &[u8]) -> bool {
    std::io::stderr().write_all(bytes).is_ok()
}

/// Prints a result and a newline.
pub(crate) fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

/// Stands still for a while, less if nobody reads standard output any more.
pub(crate) fn pause(time: Duration) {
    let stdout = std::io::stdout();
    // Nothing is waited for but that its other end goes away.
    let mut reader = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    let _ = poll(&mut reader, time);
}

/// The text with nothing in it that a terminal would obey, for what another machine has written.
pub(crate) fn printable(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(harmless).collect()
}

/// Prints a message for people.
pub(crate) fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Asks a question on standard output. Only `y` is a yes; so nobody there to answer is a no.
pub(crate) fn ask(question: &str) -> bool {
    print(question);
    let _ = std::io::stdout().lock().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

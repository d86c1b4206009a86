//! What a test needs of the machine. What is missing skips the test with a reason on a developer's machine, and
//! fails it where `CI=true`, so that nothing is skipped there unnoticed.

use std::io::Write;

/// Whether missing things are failures.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Nothing, after saying why; in CI a panic. The line goes past the test harness's capture, and `cargo xtask test`
/// counts it.
pub fn missing<T>(reason: &str) -> Option<T> {
    assert!(!in_ci(), "{reason}");
    let test = std::thread::current();
    // Where even standard error is closed, nobody wants to know.
    let _ = writeln!(std::io::stderr(), "skipped: {}: {reason}", test.name().unwrap_or("a test"));
    None
}

/// Root, in the machine's first user namespace or another with all capabilities.
pub fn root() -> Option<()> {
    if nix::unistd::geteuid().is_root() { Some(()) } else { missing("needs root") }
}

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
    skip(reason);
    None
}

/// Says that a test is skipped. For what a kernel or a provider of machines decides, so that no setup mends it.
pub fn skip(reason: &str) {
    let test = std::thread::current();
    // Where even standard error is closed, nobody wants to know.
    let _ = writeln!(std::io::stderr(), "skipped: {}: {reason}", test.name().unwrap_or("a test"));
}

/// Root, in the machine's first user namespace or another with all capabilities.
pub fn root() -> Option<()> {
    if nix::unistd::geteuid().is_root() { Some(()) } else { missing("needs root") }
}

/// Whether this machine has control group controllers that root can limit containers with, by their names in
/// version 1; says which is missing.
pub fn can_limit(controllers: &[&str]) -> bool {
    if root().is_none() {
        return false;
    }
    let first = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let second = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let has = |name: &str| {
        let in_first = first.lines().filter_map(|line| line.split(':').nth(1));
        in_first.flat_map(|names| names.split(',')).chain(second.split_whitespace()).any(|one| one == name)
    };
    match controllers.iter().find(|name| !has(name)) {
        Some(missing) => {
            skip(&format!("this machine has no control group controller {missing}"));
            false
        }
        None => true,
    }
}

//! Finds the `lap` binary that the tests drive, and the directory for things worth keeping between test runs.
//!
//! `LAP_BINARY` names a binary to test as it is. Without it the binary is built by the same cargo that runs
//! the test, so that `cargo test` alone never tests a stale one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The workspace's root directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// The `lap` binary under test, built at most once in this process.
pub fn lap() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("LAP_BINARY") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_absolute(), "LAP_BINARY is not an absolute path: {}", path.display());
            assert!(path.is_file(), "LAP_BINARY names no file: {}", path.display());
            path
        }
        None => build(),
    })
}

/// The cargo that runs us, without what it has told us of our own package: build scripts that look at the same variables
/// would find other ones than when cargo is called by hand, and what depends on them would be built each time.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_ours = |name: &str| OF_PACKAGES.iter().any(|of| name.starts_with(of));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_ours)) {
        command.env_remove(name);
    }
    command
}

/// How the variables begin that cargo sets for what it runs (The Cargo Book, "Environment variables Cargo sets for crates").
const OF_PACKAGES: [&str; 5] =
    ["CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_PACKAGE"];

/// Builds `lap` with the profile that the caller was built with, and returns where cargo put it.
fn build() -> PathBuf {
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", "cli", "--bin", "lap", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "building lap failed: {}", output.status);
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    messages.lines().find_map(executable).expect("cargo reports the executable")
}

/// The executable that one line of cargo's JSON messages reports, if it does.
fn executable(line: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}

/// A directory below cargo's target directory for what is slow to make and may be kept, such as a Debian root.
pub fn cache_dir() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let target = if target.is_absolute() { target } else { workspace().join(target) };
    let dir = target.join("testkit");
    std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("create {}: {error}", dir.display()));
    dir
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"lap"},"executable":"/t/lap"}"#;
        assert_eq!(executable(line), Some(PathBuf::from("/t/lap")));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(executable("warning: not JSON"), None);
    }

    #[test]
    fn the_workspace_holds_this_crate() {
        assert!(workspace().join("testkit/src/binary.rs").is_file());
    }
}

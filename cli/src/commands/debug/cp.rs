//! `lap debug cp`: files out of a failed step.

use std::process::ExitCode;

use super::super::{StoreChoice, open};
use crate::debug_args::DebugCpArgs;
use crate::error::CliError;
use crate::signals;

/// Copies a file or directory.
pub(super) fn copy(store: &StoreChoice, args: &DebugCpArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let (build, path) = source(&args.source);
    open(store)?.copy_failed(build, path, &args.destination, &cancel)?;
    Ok(ExitCode::SUCCESS)
}

/// `[BUILD:]PATH`. Ids of builds are letters and digits, so a path with a colon can be written with a slash.
fn source(text: &str) -> (Option<&str>, &str) {
    let is_id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match text.split_once(':') {
        Some((build, path)) if is_id(build) => (Some(build), path),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_name_its_build() {
        assert_eq!(source("abc1:/a:b"), (Some("abc1"), "/a:b"));
        assert_eq!(source("/a:b"), (None, "/a:b"));
        assert_eq!(source("./a:b"), (None, "./a:b"));
        assert_eq!(source("a"), (None, "a"));
    }
}

//! Programs of packages of Python and Node.

use std::path::PathBuf;

use crate::binary::cache_dir;
use crate::privilege::skip;

/// A program of a Python package: from the environment that `scripts/setup test` makes below the target directory, or from the search
/// path. Without it the calling test is skipped, in CI too: nothing promises that a package index can be reached.
pub fn program(name: &str) -> Option<PathBuf> {
    of_packages("../python/bin", name)
}

/// The same of a package of Node.
pub fn node_program(name: &str) -> Option<PathBuf> {
    of_packages("../node/node_modules/.bin", name)
}

fn of_packages(directory: &str, name: &str) -> Option<PathBuf> {
    let own = cache_dir().join(directory).join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::iter::once(own).chain(std::env::split_paths(&path).map(|dir| dir.join(name)));
    let found = candidates.find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

//! Names that a mistyped path may have meant.

use std::path::{Path, PathBuf};

use sys::stat::Kind;

use crate::tree::{Entry, Follow, Tree, TreeError};

/// The most names to suggest.
const MAX_NAMES: usize = 3;
/// The most entries of a directory to compare with.
const MAX_COMPARED: usize = 10_000;

/// Paths in the directory of the first missing component that look like it, the most alike first.
pub(super) fn names(tree: &Tree, pattern: &str) -> Result<Vec<String>, TreeError> {
    let mut dir = tree.root()?;
    for component in super::clean(Path::new(pattern)) {
        let path: PathBuf = dir.path().join(&component);
        match tree.lookup(&path, Follow::Last)? {
            Some(entry) if entry.is_dir() => dir = entry,
            _ => return look_alikes(tree, &dir, &component.to_string_lossy()),
        }
    }
    Ok(Vec::new())
}

fn look_alikes(tree: &Tree, dir: &Entry, name: &str) -> Result<Vec<String>, TreeError> {
    // A third of the letters may differ, but more than one slip in a short name is another name.
    let allowed = (name.chars().count() / 3).max(1);
    let mut found: Vec<(usize, String)> = tree
        .read_dir(dir)?
        .iter()
        .take(MAX_COMPARED)
        .filter_map(|entry| {
            let other = entry.name().to_string_lossy();
            // A link that leads nowhere is no advice.
            if other == name && entry.kind() == Kind::Symlink {
                return None;
            }
            let distance = distance(&name.to_lowercase(), &other.to_lowercase());
            (distance <= allowed).then(|| (distance, entry.path().to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().take(MAX_NAMES).map(|(_, path)| path).collect())
}

/// How many letters must be inserted, removed or replaced to get from one name to the other
/// (Levenshtein's distance, one row at a time).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }
}

//! "Did you mean": the nearest of some known names.
//!
//! Only close names are offered; a far-fetched guess is worse than none.

/// Of `known`, the name nearest to `typed`, letter case aside. `None` when all are too different.
///
/// ```
/// assert_eq!(parser::suggest::nearest("chowm", ["chown", "chmod"]), Some("chown"));
/// assert_eq!(parser::suggest::nearest("banana", ["chown", "chmod"]), None);
/// ```
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = typed.to_lowercase().chars().take(LONGEST_NAME + 1).collect();
    if typed.is_empty() || typed.len() > LONGEST_NAME {
        return None;
    }
    let allowed = (typed.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|name| name.len().abs_diff(typed.len()) <= allowed)
        .map(|name| (distance(&typed, &name.to_lowercase().chars().collect::<Vec<_>>()), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Names longer than this are not misspellings of ours; it also bounds the work.
const LONGEST_NAME: usize = 64;

/// The number of insertions, deletions, substitutions and swaps of neighbours that turn `from` into
/// `to` (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let width = to.len() + 1;
    let mut table = vec![0; (from.len() + 1) * width];
    for (column, cell) in table.iter_mut().take(width).enumerate() {
        *cell = column;
    }
    for row in 1..=from.len() {
        table[row * width] = row;
        for column in 1..width {
            let above = table[(row - 1) * width + column] + 1;
            let left = table[row * width + column - 1] + 1;
            let changed = usize::from(from[row - 1] != to[column - 1]);
            let mut best = above.min(left).min(table[(row - 1) * width + column - 1] + changed);
            let swapped =
                row > 1 && column > 1 && from[row - 1] == to[column - 2] && from[row - 2] == to[column - 1];
            if swapped {
                best = best.min(table[(row - 2) * width + column - 2] + 1);
            }
            table[row * width + column] = best;
        }
    }
    table[table.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(from: &str, to: &str) -> usize {
        distance(&from.chars().collect::<Vec<_>>(), &to.chars().collect::<Vec<_>>())
    }

    #[test]
    fn distances() {
        assert_eq!(steps("", ""), 0);
        assert_eq!(steps("", "abc"), 3);
        assert_eq!(steps("kitten", "sitting"), 3);
        assert_eq!(steps("cpoy", "copy"), 1);
    }

    #[test]
    fn nearest_ignores_case_and_refuses_strangers() {
        let known = ["FROM", "RUN", "COPY", "ENTRYPOINT"];
        assert_eq!(nearest("form", known), Some("FROM"));
        assert_eq!(nearest("ENTRIPONT", known), Some("ENTRYPOINT"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
    }
}

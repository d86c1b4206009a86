//! How deep a template nests. Reading and filling one takes a part of the stack for each level, and who wrote it does not
//! pay for ours.

/// The most levels of parentheses, and of blocks with the branches that stand for blocks in them (`else if`).
const DEEPEST: usize = 50;

/// Actions that begin a block.
const OPENING: [&str; 5] = ["if", "range", "with", "block", "define"];

/// Whether a template nests deeper than any that somebody would type. What stands in quotes is counted as well.
pub(super) fn is_too_deep(text: &str) -> bool {
    let (mut blocks, mut parentheses) = (0_usize, 0_usize);
    for action in text.split("{{").skip(1) {
        let action = action.trim_start_matches('-').trim_start();
        let mut words = action.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("else"), Some("if" | "with")) => blocks += 1,
            (Some("end"), _) => blocks = blocks.saturating_sub(1),
            (Some(word), _) if OPENING.contains(&word) => blocks += 1,
            _ => {}
        }
        for c in action.chars() {
            match c {
                '(' => parentheses += 1,
                ')' => parentheses = parentheses.saturating_sub(1),
                _ => {}
            }
            if parentheses > DEEPEST {
                return true;
            }
        }
        if blocks > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_parentheses_are_counted() {
        assert!(!is_too_deep(&"{{if (eq 1 2)}}{{else}}{{- end}}".repeat(1000)));
        assert!(!is_too_deep(&"(".repeat(1000)));
        assert!(is_too_deep(&"{{- with .}}".repeat(51)));
        assert!(is_too_deep(&format!("{{{{{}", "(".repeat(51))));
        assert!(is_too_deep(&"{{else if 1}}".repeat(51)));
    }
}

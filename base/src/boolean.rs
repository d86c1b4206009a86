//! True and false as people write them where Docker and BuildKit read them.

/// Reads a truth value as Go's `strconv.ParseBool` does; `None` when it is none.
pub fn parse(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_go_s_words_are_truth_values() {
        assert_eq!(["1", "t", "True"].map(parse), [Some(true); 3]);
        assert_eq!(["0", "F", "FALSE"].map(parse), [Some(false); 3]);
        assert_eq!(["", "yes", "tRUE", " true"].map(parse), [None; 4]);
    }
}

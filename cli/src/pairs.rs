//! Flags of the form NAME=VALUE.

use std::collections::BTreeMap;

/// `NAME=VALUE`, or `NAME` with an empty value.
pub(crate) fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// All of them; where a name is given twice, the last one counts.
pub(crate) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    texts.iter().map(|text| pair(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_be_missing_or_hold_the_sign() {
        let texts = ["a=1", "b", "c=x=y", "a=2"].map(str::to_owned);
        let found: Vec<(String, String)> = pairs(&texts).into_iter().collect();
        assert_eq!(found, [("a", "2"), ("b", ""), ("c", "x=y")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}

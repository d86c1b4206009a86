//! Why a word cannot be expanded.

use super::{MAX_DEPTH, MAX_GROWTH};

/// Why a word cannot be expanded. `construct` is the part of the word that is wrong, shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote without its partner.
    #[error("{quote} is never closed in {construct}")]
    UnclosedQuote {
        /// `'` or `"`.
        quote: char,
        /// From the quote on.
        construct: String,
    },
    /// `${` without `}`.
    #[error("missing }} after {construct}")]
    UnclosedBrace {
        /// From `${` on.
        construct: String,
    },
    /// `${}`, `${:-x}`: no variable is named.
    #[error("{construct} names no variable")]
    NoName {
        /// From `${` on.
        construct: String,
    },
    /// `${v^^}`: something else than an operator follows the name.
    #[error(
        "{construct} uses an unsupported operator, expected one of :- - :+ + :? ? # ## % %% / // or }} after the name"
    )]
    UnsupportedOperator {
        /// From `${` on.
        construct: String,
    },
    /// `${v/pattern` without the `/` before the replacement.
    #[error("missing / between pattern and replacement in {construct}")]
    NoReplacement {
        /// From `${` on.
        construct: String,
    },
    /// The pattern of `#`, `%` or `/` escapes a character that needs no escape.
    #[error(
        "{construct} has the pattern {pattern:?} in which \\{escaped} is not an escape (only \\* \\? \\\\ are)"
    )]
    BadPattern {
        /// From `${` on.
        construct: String,
        /// The pattern after expansion.
        pattern: String,
        /// The character after the backslash.
        escaped: char,
    },
    /// `${v:?message}` of a variable that is not set (or empty, with the colon).
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the author of the Dockerfile has to say about it.
        message: String,
    },
    /// `${…}` in `${…}` in `${…}` …
    #[error("${{…}} is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// The variables hold too much.
    #[error("the value is more than {} MiB long after expansion", MAX_GROWTH >> 20)]
    TooLong,
}

impl base::Faulty for ExpandError {
    fn fault(&self) -> base::Fault {
        base::Fault::Input
    }
}

/// Characters of a construct that an error shows.
pub(super) const SHOWN: usize = 40;

/// The text, cut after [`SHOWN`] characters.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

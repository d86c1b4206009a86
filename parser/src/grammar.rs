//! The pest parsers. Their rules are a private detail: no message and no public type mentions them.
//!
//! The escape character is chosen by the Dockerfile at run time, which a static grammar cannot follow.
//! So the grammars only know `\`: before parsing, [`normalise`] exchanges the chosen character with `\`,
//! and in here-documents, where quotes mean nothing, replaces the quotes. Each exchange keeps the length
//! of the text, so that a span found in the normalised text is valid in the text as written.

use std::borrow::Cow;

/// Whether quotes mean something in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    Special,
    Ordinary,
}

/// The text in the alphabet of the grammars: `\` escapes, `'` and `"` quote. Same length as `text`.
pub(crate) fn normalise(text: &str, escape: char, quotes: Quotes) -> Cow<'_, str> {
    if escape == '\\' && quotes == Quotes::Special {
        return Cow::Borrowed(text);
    }
    let exchange = |character: char| match character {
        '\'' | '"' if quotes == Quotes::Ordinary => ',',
        '\\' if escape.len_utf8() == 1 => escape,
        same if same == escape && escape.len_utf8() == 1 => '\\',
        other => other,
    };
    Cow::Owned(text.chars().map(exchange).collect())
}

/// `word.pest`: one word with its quotes, escapes and variables.
pub(crate) mod word {
    #[derive(pest_derive::Parser)]
    #[grammar = "word.pest"]
    pub(crate) struct WordParser;
}

/// `dockerfile.pest`: the parts of one logical instruction.
pub(crate) mod dockerfile {
    #[derive(pest_derive::Parser)]
    #[grammar = "dockerfile.pest"]
    pub(crate) struct DockerfileParser;
}

//! Any text as a word and as a here-document: expansion gives a value or an error, never a panic, and
//! what it gives is not much longer than the text and its variables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parser::word::{expand, expand_heredoc, expand_words};

fuzz_target!(|text: &str| {
    let lookup = |name: &str| (name.len() == 1).then(|| format!("{name} value/of.it"));
    for escape in ['\\', '`'] {
        let one = expand(text, escape, &lookup);
        let many = expand_words(text, escape, &lookup);
        assert_eq!(one.is_ok(), many.is_ok());
        let _ = expand_heredoc(text, escape, &lookup);
    }
});

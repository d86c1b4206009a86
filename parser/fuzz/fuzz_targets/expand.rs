//! Any text as a word, a here-document and an ignore file: nothing may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parser::ignore::IgnoreFile;
use parser::word::{expand, expand_heredoc, expand_words};

fuzz_target!(|text: &str| {
    let lookup = |name: &str| (name.len() == 1).then(|| format!("{name} value/of.it"));
    for escape in ['\\', '`'] {
        let _ = expand(text, escape, &lookup);
        let _ = expand_words(text, escape, &lookup);
        let _ = expand_heredoc(text, escape, &lookup);
    }
    let (file, _) = IgnoreFile::parse(text);
    file.excludes("a/b.c/d");
    file.may_contain_exceptions("a/b.c");
});

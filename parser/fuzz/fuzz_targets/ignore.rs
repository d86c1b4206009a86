//! Any text as an ignore file, with paths made of its own pieces: a directory that is excluded and may
//! have no exceptions keeps nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parser::ignore::IgnoreFile;

fuzz_target!(|text: &str| {
    let (file, _) = IgnoreFile::parse(text);
    for line in text.lines().take(16) {
        let path = line.trim().trim_matches(['!', '/']);
        let below = format!("{path}/b.c/d");
        if file.excludes(path) && !file.may_contain_exceptions(path) {
            assert!(file.excludes(&below), "{path:?} is excluded and {below:?} is kept");
        }
        file.excludes(path.replace('*', "a/b"));
        file.excludes(path.as_bytes().iter().rev().copied().collect::<Vec<u8>>());
    }
});

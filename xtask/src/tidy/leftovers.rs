//! Nothing unfinished is committed, no test is switched off, and no test waits for time to pass.

use super::Violation;
use super::source::{Source, has_word};
use super::workspace::Workspace;

const RULE: &str = "leftovers";

/// Words in code, and what to do instead.
const IN_CODE: [(&str, &str); 3] = [
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or refuse the input by name with an error"),
    ("#[ignore", "make the test pass, or let it skip itself with `testkit::privilege::missing`"),
];

/// Words in the code of tests, and what to do instead.
const IN_TESTS: [(&str, &str); 2] = [
    ("thread::sleep", "wait for the event itself, with a deadline"),
    ("time::sleep", "wait for the event itself, with a deadline"),
];

/// Notes to oneself, which also hide in comments. In two parts, so that this file does not find itself.
const NOTES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.sources().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let violation = |line, advice| Violation { file: source.path.clone(), line, rule: RULE, advice };
    let find = |(line, code): (usize, &str), words: &[(&str, &str)]| {
        let (word, instead) = words.iter().find(|(word, _)| has_word(code, word))?;
        Some(violation(line, format!("`{word}`: {instead}")))
    };
    let in_code = source.code().filter_map(|line| find(line, &IN_CODE));
    let in_tests = source.test_code().filter_map(|line| find(line, &IN_TESTS));
    let notes = source.text.lines().enumerate().filter_map(|(index, text)| {
        let note = NOTES.iter().find(|note| has_word(text, note))?;
        Some(violation(index + 1, format!("`{note}`: do it, or open an issue")))
    });
    in_code.chain(in_tests).chain(notes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(text: &str) -> Vec<usize> {
        check_source(&Source::new("a/src/b.rs", text)).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn unfinished_code_is_found() {
        assert_eq!(lines("fn a() { todo!() }\nfn b() { unimplemented!(\"\") }\n"), [1, 2]);
        assert_eq!(lines(concat!("let a = 1;\n// TO", "DO: more\n")), [2]);
        assert_eq!(lines("#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"), [2]);
    }

    #[test]
    fn waiting_is_found_in_tests() {
        assert_eq!(
            lines("std::thread::sleep(d);\n#[cfg(test)]\nmod tests { std::thread::sleep(d); }\n"),
            [3]
        );
    }

    #[test]
    fn words_that_only_look_like_it_are_not_found() {
        assert_eq!(lines("let mastodon = \"todo!\"; // ignore #[ignored]\n"), NONE);
    }
}

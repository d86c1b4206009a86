//! Properties that hold for any input.

use parser::ast::{Instruction, InstructionKind};
use parser::glob::Pattern;
use parser::ignore::IgnoreFile;
use parser::word::{expand, expand_heredoc, expand_words};
use parser::{Level, SourceFile};
use proptest::prelude::*;

/// Pieces of Dockerfiles, so that random files reach deep into the parser.
const PIECES: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "CMD ",
    "SHELL ",
    "# ",
    "\n",
    "\n",
    "\\\n",
    " ",
    "\t",
    "\r\n",
    "<<EOF",
    "EOF\n",
    "<<-'B'",
    "B\n",
    "[\"a\", \"b\"]",
    "['",
    "\"",
    "'",
    "=",
    "--",
    "--mount=",
    "type=",
    "--from=x",
    "a",
    "é",
    "$x",
    "${x:-",
    "}",
    "# escape=`\n",
    "# check=skip=all\n",
    "`",
    "\u{feff}",
    "\0",
    "AS ",
    "<<",
    ",",
];

fn dockerfile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn check_instruction(instruction: &Instruction, length: usize) {
    assert!(instruction.span.start <= instruction.span.end && instruction.span.end <= length);
    assert!(!instruction.source.contains('\n'));
    if let InstructionKind::OnBuild { trigger, .. } = &instruction.kind {
        check_instruction(trigger, length);
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_and_render(text in dockerfile()) {
        let parsed = parser::parse(&text);
        let file = SourceFile::new("Dockerfile", parsed.text.clone());
        for instruction in &parsed.dockerfile.instructions {
            check_instruction(instruction, parsed.text.len());
        }
        for diagnostic in &parsed.diagnostics {
            prop_assert!(diagnostic.span.start <= diagnostic.span.end);
            prop_assert!(!file.render(diagnostic).is_empty());
        }
        let is_invalid = |instruction: &Instruction| instruction.kind == InstructionKind::Invalid;
        let has_error = parsed.diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error);
        prop_assert!(has_error || !parsed.dockerfile.instructions.iter().any(is_invalid));
    }

    #[test]
    fn keywords_stand_where_their_spans_say(text in dockerfile()) {
        let parsed = parser::parse(&text);
        for instruction in &parsed.dockerfile.instructions {
            let span = instruction.keyword.span;
            let written = &parsed.text[span.start..span.end];
            // A keyword may be continued on the next line, which its text does not show.
            prop_assert!(written.contains('\n') || written == instruction.keyword.text);
        }
    }

    #[test]
    fn text_without_special_characters_expands_to_itself(text in "[^$\\\\'\"]*") {
        let found = expand(&text, '\\', &|_| None).unwrap();
        prop_assert_eq!(found.value, text);
    }

    #[test]
    fn any_word_expands_or_fails(text in "[a${}:\\-+?#%/'\"`\\\\* ]{0,30}", backtick: bool) {
        let escape = if backtick { '`' } else { '\\' };
        let lookup = |name: &str| (name == "a").then(|| "value".to_owned());
        let one = expand(&text, escape, &lookup);
        let many = expand_words(&text, escape, &lookup);
        prop_assert_eq!(one.is_ok(), many.is_ok());
        let _ = expand_heredoc(&text, escape, &lookup);
    }

    #[test]
    fn a_quoted_text_expands_to_itself(text in "[^']*") {
        let found = expand(&format!("'{text}'"), '\\', &|_| None).unwrap();
        prop_assert_eq!(found.value, text);
    }

    #[test]
    fn glob_agrees_with_a_naive_matcher(pattern in "[ab*?/é]{0,8}", path in "[ab/é]{0,10}") {
        let expected = naive(&pattern.chars().collect::<Vec<_>>(), &path.chars().collect::<Vec<_>>());
        prop_assert_eq!(Pattern::new(&pattern).unwrap().matches(&path), expected);
    }

    #[test]
    fn an_ignored_path_is_one_with_an_ignored_ancestor(pattern in "[ab*?]{1,3}(/([ab*?]{1,3}|\\*\\*)){0,3}", path in path()) {
        let (file, _) = IgnoreFile::parse(&pattern);
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let names: Vec<&str> = pattern.split('/').collect();
        let expected = ends.into_iter().any(|end| naive_names(&names, &path[..end].split('/').collect::<Vec<_>>()));
        let usual = !pattern.contains("***") && names.iter().all(|name| *name == "**" || !name.contains("**"));
        prop_assume!(usual);
        prop_assert_eq!(file.excludes(&path), expected);
    }

    #[test]
    fn the_last_pattern_that_matches_decides(
        patterns in prop::collection::vec("!?([ab*?]{1,3}|a[ab]\\*|\\*b)(/([ab?]{1,3}|\\*\\*)){0,2}", 0..80),
        path in path(),
    ) {
        let (file, _) = IgnoreFile::parse(&patterns.join("\n"));
        let ends: Vec<usize> = path.match_indices('/').map(|(end, _)| end).chain([path.len()]).collect();
        let matches = |pattern: &str| {
            let names: Vec<&str> = pattern.split('/').collect();
            ends.iter().any(|end| naive_names(&names, &path[..*end].split('/').collect::<Vec<_>>()))
        };
        prop_assume!(!patterns.iter().any(|pattern| pattern.contains("***") || has_double_star_in_a_name(pattern)));
        let decisive = patterns.iter().rev().find(|pattern| matches(pattern.trim_start_matches('!')));
        prop_assert_eq!(file.excludes(&path), decisive.is_some_and(|pattern| !pattern.starts_with('!')));
    }

    #[test]
    fn a_kept_path_lies_in_directories_that_may_have_exceptions(
        patterns in prop::collection::vec("!?[ab*?]{1,2}(/[ab*]{1,2}){0,2}", 1..5),
        path in path(),
    ) {
        let (file, _) = IgnoreFile::parse(&patterns.join("\n"));
        for (end, _) in path.match_indices('/') {
            let directory = &path[..end];
            if file.excludes(directory) && !file.excludes(&path) {
                prop_assert!(file.may_contain_exceptions(directory), "{}", directory);
            }
        }
    }
}

/// `a**`, which is more than two stars in a name.
fn has_double_star_in_a_name(pattern: &str) -> bool {
    pattern.trim_start_matches('!').split('/').any(|name| name != "**" && name.contains("**"))
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,3}", 1..5).prop_map(|names| names.join("/"))
}

/// `*` and `?` by trying everything.
fn naive(pattern: &[char], path: &[char]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (['*', rest @ ..], _) if naive(rest, path) => true,
        (['*', ..], [first, others @ ..]) => *first != '/' && naive(pattern, others),
        (['?', rest @ ..], [first, others @ ..]) => *first != '/' && naive(rest, others),
        ([literal, rest @ ..], [first, others @ ..]) => literal == first && naive(rest, others),
        _ => false,
    }
}

/// The same for names, where `**` is any number of names, but at least one at the end.
fn naive_names(pattern: &[&str], names: &[&str]) -> bool {
    match (pattern, names) {
        ([], []) => true,
        (["**"], _) => !names.is_empty(),
        (["**", rest @ ..], _) if naive_names(rest, names) => true,
        (["**", ..], [_, others @ ..]) => naive_names(pattern, others),
        ([name, rest @ ..], [first, others @ ..]) => {
            let matches = naive(&name.chars().collect::<Vec<_>>(), &first.chars().collect::<Vec<_>>());
            matches && naive_names(rest, others)
        }
        _ => false,
    }
}

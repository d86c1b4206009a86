//! Every error that the text alone shows, once: what is said, where, and what to do.

use parser::codes::OF_TEXT;
use parser::ignore::IgnoreFile;
use parser::{Diagnostic, Level, SourceFile};

/// A code, a Dockerfile that gives it, the part that is underlined, and a part of message or help.
type Example = (&'static str, &'static str, &'static str, &'static str);

const EXAMPLES: &[Example] = &[
    ("duplicate-directive", "# escape=`\n# escape=`\nFROM a\n", "`", "escape is given twice"),
    ("duplicate-flag", "COPY --from=a --from=b x y\n", "--from", "--from is given twice"),
    ("empty-argument", "VOLUME [\"\"]\n", "\"\"", "cannot be empty"),
    ("empty-file", "", "", "is empty"),
    ("heredoc-destination", "COPY a <<EOF\nEOF\n", "<<EOF", "cannot be a here-document"),
    ("invalid-check", "# check=skp=all\nFROM a\n", "skp=all", "did you mean skip?"),
    ("invalid-duration", "HEALTHCHECK --interval=5 CMD x\n", "5", "such as 30s"),
    ("invalid-escape", "# escape=x\nFROM a\n", "x", "cannot be the escape character"),
    ("invalid-flag-value", "COPY --link=maybe a b\n", "maybe", "either true or false"),
    ("invalid-mount", "RUN --mount=type=cache,mode=rwx x\n", "mode=rwx", "an octal number"),
    ("invalid-onbuild", "ONBUILD FROM a\n", "FROM", "cannot be triggered"),
    ("invalid-stage-name", "FROM a AS 1b\n", "1b", "begins with a letter"),
    ("json-not-strings", "CMD [\"a\", 1]\n", "1", "in double quotes"),
    ("missing-argument", "COPY a\n", "COPY a", "a destination"),
    ("missing-equals", "ENV a=b c\n", "c", "quote a value"),
    ("missing-flag-value", "COPY --from a b\n", "--from", "--from=VALUE"),
    ("missing-name", "ENV =b\n", "=b", "no name before the ="),
    ("missing-value", "ENV a\n", "a", "write ENV a=value"),
    ("no-instructions", "# nothing\n", "", "no instructions"),
    ("nul-byte", "RUN a\0b\n", "\0", "NUL byte"),
    ("shell-not-json", "SHELL /bin/bash\n", "SHELL /bin/bash", "[\"/bin/bash\", \"-c\"]"),
    ("unexpected-argument", "FROM a b\n", "b", "FROM image AS name"),
    ("unknown-flag", "COPY --form=a b c\n", "--form", "did you mean --from?"),
    ("unknown-healthcheck", "HEALTHCHECK curl x\n", "curl", "CMD curl x"),
    ("unknown-instruction", "RNU x\n", "RNU", "did you mean RUN?"),
    ("unknown-mount-option", "RUN --mount=type=cache,traget=/x y\n", "traget=/x", "did you mean target?"),
    (
        "unknown-mount-sharing",
        "RUN --mount=type=cache,sharing=loked y\n",
        "sharing=loked",
        "did you mean locked?",
    ),
    ("unknown-mount-type", "RUN --mount=type=cahe,target=/x y\n", "type=cahe", "did you mean cache?"),
    ("unterminated-heredoc", "RUN <<EOF\nx\n", "<<EOF", "a line that is exactly EOF"),
    ("variable-in-mount-from", "RUN --mount=from=$x y\n", "from=$x", "FROM … AS name"),
];

fn errors(text: &[u8]) -> (Vec<Diagnostic>, SourceFile) {
    let parsed = parser::parse(text);
    let errors = parsed.diagnostics.into_iter().filter(|found| found.level == Level::Error).collect();
    (errors, SourceFile::new("Dockerfile", parsed.text))
}

/// What a message may not hold: names of grammar rules, and types of the program.
#[track_caller]
fn is_for_people(text: &str) {
    let jargon = ["_", "Rule", "EOI", "ANY", "Some(", "None", "::", "pest"];
    // Quoted is what the user wrote.
    let own: String = text.split('"').step_by(2).collect();
    assert!(!jargon.iter().any(|word| own.contains(word)), "{text}");
    assert!(!text.ends_with('.') && !text.is_empty(), "{text}");
}

#[test]
fn every_code_is_placed_and_explained() {
    let mut seen: Vec<&str> = vec!["invalid-utf8", "line-too-long", "ignore-bad-pattern"];
    for (code, text, place, said) in EXAMPLES {
        let (errors, file) = errors(text.as_bytes());
        let [error] = errors.as_slice() else { panic!("{text:?} gave {errors:?}") };
        assert_eq!(error.code, *code, "{text:?}");
        assert_eq!(&file.text()[error.span.start..error.span.end], *place, "{text:?}");
        let help = error.help.clone().unwrap_or_default();
        assert!(error.message.contains(said) || help.contains(said), "{text:?}: {} / {help}", error.message);
        is_for_people(&error.message);
        let position = file.position(error.span.start);
        let drawn = file.render(error);
        assert!(drawn.starts_with(&format!("Dockerfile:{}:{}: error: ", position.line, position.column)));
        assert!(drawn.contains('^'), "{drawn}");
        seen.push(code);
    }
    seen.sort_unstable();
    assert_eq!(seen, OF_TEXT, "each code has an example, and each example a code");
}

#[test]
fn text_that_is_none_is_refused() {
    let code = |text: &[u8]| errors(text).0[0].code;
    assert_eq!(code(b"FROM a\nRUN \xff\n"), "invalid-utf8");
    assert_eq!(code(format!("FROM a\nRUN {}\n", "x".repeat(70_000)).as_bytes()), "line-too-long");
    assert_eq!(IgnoreFile::parse("[").1[0].code, "ignore-bad-pattern");
}

#[test]
fn the_place_in_a_quoted_mount_is_all_of_it() {
    let (errors, file) = errors(b"RUN --mount=\"type=cahe\",target=/x y\n");
    let span = errors[0].span;
    assert_eq!(&file.text()[span.start..span.end], "\"type=cahe\",target=/x");
}

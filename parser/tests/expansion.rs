//! Expansion of words: one table per group of rules.

use parser::word::{ExpandError, expand, expand_heredoc, expand_words};

/// `set` is "value", `empty` is "", `path` is "/a/b/c.tar.gz", `blank` is "x  y"; others are not set.
fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "set" => "value",
        "empty" => "",
        "path" => "/a/b/c.tar.gz",
        "blank" => "x  y",
        "é" => "accent",
        _ => return None,
    };
    Some(value.to_owned())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    match expand(text, '\\', &lookup) {
        Ok(found) => assert_eq!(found.value, expected, "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn plain_variables() {
    check("$set", "value");
    check("${set}", "value");
    check("a$set/b", "avalue/b");
    check("$setx|$set-x", "|value-x");
    check("$unset|${unset}|", "||");
    check("$é", "accent");
    check("$blank", "x  y");
    check("$1$12a$@$?$$$!x", "ax");
    check("$", "$");
    check("a$/$ b", "a$/$ b");
    check("$}", "$}");
}

#[test]
fn quotes_and_escapes() {
    check("'$set'", "$set");
    check("\"$set\"", "value");
    check("a'b'\"c\"d", "abcd");
    check("''\"\"", "");
    check(r"\$set", "$set");
    check(r"\a\\\'\ ", r"a\' ");
    check(r#""\$set \" \\ \a '""#, r#"$set " \ \a '"#);
    check(r"'\'", r"\");
    check("a\\", "a");
    check("a}b{c/d", "a}b{c/d");
}

#[test]
fn conditional_operators() {
    check("${set:-w}|${empty:-w}|${unset:-w}", "value|w|w");
    check("${set-w}|${empty-w}|${unset-w}", "value||w");
    check("${set:+w}|${empty:+w}|${unset:+w}", "w||");
    check("${set+w}|${empty+w}|${unset+w}", "w|w|");
    check("${set:?w}|${set?w}|${empty?w}", "value|value|");
    check("${unset:-}|${unset-}", "|");
    check("${unset:-a/b c}", "a/b c");
}

#[test]
fn nested_words() {
    check("${unset:-$set}", "value");
    check("${unset:-${unset:-${set}}}", "value");
    check("${unset:-'$set}'}", "$set}");
    check("${unset:-\"a}$set\"}", "a}value");
    check(r"${unset:-a\}b}", "a}b");
    check("\"${unset:-\"in}ner\"}\"", "in}ner");
    check("${set:+${path##*/}}", "c.tar.gz");
}

#[test]
fn cutting_operators() {
    check("${path#*/}", "a/b/c.tar.gz");
    check("${path##*/}", "c.tar.gz");
    check("${path%.*}", "/a/b/c.tar");
    check("${path%%.*}", "/a/b/c");
    check("${path#x}|${path%x}", "/a/b/c.tar.gz|/a/b/c.tar.gz");
    check("${path%.$unset*}", "/a/b/c.tar");
    check("${path#/?/}", "b/c.tar.gz");
    check("${unset#x}|${empty%x}", "|");
}

#[test]
fn replacing_operators() {
    check("${path/a/x}", "/x/b/c.tar.gz");
    check("${path//a/x}", "/x/b/c.txr.gz");
    check(r"${path//\//_}", "_a_b_c.tar.gz");
    check("${path/a/}", "//b/c.tar.gz");
    check("${path/*./$set}", "valuegz");
    check("${path/q/x}", "/a/b/c.tar.gz");
    check("${path//a/$1}", "//b/c.tr.gz");
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = expand(text, '\\', &lookup).expect_err(text);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn errors_name_the_construct() {
    check_error("a'b", "' is never closed in 'b");
    check_error("a\"b$set", "\" is never closed in \"b$set");
    check_error("x${set", "missing } after ${set");
    check_error("x${set:-", "missing } after ${set:-");
    check_error("${", "missing } after ${");
    check_error("${}", "${} names no variable");
    check_error("${:-x}", "${:-x} names no variable");
    check_error("${path/a}", "missing / between pattern and replacement in ${path/a}");
    check_error("${unset:?not there}", "unset: not there");
    check_error("${unset?}", "unset: must be set");
    check_error("${empty:?}", "empty: must not be empty");
    let unsupported =
        "uses an unsupported operator, expected one of :- - :+ + :? ? # ## % %% / // or } after the name";
    check_error("${set^^}", &format!("${{set^^}} {unsupported}"));
    check_error("${set:x}", &format!("${{set:x}} {unsupported}"));
    check_error("\"${set\"", &format!("${{set\" {unsupported}"));
    let bad = "${path#\\a} has the pattern \"\\\\a\" in which \\a is not an escape (only \\* \\? \\\\ are)";
    check_error("${path#\\a}", bad);
}

#[test]
fn long_constructs_are_shortened() {
    let error = expand(&format!("'{}", "a".repeat(1000)), '\\', &lookup).unwrap_err();
    assert!(error.to_string().len() < 100);
}

#[test]
fn undefined_variables_are_reported_once() {
    let found = expand("$b $a ${b} ${c:-x} ${d+x} $set ${e#x} \"$f\" '$g'", '\\', &lookup).unwrap();
    assert_eq!(found.undefined, ["b", "a", "e", "f"]);
}

#[test]
fn the_escape_character_can_be_a_backtick() {
    let expanded = |text| expand(text, '`', &lookup).unwrap().value;
    assert_eq!(expanded(r"C:\dir\`$set"), r"C:\dir\$set");
    assert_eq!(expanded(r"C:\$set"), r"C:\value");
    assert_eq!(expanded("\"`\"`a\\\""), "\"`a\\");
    assert_eq!(expanded(r"'`\'"), r"`\");
}

#[test]
fn here_documents_keep_quotes() {
    let expanded = |text| expand_heredoc(text, '\\', &lookup).unwrap().value;
    assert_eq!(expanded("it's \"$set\"\n"), "it's \"value\"\n");
    assert_eq!(expanded(r"\$set \\ \'"), r"$set \ '");
    assert_eq!(expanded("${unset:-'a'}"), "'a'");
}

#[test]
fn words_split_at_blanks_that_are_not_quoted() {
    let words = |text| expand_words(text, '\\', &lookup).unwrap().words;
    assert_eq!(words("  a  b "), ["a", "b"]);
    assert_eq!(words("$blank"), ["x", "y"]);
    assert_eq!(words("\"$blank\" 'c d' e\\ f"), ["x  y", "c d", "e f"]);
    assert_eq!(words("1$blank,2"), ["1x", "y,2"]);
    assert_eq!(words("$unset '' a/b}"), ["a/b}"]);
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let nested = |depth: usize| format!("{}x{}", "${unset:-".repeat(depth), "}".repeat(depth));
    assert_eq!(expand(&nested(100), '\\', &lookup).unwrap().value, "x");
    assert_eq!(expand(&nested(101), '\\', &lookup), Err(ExpandError::TooDeep));
    assert_eq!(expand(&nested(10_000), '\\', &lookup), Err(ExpandError::TooDeep));
    for open in ["${a:-", "\"${a:-", "${a/", "${a//x/", "${a#"] {
        assert!(expand(&open.repeat(100_000), '\\', &lookup).is_err());
    }
}

#[test]
fn values_do_not_grow_without_end() {
    let huge = |_: &str| Some("x".repeat(1 << 20));
    for text in ["$a".repeat(100), "\"${a:+$a$a}\"".repeat(20), "${a//x/$a}".to_owned()] {
        assert_eq!(expand(&text, '\\', &huge), Err(ExpandError::TooLong));
        assert_eq!(expand_words(&text, '\\', &huge), Err(ExpandError::TooLong));
    }
    assert_eq!(expand("$a$a", '\\', &huge).unwrap().value.len(), 2 << 20);
}

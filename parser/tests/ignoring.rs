//! `.dockerignore` rules and COPY patterns: tables of patterns and paths.

use parser::glob::Pattern;
use parser::ignore::IgnoreFile;

/// `paths` with `+` before those that are kept and `-` before those that are excluded.
#[track_caller]
fn check(text: &str, paths: &str) {
    let (file, diagnostics) = IgnoreFile::parse(text);
    assert_eq!(diagnostics, []);
    for path in paths.split_whitespace() {
        let (sign, path) = path.split_at(1);
        assert_eq!(file.excludes(path), sign == "-", "{path} with {text:?}");
    }
}

#[test]
fn plain_names() {
    check("a", "-a -a/b -a/b/c +b/a +ab");
    check("a/b", "+a -a/b -a/b/c +a/bc +x/a/b");
    check("/a", "-a +b/a");
    check("a/", "-a -a/b");
    check("./a//b/../c", "-a/c +a/b");
    check("  a b  ", "+a");
    check(".", "+a");
    check("/", "+a");
    check("../a", "+a");
}

#[test]
fn comments_and_line_ends() {
    check("# a\r\nb\r\n\n #c", "+a -b -#c");
    check("\u{feff}a", "-a");
    check("\u{feff}# a", "+a");
    check("", "+a");
}

#[test]
fn wildcards_within_a_name() {
    check("*", "-a -a/b");
    check("*.log", "-a.log +a/b.log -.log +a.logs");
    check("*/*.log", "+a.log -a/b.log +a/b/c.log");
    check("a?c", "-abc +ac +a/c -aéc");
    check("a[b-d]e", "-abe +aee +ae");
    check("a[^b]e", "+abe -ace");
    check(r"a\*b", "-a*b +axb");
    check("a*b*c", "-aXbYc +aXcYb -abc");
}

#[test]
fn double_stars() {
    check("**", "-a -a/b");
    check("**/a", "-a -b/a -b/c/a/d +ba");
    check("**/*.log", "-a.log -b/a.log +b/a.txt");
    check("a/**", "+a -a/b -a/b/c +b/a");
    check("a/**/b", "-a/b -a/x/b -a/x/y/b/z +a/xb");
    check("**.log", "-a.log -b/a.log +a.logs");
    check("a**b", "-ab +axb -a/b -ax/y/b");
    check("**/a/**", "+a -a/b -x/a/b");
    check("**/a/*/b", "-x/a/c/b +a/b");
}

#[test]
fn exceptions_and_order() {
    check("*\n!a", "-b +a +a/b");
    check("!a\n*", "-a");
    check("a\n!a/b\na/b/c", "-a/x +a/b +a/b/x -a/b/c");
    check("*.md\n!README*.md\nREADME-secret.md", "-a.md +README-x.md -README-secret.md");
    check("! a\na/b", "-a/b");
    check("**\n!**/*.rs", "-a +a/b.rs +b.rs");
}

#[test]
fn wrong_lines_are_reported_and_left_out() {
    let (file, diagnostics) = IgnoreFile::parse("a\n!\n[\nb[a-]\nc\\\nd\n");
    assert!(file.excludes("a") && file.excludes("d") && !file.excludes("c"));
    let lines: Vec<_> = diagnostics.iter().map(|d| (d.span.start, d.message.as_str())).collect();
    let expected = [
        (2, "\"!\" names nothing to keep"),
        (4, "[ is never closed in the pattern \"[\""),
        (
            6,
            "the pattern \"b[a-]\" has a [] class with a missing character (write \\] and \\- for themselves)",
        ),
        (12, "the pattern \"c\\\\\" ends in a backslash that escapes nothing"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn excluded_directories_that_need_not_be_entered() {
    let (file, _) = IgnoreFile::parse("*\n!src/keep/**\n!docs/*.md\n!x?/y");
    for directory in ["src", "src/keep", "src/keep/deep", "docs", "xx"] {
        assert!(file.may_contain_exceptions(directory), "{directory}");
    }
    for directory in ["target", "src/other", "docs/sub", "srcs", "xx/z"] {
        assert!(!file.may_contain_exceptions(directory), "{directory}");
    }
    assert!(IgnoreFile::parse("!**/a").0.may_contain_exceptions("any/where"));
    assert!(!IgnoreFile::parse("a").0.may_contain_exceptions("a"));
    // A directory that is kept keeps what is in it.
    assert!(IgnoreFile::parse("!a").0.may_contain_exceptions("a/b"));
}

#[test]
fn lists_of_patterns_have_no_comments() {
    let file = IgnoreFile::from_patterns(["#a", "!#a/b"]).unwrap();
    assert!(file.excludes("#a") && !file.excludes("#a/b") && file.has_exceptions() && !file.is_empty());
    assert!(IgnoreFile::from_patterns(["["]).is_err());
}

#[track_caller]
fn check_glob(pattern: &str, matching: &[&str], other: &[&str]) {
    let pattern = Pattern::new(pattern).unwrap();
    for path in matching {
        assert!(pattern.matches(path), "{path}");
    }
    for path in other {
        assert!(!pattern.matches(path), "{path}");
    }
}

#[test]
fn copy_patterns() {
    check_glob("*", &["a", ""], &["a/b"]);
    check_glob("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c", "a/b/c/d"]);
    check_glob("**", &["ab"], &["a/b"]);
    check_glob("h?m*.txt", &["home.txt", "ham.txt"], &["hm.txt"]);
    check_glob("a[[]0].txt", &["a[0].txt"], &["a0.txt"]);
    check_glob(r"[\]a]", &["]", "a"], &["b"]);
    check_glob("[^a-c]x", &["dx", "éx"], &["bx", "x"]);
}

#[test]
fn copy_patterns_without_wildcards() {
    assert_eq!(Pattern::new(r"a\*b").unwrap().literal(), Some(&b"a*b"[..]));
    assert_eq!(Pattern::new("a*b").unwrap().literal(), None);
    assert!(Pattern::new("a/b*/c").unwrap().may_match_below("a"));
    assert!(!Pattern::new("a/b*/c").unwrap().may_match_below("b"));
}

#[test]
fn names_that_are_not_utf8_match_byte_by_byte() {
    let pattern = Pattern::new("a?b").unwrap();
    assert!(pattern.matches(b"a\xffb") && !pattern.matches(b"a\xff\xffb"));
    assert!(Pattern::new("*").unwrap().matches(b"\xff\xfe"));
}

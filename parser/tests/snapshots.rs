//! Every `test_data/{ok,err}/*.dockerfile` against what it parsed to last time.
//!
//! `NAME.ast` is the tree (of `ok` only), `NAME.diag` what is reported (missing if nothing is). Run with
//! `UPDATE_SNAPSHOTS=1` to write them anew, and read the difference before committing it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use parser::{Level, Parsed, SourceFile};

#[test]
fn ok() {
    check_directory("ok", |parsed| {
        let has_error = parsed.diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error);
        assert!(!has_error, "there is an error");
        vec![("ast", tree(parsed)), ("diag", findings(parsed))]
    });
}

#[test]
fn err() {
    check_directory("err", |parsed| {
        let has_error = parsed.diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error);
        assert!(has_error, "there is no error");
        vec![("diag", findings(parsed))]
    });
}

fn check_directory(name: &str, snapshots: impl Fn(&Parsed) -> Vec<(&'static str, String)>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data").join(name);
    let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "dockerfile")).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut failures = String::new();
    for case in cases {
        let parsed = parser::parse(&fs::read(&case).unwrap());
        for (extension, found) in snapshots(&parsed) {
            compare(&case.with_extension(extension), &found, &mut failures);
        }
    }
    assert!(failures.is_empty(), "{failures}\nrun with UPDATE_SNAPSHOTS=1 if this is right");
}

#[expect(clippy::disallowed_methods, reason = "the switch of the test runner itself")]
fn compare(snapshot: &Path, found: &str, failures: &mut String) {
    let expected = fs::read_to_string(snapshot).unwrap_or_default();
    if expected == found {
        return;
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_none() {
        let _ = writeln!(failures, "{}:\n--- expected\n{expected}--- found\n{found}", snapshot.display());
    } else if found.is_empty() {
        fs::remove_file(snapshot).unwrap();
    } else {
        fs::write(snapshot, found).unwrap();
    }
}

fn tree(parsed: &Parsed) -> String {
    let mut out = format!("{:?}\n", parsed.dockerfile.directives);
    for instruction in &parsed.dockerfile.instructions {
        let _ = write!(out, "\n{:?} {:?}\n", instruction.span, instruction.source);
        for comment in &instruction.comments {
            let _ = writeln!(out, "# {comment:?}");
        }
        let _ = writeln!(out, "{:#?}", instruction.kind);
    }
    out
}

fn findings(parsed: &Parsed) -> String {
    let file = SourceFile::new("Dockerfile", parsed.text.clone());
    let rendered = parsed.diagnostics.iter().map(|found| format!("[{}]\n{}", found.code, file.render(found)));
    rendered.collect::<Vec<_>>().join("\n")
}

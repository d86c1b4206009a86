//! Compares what came of a build with what a case expects. Each difference is one text.

use std::collections::BTreeMap;

use serde_json::Value;
use testkit::Output;
use testkit::tree::{Entry, Kind, Tree};

use crate::expect::{EntryExpect, Expect, FileExpect, VariableExpect};
use crate::files::octal;
use crate::image::SavedImage;
use crate::progress;
use crate::subject::Subject;

/// Exit code, messages and steps. Messages are compared only if they are lap's own.
pub fn progress(expect: &Expect, output: &Output, is_lap: bool) -> Vec<String> {
    let log = output.stderr_text();
    let mut problems = exit(expect, output, is_lap);
    let missing = |what: &str, texts: &[String], text: &str| -> Vec<String> {
        let gone = texts.iter().filter(|fragment| !text.contains(fragment.as_str()));
        gone.map(|fragment| format!("{what} has no {fragment:?}")).collect()
    };
    problems.extend(missing("progress", &expect.log, &log));
    let unwanted = expect.no_log.iter().filter(|text| log.contains(text.as_str()));
    problems.extend(unwanted.map(|text| format!("progress has {text:?}")));
    let cached = progress::steps_cached(&log);
    problems.extend(same_steps("ran", expect.ran.as_ref(), progress::steps_run(&log)));
    problems.extend(same_steps("were cached", expect.hits.as_ref(), cached.clone()));
    let repeated =
        expect.cached.iter().filter(|name| !cached.iter().any(|step| step.contains(name.as_str())));
    problems.extend(repeated.map(|name| format!("{name:?} does not come from the cache")));
    if is_lap {
        problems.extend(missing("standard output", &expect.stdout, &output.stdout_text()));
        if let Some(texts) = &expect.error {
            problems.extend(missing("the message", texts, &log));
        }
        if let Some(expected) = &expect.warnings {
            let found = warnings(&log);
            if *expected != found {
                problems.push(format!("other warnings\n  expected {expected:?}\n  actual   {found:?}"));
            }
        }
    }
    problems
}

/// What is wrong with the set of steps that ran or were cached, if it is to be a certain one.
fn same_steps(what: &str, expected: Option<&Vec<String>>, mut actual: Vec<String>) -> Option<String> {
    let mut expected = expected?.clone();
    expected.sort();
    actual.sort();
    let problem = || format!("other steps {what}\n  expected {expected:#?}\n  actual   {actual:#?}");
    (expected != actual).then(problem)
}

/// The reasons for steps that ran, in the progress and asked for afterwards.
pub fn reasons(expect: &Expect, output: &Output, subject: &dyn Subject) -> Vec<String> {
    let log = output.stderr_text();
    let differing = |(step, expected): (&String, &String)| {
        let shown = progress::reason(&log, step);
        let told = subject.why(step)?;
        // Progress has one line for a chain of steps: the name of the one below in which it begins, and its reason.
        let root = expected.split_once("]").filter(|_| expected.starts_with('['));
        let root =
            root.and_then(|(_, rest)| rest.split_once(": ")).map_or(expected.as_str(), |(_, reason)| reason);
        let as_expected =
            shown == Some(expected.as_str()) && told.lines().any(|line| line.trim_start() == root);
        let problem = || {
            format!(
                "{step} runs for another reason\n  expected {expected:?}\n  shown    {shown:?}\n  told     {told}"
            )
        };
        (!as_expected).then(problem)
    };
    expect.why.iter().filter_map(differing).collect()
}

fn exit(expect: &Expect, output: &Output, is_lap: bool) -> Vec<String> {
    let code = output.code();
    let as_expected = match (&expect.error, expect.code.filter(|_| is_lap)) {
        (_, Some(expected)) => code == Some(expected),
        (Some(_), None) => code != Some(0) && (!is_lap || code == Some(1)),
        (None, None) => code == Some(0),
    };
    let expected = if expect.error.is_some() { "a failure" } else { "success" };
    if as_expected { Vec::new() } else { vec![format!("expected {expected}, exit code is {code:?}")] }
}

/// The warnings of plain progress, as `Rule:line`: the rule's line, its message, and its place follow one another.
fn warnings(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    let warning = |(index, line): (usize, &&str)| {
        let rule = line.strip_prefix("WARNING: ")?.split([' ', ':']).next()?;
        let place = lines[index + 1..].iter().take(3).find_map(|line| line_number(line));
        Some(format!("{rule}:{}", place.unwrap_or("?")))
    };
    lines.iter().enumerate().filter_map(warning).collect()
}

/// The line in `FILE:LINE:COLUMN`.
fn line_number(text: &str) -> Option<&str> {
    let mut parts = text.rsplit(':');
    let (column, line) = (parts.next()?, parts.next()?);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(column) && is_number(line)).then_some(line)
}

/// Files, config and history.
pub fn image(expect: &Expect, image: &SavedImage) -> Vec<String> {
    let mut problems = files(&expect.files, &image.tree);
    if let Some(expected) = &expect.paths {
        problems.extend(lists("paths", expected, &image.added_paths()));
    }
    let config = &image.config["config"];
    problems.extend(subset("config", &expect.config, config));
    problems.extend(subset("image", &expect.image, &image.config));
    let set = expect.unset.iter().filter(|key| !is_empty(&config[key.as_str()]));
    problems.extend(set.map(|key| format!("config has {key}: {}", config[key.as_str()])));
    problems.extend(expect.env.iter().filter_map(|(name, value)| variable(name, value, config)));
    if let Some(expected) = &expect.history {
        let actual = image.history();
        problems.extend(lists("history", expected, &actual.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    if let Some(expected) = expect.layers.filter(|expected| *expected != image.layers.len()) {
        problems.push(format!("expected {expected} layers, the image has {}", image.layers.len()));
    }
    problems
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn lists(what: &str, expected: &[String], actual: &[&str]) -> Option<String> {
    (expected != actual).then(|| format!("{what}\n  expected {expected:#?}\n  actual   {actual:#?}"))
}

fn subset(what: &str, expected: &toml::Table, actual: &Value) -> Vec<String> {
    let differing = |(key, value): (&String, &toml::Value)| {
        let expected = serde_json::to_value(value).expect("TOML values are JSON values");
        let found = &actual[key.as_str()];
        (expected != *found).then(|| format!("{what}.{key}\n  expected {expected}\n  actual   {found}"))
    };
    expected.iter().filter_map(differing).collect()
}

fn variable(name: &str, expected: &VariableExpect, config: &Value) -> Option<String> {
    let entries = config["Env"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pairs = entries.iter().filter_map(|entry| entry.as_str()?.split_once('='));
    let values: Vec<&str> = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value).collect();
    let as_expected = match expected {
        VariableExpect::Value(value) => values == [value.as_str()],
        VariableExpect::Absent(_) => values.is_empty(),
    };
    (!as_expected).then(|| format!("variable {name}\n  expected {expected:?}\n  actual   {values:?}"))
}

/// Each path of `expected` in a tree.
pub fn files(expected: &BTreeMap<String, FileExpect>, tree: &Tree) -> Vec<String> {
    let differing = |(path, expected): (&String, &FileExpect)| {
        let path = path.trim_matches('/');
        let problem = file(expected, tree.get(path), tree)?;
        let actual = tree.get(path).map_or_else(|| "nothing".to_owned(), Entry::to_string);
        Some(format!("/{path}: {problem}\n  actual {actual}"))
    };
    expected.iter().filter_map(differing).collect()
}

fn file(expected: &FileExpect, actual: Option<&Entry>, tree: &Tree) -> Option<String> {
    match (expected, actual) {
        (FileExpect::Exists(exists), actual) => (actual.is_some() != *exists)
            .then(|| format!("expected that this is {exists}: there is something")),
        (_, None) => Some("expected, but not there".to_owned()),
        (FileExpect::Text(text), Some(entry)) => {
            let same = matches!(&entry.kind, Kind::File(content) if content == text.as_bytes());
            (!same).then(|| format!("expected a file with {text:?}"))
        }
        (FileExpect::Entry(expected), Some(entry)) => {
            let wrong: Vec<String> = entry_problems(expected, entry, tree);
            (!wrong.is_empty()).then(|| format!("expected {}", wrong.join(", ")))
        }
    }
}

fn entry_problems(expected: &EntryExpect, entry: &Entry, tree: &Tree) -> Vec<String> {
    let content = match &entry.kind {
        Kind::File(content) => String::from_utf8_lossy(content).into_owned(),
        _ => String::new(),
    };
    let is_file = matches!(entry.kind, Kind::File(_));
    let mut wrong = Vec::new();
    let mut check = |is_right: bool, what: String| {
        if !is_right {
            wrong.push(what);
        }
    };
    if let Some(kind) = &expected.kind {
        check(kind == kind_name(&entry.kind), kind.clone());
    }
    if let Some(text) = &expected.text {
        check(is_file && content == *text, format!("text {text:?}"));
    }
    if let Some(text) = &expected.has {
        check(content.contains(text), format!("a text with {text:?}"));
    }
    if let Some(size) = expected.size {
        check(is_file && content.len() == size, format!("size {size}"));
    }
    if let Some(link) = &expected.link {
        check(entry.kind == Kind::Symlink(link.clone()), format!("symlink to {link}"));
    }
    if let Some(mode) = &expected.mode {
        check(entry.mode == octal(mode), format!("mode {mode}"));
    }
    if let Some(owner) = expected.owner {
        check(entry.owner == owner, format!("owner {owner:?}"));
    }
    for (name, value) in &expected.xattrs {
        check(
            entry.xattrs.get(name).is_some_and(|found| found == value.as_bytes()),
            format!("{name}={value}"),
        );
    }
    if let Some(other) = &expected.hard_link {
        check(tree.get(other.trim_matches('/')) == Some(entry), format!("the same file as {other}"));
    }
    wrong
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::File(_) => "file",
        Kind::Dir => "dir",
        Kind::Symlink(_) => "symlink",
        Kind::Fifo => "fifo",
        Kind::CharDevice(..) | Kind::BlockDevice(..) => "device",
        Kind::Socket => "socket",
    }
}

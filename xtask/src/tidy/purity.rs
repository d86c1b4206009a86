//! The crates that compute do nothing else: no files, no network, no processes, no clock, no environment, no
//! threads. So their results depend on their arguments alone, and they can be fuzzed and replayed.

use super::Violation;
use super::source::{Source, has_word};
use super::workspace::Workspace;

const RULE: &str = "purity";

/// The crates in question.
const PURE: [&str; 5] = ["base", "compose", "parser", "llb", "solver"];

/// Files of theirs that are allowed something: path and word.
const EXCEPTIONS: [(&str, &str); 2] =
    [("solver/src/driver", "std::thread"), ("solver/src/driver", "thread::")];

/// What reaches outside, and what to do instead.
const OUTSIDE: [(&str, &str); 16] = [
    ("std::fs", "take the content as an argument"),
    ("fs::", "take the content as an argument"),
    ("File::open", "take the content as an argument"),
    ("TcpStream", "ask through a trait that engine implements"),
    ("TcpListener", "ask through a trait that engine implements"),
    ("UdpSocket", "ask through a trait that engine implements"),
    ("std::process", "describe the process; runner starts it"),
    ("Command::new", "describe the process; runner starts it"),
    ("std::env::var", "take the value as an argument"),
    ("env::var", "take the value as an argument"),
    ("env::vars", "take the values as an argument"),
    ("SystemTime", "take a Timestamp or a Clock as an argument"),
    ("Instant::now", "take the time as an argument"),
    ("Timestamp::now", "take a Timestamp or a Clock as an argument"),
    ("std::thread", "leave threads to solver's driver"),
    ("thread::", "leave threads to solver's driver"),
];

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let pure = workspace.packages.iter().filter(|package| PURE.contains(&package.name.as_str()));
    pure.flat_map(|package| &package.sources).flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let allowed =
        |word| EXCEPTIONS.iter().any(|(path, other)| source.path.starts_with(path) && *other == word);
    let first = |code: &str| OUTSIDE.iter().find(|(word, _)| has_word(code, word) && !allowed(*word));
    let found = source.shipped_code().filter_map(|(line, code)| Some((line, first(code)?)));
    let violation = |(line, (word, instead)): (usize, &(&str, &str))| Violation {
        file: source.path.clone(),
        line,
        rule: RULE,
        advice: format!("`{word}` reaches outside a crate that only computes; {instead}"),
    };
    found.map(violation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check_source(&Source::new(path, text)).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn reaching_outside_is_found() {
        let text = "use std::fs;\nlet a = fs::read(path);\nlet b = Instant::now();\nlet c = 1;\n";
        assert_eq!(lines("parser/src/a.rs", text), [1, 2, 3]);
    }

    #[test]
    fn words_in_comments_and_tests_are_not_found() {
        assert_eq!(
            lines("llb/src/a.rs", "// like std::fs\n#[cfg(test)]\nmod tests { use std::fs; }\n"),
            NONE
        );
        assert_eq!(lines("base/src/a.rs", "let a: std::net::Ipv6Addr; std::env::consts::ARCH;\n"), NONE);
    }

    #[test]
    fn only_the_driver_has_threads() {
        assert_eq!(lines("solver/src/driver.rs", "std::thread::scope(|s| ());\n"), NONE);
        assert_eq!(lines("solver/src/driver.rs", "std::fs::read(p);\n"), [1]);
        assert_eq!(lines("solver/src/plan.rs", "std::thread::scope(|s| ());\n"), [1]);
    }
}

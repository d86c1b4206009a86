//! `cargo xtask instructions`: how many instructions commands take that have nothing to do, beside what was recorded.
//!
//! Times depend on what else a machine does; instructions outside the kernel do not. The processor counts them (`perf stat`), and all run on one. (valgrind,
//! which needs no counters, does not know `openat2` and newer calls.) What is counted is the binary that tests drive. Counts mean something only beside others of the same compiler, target
//! and kinds of instructions, so the record says what it is of, and nothing is compared with one of another kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use testkit::{TestEnv, images};

/// Where the record is, below the workspace.
const RECORD: &str = "bench/instructions.txt";

/// By how many hundredths a count may be above the recorded one.
const MARGIN: u64 = 5;

/// How often a work is counted, each time from the beginning. The least counts.
const ROUNDS: usize = 2;

/// What is counted, and what perf is told of it.
const EVENT: &str = "instructions:u";
const COUNT: [&str; 5] = ["stat", "-x", ",", "-e", EVENT];

const BASE: &str = "localhost/base:latest";

/// Counts, and compares with the record or replaces it. Says what is wrong and returns whether nothing is.
pub(crate) fn run(workspace: &Path, record: bool) -> bool {
    // What testkit refuses is a panic.
    let compared = std::panic::catch_unwind(|| compare(workspace, record));
    let grown = match compared.unwrap_or_else(|_| Err("the commands could not be prepared".to_owned())) {
        Ok(grown) => grown,
        Err(reason) => vec![format!("cargo xtask instructions: {reason}")],
    };
    for line in &grown {
        eprintln!("{line}");
    }
    grown.is_empty()
}

/// What has grown too much, a line each.
fn compare(workspace: &Path, record: bool) -> Result<Vec<String>, String> {
    let (path, kind) = (workspace.join(RECORD), kind(workspace)?);
    let text = if record { String::new() } else { read(&path)? };
    let recorded = Recorded::parse(&text);
    if let Some(reason) = recorded.differs(&kind).filter(|_| !record) {
        return Ok(not_compared(&reason));
    }
    if let Some(reason) = cannot_count() {
        return if record { Err(reason) } else { Ok(not_compared(&reason)) };
    }
    use_one_processor()?;
    let counts = count()?;
    for (work, count) in &counts {
        println!("{work}: {count} instructions{}", recorded.beside(work, *count));
    }
    if record {
        std::fs::write(&path, document(&kind, &counts))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok(Vec::new());
    }
    Ok(recorded.grown(&counts))
}

/// Nothing to complain of, in CI neither: who makes machines or changes the compiler decides that.
fn not_compared(reason: &str) -> Vec<String> {
    testkit::privilege::skip(&format!("instructions are not compared: {reason}"));
    Vec::new()
}

/// Why this machine does not count, if it does not.
fn cannot_count() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("that needs root".to_owned());
    }
    let tried = match Command::new("perf").args(COUNT).args(["--", "true"]).output() {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => return Some(format!("perf cannot be started: {error}")),
    };
    match total(&tried) {
        Some(_) => None,
        None => Some(format!("this machine has no counters: {}", tried.trim())),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What counts depend on but the source: compiler, target, how much what is optimised, and the instructions that libraries choose when
/// they start.
fn kind(workspace: &Path) -> Result<BTreeMap<String, String>, String> {
    let output =
        Command::new("rustc").arg("-vV").output().map_err(|error| format!("start rustc: {error}"))?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let field =
        |name: &str| version.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown").trim();
    let cpu = read(Path::new("/proc/cpuinfo"))?;
    let has = |flag: &str| {
        cpu.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|word| word == flag))
    };
    let chosen: Vec<&str> = ["avx2", "avx512f", "sha_ni"].into_iter().filter(|flag| has(flag)).collect();
    let pairs = [
        ("compiler", format!("{} ({})", field("release:"), field("commit-hash:"))),
        ("target", field("host:").to_owned()),
        ("profile", profile(&read(&workspace.join("Cargo.toml"))?)?),
        ("processor", if chosen.is_empty() { "baseline".to_owned() } else { chosen.join(" ") }),
    ];
    Ok(pairs.map(|(name, value)| (name.to_owned(), value)).into())
}

/// How much debug builds are optimised: all, and packages that differ.
fn profile(manifest: &str) -> Result<String, String> {
    let manifest: toml::Table = manifest.parse().map_err(|error| format!("Cargo.toml: {error}"))?;
    let dev = manifest.get("profile").and_then(|profiles| profiles.get("dev"));
    let level = |of: &toml::Value| of.get("opt-level").map_or_else(|| "0".to_owned(), toml::Value::to_string);
    let packages = dev.and_then(|dev| dev.get("package")?.as_table());
    let packages = packages.into_iter().flatten().map(|(name, of)| format!("{name}={}", level(of)));
    Ok(dev.map(level).into_iter().chain(packages).collect::<Vec<_>>().join(" "))
}

/// This process and all that it starts: pools of threads have as many as there are processors.
fn use_one_processor() -> Result<(), String> {
    let failed = |errno: nix::Error| format!("choose one processor: {errno}");
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(failed)?;
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(first).map_err(failed)?;
    sched_setaffinity(Pid::from_raw(0), &one).map_err(failed)
}

/// Each work and the least count of its rounds.
fn count() -> Result<Vec<(&'static str, u64)>, String> {
    let mut least: Vec<(&'static str, u64)> = Vec::new();
    for _ in 0..ROUNDS {
        for (index, (work, count)) in round()?.into_iter().enumerate() {
            match least.get_mut(index) {
                Some((_, known)) => *known = count.min(*known),
                None => least.push((work, count)),
            }
        }
    }
    Ok(least)
}

/// Counts each work once, in a new store.
fn round() -> Result<Vec<(&'static str, u64)>, String> {
    let env = TestEnv::new();
    env.load(&images::busybox_as(BASE));
    let context = env.context();
    context.twenty_steps(BASE);
    let path = context.path().display().to_string();
    let build = ["build", "--quiet", "--network", "none", "--tag", "result", &path];
    // The files of the context are younger than the cache of what is known of files, for the first two.
    for _ in 0..3 {
        done(&env.lap(build).run())?;
    }
    let works: [(&str, &[&str]); 3] = [
        ("version", &["version"]),
        ("images", &["images"]),
        ("rebuild with nothing changed, 20 steps, 50 files", &build),
    ];
    works.into_iter().map(|(work, words)| Ok((work, count_one(&env, words)?))).collect()
}

fn count_one(env: &TestEnv, words: &[&str]) -> Result<u64, String> {
    let output = env.lap_under(Path::new("perf"), &[&COUNT[..], &["--"]].concat(), words).run();
    done(&output)?;
    total(&output.stderr_text()).ok_or_else(|| format!("perf says no count\n{output}"))
}

/// What a command says, if it fails.
fn done(output: &testkit::Output) -> Result<(), String> {
    if output.code() == Some(0) { Ok(()) } else { Err(output.to_string()) }
}

/// The count that perf writes in fields apart by commas (`perf-stat(1)`).
fn total(said: &str) -> Option<u64> {
    let fields = said.lines().find(|line| line.split(',').nth(2) == Some(EVENT))?;
    fields.split(',').next()?.parse().ok()
}

/// What a record says.
#[derive(Default)]
struct Recorded {
    kind: BTreeMap<String, String>,
    counts: BTreeMap<String, u64>,
}

impl Recorded {
    fn parse(text: &str) -> Self {
        let mut recorded = Self::default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for (name, value) in lines.filter_map(|line| line.rsplit_once(": ")) {
            match value.parse() {
                Ok(count) => drop(recorded.counts.insert(name.to_owned(), count)),
                Err(_) => drop(recorded.kind.insert(name.to_owned(), value.to_owned())),
            }
        }
        recorded
    }

    /// Why counts of this kind cannot be compared with the recorded ones.
    fn differs(&self, kind: &BTreeMap<String, String>) -> Option<String> {
        let (name, value) = kind.iter().find(|(name, value)| self.kind.get(*name) != Some(*value))?;
        let recorded = self.kind.get(name).map_or("none", String::as_str);
        Some(format!("the {name} is {value}, and that of {RECORD} is {recorded}"))
    }

    /// How a count compares, for the reader.
    fn beside(&self, work: &str, count: u64) -> String {
        match self.counts.get(work) {
            Some(recorded) => {
                let change = i128::from(count) * 1000 / i128::from((*recorded).max(1)) - 1000;
                let sign = if change < 0 { "-" } else { "+" };
                format!(", recorded {recorded} ({sign}{}.{} %)", change.abs() / 10, change.abs() % 10)
            }
            None => String::new(),
        }
    }

    /// What is above the record by more than the margin, or not in it.
    fn grown(&self, counts: &[(&str, u64)]) -> Vec<String> {
        let lines = counts.iter().filter_map(|(work, count)| match self.counts.get(*work) {
            None => Some(format!("{work}: {RECORD} does not have it")),
            Some(recorded) if count * 100 > recorded * (100 + MARGIN) => Some(format!(
                "{work}: {count} instructions are more than {MARGIN} % above the {recorded} of {RECORD}; find out what is new on the way, \
                 and if it has to be, record it with `cargo xtask instructions --record`"
            )),
            Some(_) => None,
        });
        lines.collect()
    }
}

/// The record as text.
fn document(kind: &BTreeMap<String, String>, counts: &[(&str, u64)]) -> String {
    let mut text = String::from(
        "# Instructions of the binary that tests drive, for commands that have nothing to do. Written by `cargo xtask instructions --record`;\n\
         # without --record the same command fails if there are more than these by a twentieth.\n",
    );
    // Writing to a string cannot fail.
    for (name, value) in kind {
        let _ = writeln!(text, "{name}: {value}");
    }
    for (work, count) in counts {
        let _ = writeln!(text, "{work}: {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(compiler: &str) -> BTreeMap<String, String> {
        [("compiler", compiler), ("target", "a-b-c")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_record_is_read_as_it_is_written() {
        let recorded = Recorded::parse(&document(&kind("1.2 (abc)"), &[("a rebuild, 20 steps", 1000)]));
        assert_eq!(recorded.differs(&kind("1.2 (abc)")), None);
        assert_eq!(recorded.counts.get("a rebuild, 20 steps"), Some(&1000));
        let reason = recorded.differs(&kind("1.3 (def)")).unwrap();
        assert_eq!(reason, "the compiler is 1.3 (def), and that of bench/instructions.txt is 1.2 (abc)");
    }

    #[test]
    fn a_twentieth_more_is_allowed() {
        let recorded = Recorded::parse("work: 1000\n");
        assert_eq!(recorded.grown(&[("work", 1050)]), Vec::<String>::new());
        assert_eq!(recorded.grown(&[("work", 1051)]).len(), 1);
        assert_eq!(recorded.grown(&[("other", 1)]).len(), 1);
        assert_eq!(recorded.beside("work", 1051), ", recorded 1000 (+5.1 %)");
        assert_eq!(recorded.beside("work", 994), ", recorded 1000 (-0.6 %)");
    }

    #[test]
    fn the_total_is_found_among_other_lines() {
        let said = "warning: none\n6474799,,instructions:u,5,100.00,,\n";
        assert_eq!(total(said), Some(6_474_799));
        assert_eq!(total("<not supported>,,instructions:u,0,100.00,,\n"), None);
        assert_eq!(total(""), None);
    }
}

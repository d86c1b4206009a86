//! `--cache-key` and `--cache-policy`: whose results a build uses.

mod common;

use std::path::{Path, PathBuf};

use common::{build, build_fails, env, steps_run};
use testkit::{Context, Output, TestEnv};

const DOCKERFILE: &str = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n";
const STEPS: [&str; 2] = ["[2/3] RUN echo one > /one", "[3/3] RUN echo two > /two"];

/// A cache in a directory, and the keys of those who write to it.
struct Team {
    dir: tempfile::TempDir,
}

impl Team {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The flags of a builder that signs with a key, which is made if there is none.
    fn signs(&self, key: &str) -> Vec<String> {
        let file = self.path(key);
        if !Path::new(&file).exists() {
            env().lap(["key", "generate", &file]).ok().stdout_has(&["ed25519:"]);
        }
        vec!["--cache-key".to_owned(), file]
    }

    /// The flags of a builder that trusts these signers.
    fn trusts(&self, signers: &[&str]) -> Vec<String> {
        let signers: Vec<String> = signers.iter().map(|name| format!("\"{name}.pub\"")).collect();
        let policy = self.path(&format!("policy-{}.toml", signers.len()));
        let text =
            format!("[[rule]]\ncaches = [\"{}*\"]\nsigners = [{}]\n", self.path(""), signers.join(", "));
        std::fs::write(&policy, text).unwrap();
        vec!["--cache-policy".to_owned(), policy]
    }

    /// Builds in a new environment.
    fn build(&self, cache: &[&str], flags: &[Vec<String>]) -> (TestEnv, Output) {
        let env = env();
        let output = build(&env, &context(&env), &self.arguments(cache, flags).each_ref());
        (env, output)
    }

    fn arguments(&self, cache: &[&str], flags: &[Vec<String>]) -> Arguments {
        let mut all: Vec<String> = flags.concat();
        for flag in cache {
            let place = if *flag == "--cache-to" { "dest" } else { "src" };
            all.extend([(*flag).to_owned(), format!("type=records,{place}={}", self.path("cache"))]);
        }
        Arguments(all)
    }

    /// The records, in the order of their keys.
    fn records(&self) -> Vec<PathBuf> {
        let shards = std::fs::read_dir(self.path("cache/records/v1")).unwrap();
        let files = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
        let mut records: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        records.sort();
        records
    }
}

struct Arguments(Vec<String>);

impl Arguments {
    fn each_ref(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

fn context(env: &TestEnv) -> Context {
    let context = env.context();
    context.dockerfile(DOCKERFILE);
    context
}

const NONE: [&str; 0] = [];

#[test]
fn results_of_a_trusted_signer_are_used_and_others_are_not() {
    let team = Team::new();
    team.build(&["--cache-to"], &[team.signs("main")]);
    assert_eq!(steps_run(&team.build(&["--cache-from"], &[team.trusts(&["main"])]).1), NONE);
    // Who has no policy reads signed results, too.
    assert_eq!(steps_run(&team.build(&["--cache-from"], &[]).1), NONE);
    // The signer is removed from the policy.
    team.signs("other");
    let (env, output) = team.build(&["--cache-from"], &[team.trusts(&["other"])]);
    assert_eq!(steps_run(&output), STEPS);
    output.stderr_has(&["is not trusted: it is signed by ed25519:"]);
    env.lap(["why"]).ok().stdout_has(&["the result in ", "is not trusted: it is signed by ed25519:"]);
}

#[test]
fn a_record_that_was_tampered_with_is_a_miss() {
    let team = Team::new();
    team.build(&["--cache-to"], &[team.signs("main")]);
    let records = team.records();
    let whole: Vec<String> = records.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let one_for_another = whole.iter().rev().cloned().collect::<Vec<_>>();
    let cut = |text: &String| text[..text.len() - 9].to_owned();
    let unsigned = |text: &String| text.lines().next().unwrap().to_owned();
    let forged = |text: &String| text.replace("\"cost_ms\":", "\"cost_ms\":9");
    for (what, why, contents) in [
        ("replayed", "its signature is not one of", one_for_another),
        ("forged", "its signature is not one of", whole.iter().map(forged).collect()),
        ("cut", "is not trusted", whole.iter().map(cut).collect()),
        ("unsigned", "it is not signed", whole.iter().map(unsigned).collect::<Vec<_>>()),
    ] {
        for (path, content) in records.iter().zip(&contents) {
            std::fs::write(path, content).unwrap();
        }
        let (env, output) = team.build(&["--cache-from"], &[team.trusts(&["main"])]);
        assert_eq!(steps_run(&output), STEPS, "{what}");
        env.lap(["why"]).ok().stdout_has(&[why]);
    }
}

#[test]
fn what_a_pull_request_has_written_is_replaced_by_main() {
    let team = Team::new();
    team.signs("main");
    let pull_request = [team.signs("pr"), team.trusts(&["main", "pr"])];
    let main = [team.signs("main"), team.trusts(&["main"])];
    let both = ["--cache-from", "--cache-to"];
    assert_eq!(steps_run(&team.build(&both, &pull_request).1), STEPS);
    assert_eq!(steps_run(&team.build(&both, &pull_request).1), NONE);
    assert_eq!(steps_run(&team.build(&both, &main).1), STEPS);
    // From now on everybody has main's, and nobody writes again.
    let records = || team.records().iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let of_main = records();
    for flags in [&main, &pull_request] {
        assert_eq!(steps_run(&team.build(&both, flags).1), NONE);
        assert_eq!(records(), of_main);
    }
}

#[test]
fn a_key_or_a_policy_that_cannot_be_used_stops_the_build() {
    let team = Team::new();
    let env = env();
    for (flag, name, why) in [
        ("--cache-key", "none", "none"),
        ("--cache-policy", "none.toml", "none.toml"),
        ("--cache-policy", "bad.toml", "unknown field"),
    ] {
        std::fs::write(team.path("bad.toml"), "[[rule]]\nsigner = \"x\"\n").unwrap();
        let output = build_fails(&env, &context(&env), &[flag, &team.path(name)]);
        output.stderr_has(&[why]);
    }
    let key = team.signs("main").pop().unwrap();
    env.lap(["key", "generate", &key]).fails(1).stderr_has(&["main"]);
}

#[test]
fn keys_of_openssl_are_as_good() {
    let Some(openssl) = testkit::judges::program("openssl") else { return };
    let team = Team::new();
    let (private, public) = (team.path("main"), team.path("main.pub"));
    openssl.ok(["genpkey", "-algorithm", "ed25519", "-out", &private]);
    openssl.ok(["pkey", "-in", &private, "-pubout", "-out", &public]);
    team.build(&["--cache-to"], &[team.signs("main")]);
    assert_eq!(steps_run(&team.build(&["--cache-from"], &[team.trusts(&["main"])]).1), NONE);
    // And it reads ours.
    team.signs("ours");
    let read = openssl.ok(["pkey", "-in", &team.path("ours"), "-pubout"]);
    assert_eq!(read, std::fs::read(team.path("ours.pub")).unwrap());
}

#[test]
fn documents_have_no_signatures_and_lap_why_says_so() {
    let team = Team::new();
    let (first, second, layout) = (env(), env(), team.path("layout"));
    build(&first, &context(&first), &["--cache-to", &format!("type=local,mode=max,dest={layout}")]);
    let from = format!("type=local,src={layout}");
    assert_eq!(steps_run(&build(&second, &context(&second), &["--cache-from", &from])), NONE);
    team.signs("main");
    let policy = team.trusts(&["main"]);
    let third = env();
    let flags = ["--cache-from", &from, &policy[0], &policy[1]];
    assert_eq!(steps_run(&build(&third, &context(&third), &flags)), STEPS);
    let told = format!("the result in {layout} is not trusted: it is not signed");
    third.lap(["why"]).ok().stdout_has(&[&told]);
}

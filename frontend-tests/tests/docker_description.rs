//! Docker's API as `docs/docker-api.json` describes it: every call of the description is served, and schemathesis, which makes requests of
//! it that nobody would think of, gets an answer of the described shape to each, and never a failure of the daemon's.

mod common;

use std::path::Path;
use std::time::Duration;

use common::docker::Docker;
use common::env;
use serde_json::Value;
use testkit::{Lap, python};

/// Where the description is.
const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/docker-api.json");

/// The calls that fail with reason, since there is no swarm and there may be no way to Docker Hub; and the one that goes on for as long as
/// nobody says how long.
const LEFT_OUT: &str = "^/(swarm|nodes|services|tasks|secrets|configs|distribution|images/search|events)";

/// Only the methods that are described are called.
const SETTINGS: &str = "[phases.coverage]\nunexpected-methods = []\n";

#[test]
fn every_described_call_is_served() {
    let env = env();
    let Some(docker) = Docker::new(&env) else { return };
    let description: Value = serde_json::from_str(&std::fs::read_to_string(DESCRIPTION).unwrap()).unwrap();
    let mut calls = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "nothing").replace("{name}", "nothing");
            let query = if path == "/events" { "?until=1" } else { "" };
            let (status, body) = docker.call(&method.to_uppercase(), &format!("{path}{query}"), "{}");
            assert!(!body.contains("page not found"), "{method} {path}: {status} {body}");
            // There is no swarm, and there may be no way to Docker Hub.
            let asks_others = path.starts_with("/distribution") || path == "/images/search";
            assert!(status < 500 || status == 503 || asks_others, "{method} {path}: {status} {body}");
            calls += 1;
        }
    }
    assert!(calls > 60, "{calls}");
}

#[test]
fn no_request_makes_the_daemon_fail() {
    let env = env();
    let Some(schemathesis) = python::program("schemathesis") else { return };
    let address = format!("127.0.0.1:{}", testkit::ports::free_port());
    let flags = ["--addr", &format!("tcp://{address}"), "--insecure-tcp"];
    let Some(docker) = Docker::with(&env, &flags) else { return };
    docker.text(&["volume", "create", "nothing"]);
    std::fs::write(env.work().join("schemathesis.toml"), SETTINGS).unwrap();
    let checks = "not_a_server_error,response_schema_conformance,content_type_conformance";
    let run = Lap::new(&schemathesis)
        .args(["run", DESCRIPTION, "--url", &format!("http://{address}"), "--checks", checks])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--no-color"])
        .args(["--exclude-path-regex", LEFT_OUT, "--request-timeout", "120", "--warnings", "off"])
        .args(["--generation-database", "none", "--suppress-health-check", "too_slow"])
        .current_dir(&env.work())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", env.home())
        .deadline(Duration::from_secs(1200))
        .run();
    assert_eq!(run.code(), Some(0), "{run}");
    // Nobody else has noticed.
    assert_eq!(docker.text(&["images", "-q"]).lines().count(), 1);
    assert!(Path::new(&env.root()).exists());
}

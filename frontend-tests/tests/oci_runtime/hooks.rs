//! Hooks: when they run, where, and what they are told.

use serde_json::json;

use crate::bundle::Bundle;

/// A hook that adds a line with its kind and the status on its input to a file, and the mount namespace it is in.
fn hook(kind: &str, log: &str) -> serde_json::Value {
    let script = format!(
        "read -r state; status=${{state#*status\\\":\\\"}}; \
         echo {kind} ${{status%%\\\"*}} $(readlink /proc/self/ns/mnt) >>{log}"
    );
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 20 })
}

#[test]
fn each_kind_runs_at_its_moment_and_place() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    let log = bundle.path("hooks.log");
    let log_text = log.to_str().unwrap().to_owned();
    // The container sees the log at the same path.
    let around = bundle.path("");
    let around = around.to_str().unwrap().trim_end_matches('/').to_owned();
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": around, "type": "bind", "source": around, "options": ["bind"] }));
    bundle.config["root"]["readonly"] = json!(false);
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let hooks = kinds.iter().map(|kind| ((*kind).to_owned(), json!([hook(kind, &log_text)])));
    bundle.config["hooks"] = serde_json::Value::Object(hooks.collect());
    bundle.start("h");
    bundle.runtime(&["delete", "--force", "h"]).ok();
    let log = std::fs::read_to_string(&log).unwrap();
    let rows: Vec<Vec<&str>> = log.lines().map(|line| line.split(' ').collect()).collect();
    let told: Vec<(&str, &str)> = rows.iter().map(|row| (row[0], row[1])).collect();
    let wanted = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    assert_eq!(told, wanted, "{log}");
    let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let inside: Vec<bool> = rows.iter().map(|row| row[2] != ours.to_str().unwrap()).collect();
    assert_eq!(inside, [false, false, true, true, false, false], "{log}");
}

#[test]
fn a_hook_that_fails_ends_the_creation() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.config["hooks"] = json!({
        "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo no thanks >&2; exit 3"] }] });
    assert_eq!(bundle.create("f", &[]).code(), Some(1));
    let said = bundle.output();
    assert!(said.contains("createRuntime hook /bin/sh exited with 3: no thanks"), "{said}");
    bundle.runtime(&["state", "f"]).fails(1);
    bundle.config["hooks"] = json!({
        "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "exec sleep 100"], "timeout": 1,
                            "env": ["PATH=/bin:/usr/bin"] }] });
    assert_eq!(bundle.create("f", &[]).code(), Some(1));
    assert!(bundle.output().contains("did not end in time"), "{}", bundle.output());
}

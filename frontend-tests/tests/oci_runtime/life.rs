//! The life of a container, command by command.

use serde_json::{Value, json};

use crate::bundle::Bundle;

#[test]
fn a_container_is_created_started_and_deleted() {
    let Some(mut bundle) = Bundle::new("echo here >/fifo; read line </fifo") else { return };
    let fifo = bundle.fifo();
    bundle.config["annotations"] = json!({ "org.example": "x" });
    let pid_file = bundle.path("pid");
    let created = bundle.create("one", &["--pid-file", pid_file.to_str().unwrap()]);
    assert_eq!(created.code(), Some(0), "{}", bundle.output());
    let state = bundle.state("one");
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!("one")));
    assert_eq!(state["annotations"], json!({ "org.example": "x" }));
    assert_eq!(state["bundle"], json!(bundle.directory()));
    let pid = std::fs::read_to_string(pid_file).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    bundle.runtime(&["start", "one"]).ok();
    assert_eq!(fifo.read(), "here\n");
    assert_eq!(bundle.state("one")["status"], "running");
    bundle.runtime(&["start", "one"]).fails(1).stderr_has(&["\"one\" cannot be started: it is running"]);
    bundle.runtime(&["delete", "one"]).fails(1).stderr_has(&["cannot be deleted without --force"]);
    let listed: Value =
        serde_json::from_str(&bundle.runtime(&["list", "--format", "json"]).ok().stdout_text()).unwrap();
    assert_eq!(listed[0]["id"], "one");
    bundle.runtime(&["kill", "one", "KILL"]).ok();
    bundle.runtime(&["delete", "--force", "one"]).ok();
    bundle.runtime(&["state", "one"]).fails(1).stderr_has(&["container \"one\" does not exist"]);
    bundle.runtime(&["delete", "one"]).fails(1);
    bundle.runtime(&["delete", "--force", "one"]).ok();
    assert!(bundle.path("run").read_dir().unwrap().next().is_none());
}

#[test]
fn run_is_all_of_it_in_one() {
    let Some(bundle) = Bundle::new("echo $PWD; exit 9") else { return };
    bundle.write();
    let directory = bundle.directory();
    let output = bundle.runtime(&["run", "--bundle", directory.to_str().unwrap(), "r"]).fails(9);
    assert_eq!(output.stdout_text(), "/\n");
    bundle.runtime(&["state", "r"]).fails(1);
}

#[test]
fn a_further_process_is_inside() {
    let Some(mut bundle) = Bundle::new("echo >/fifo; read line </fifo") else { return };
    let fifo = bundle.fifo();
    bundle.start("e");
    fifo.read();
    let output =
        bundle.runtime(&["exec", "e", "/bin/sh", "-c", "hostname; cat /proc/1/comm; exit 4"]).fails(4);
    assert_eq!(output.stdout_text(), "lapstrake\nsh\n");
    let script = "id -u; id -g; echo $X; pwd";
    let with = ["exec", "--user", "7:8", "--env", "X=y", "--cwd", "/tmp", "e", "/bin/sh", "-c", script];
    assert_eq!(bundle.runtime(&with).ok().stdout_text(), "7\n8\ny\n/tmp\n");
    let process = bundle.path("process.json");
    let mut like = bundle.config["process"].clone();
    like["args"] = json!(["/bin/echo", "from a file"]);
    std::fs::write(&process, like.to_string()).unwrap();
    let output = bundle.runtime(&["exec", "--process", process.to_str().unwrap(), "e"]).ok();
    assert_eq!(output.stdout_text(), "from a file\n");
    let missing = bundle.runtime(&["exec", "e", "nothing"]).fails(1);
    missing.stderr_has(&["\"nothing\"", "executable file not found"]);
    let table = bundle.runtime(&["ps", "e"]).ok().stdout_text();
    assert!(table.starts_with("UID") && table.contains("/bin/sh -c"), "{table}");
    let pids = bundle.runtime(&["ps", "--format", "json", "e"]).ok().stdout_text();
    assert_eq!(
        serde_json::from_str::<Vec<u32>>(&pids).unwrap(),
        [bundle.state("e")["pid"].as_u64().unwrap() as u32]
    );
}

#[test]
fn a_paused_container_stands_still_and_limits_change() {
    if !testkit::privilege::can_limit(&["freezer", "pids", "memory"]) {
        return;
    }
    let Some(mut bundle) = Bundle::new("echo >/fifo; read line </fifo") else { return };
    let fifo = bundle.fifo();
    bundle.start("p");
    fifo.read();
    bundle.runtime(&["pause", "p"]).ok();
    assert_eq!(bundle.state("p")["status"], "paused");
    bundle.runtime(&["exec", "p", "/bin/true"]).fails(1).stderr_has(&["it is paused"]);
    bundle.runtime(&["resume", "p"]).ok();
    bundle.runtime(&["resume", "p"]).fails(1).stderr_has(&["cannot be resumed: it is running"]);
    bundle.runtime(&["update", "--pids-limit", "77", "--memory", "64m", "p"]).ok();
    let limits = br#"{"memory":{"limit":50331648}}"#.to_vec();
    bundle.runtime(&["update", "--resources", "-", "p"]).stdin(limits).ok();
    let line = bundle.runtime(&["events", "--stats", "p"]).ok().stdout_text();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("p")));
    assert_eq!(event["data"]["pids"]["limit"], 77);
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 48 << 20);
    bundle.runtime(&["pause", "p"]).ok();
    bundle.runtime(&["delete", "--force", "p"]).ok();
}

#[test]
fn what_cannot_be_created_leaves_nothing() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.config["process"]["args"] = json!(["/bin/nothing"]);
    assert_eq!(bundle.create("a", &[]).code(), Some(1));
    assert!(bundle.output().contains("executable file not found"), "{}", bundle.output());
    bundle.config["process"]["args"] = json!(["/bin/true"]);
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"] }));
    assert_eq!(bundle.create("a", &[]).code(), Some(1));
    assert!(bundle.output().contains("/no/such/source"), "{}", bundle.output());
    bundle.runtime(&["state", "a"]).fails(1);
    assert!(bundle.path("run").read_dir().unwrap().next().is_none());
    for id in ["../a", "a/b", "."] {
        assert_eq!(bundle.create(id, &[]).code(), Some(1), "{id}");
    }
    bundle.config = json!({ "ociVersion": "2.0.0" });
    assert_eq!(bundle.create("a", &[]).code(), Some(1));
    let log = bundle.path("log");
    let config = bundle.directory().join("config.json");
    std::fs::write(&config, "{").unwrap();
    let directory = bundle.directory();
    let args = ["--log", log.to_str().unwrap(), "--log-format", "json", "create", "--bundle"];
    bundle.runtime(&[&args[..], &[directory.to_str().unwrap(), "a"]].concat()).fails(1);
    let entry: Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(entry["level"], "error");
    assert!(entry["msg"].as_str().unwrap().contains("config.json"), "{entry}");
}

#[test]
fn an_id_is_taken_once() {
    let Some(bundle) = Bundle::new("true") else { return };
    assert_eq!(bundle.create("twice", &[]).code(), Some(0), "{}", bundle.output());
    assert_eq!(bundle.create("twice", &[]).code(), Some(1));
    assert!(bundle.output().contains("\"twice\" already exists"), "{}", bundle.output());
    assert_eq!(bundle.state("twice")["status"], "created");
    bundle.runtime(&["delete", "twice"]).ok();
}

//! `lap events`: what happens is told, in order, to whoever asks for it, and nothing depends on that.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::containers::Containers;
use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::TestEnv;
use testkit::privilege::can_limit;

/// Everything that has happened, as `TYPE ACTION`.
fn told(env: &TestEnv, filters: &[&str]) -> Vec<String> {
    told_as(env, "{{.Type}} {{.Action}}", filters)
}

fn told_as(env: &TestEnv, format: &str, filters: &[&str]) -> Vec<String> {
    let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
    let events = env.lap(["events", "--since", "1h", "--until", "0s", "--format", format]).args(filters).ok();
    events.stdout_text().lines().map(str::to_owned).collect()
}

#[test]
fn health_checks_are_told_as_further_processes() {
    let env = Containers::new();
    let health = ["--health-cmd", "test -e /etc", "--health-interval", "50ms"];
    env.detached(
        &[&["--network", "none", "--name", "c"], &health[..], &["busybox", "sleep", "1000"]].concat(),
    );
    env.wait_until("c", ".State.Health.Status", |status| status == "healthy");
    env.lap(["rm", "-f", "c"]).ok();
    let told = told_as(&env, "{{.Action}}", &["type=container"]);
    let begin = told.iter().position(|action| action.starts_with("exec_create")).expect("a check");
    let check = ["exec_create: /bin/sh -c test -e /etc", "exec_start: /bin/sh -c test -e /etc", "exec_die"];
    assert_eq!(told[begin..begin + 3], check);
    assert!(told.contains(&"health_status: healthy".to_owned()), "{told:?}");
}

#[test]
fn the_life_of_a_container_is_told() {
    let env = Containers::new();
    let id = env.detached(&[
        "--network",
        "none",
        "--name",
        "c",
        "--label",
        "tier=front",
        "busybox",
        "sleep",
        "1000",
    ]);
    env.lap(["exec", "c", "true"]).ok();
    env.lap(["pause", "c"]).ok();
    env.lap(["unpause", "c"]).ok();
    env.lap(["rename", "c", "d"]).ok();
    env.lap(["update", "--restart", "no", "d"]).ok();
    env.lap(["restart", "-t", "0", "d"]).ok();
    env.lap(["stop", "-t", "0", "d"]).ok();
    env.lap(["update", "--restart", "no", "d"]).ok();
    env.lap(["rm", "d"]).ok();
    let actions = told_as(&env, "{{.Action}}", &["type=container"]);
    let expected = [
        "create",
        "start",
        "exec_create: true",
        "exec_start: true",
        "exec_die",
        "pause",
        "unpause",
        "rename",
        "update",
        "kill",
        "kill",
        "die",
        "start",
        "restart",
        "kill",
        "kill",
        "die",
        "stop",
        "update",
        "destroy",
    ];
    assert_eq!(actions, expected);
    // Each event knows whose it is, by the name of that time.
    let names = told_as(&env, "{{.Actor.Attributes.name}} {{.ID}}", &["label=tier=front"]);
    assert_eq!(names.len(), expected.len());
    assert_eq!(
        [&names[0], &names[8], &names[19]],
        [&format!("c {id}"), &format!("d {id}"), &format!("d {id}")]
    );
    let died = told_as(&env, "{{.Actor.Attributes.exitCode}} {{.From}}", &["event=die", "container=d"]);
    assert_eq!(died, ["137 busybox"; 2]);
    let renamed = told_as(&env, "{{.Actor.Attributes.oldName}}", &["event=rename"]);
    assert_eq!(renamed, ["/c"]);
}

#[test]
fn containers_in_the_foreground_tell_the_same() {
    let env = Containers::new();
    env.lap(["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 3"]).fails(3);
    assert_eq!(told_as(&env, "{{.Action}}", &["type=container"]), ["create", "start", "die", "destroy"]);
    let code = told_as(&env, "{{.Actor.Attributes.exitCode}}", &["event=die"]);
    assert_eq!(code, ["3"]);
    // Who is attached, and goes when it ends.
    env.detached(&["--rm", "--network", "none", "--name", "web", "busybox", "sleep", "1000"]);
    env.lap(["rm", "-f", "web"]).ok();
    let of_web = told_as(&env, "{{.Action}}", &["container=web"]);
    assert_eq!(of_web, ["create", "start", "kill", "kill", "die", "stop", "destroy"]);
}

#[test]
fn events_are_followed_as_they_happen() {
    let env = Containers::new();
    let mut events = env.lap(["system", "events", "--since", "1h", "--filter", "type=container"]).spawn();
    let id = env.lap(["create", "--name", "c", "busybox", "true"]).ok().stdout_text();
    let id = id.trim();
    events.wait_for(&format!(" container create {id} (image=busybox, name=c)\n"));
    env.lap(["start", "-a", "c"]).ok();
    events.wait_for(&format!(" container attach {id} "));
    events.wait_for(&format!(" container start {id} "));
    // How many whole seconds it took depends on the machine.
    events.wait_for(&format!(" container die {id} (execDuration="));
    events.wait_for(", exitCode=0, image=busybox, name=c)\n");
    env.lap(["rm", "c"]).ok();
    events.wait_for(&format!(" container destroy {id} "));
    events.signal(Signal::SIGINT);
    events.finish();
    // Without a time only what is new is shown, and an end that is still to come is waited for.
    let mut later = env.lap(["events", "--until", "2099-01-01T00:00:00Z", "--format", "json"]).spawn();
    let heard = AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !heard.load(Ordering::Relaxed) {
                env.lap(["tag", "busybox", "other"]).ok();
            }
        });
        let line = later.wait_for_line("{");
        heard.store(true, Ordering::Relaxed);
        line
    });
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["Type"], &event["Action"]), (&Value::from("image"), &Value::from("tag")));
    later.signal(Signal::SIGTERM);
    later.finish();
}

#[test]
fn the_documents_are_dockers() {
    let env = Containers::new();
    let id = env.lap(["create", "--name", "c", "--label", "a=b", "busybox", "true"]).ok().stdout_text();
    let lines = told_as(&env, "json", &["type=container"]);
    let event: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(event["Actor"]["ID"], id.trim());
    assert_eq!(event["Actor"]["Attributes"], serde_json::json!({"a": "b", "image": "busybox", "name": "c"}));
    for (field, value) in [
        ("Type", "container"),
        ("Action", "create"),
        ("status", "create"),
        ("from", "busybox"),
        ("scope", "local"),
    ] {
        assert_eq!(event[field], value);
    }
    let (seconds, nanoseconds) = (event["time"].as_i64().unwrap(), event["timeNano"].as_i64().unwrap());
    assert_eq!(nanoseconds / 1_000_000_000, seconds);
    // A time in the past ends the list there.
    let (before, long_before) = (format!("{}", seconds - 1), format!("{}", seconds - 3600));
    assert_eq!(env.lap(["events", "--until", &long_before]).ok().stdout_text(), "");
    let after = format!("{}", seconds + 3600);
    let mut waiting = env.lap(["events", "--since", &before, "--until", &after]).spawn();
    waiting.wait_for("container create");
    waiting.signal(Signal::SIGKILL);
    waiting.finish();
}

#[test]
fn images_volumes_and_networks_are_told_of() {
    let env = Containers::new();
    env.lap(["tag", "busybox", "other"]).ok();
    let archive = env.work().join("saved.tar");
    env.lap(["save", "-o"]).arg(&archive).arg("other").ok();
    env.lap(["rmi", "other"]).ok();
    env.lap(["load", "-i"]).arg(&archive).ok();
    env.lap(["image", "prune", "-af"]).ok();
    let images = told_as(&env, "{{.Action}} {{.Actor.Attributes.name}}", &["type=image"]);
    let id = images.iter().find_map(|line| line.strip_prefix("delete ")).unwrap_or_default().to_owned();
    assert_eq!(images[..2], ["load busybox:latest", "tag other:latest"], "{images:?}");
    assert_eq!(
        images[2..5],
        ["save other:latest".to_owned(), format!("untag {id}"), "load other:latest".to_owned()]
    );
    assert_eq!(images.iter().filter(|line| line.starts_with("untag ")).count(), 3, "{images:?}");
    env.lap(["load", "-i"]).arg(&archive).ok();
    env.lap(["tag", "other", "busybox"]).ok();
    env.lap(["network", "create", "net"]).ok();
    env.lap(["volume", "create", "vol"]).ok();
    env.detached(&[
        "--rm",
        "--name",
        "c",
        "--network",
        "net",
        "-v",
        "vol:/a",
        "-v",
        "/b",
        "busybox",
        "sleep",
        "1000",
    ]);
    env.lap(["network", "connect", "bridge", "c"]).ok();
    env.lap(["network", "disconnect", "net", "c"]).ok();
    env.lap(["stop", "-t", "0", "c"]).ok();
    env.lap(["network", "rm", "net"]).ok();
    env.lap(["volume", "rm", "vol"]).ok();
    env.lap(["system", "prune", "-f", "--volumes"]).ok();
    env.lap(["builder", "prune", "-f"]).ok();
    let pruned = told_as(&env, "{{.Type}} {{len .Actor.Attributes.reclaimed | lt 0}}", &["event=prune"]);
    let kinds = ["image", "container", "network", "volume", "image", "builder"];
    assert_eq!(pruned, kinds.map(|kind| format!("{kind} true")));
    let networks =
        told_as(&env, "{{.Action}} {{.Actor.Attributes.name}}", &["network=net", "network=bridge"]);
    let expected =
        ["create net", "connect net", "connect bridge", "disconnect net", "disconnect bridge", "destroy net"];
    assert_eq!(networks, expected);
    let volumes = told_as(&env, "{{.Action}}", &["volume=vol"]);
    assert_eq!(volumes, ["create", "mount", "unmount", "destroy"]);
    let anonymous = told_as(&env, "{{.Action}}", &["type=volume"]);
    assert_eq!(anonymous.iter().filter(|action| *action == "destroy").count(), 2, "{anonymous:?}");
    assert_eq!(told(&env, &["network=net", "event=create"]), ["network create"]);
}

#[test]
fn what_goes_to_registries_and_comes_from_there_is_told_of() {
    let env = Containers::new();
    let registry = testkit::FaultyRegistry::start();
    let name = registry.reference("app:1");
    env.lap(["tag", "busybox", &name]).ok();
    env.lap(["push", &name]).ok();
    env.lap(["pull", &name]).ok();
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN echo built > /built\n");
    env.lap(["build", "--push", "-t", &name]).arg(context.path()).ok();
    let told = told_as(&env, "{{.Action}} {{.Actor.Attributes.name}}", &["type=image"]);
    let repository = name.strip_suffix(":1").unwrap();
    let expected = [
        "load busybox:latest".to_owned(),
        format!("tag {name}"),
        format!("push {repository}"),
        format!("pull {repository}"),
        format!("tag {name}"),
        format!("push {repository}"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_done_with_files_is_told_of() {
    let env = Containers::new();
    env.lap(["create", "--name", "web", "busybox", "true"]).ok();
    let file = env.work().join("file");
    std::fs::write(&file, "content").unwrap();
    env.lap(["cp"]).arg(&file).arg("web:/file").ok();
    env.lap(["cp", "web:/file"]).arg(env.work().join("copy")).ok();
    env.lap(["export", "-o"]).arg(env.work().join("all.tar")).arg("web").ok();
    let id = env.lap(["commit", "-m", "why", "web", "made:1"]).ok().stdout_text();
    let told = told_as(
        &env,
        "{{.Action}} {{.Actor.Attributes.comment}} {{.Actor.Attributes.imageID}}",
        &["container=web"],
    );
    let nothing = "<no value> <no value>";
    let mut expected = ["create", "extract-to-dir", "archive-path", "export"]
        .map(|action| format!("{action} {nothing}"))
        .to_vec();
    expected.push(format!("commit why {}", id.trim()));
    assert_eq!(told, expected);
}

#[test]
fn health_and_memory_are_told_of() {
    let env = Containers::new();
    let healthy =
        ["--health-cmd", "true", "--health-interval", "100ms", "--name", "c", "busybox", "sleep", "1000"];
    env.detached(&healthy);
    env.wait_until("c", ".State.Health.Status", |status| status == "healthy");
    assert_eq!(told(&env, &["event=health_status"]), ["container health_status: healthy"]);
    if can_limit(&["memory"]) {
        let hungry = ["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"];
        env.lap(["run", "--rm", "--name", "hungry", "-m", "32m"]).args(hungry).fails(137);
        assert_eq!(told(&env, &["event=oom", "event=die"]), ["container oom", "container die"]);
        // A child that is killed is told of, although the container goes on. The filter takes all names that begin so, and a name
        // that nobody gave begins with any letter.
        let script = "dd if=/dev/zero of=/dev/null bs=256M count=1; echo over; exec sleep 1000";
        env.lap(["run", "-d", "--name", "parent", "-m", "32m", "busybox", "sh", "-c", script]).ok();
        let until =
            ["events", "--filter", "container=parent", "--filter", "event=oom", "--format", "{{.Action}}"];
        let mut events = env.lap(until).args(["--since", "1h"]).spawn();
        events.wait_for("oom");
        events.signal(nix::sys::signal::Signal::SIGINT);
        events.finish();
        env.wait_until("parent", ".State.OOMKilled", |killed| killed == "true");
        assert_eq!(env.inspect("parent", ".State.Running"), "true");
        env.lap(["rm", "-f", "parent"]).ok();
        assert_eq!(told(&env, &["container=parent", "event=oom"]), ["container oom"]);
    }
}

#[test]
fn nothing_depends_on_events() {
    let env = Containers::new();
    let log = env.root().join("events-v1");
    let run = || env.lap(["run", "--rm", "busybox", "echo", "fine"]).ok().stdout_text();
    // A file that is full gives way to a new one, and what was torn is left out.
    std::fs::write(log.join("json.log"), "{\"log\":\"torn".repeat(400_000)).unwrap();
    assert_eq!(run(), "fine\n");
    assert!(std::fs::metadata(log.join("json.log")).unwrap().len() < 100_000);
    assert_eq!(told(&env, &["event=die"]), ["container die"]);
    assert!(!log.join("json.log.2").exists());
    // There may be no log at all.
    std::fs::remove_dir_all(&log).unwrap();
    assert_eq!(run(), "fine\n");
    assert_eq!(told(&env, &["event=die"]), ["container die"]);
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::write(&log, "").unwrap();
    assert_eq!(run(), "fine\n");
    env.lap(["events", "--until", "0s"]).fails(1).stderr_has(&["events-v1"]);
    std::fs::remove_file(&log).unwrap();
    assert_eq!(run(), "fine\n");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let env = Containers::new();
    let refused = |args: &[&str], says: &str| {
        env.lap(["events", "--until", "0s"]).args(args).fails(2).stderr_has(&[says]).to_string()
    };
    refused(&["--filter", "colour=red"], "invalid filter 'colour'");
    refused(&["--filter", "type"], "invalid filter 'type'");
    refused(&["--since", "soon"], "since=soon");
    env.lap(["events", "--since", "1h", "--until", "0s", "--format", "{{.Nothing}}"])
        .fails(1)
        .stderr_has(&["can't evaluate field Nothing"]);
    env.lap(["events", "--until", "0s", "--format", "{{"]).run().stderr_has(&["template"]);
    assert!(told(&env, &["type=container"]).is_empty());
}

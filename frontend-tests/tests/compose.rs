//! `lap compose`: what a project is, and what becomes of it.

mod common;

use std::path::PathBuf;

use common::containers::Containers;
use testkit::Lap;

/// A directory with a project, named like the test's own, beside an environment.
struct Project {
    env: Containers,
    directory: PathBuf,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let env = Containers::new();
        let directory = env.work().join("shop");
        let project = Self { env, directory };
        files.iter().for_each(|(name, text)| project.write(name, text));
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// `lap compose ARGS…` in the project's directory.
    fn compose(&self, args: &[&str]) -> Lap {
        self.env.lap([&["compose"], args].concat()).current_dir(&self.directory)
    }
}

#[test]
fn config_shows_the_project_as_one_file() {
    let project = Project::new(&[
        (
            "compose.yaml",
            "services:\n  web: {image: 'busybox:${TAG:-latest}', ports: ['8080:80'], volumes: ['data:/d'], profiles: [dev]}\n  db: {image: busybox, env_file: db.env, command: 'echo $$HOME'}\nvolumes: {data: }\n",
        ),
        ("compose.override.yaml", "services: {web: {command: httpd -f}}\n"),
        ("db.env", "PASSWORD=$SECRET\n"),
    ]);
    let shown = project.compose(&["--profile", "dev", "config"]).env("SECRET", "s").ok();
    shown.stdout_has(&[
        "name: shop\n",
        "    image: busybox:latest\n",
        "      PASSWORD: s\n",
        "      - httpd\n      - \"-f\"\n",
        "    name: shop_data\n",
        "    name: shop_default\n",
    ]);
    let list = |args: &[&str]| project.compose(args).ok().stdout_text();
    assert_eq!(list(&["config", "--services"]), "db\n");
    assert_eq!(list(&["config", "--profiles"]), "dev\n");
    assert_eq!(list(&["config", "--volumes"]), "data\n");
    assert_eq!(list(&["config", "-q"]), "");
    let warned = project.compose(&["config", "--images"]).ok();
    assert_eq!(warned.stdout_text(), "busybox\n");
    warned.stderr_has(&["The \"SECRET\" variable is not set. Defaulting to a blank string."]);
    let json: serde_json::Value =
        serde_json::from_str(&list(&["-p", "other", "config", "--format", "json"])).unwrap();
    assert_eq!(
        (&json["name"], &json["networks"]["default"]["name"]),
        (&"other".into(), &"other_default".into())
    );
    // What is shown is a project as well, and the same one.
    let whole = list(&["config"]);
    project.write("again/compose.yaml", &whole);
    assert_eq!(list(&["--project-directory", ".", "-f", "again/compose.yaml", "config"]), whole);
    assert_eq!(project.compose(&["-f", "-", "config"]).stdin(whole.clone()).ok().stdout_text(), whole);
}

#[test]
fn config_can_leave_variables_as_they_are() {
    let text = "name: ${NAME:-shop}\nservices:\n  web:\n    image: busybox:$TAG\n    ports: ['${PORT}:80', '8080:80']\n    command: echo $$HOME\n    mem_limit: ${MEMORY}\n    volumes: ['./here:/h', '${DIR}/x:/x']\n  db: {image: busybox}\n";
    let project = Project::new(&[("compose.yaml", text)]);
    let shown = project.compose(&["config", "--no-interpolate"]).env("TAG", "1").ok();
    let here = project.directory.join("here").display().to_string();
    shown.stdout_has(&[
        "    image: busybox:$TAG\n",
        "      - \"${PORT}:80\"\n",
        "        target: 80\n",
        "    command: echo $$HOME\n",
        "    mem_limit: \"${MEMORY}\"\n",
        &format!("        source: {here}\n"),
        "      - \"${DIR}/x:/x\"\n",
    ]);
    // Nothing is asked for, so nothing is missing.
    assert_eq!(shown.stderr_text(), "");
    let json = project.compose(&["config", "--no-interpolate", "--format", "json", "db"]).ok().stdout_text();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["services"], serde_json::json!({ "db": { "image": "busybox" } }));
    let services = project.compose(&["config", "--no-interpolate", "--services"]).ok().stdout_text();
    assert_eq!(services, "db\nweb\n");
    project.write("compose.yaml", "services: {web: {image: x, tty: maybe}}\n");
    let refused = project.compose(&["config", "--no-interpolate"]).fails(1);
    refused.stderr_has(&["compose.yaml:1: services.web.tty must be a boolean, not \"maybe\""]);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let text =
        services(&[("web", SLEEP, "    depends_on: [db]\n    volumes: ['data:/d']\n"), ("db", SLEEP, "")]);
    let text = text + "  made: {build: .}\nvolumes: {data: }\n";
    let project = Project::new(&[("compose.yaml", &text), ("Dockerfile", "FROM busybox\n")]);
    let told = |args: &[&str]| {
        let output = project.compose(&[&["--dry-run"], args].concat()).ok();
        let text = output.stderr_text();
        let lines: Vec<String> = text
            .lines()
            .map(|line| {
                line.strip_prefix(" DRY-RUN MODE - ")
                    .unwrap_or_else(|| panic!("not dry: {line}"))
                    .trim()
                    .to_owned()
            })
            .collect();
        lines
    };
    let containers = || project.env.lap(["ps", "-aq"]).ok().stdout_text();
    assert_eq!(
        told(&["up", "web"]),
        [
            "Network shop_default  Created",
            "Volume shop_data  Created",
            "Container shop-db-1  Created",
            "Container shop-db-1  Started",
            "Container shop-web-1  Created",
            "Container shop-web-1  Started",
        ]
    );
    assert_eq!(told(&["build"]), ["made  Built"]);
    assert_eq!(told(&["pull", "db"]), ["db Pulling busybox"]);
    assert_eq!(containers(), "");
    assert_eq!(project.env.lap(["volume", "ls", "-q"]).ok().stdout_text(), "");
    project.up(&["web"]);
    let before = containers();
    assert_eq!(told(&["up", "--force-recreate", "db"])[0], "Container shop-db-1  Recreated");
    assert_eq!(told(&["stop", "web"]), ["Container shop-web-1  Stopped"]);
    assert_eq!(told(&["kill", "web"]), ["Container shop-web-1  Killed"]);
    assert_eq!(told(&["exec", "web", "rm", "/d"]), ["Container shop-web-1  Would run: rm /d"]);
    let down = told(&["down", "-v"]);
    let ends = [
        "Container shop-web-1  Stopped",
        "Container shop-db-1  Removed",
        "Network shop_default  Removed",
        "Volume shop_data  Removed",
    ];
    let missing: Vec<_> = ends[1..].iter().filter(|line| !down.contains(&(**line).to_owned())).collect();
    assert!(missing.is_empty(), "{missing:?} not in {down:?}");
    assert_eq!(containers(), before);
    assert_eq!(project.exec("web", "echo fine"), "fine\n");
}

#[test]
fn mistakes_in_files_are_told_with_their_place() {
    let project = Project::new(&[]);
    for (text, message) in [
        (
            "services:\n  a:\n    imge: x\n",
            "compose.yaml:3: services.a: additional property 'imge' is not allowed",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            "dependency cycle detected: a -> b -> a",
        ),
        ("services: [\n", "compose.yaml:"),
        (
            "services: {a: {image: '${NAME:?say which}'}}\n",
            "required variable NAME is missing a value: say which",
        ),
        ("services: {a: {image: x, env_file: none.env}}\n", "none.env not found"),
        ("services: {a: {image: x, volumes: ['v:/v']}}\n", "service \"a\" refers to undefined volume v"),
    ] {
        project.write("compose.yaml", text);
        project.compose(&["config"]).fails(1).stderr_has(&[message]);
    }
    project.write("compose.yaml", "services: {a: {image: x}}\n");
    project.compose(&["config", "nobody"]).fails(1).stderr_has(&["no such service: nobody"]);
    project
        .compose(&["-f", "gone.yaml", "config"])
        .fails(1)
        .stderr_has(&["gone.yaml: no such file or directory"]);
    project.compose(&["config"]).ok();
}

/// A script of a service that ends at once when it is asked to.
const SLEEP: &str = "exec sleep 1000";

/// A service of busybox that runs a script.
fn service(name: &str, script: &str, more: &str) -> String {
    format!("  {name}:\n    image: busybox\n    init: true\n    command: [sh, -c, '{script}']\n{more}")
}

fn services(list: &[(&str, &str, &str)]) -> String {
    let all = list.iter().map(|(name, script, more)| service(name, script, more)).collect::<String>();
    format!("services:\n{all}")
}

impl Project {
    fn of(list: &[(&str, &str, &str)]) -> Self {
        Self::new(&[("compose.yaml", &services(list))])
    }

    fn up(&self, args: &[&str]) -> testkit::Output {
        self.compose(&[&["up", "-d"], args].concat()).ok()
    }

    /// Names and what containers do, all of them.
    fn ps(&self) -> Vec<String> {
        let shown = self.compose(&["ps", "-a", "--format", "{{.Name}} {{.State}}"]).ok().stdout_text();
        shown.lines().map(str::to_owned).collect()
    }

    fn id(&self, service: &str) -> String {
        self.compose(&["ps", "-aq", service]).ok().stdout_text().trim().to_owned()
    }

    fn exec(&self, service: &str, script: &str) -> String {
        self.compose(&["exec", "-T", service, "sh", "-c", script]).ok().stdout_text()
    }
}

#[test]
fn a_project_comes_up_and_goes_without_a_trace() {
    let project = Project::of(&[
        (
            "web",
            SLEEP,
            "    depends_on: [db]\n    volumes: ['data:/d']\n    networks: {default: {aliases: [site]}}\n    environment: {A: b}\n",
        ),
        ("db", SLEEP, ""),
    ]);
    project.write(
        "compose.yaml",
        &format!(
            "{}volumes: {{data: }}\n",
            std::fs::read_to_string(project.directory.join("compose.yaml")).unwrap()
        ),
    );
    let told = project.up(&[]);
    told.stderr_has(&[
        " Network shop_default  Created\n",
        " Volume shop_data  Created\n",
        " Container shop-db-1  Created\n",
        " Container shop-db-1  Started\n",
        " Container shop-web-1  Started\n",
    ]);
    assert_eq!(project.ps(), ["shop-db-1 running", "shop-web-1 running"]);
    // Names lead from one to the other, both ways, and those of containers and aliases do as well.
    for name in ["web", "site", "shop-web-1"] {
        project.exec("db", &format!("ping -c 1 -W 5 {name}"));
    }
    project.exec("web", "ping -c 1 -W 5 db; echo kept > /d/file");
    assert_eq!(project.exec("web", "echo $A"), "b\n");
    let labels = project.env.inspect("shop-web-1", "json .Config.Labels");
    for label in [
        "\"com.docker.compose.project\":\"shop\"",
        "\"com.docker.compose.service\":\"web\"",
        "\"com.docker.compose.container-number\":\"1\"",
        "\"com.docker.compose.oneoff\":\"False\"",
    ] {
        assert!(labels.contains(label), "{labels}");
    }
    // Nothing has changed, so nothing is done.
    let id = project.id("web");
    project.up(&[]).stderr_has(&[" Container shop-web-1  Running\n"]);
    assert_eq!(project.id("web"), id);
    let list = |args: &[&str]| project.env.lap(args).ok().stdout_text();
    assert!(list(&["compose", "ls"]).contains("running(2)"));
    project
        .compose(&["down"])
        .ok()
        .stderr_has(&[" Container shop-web-1  Removed\n", " Network shop_default  Removed\n"]);
    assert_eq!(project.ps(), Vec::<String>::new());
    assert_eq!(list(&["network", "ls", "-q", "--filter", "type=custom"]), "");
    // Volumes stay unless somebody says otherwise.
    project.up(&[]);
    assert_eq!(project.exec("web", "cat /d/file"), "kept\n");
    project.compose(&["down", "-v"]).ok().stderr_has(&[" Volume shop_data  Removed\n"]);
    assert_eq!(list(&["volume", "ls", "-q"]), "");
    // Twice is as good as once, and the name alone will do.
    project.compose(&["down"]).ok();
    project
        .env
        .lap(["compose", "-p", "shop", "down"])
        .ok()
        .stderr_has(&["No resource found to remove for project \"shop\""]);
}

#[test]
fn services_wait_for_what_they_need() {
    let healthy = "    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, retries: 1000}\n";
    let project = Project::of(&[
        (
            "app",
            "ls /shared; exec sleep 1000",
            "    volumes: ['data:/shared']\n    depends_on: {setup: {condition: service_completed_successfully}, db: {condition: service_healthy}}\n",
        ),
        ("setup", "echo done > /shared/setup", "    volumes: ['data:/shared']\n"),
        ("db", "touch /ready; exec sleep 1000", healthy),
    ]);
    let text = std::fs::read_to_string(project.directory.join("compose.yaml")).unwrap();
    project.write("compose.yaml", &format!("{text}volumes: {{data: }}\n"));
    project.up(&[]);
    assert_eq!(project.ps(), ["shop-app-1 running", "shop-db-1 running", "shop-setup-1 exited"]);
    assert_eq!(project.env.inspect("shop-db-1", ".State.Health.Status"), "healthy");
    project.env.wait_for("shop-app-1", "setup");
    let logs = project.compose(&["logs", "--no-log-prefix", "app"]).ok().stdout_text();
    assert_eq!(logs, "setup\n");
    project.compose(&["down", "-v", "-t", "0"]).ok();
    // What never becomes so is told, and who waits is not started.
    let broken = text.replace("echo done > /shared/setup", "exit 3");
    project.write("compose.yaml", &format!("{broken}volumes: {{data: }}\n"));
    project
        .compose(&["up", "-d"])
        .fails(1)
        .stderr_has(&["service \"setup\" didn't complete successfully: exit 3"]);
    assert!(!project.ps().contains(&"shop-app-1 running".to_owned()), "{:?}", project.ps());
    project.compose(&["down", "-v", "-t", "0"]).ok();
    let sick = text.replace(
        "test, -e, /ready], interval: 100ms, retries: 1000",
        "\"false\"], interval: 50ms, retries: 2",
    );
    project.write("compose.yaml", &format!("{sick}volumes: {{data: }}\n"));
    let told = project.compose(&["up", "-d"]).fails(1);
    told.stderr_has(&["dependency failed to start: container shop-db-1 is unhealthy"]);
    project.compose(&["up", "-d", "--wait", "db"]).fails(1).stderr_has(&["container shop-db-1 is unhealthy"]);
}

#[test]
fn what_is_attached_shows_every_line_with_its_name() {
    let project = Project::of(&[
        ("one", "echo first; echo >&2 second", ""),
        ("second-one", "sleep 0.1; echo other", ""),
    ]);
    let shown = project.compose(&["up"]).ok();
    shown.stdout_has(&["one-1         | first\n", "second-one-1  | other\n"]);
    shown.stderr_has(&["one-1         | second\n", "one-1 exited with code 0\n"]);
    let plain = project.compose(&["up", "--no-log-prefix", "one"]).ok();
    assert!(plain.stdout_text().starts_with("first\n"), "{plain}");
    // All end when one does, with its code.
    project.write(
        "compose.yaml",
        &services(&[("one", "exit 7", ""), ("two", SLEEP, "    stop_signal: SIGKILL\n")]),
    );
    project
        .compose(&["up", "--abort-on-container-exit"])
        .fails(7)
        .stderr_has(&["Aborting on container exit..."]);
    project.compose(&["up", "--exit-code-from", "two"]).fails(137);
    assert_eq!(project.ps(), ["shop-one-1 exited", "shop-two-1 exited"]);
}

#[test]
fn ctrl_c_ends_what_is_attached_in_its_order() {
    let project = Project::of(&[
        (
            "a",
            "trap 'echo a ends; exit 0' TERM; echo up; while true; do sleep 0.1; done",
            "    depends_on: [b]\n",
        ),
        ("b", "trap 'echo b ends; exit 0' TERM; echo up; while true; do sleep 0.1; done", ""),
    ]);
    let text = std::fs::read_to_string(project.directory.join("compose.yaml")).unwrap();
    project.write(
        "compose.yaml",
        &text.replace("'trap '", "\"trap '").replace("done'", "done\"").replace("    init: true\n", ""),
    );
    let mut running = project.compose(&["up"]).spawn();
    for service in ["a", "b"] {
        running.wait_for(&format!("{service}-1  | up"));
    }
    running.signal(nix::sys::signal::Signal::SIGINT);
    let output = running.finish();
    assert_eq!(output.code(), Some(130), "{output}");
    output.stdout_has(&["a-1  | a ends", "b-1  | b ends"]);
    let end = |service: &str| project.env.inspect(&format!("shop-{service}-1"), ".State.FinishedAt");
    assert!(end("a") < end("b"), "{output}");
    assert_eq!(project.ps(), ["shop-a-1 exited", "shop-b-1 exited"]);
}

#[test]
fn secrets_and_configs_are_files_in_the_container() {
    let text = services(&[(
        "app",
        SLEEP,
        "    secrets: [plain, {source: outer, target: token, mode: 0400, uid: '1000'}]\n    configs: [{source: text, target: /etc/app.conf}]\n",
    )]);
    let sources = "secrets: {plain: {file: ./plain.txt}, outer: {environment: TOKEN}}\nconfigs: {text: {content: \"token: ${TOKEN}\\n\"}}\n";
    let project = Project::new(&[("compose.yaml", &(text + sources)), ("plain.txt", "from a file\n")]);
    let with = |args: &[&str]| project.compose(args).env("TOKEN", "t0p");
    with(&["up", "-d"]).ok();
    let read = |path: &str| with(&["exec", "-T", "app", "cat", path]).ok().stdout_text();
    assert_eq!(
        (read("/run/secrets/plain"), read("/run/secrets/token")),
        ("from a file\n".to_owned(), "t0p".to_owned())
    );
    assert_eq!(read("/etc/app.conf"), "token: t0p\n");
    let stat = with(&["exec", "-T", "app", "stat", "-c", "%a %u", "/run/secrets/token"]).ok().stdout_text();
    assert_eq!(stat, "400 1000\n");
    assert!(!project.env.lap(["inspect", "shop-app-1"]).ok().stdout_text().contains("t0p"));
    // They are there again after another start, and another value makes another container.
    with(&["restart", "-t", "0"]).ok();
    assert_eq!(read("/run/secrets/token"), "t0p");
    project
        .compose(&["up", "-d"])
        .env("TOKEN", "other")
        .ok()
        .stderr_has(&[" Container shop-app-1  Recreated"]);
    project
        .compose(&["up", "-d"])
        .fails(1)
        .stderr_has(&["environment variable \"TOKEN\" required by secret \"outer\" is not set"]);
}

#[test]
fn containers_are_made_again_when_they_have_changed() {
    let project = Project::of(&[
        ("app", SLEEP, "    volumes: [/own]\n"),
        ("side", SLEEP, "    network_mode: 'service:app'\n"),
    ]);
    project.up(&[]);
    project.exec("app", "echo mine > /own/file");
    let (app, side) = (project.id("app"), project.id("side"));
    let text = std::fs::read_to_string(project.directory.join("compose.yaml")).unwrap();
    project.write(
        "compose.yaml",
        &text.replace("volumes: [/own]", "volumes: [/own]\n    environment: {NEW: '1'}"),
    );
    project.up(&["--no-recreate"]);
    assert_eq!(project.id("app"), app);
    project
        .up(&[])
        .stderr_has(&[" Container shop-app-1  Recreated\n", " Container shop-side-1  Recreated\n"]);
    assert_ne!((project.id("app"), project.id("side")), (app, side));
    // What it wrote to an anonymous volume is kept.
    assert_eq!(project.exec("app", "cat /own/file; echo $NEW"), "mine\n1\n");
    let id = project.id("app");
    project.up(&["--force-recreate", "-V", "app"]);
    assert_ne!(project.id("app"), id);
    project.compose(&["exec", "-T", "app", "test", "-e", "/own/file"]).fails(1);
    // What cannot be made leaves the container that there is.
    let id = project.id("app");
    for (more, told) in [
        (
            "    logging: {driver: other}\n",
            "container shop-app-1: logger: no log driver named 'other' is registered",
        ),
        ("    volumes: [{type: bind, source: /not/there, target: /x}]\n", "/not/there"),
    ] {
        project.write("compose.yaml", &services(&[("app", SLEEP, more)]));
        project.compose(&["up", "-d", "--remove-orphans"]).fails(1).stderr_has(&[told]);
        assert_eq!(
            (project.id("app"), project.ps()),
            (id.clone(), vec!["shop-app-1 running".to_owned()]),
            "{more}"
        );
    }
    project.write("compose.yaml", &text);
    project.up(&[]);
    // A container whose service is gone is an orphan.
    project.write("compose.yaml", &services(&[("app", SLEEP, "")]));
    project.up(&[]).stderr_has(&["Found orphan containers ([shop-side-1]) for this project."]);
    project.up(&["--remove-orphans"]).stderr_has(&[" Container shop-side-1  Removed\n"]);
    assert_eq!(project.ps(), ["shop-app-1 running"]);
}

#[test]
fn services_have_as_many_containers_as_they_want() {
    let project = Project::of(&[
        ("app", SLEEP, "    deploy: {replicas: 2}\n    profiles: [big]\n"),
        ("one", SLEEP, ""),
    ]);
    project.up(&[]);
    assert_eq!(project.ps(), ["shop-one-1 running"]);
    let big = |args: &[&str]| project.compose(&[&["--profile", "big"], args].concat()).ok();
    big(&["up", "-d"]);
    let names =
        || big(&["ps", "--format", "{{.Name}}"]).stdout_text().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(names(), ["shop-app-1", "shop-app-2", "shop-one-1"]);
    let addresses = big(&["exec", "-T", "one", "nslookup", "-type=a", "app"]).stdout_text();
    assert_eq!(addresses.matches("Name:").count(), 2, "{addresses}");
    assert_eq!(
        big(&["exec", "-T", "--index", "2", "app", "hostname"]).stdout_text().trim(),
        &project.env.inspect("shop-app-2", ".Config.Hostname")
    );
    big(&["up", "-d", "--scale", "app=3"]);
    assert_eq!(names().len(), 4);
    big(&["up", "-d", "--scale", "app=1"]);
    assert_eq!(names(), ["shop-app-1", "shop-one-1"]);
    project.compose(&["up", "-d", "--scale", "none=1"]).fails(1).stderr_has(&["no such service: none"]);
    project.compose(&["up", "-d", "--scale", "app"]).fails(2);
}

#[test]
fn services_are_stopped_started_and_looked_at() {
    let project = Project::of(&[
        ("a", "echo from a; exec sleep 1000", "    depends_on: [b]\n    ports: ['127.0.0.1::80']\n"),
        ("b", "echo from b; exec sleep 1000", ""),
    ]);
    project.compose(&["exec", "-T", "a", "true"]).fails(1).stderr_has(&["service \"a\" is not running"]);
    project.compose(&["create"]).ok();
    assert_eq!(project.ps(), ["shop-a-1 created", "shop-b-1 created"]);
    project.compose(&["start"]).ok();
    project.env.wait_for("shop-a-1", "from a");
    project.env.wait_for("shop-b-1", "from b");
    let logs = project.compose(&["logs"]).ok().stdout_text();
    assert!(logs.contains("a-1  | from a\n") && logs.contains("b-1  | from b\n"), "{logs}");
    assert!(project.compose(&["port", "a", "80"]).ok().stdout_text().starts_with("127.0.0.1:"));
    project.compose(&["port", "a", "81"]).fails(1);
    project
        .compose(&[
            "exec",
            "-T",
            "-e",
            "X=y",
            "-w",
            "/tmp",
            "-u",
            "1000",
            "a",
            "sh",
            "-c",
            "echo $X $(pwd) $(id -u)",
        ])
        .ok()
        .stdout_has(&["y /tmp 1000\n"]);
    project.compose(&["exec", "-T", "a", "sh", "-c", "exit 9"]).fails(9);
    project.compose(&["top", "a"]).ok().stdout_has(&["shop-a-1\n", "sleep 1000"]);
    let images = project
        .compose(&["images", "--format", "{{.Container}} {{.Repository}}:{{.Tag}}"])
        .ok()
        .stdout_text();
    assert_eq!(images, "shop-a-1 busybox:latest\nshop-b-1 busybox:latest\n");
    project.compose(&["pause", "a"]).ok();
    assert_eq!(project.ps(), ["shop-a-1 paused", "shop-b-1 running"]);
    project.compose(&["unpause"]).ok();
    project.compose(&["stop", "-t", "0", "a"]).ok();
    assert_eq!(project.ps(), ["shop-a-1 exited", "shop-b-1 running"]);
    assert_eq!(project.compose(&["ps", "--services"]).ok().stdout_text(), "b\n");
    project.compose(&["restart", "-t", "0"]).ok();
    assert_eq!(project.ps(), ["shop-a-1 running", "shop-b-1 running"]);
    project.compose(&["kill", "b"]).ok();
    assert_eq!(project.compose(&["wait", "b"]).fails(137).stdout_text(), "137\n");
    project.compose(&["rm", "-f"]).ok();
    assert_eq!(project.ps(), ["shop-a-1 running"]);
    for command in ["stop", "logs", "ps", "restart", "up"] {
        project.compose(&[command, "nobody"]).fails(1).stderr_has(&["no such service: nobody"]);
    }
    let once =
        project.compose(&["run", "--rm", "-T", "-e", "N=5", "b", "sh", "-c", "echo $N; exit 4"]).fails(4);
    assert_eq!(once.stdout_text(), "5\n");
    assert_eq!(project.ps(), ["shop-a-1 running"]);
}

#[test]
fn images_are_built_before_they_run() {
    let text = "services:\n  a: {build: {context: ./a, args: {WHO: a}}, command: [cat, /who]}\n  b:\n    image: named\n    build: {dockerfile_inline: \"FROM base\\nRUN echo b >> /who\\n\", additional_contexts: {base: 'service:a'}}\n    command: [cat, /who]\n";
    let project = Project::new(&[
        ("compose.yaml", text),
        ("a/Dockerfile", "FROM busybox\nARG WHO\nRUN --mount=type=secret,id=s echo $WHO > /who\n"),
    ]);
    let shown = project.compose(&["up"]).ok();
    shown.stdout_has(&["a-1  | a\n", "b-1  | a\n", "b-1  | b\n"]);
    let ids = [project.id("a"), project.id("b")];
    // Built once, they are there; a new image makes a new container.
    project.write("a/Dockerfile", "FROM busybox\nRUN echo other > /who\n");
    project.up(&[]);
    assert_eq!([project.id("a"), project.id("b")], ids);
    project.up(&["--build"]);
    assert_ne!(project.id("a"), ids[0]);
    project.write("a/Dockerfile", "FROM busybox\nRUN exit 3\n");
    project.compose(&["build"]).fails(1).stderr_has(&["cannot build service \"a\""]);
    project.compose(&["down", "--rmi", "local"]).ok().stderr_has(&[" Image shop-a  Removed"]);
    project.env.lap(["image", "inspect", "named"]).ok();
    project
        .compose(&["up", "-d", "--no-build", "a"])
        .fails(1)
        .stderr_has(&["service \"a\" has no image shop-a"]);
}

#[test]
fn images_say_where_they_came_from_if_their_service_wants_that() {
    let text = "services:\n  a: {image: told, build: {dockerfile_inline: 'FROM busybox', provenance: mode=max, sbom: true}}\n  b: {image: plain, build: {dockerfile_inline: 'FROM busybox', provenance: false}}\n";
    let project = Project::new(&[("compose.yaml", text)]);
    project.compose(&["build"]).ok();
    let Some(registry) = testkit::DockerRegistry::start() else { return };
    let Some(skopeo) = testkit::judges::skopeo() else { return };
    let raw =
        |name: &str| skopeo.json(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    for (image, kinds) in
        [("told", &["https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document"][..]), ("plain", &[])]
    {
        let name = registry.reference(&format!("{image}:1"));
        project.env.lap(["tag", image, &name]).ok();
        project.env.lap(["push", &name]).ok();
        let mut told = Vec::new();
        for entry in raw(&name)["manifests"].as_array().into_iter().flatten().skip(1) {
            let repository = name.rsplit_once(':').unwrap().0;
            let manifest = raw(&format!("{repository}@{}", entry["digest"].as_str().unwrap()));
            let layers = manifest["layers"].as_array().unwrap().iter();
            told.extend(
                layers.map(|layer| {
                    layer["annotations"]["in-toto.io/predicate-type"].as_str().unwrap().to_owned()
                }),
            );
        }
        told.sort();
        assert_eq!(told, kinds, "{image}");
    }
    // An image that looks for packages is fetched and run; one that is nowhere ends the build.
    let generator = registry.reference("nowhere:1");
    let text = format!(
        "services: {{a: {{build: {{dockerfile_inline: 'FROM busybox', sbom: 'generator={generator}'}}}}}}\n"
    );
    project.write("compose.yaml", &text);
    project.compose(&["build"]).fails(1).stderr_has(&["cannot build service \"a\"", &generator]);
}

#[test]
fn half_a_project_is_told_truly() {
    let port = testkit::ports::free_port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let project = Project::of(&[
        ("first", SLEEP, ""),
        ("second", SLEEP, &format!("    depends_on: [first]\n    ports: ['127.0.0.1:{port}:80']\n")),
    ]);
    let told = project.compose(&["up", "-d"]).fails(1);
    told.stderr_has(&["container shop-second-1: ", &port.to_string()]);
    let states = project.ps();
    assert_eq!(states[0], "shop-first-1 running");
    assert!(states[1] == "shop-second-1 created" || states[1] == "shop-second-1 exited", "{states:?}");
    drop(taken);
    common::ports::assert_free(port);
    project.up(&[]);
    assert_eq!(project.ps(), ["shop-first-1 running", "shop-second-1 running"]);
    // What others made has to be there, and is never removed.
    project.write(
        "compose.yaml",
        &(services(&[("a", SLEEP, "    networks: [theirs]\n")]) + "networks: {theirs: {external: true}}\n"),
    );
    project
        .compose(&["up", "-d"])
        .fails(1)
        .stderr_has(&["network theirs declared as external, but could not be found"]);
    project.env.lap(["network", "create", "theirs"]).ok();
    project.up(&["--remove-orphans"]);
    project.compose(&["down"]).ok();
    project.env.lap(["network", "inspect", "theirs"]).ok();
}

#[test]
fn networks_are_what_the_files_say() {
    let text = services(&[
        (
            "front",
            SLEEP,
            "    networks:\n      outer:\n      inner: {aliases: [door], link_local_ips: [169.254.7.8], driver_opts: {com.docker.network.endpoint.ifname: lan7}}\n",
        ),
        ("back", SLEEP, "    networks: [inner]\n    links: ['front:gate']\n"),
        ("far", SLEEP, "    networks: [outer]\n"),
    ]);
    let project = Project::new(&[(
        "compose.yaml",
        &(text
            + "networks: {outer: {name: own-name, labels: {a: b}}, inner: {internal: true, driver_opts: {com.docker.network.driver.mtu: '1400'}}}\n"),
    )]);
    project.up(&[]);
    let list = project
        .env
        .lap(["network", "ls", "--format", "{{.Name}}", "--filter", "type=custom"])
        .ok()
        .stdout_text();
    assert_eq!(list.lines().collect::<std::collections::BTreeSet<_>>(), ["own-name", "shop_inner"].into());
    for name in ["front", "door", "gate"] {
        project.exec("back", &format!("ping -c 1 -W 5 {name}"));
    }
    let card = project.exec("front", "ip addr show dev lan7");
    assert!(card.contains("169.254.7.8/") && card.contains("mtu 1400"), "{card}");
    project.exec("far", "ping -c 1 -W 5 front");
    project.compose(&["exec", "-T", "far", "nslookup", "-type=a", "back"]).fails(1);
    let labels =
        project.env.lap(["network", "inspect", "-f", "{{json .Labels}}", "own-name"]).ok().stdout_text();
    assert!(
        labels.contains("\"a\":\"b\"") && labels.contains("\"com.docker.compose.network\":\"outer\""),
        "{labels}"
    );
}

#[test]
fn logs_are_shown_together_and_followed() {
    let script = "for n in 1 2 3; do echo $$n; done; touch /done; exec sleep 1000";
    let project = Project::of(&[("a", script, ""), ("b", "echo lonely", "")]);
    project.up(&[]);
    project.env.wait_for_exec("shop-a-1", "test -e /done");
    project.env.lap(["wait", "shop-b-1"]).ok();
    let logs = |args: &[&str]| project.compose(&[&["logs"], args].concat()).ok().stdout_text();
    assert_eq!(logs(&["-n", "1", "a"]), "a-1  | 3\n");
    assert_eq!(logs(&["--no-log-prefix", "a"]), "1\n2\n3\n");
    assert_eq!(logs(&[]).lines().count(), 4);
    assert!(logs(&["-t", "b"]).contains("Z lonely"));
    let mut following = project.compose(&["logs", "-f"]).spawn();
    following.wait_for("a-1  | 3");
    project.compose(&["kill"]).ok();
    assert_eq!(following.finish().code(), Some(0));
}

#[test]
fn hooks_run_when_containers_have_started_and_before_they_end() {
    let project = Project::new(&[(
        "compose.yaml",
        "services:\n  a:\n    image: busybox\n    network_mode: none\n    init: true\n    command: sleep 1000\n    \
         volumes: ['./out:/out']\n    post_start:\n      - {command: sh -c 'echo $$WHO >> /out/start', environment: {WHO: me}}\n      \
         - {command: [sh, -c, pwd > /out/where], working_dir: /bin}\n    pre_stop: [{command: sh -c 'echo ends >> /out/stop'}]\n",
    )]);
    let said =
        |name: &str| std::fs::read_to_string(project.directory.join("out").join(name)).unwrap_or_default();
    project.up(&[]);
    assert_eq!(
        (said("start").as_str(), said("where").as_str(), said("stop").as_str()),
        ("me\n", "/bin\n", "")
    );
    // One that runs has started already.
    project.up(&[]);
    assert_eq!(said("start"), "me\n");
    project.compose(&["restart"]).ok();
    assert_eq!((said("start").as_str(), said("stop").as_str()), ("me\nme\n", "ends\n"));
    project.compose(&["stop"]).ok();
    project.compose(&["stop"]).ok();
    assert_eq!(said("stop"), "ends\nends\n");
    project.compose(&["start"]).ok();
    assert_eq!(said("start"), "me\nme\nme\n");
    project.compose(&["down"]).ok();
    assert_eq!(said("stop"), "ends\nends\nends\n");
    let broken = "services:\n  a: {image: busybox, network_mode: none, init: true, command: sleep 1000, post_start: [{command: 'false'}]}\n";
    project.write("compose.yaml", broken);
    project
        .compose(&["up", "-d"])
        .fails(1)
        .stderr_has(&["post_start hook of container shop-a-1 has failed: false"]);
    project.compose(&["down"]).ok();
}

#[test]
fn services_stand_where_containers_do() {
    let text = services(&[("web", SLEEP, ""), ("db", SLEEP, "")])
        + "  made: {image: 'localhost:1/made', build: .}\n";
    let project =
        Project::new(&[("compose.yaml", &text), ("Dockerfile", "FROM busybox\n"), ("note", "kept\n")]);
    project.up(&["web", "db"]);
    // Into all containers of a service, and out of one.
    project.compose(&["scale", "web=2"]).ok().stderr_has(&["Container shop-web-2  Started"]);
    project.compose(&["cp", "note", "web:/note"]).ok();
    for index in ["1", "2"] {
        let read = project.compose(&["exec", "-T", "--index", index, "web", "cat", "/note"]).ok();
        assert_eq!(read.stdout_text(), "kept\n");
    }
    project.compose(&["cp", "--index", "2", "web:/note", "./copy"]).ok();
    assert_eq!(std::fs::read_to_string(project.directory.join("copy")).unwrap(), "kept\n");
    project
        .compose(&["cp", "./note", "./copy"])
        .fails(1)
        .stderr_has(&["unknown copy direction", "SERVICE:PATH"]);
    let missing = project.compose(&["cp", "--index", "7", "web:/note", "."]).fails(1);
    missing.stderr_has(&["no container found for service \"web\" with index 7"]);
    let figures = project.compose(&["stats", "--no-stream", "--format", "{{.Name}}", "db"]).ok();
    assert_eq!(figures.stdout_text(), "shop-db-1\n");
    project.compose(&["stats", "--no-stream", "made"]).fails(1).stderr_has(&["no container that runs"]);
    project.compose(&["scale", "web=1"]).ok().stderr_has(&["Container shop-web-2  Removed"]);
    let events =
        project.compose(&["events", "--since", "1h", "--until", "0s", "--json", "web"]).ok().stdout_text();
    let events: Vec<serde_json::Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let services = events
        .iter()
        .map(|event| event["Actor"]["Attributes"]["com.docker.compose.service"].as_str().unwrap());
    assert_eq!(services.collect::<std::collections::BTreeSet<_>>(), ["web"].into());
    assert!(events.iter().any(|event| event["Action"] == "destroy"), "{events:?}");
    let push = project.compose(&["push"]).fails(1);
    push.stderr_has(&["made Pushing localhost:1/made", "service \"made\""]);
    project.compose(&["push", "--ignore-push-failures", "-q", "made"]).ok();
    project.compose(&["version", "--short"]).ok();
    let attached = project.compose(&["attach", "made"]).fails(1);
    attached.stderr_has(&["service \"made\" is not running"]);
}

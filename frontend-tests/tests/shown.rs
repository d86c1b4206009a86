//! How things are shown: templates, tables, documents of `inspect`, help, completion and manual pages.

mod common;

use common::containers::Containers;
use common::{build, env};
use serde_json::Value;

fn document(env: &testkit::TestEnv, args: &[&str]) -> Value {
    let text = env.lap(["inspect"]).args(args).ok().stdout_text();
    let documents: Value = serde_json::from_str(&text).expect("inspect prints JSON");
    documents[0].clone()
}

#[test]
fn templates_of_inspect() {
    let env = env();
    env.lap(["create", "--name", "box", "--label", "com.example.role=db", "-e", "A=1", "busybox", "true"])
        .ok();
    let says = |format: &str| env.lap(["inspect", "-f", format, "box"]).ok().stdout_text();
    assert_eq!(says("{{.Name}} {{.State.Status}} {{.State.Pid}}"), "/box created 0\n");
    assert_eq!(says("{{json .Config.Cmd}} {{len .Config.Cmd}}"), "[\"true\"] 1\n");
    assert_eq!(
        says("{{index .Config.Labels \"com.example.role\"}}|{{index .Config.Labels \"no\"}}|"),
        "db||\n"
    );
    assert_eq!(says("{{.Config.Labels.absent}}"), "<no value>\n");
    assert_eq!(says("{{if .State.Health}}checked{{else}}unchecked{{end}}"), "unchecked\n");
    assert!(says("{{range $i, $e := .Config.Env}}{{$i}}:{{$e}};{{end}}").contains("A=1;"));
    assert_eq!(says("{{with .Config}}{{.Image | upper | printf \"<%s>\"}}{{end}}"), "<BUSYBOX>\n");
    assert_eq!(says("{{join .Config.Cmd \",\"}}{{range .Mounts}}x{{else}} none{{end}}"), "true none\n");
    let bad = env.lap(["inspect", "-f", "{{.Nope}}", "box"]).fails(1);
    bad.stderr_has(&["template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""]);
    for text in ["{{.Name", "{{if .Name}}", "{{nope}}", "{{range"] {
        env.lap(["inspect", "-f", text, "box"])
            .fails(64)
            .stderr_has(&["template parsing error: template: :1:"]);
    }
}

#[test]
fn templates_and_tables_of_lists() {
    let env = env();
    env.lap(["create", "--name", "one", "--label", "role=web", "busybox", "true"]).ok();
    let ps = |format: &str| env.lap(["ps", "-a", "--format", format]).ok().stdout_text();
    assert_eq!(ps("{{.Names}}\\t{{.State}}\\t{{.Label \"role\"}}"), "one\tcreated\tweb\n");
    assert_eq!(
        ps("table {{.Names}}\\t{{.State}}\\t{{.RunningFor}}").lines().next(),
        Some("NAMES     STATE     CREATED")
    );
    assert_eq!(ps("table {{.Label \"role\"}}\\t{{.Names}}"), "role      NAMES\nweb       one\n");
    let line: Value = serde_json::from_str(&ps("json")).unwrap();
    assert_eq!(
        (&line["Names"], &line["Labels"], line.get("Label")),
        (&"one".into(), &"role=web".into(), None)
    );
    assert_eq!(
        ps("table").lines().next().map(|line| line.starts_with("CONTAINER ID   IMAGE     COMMAND")),
        Some(true)
    );
    env.lap(["ps", "-a", "--format", "{{.Nope}}"])
        .fails(1)
        .stderr_has(&["at <.Nope>: can't evaluate field Nope"]);
    let sized = env.lap(["ps", "-a", "-s"]).ok().stdout_text();
    assert!(sized.contains("SIZE") && sized.contains("(virtual "), "{sized}");
    let images = env.lap(["images", "--format", "table {{.Repository}}\\t{{.ID}}"]).ok().stdout_text();
    assert!(images.starts_with("REPOSITORY   IMAGE ID\nbusybox      "), "{images}");
    let header =
        |args: &[&str]| env.lap(args).ok().stdout_text().lines().next().unwrap_or_default().to_owned();
    assert_eq!(header(&["history", "busybox"]).split_whitespace().next(), Some("IMAGE"));
    assert_eq!(
        header(&["system", "df", "--format", "table {{.Type}}\\t{{.TotalCount}}"]),
        "TYPE            TOTAL"
    );
    assert_eq!(
        header(&["volume", "ls", "--format", "table {{.Name}}\\t{{.Driver}}"]),
        "VOLUME NAME   DRIVER"
    );
}

#[test]
fn ps_chooses_by_network_and_ports() {
    let env = env();
    env.lap(["create", "--name", "a", "--network", "none", "busybox", "true"]).ok();
    env.lap(["create", "--name", "b", "--network", "host", "--expose", "8000-8010/udp", "busybox", "true"])
        .ok();
    let names =
        |filter: &str| env.lap(["ps", "-a", "--format", "{{.Names}}", "--filter", filter]).ok().stdout_text();
    assert_eq!((names("network=none"), names("network=host")), ("a\n".to_owned(), "b\n".to_owned()));
    assert_eq!(
        (names("expose=8005/udp"), names("expose=8000-8100/udp")),
        ("b\n".to_owned(), "b\n".to_owned())
    );
    assert_eq!((names("expose=8005"), names("publish=80"), names("is-task=true")), Default::default());
    assert_eq!(names("is-task=false"), "b\na\n");
    for bad in ["expose=x", "publish=9-1", "is-task=perhaps"] {
        env.lap(["ps", "--filter", bad]).fails(2).stderr_has(&["invalid filter"]);
    }
}

#[test]
fn a_container_is_inspected_in_dockers_shape() {
    let env = Containers::new();
    let flags = [
        "create",
        "--name",
        "box",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "CHOWN",
        "--ulimit",
        "nofile=100:200",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--tmpfs",
        "/t:size=1m",
        "--shm-size",
        "1m",
        "--security-opt",
        "no-new-privileges",
        "--oom-score-adj",
        "10",
        "--device",
        "/dev/null:/dev/x:rw",
        "--health-cmd",
        "true",
        "--health-interval",
        "5s",
        "--log-opt",
        "max-size=1m",
        "-P",
        "busybox",
        "sleep",
        "9",
    ];
    env.lap(flags).ok();
    let box_ = document(&env, &["-s", "box"]);
    let host = &box_["HostConfig"];
    assert_eq!((host["Memory"].as_u64(), host["NanoCpus"].as_u64()), (Some(64 << 20), Some(500_000_000)));
    assert_eq!((host["PidsLimit"].as_u64(), host["ShmSize"].as_u64()), (Some(50), Some(1 << 20)));
    assert_eq!(host["CapDrop"], serde_json::json!(["CHOWN"]));
    assert_eq!(host["CapAdd"], serde_json::json!(["NET_ADMIN"]));
    assert_eq!(host["Ulimits"], serde_json::json!([{"Name": "nofile", "Soft": 100, "Hard": 200}]));
    assert_eq!(host["Sysctls"]["net.ipv4.ip_forward"], "1");
    assert!(host["Tmpfs"]["/t"].as_str().is_some_and(|options| options.contains("size=1048576")), "{host}");
    assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges"]));
    assert_eq!((&host["OomScoreAdj"], &host["PublishAllPorts"]), (&10.into(), &true.into()));
    let device = serde_json::json!([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"}]);
    assert_eq!(host["Devices"], device);
    assert_eq!(host["LogConfig"]["Config"]["max-size"], "1m");
    assert_eq!(box_["Config"]["Healthcheck"]["Interval"].as_u64(), Some(5_000_000_000));
    assert!(box_["SizeRw"].is_u64() && box_["SizeRootFs"].as_u64() > box_["SizeRw"].as_u64(), "{box_}");
    assert!(box_["ResolvConfPath"].as_str().is_some_and(|path| path.ends_with("/resolv.conf")));
    let known = [
        "Id",
        "Created",
        "Path",
        "Args",
        "State",
        "Image",
        "LogPath",
        "Name",
        "RestartCount",
        "Driver",
        "GraphDriver",
        "Mounts",
        "Config",
        "NetworkSettings",
        "HostnamePath",
        "HostsPath",
        "ExecIDs",
        "Platform",
    ];
    known.iter().for_each(|name| assert!(box_.get(name).is_some(), "{name} is missing"));
    assert_eq!(document(&env, &["box"]).get("SizeRw"), None);
}

#[test]
fn an_image_is_explored() {
    let env = env();
    let context = env.context();
    context.file("big", "x".repeat(100_000)).dockerfile(
        "FROM busybox\nCOPY big /data/big\nCOPY big /data/gone\nRUN chmod 600 /data/big\nRUN rm /data/gone && echo new > /data/new\n",
    );
    build(&env, &context, &["-t", "sample"]);
    let json: Value =
        serde_json::from_str(&env.lap(["image", "explore", "--json", "sample"]).ok().stdout_text()).unwrap();
    let layers = json["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 5);
    let change = |layer: usize, path: &str| {
        let mut files = layers[layer]["Files"].as_array().unwrap().iter();
        files.find(|file| file["Path"] == path).map(|file| file["Change"].as_str().unwrap().to_owned())
    };
    assert_eq!(change(1, "/data/big").as_deref(), Some("added"));
    assert_eq!(change(3, "/data/big").as_deref(), Some("attributes"));
    assert_eq!(change(4, "/data/gone").as_deref(), Some("deleted"));
    assert_eq!(change(4, "/data/new").as_deref(), Some("added"));
    assert_eq!(json["WastedSize"].as_u64(), Some(200_000));
    let size = |name: &str| json[name].as_u64().unwrap();
    assert_eq!(size("Size") - size("WastedSize"), size("VisibleSize"));
    assert!(layers[3]["CreatedBy"].as_str().unwrap().contains("chmod 600"));
    env.lap(["explore", "sample"]).ok().stdout_has(&[
        "CREATED BY",
        "HIDDEN BY",
        "/data/gone",
        "Wasted: 200kB",
    ]);
    let tree = env.lap(["images", "--tree"]).ok().stdout_text();
    let lines: Vec<Vec<&str>> = tree.lines().map(|line| line.split_whitespace().collect()).collect();
    let users = |image: &str, layer: usize| {
        let at = lines.iter().position(|line| line[0] == image).expect("the image has a line");
        lines[at + 1 + layer][lines[at + 1 + layer].len() - 2..].join(" ")
    };
    assert_eq!(
        (users("busybox:latest", 1), users("sample:latest", 1)),
        ("2 images".to_owned(), "2 images".to_owned())
    );
    assert_eq!(users("sample:latest", 2), "1 image");
    assert!(tree.contains("└─ linux/"), "{tree}");
    env.lap(["explore", "absent"]).fails(1).stderr_has(&["absent"]);
    let mut terminal = common::terminal::Terminal::start(&env, &["explore", "sample"]);
    terminal.wait_for("q: quit");
    terminal.write("q");
    assert_eq!(terminal.finish(), Some(0));
}

#[test]
fn help_completion_and_manual_pages_know_the_commands() {
    let env = env();
    let help = env.lap(["help"]).ok().stdout_text();
    let places: Vec<Option<usize>> = [
        "Common Commands:",
        "\n  run ",
        "Management Commands:",
        "\n  volume ",
        "\nCommands:",
        "\n  rename ",
        "Global Options:",
    ]
    .iter()
    .map(|text| help.find(text))
    .collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{help}");
    env.lap(["help", "run"]).ok().stdout_has(&["--publish", "--rm"]);
    for shell in ["bash", "zsh", "fish"] {
        env.lap(["completion", shell]).ok().stdout_has(&["rename", "no-trunc", "explore"]);
    }
    env.lap(["completion", "tcsh"]).fails(2);
    let pages = env.work().join("man");
    env.lap(["man"]).arg(&pages).ok();
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).expect(name);
    assert!(page("lap.1").contains("rename") && page("lap-run.1").contains("publish"));
    assert!(page("lap-image-explore.1").contains("JSON"));
    let file = env.work().join("file");
    std::fs::write(&file, "").unwrap();
    env.lap(["man"]).arg(file.join("below")).fails(1).stderr_has(&["cannot write manual pages to"]);
}

/// Whoever types a command of Docker that there is not is told why, and not that it was misspelt.
#[test]
fn commands_of_docker_that_there_are_not_say_why() {
    let env = testkit::TestEnv::new();
    for (words, why) in [
        (&["service", "ls"][..], "swarm"),
        (&["swarm", "init"], "lap compose"),
        (&["context", "use", "default"], "no daemon"),
        (&["plugin", "ls"], "no plugins"),
        (&["checkpoint", "ls", "c"], "CRIU"),
        (&["trust", "inspect", "x"], "lap key"),
    ] {
        let output = env.lap(words).fails(1);
        output.stderr_has(&[why, &format!("lap has no command {}", words[0])]);
    }
    env.lap(["nonsense"]).fails(2).stderr_has(&["unrecognized subcommand"]);
}

/// Flags of Docker that mean nothing here do no harm, and those that would change what happens are refused by name.
#[test]
fn flags_of_docker_are_known() {
    let env = env();
    let run = |flags: &[&str]| env.lap(["run", "--rm"]).args(flags).args(["busybox", "echo", "ran"]);
    for flags in [&["-q", "--disable-content-trust"][..], &["--runtime=runc"], &["--kernel-memory", "1g"]] {
        assert_eq!(run(flags).ok().stdout_text(), "ran\n", "{flags:?}");
    }
    for (flag, says) in [
        ("--runtime=nvidia", "unknown or invalid runtime name: nvidia"),
        ("--storage-opt=size=1G", "--storage-opt is not supported"),
        ("--cpu-count=2", "containers of Windows"),
        ("--use-api-socket", "needs the socket of a daemon"),
        ("--gpus=all", "nvidia.com/gpu"),
        ("--gpus=some", "invalid value for --gpus"),
    ] {
        run(&[flag]).fails(125).stderr_has(&[says]);
    }
    env.lap(["create", "--name", "noted", "--annotation", "a.b=c", "busybox"]).ok();
    assert_eq!(document(&env, &["noted"])["HostConfig"]["Annotations"]["a.b"], "c");
    // Flags without a value may have one, as in Go's programs; those of long ago are known again.
    let flags = [
        "run",
        "--rm=true",
        "-i=false",
        "--privileged=true",
        "busybox",
        "grep",
        "CapEff",
        "/proc/self/status",
    ];
    env.lap(flags).ok().stdout_has(&["CapEff"]);
    let short = env.lap(["run", "--rm", "-d=maybe", "busybox", "true"]).fails(2);
    short.stderr_has(&["unexpected argument"]);
    let old = env.lap(["run", "--rm", "-dns=1.2.3.4", "busybox", "true"]).fails(2);
    old.stderr_has(&["unknown shorthand flag: 'n' in -dns=1.2.3.4", "--dns=1.2.3.4"]);
    // What is not here is told before it is fetched.
    let missing = env.lap(["run", "--rm", "localhost:1/none", "true"]).fails(125);
    missing.stderr_has(&["Unable to find image 'localhost:1/none' locally"]);
    let context = env.context();
    context.dockerfile("FROM busybox\nRUN true\n");
    build(&env, &context, &["--rm", "--force-rm=true", "--compress", "-t", "x"]);
    env.lap(["build", "--squash"]).arg(context.path()).fails(2).stderr_has(&["--squash is not supported"]);
    for flags in [&["--scope", "swarm"][..], &["--ipam-driver", "other"], &["--ingress"], &["--config-only"]]
    {
        env.lap(["network", "create"])
            .args(flags)
            .arg("net")
            .fails(2)
            .stderr_has(&["not supported", flags[0]]);
    }
    assert_eq!(env.lap(["history", "--platform", "linux/amd64", "-q", "busybox"]).run().code(), Some(0));
    env.lap(["history", "--platform", "linux/s390x", "busybox"]).fails(1).stderr_has(&["linux/s390x"]);
}

#[test]
fn a_container_that_goes_with_its_command_is_shown_as_any_other() {
    let env = Containers::new();
    let flags = ["run", "--rm", "--name", "fg", "-m", "64m", "--cap-add", "SYS_TIME", "busybox", "sh", "-c"];
    let mut running = env.lap(flags).arg("echo ready; exec sleep 1000").spawn();
    running.wait_for("ready");
    let shown = document(&env, &["fg"]);
    assert_eq!(shown["State"]["Status"], "running");
    assert_eq!(shown["HostConfig"]["AutoRemove"], true);
    assert_eq!(shown["HostConfig"]["CapAdd"][0].as_str().unwrap().trim_start_matches("CAP_"), "SYS_TIME");
    let networks = shown["NetworkSettings"]["Networks"].as_object().unwrap();
    assert!(networks["bridge"]["IPAddress"].as_str().unwrap().contains('.'), "{networks:?}");
    env.lap(["rm", "-f", "fg"]).ok();
    running.finish();
    env.lap(["inspect", "fg"]).fails(1).stderr_has(&["No such object: fg"]);
}

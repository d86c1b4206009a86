//! Whole projects: what they are, and what they become.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::flags::{self, Role};
use crate::{Files, Loaded, Options, Project, build, canonical, load};

/// Files in memory, below `/p`.
struct Memory(BTreeMap<PathBuf, String>);

impl Files for Memory {
    fn read(&self, path: &Path) -> std::io::Result<Option<String>> {
        Ok(self.0.get(path).cloned())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }
}

fn options(environment: &[(&str, &str)]) -> Options {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Options {
        environment: environment.iter().map(pair).collect(),
        working_directory: "/p".into(),
        ..Options::default()
    }
}

fn with(files: &[(&str, &str)], options: &Options) -> Result<Loaded, String> {
    let file = |(path, text): &(&str, &str)| (Path::new("/p").join(path), (*text).to_owned());
    let memory = Memory(files.iter().map(file).collect());
    load(options, &memory).map_err(|error| error.to_string())
}

fn project(files: &[(&str, &str)]) -> Project {
    with(files, &options(&[])).unwrap().project
}

fn error(files: &[(&str, &str)]) -> String {
    with(files, &options(&[])).unwrap_err()
}

fn one(text: &str) -> Project {
    project(&[("compose.yaml", text)])
}

fn words(project: &Project, service: &str) -> String {
    let spec = flags::container(project, &project.services[service], Role::Replica(1)).unwrap();
    let own = spec.flags.iter().filter(|word| !word.contains("com.docker.compose"));
    own.chain([&spec.image]).chain(&spec.command).cloned().collect::<Vec<_>>().join(" ")
}

fn json(project: &Project, pointer: &str) -> serde_json::Value {
    canonical::json(&project.document()).pointer(pointer).cloned().unwrap_or_default()
}

#[test]
fn a_service_becomes_flags() {
    for (service, expected) in [
        ("image: x", "--network=name=p_default,alias=a x"),
        (
            "{image: x, command: sh -c 'a b', entrypoint: [e, f], network_mode: host}",
            "--network=host --entrypoint=e x f sh -c a b",
        ),
        ("{image: x, entrypoint: [], network_mode: none}", "--network=none --entrypoint= x"),
        (
            "{image: x, network_mode: none, environment: {A: 1, B: , C: 'x y'}}",
            "--env=A=1 --env=C=x y --network=none x",
        ),
        (
            "{image: x, network_mode: bridge, ports: ['8080:80', '127.0.0.1::53/udp']}",
            "--network=bridge --publish=8080:80/tcp --publish=127.0.0.1::53/udp x",
        ),
        (
            "{image: x, network_mode: none, volumes: ['v:/v:ro', './h:/h', '/anon', {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}]}",
            "--network=none --mount=type=volume,source=p_v,target=/v,readonly --mount=type=bind,source=/p/h,bind-create-src,target=/h --mount=type=volume,target=/anon --mount=type=tmpfs,tmpfs-size=1048576,tmpfs-mode=700,target=/t x",
        ),
        (
            "{image: x, network_mode: none, restart: always, init: true, tty: true, stop_grace_period: 1m30s, ulimits: {nofile: {soft: 1, hard: 2}, core: 0}}",
            "--init --tty --ulimit=core=0 --ulimit=nofile=1:2 --restart=always --stop-timeout=90 --network=none x",
        ),
        (
            "{image: x, network_mode: none, deploy: {resources: {limits: {cpus: '0.5', memory: 50M, pids: 7}}, restart_policy: {condition: on-failure, max_attempts: 3}}}",
            "--restart=on-failure:3 --cpus=0.5 --memory=50M --pids-limit=7 --network=none x",
        ),
        (
            "{image: x, networks: {n: {aliases: [z], ipv4_address: 10.0.0.5}, default: {priority: 5}}}",
            "--network=name=p_default,alias=a --network=name=p_n,alias=a,alias=z,ip=10.0.0.5 x",
        ),
        ("{image: x, network_mode: none, gpus: all}", "--gpus=count=all --network=none x"),
        (
            "{image: x, network_mode: none, gpus: [{device_ids: ['0', '2'], capabilities: gpu}, {driver: nvidia, count: 2}]}",
            "--gpus=device=0,device=2,count=2 --network=none x",
        ),
        (
            "{image: x, network_mode: none, volumes: [{type: image, source: i, target: /t, image: {subpath: s}}]}",
            "--network=none --mount=type=image,source=i,image-subpath=s,target=/t x",
        ),
        (
            "{image: x, network_mode: none, healthcheck: {test: [CMD, t], interval: 5s, retries: 2}}",
            "--network=none --health-interval=5000ms --health-retries=2 x",
        ),
        (
            "{image: x, network_mode: 'service:b', pid: 'service:b', links: ['b:c']}",
            "--network=container:p-b-1 --pid=container:p-b-1 --link=p-b-1:c x",
        ),
    ] {
        let text = format!(
            "services:\n  a: {{{}}}\n  b: {{image: y}}\nvolumes: {{v: }}\nnetworks: {{n: }}\n",
            service.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(service)
        );
        assert_eq!(words(&one(&text), "a"), expected, "{service}");
    }
}

#[test]
fn secrets_and_configs_are_files_of_the_host_or_in_memory() {
    let text = "services:\n  a:\n    image: x\n    network_mode: none\n    secrets: [f, {source: e, target: /own, mode: 0400, uid: '7'}]\n    configs: [c]\nsecrets:\n  f: {file: ./s.txt}\n  e: {environment: E}\nconfigs:\n  c: {content: \"hi ${E}\"}\n";
    let project = with(&[("compose.yaml", text)], &options(&[("E", "secret")])).unwrap().project;
    let spec = flags::container(&project, &project.services["a"], Role::Replica(2)).unwrap();
    assert!(
        spec.flags.contains(&"--mount=type=bind,source=/p/s.txt,target=/run/secrets/f,readonly".to_owned())
    );
    let shown: Vec<_> =
        spec.files.iter().map(|f| (f.target.as_str(), f.content.as_str(), f.mode, f.uid)).collect();
    assert_eq!(shown, [("/own", "secret", 0o400, 7), ("/c", "hi secret", 0o444, 0)]);
    assert!(!format!("{project:?}{spec:?}").contains("\"secret\""), "secrets are in no debug form");
    assert_eq!(spec.name, "p-a-2");
    let text = text.replace("secrets: [f,", "secrets: [{source: f, mode: 0400},");
    let told = with(&[("compose.yaml", &text)], &options(&[("E", "secret")])).unwrap().warnings;
    assert_eq!(
        told,
        ["compose.yaml:5: services.a.secrets: uid, gid and mode have no effect on a file of the host"]
    );
}

#[test]
fn the_hash_changes_with_what_the_container_is() {
    let hash = |text: &str, number| {
        let project = one(text);
        flags::container(&project, &project.services["a"], Role::Replica(number)).unwrap().hash
    };
    let text = "services: {a: {image: x}}";
    assert_eq!(hash(text, 1), hash(text, 2));
    assert_eq!(hash(text, 1), hash("services: {a: {image: x, scale: 3, profiles: []}, b: {image: y}}", 1));
    assert_ne!(hash(text, 1), hash("services: {a: {image: x, tty: true}}", 1));
}

#[test]
fn a_build_becomes_flags() {
    let text = "services:\n  a:\n    build:\n      context: ./app\n      dockerfile: D\n      args: {A: 1, E: , N: }\n      target: t\n      secrets: [s, e]\n      additional_contexts: {lib: ./lib, base: 'service:b'}\n      platforms: [linux/amd64]\n      cache_from: [r/c]\n  b:\n    image: named\n    build: {dockerfile_inline: FROM scratch}\nsecrets: {s: {file: s}, e: {environment: E}}\n";
    let project = with(&[("compose.yaml", text)], &options(&[("E", "v")])).unwrap().project;
    let spec = build::build(&project, &project.services["a"]).unwrap().unwrap();
    let own: Vec<&String> = spec.words.iter().filter(|word| !word.contains("com.docker")).collect();
    assert_eq!(
        own,
        [
            "--tag=p-a",
            "--file=/p/app/D",
            "--build-arg=A=1",
            "--build-arg=E=v",
            "--build-arg=N",
            "--cache-from=r/c",
            "--platform=linux/amd64",
            "--target=t",
            "--build-context=base=docker-image://named",
            "--build-context=lib=/p/lib",
            "--secret=id=s,src=/p/s",
            "/p/app"
        ]
    );
    assert_eq!((spec.secrets, spec.needs), (vec![("e".to_owned(), "v".to_owned())], vec!["b".to_owned()]));
    let inline = build::build(&project, &project.services["b"]).unwrap().unwrap();
    assert_eq!(inline.dockerfile.as_deref(), Some("FROM scratch"));
    assert!(inline.words.contains(&"--tag=named".to_owned()) && inline.words.last().unwrap() == "/p");
}

#[test]
fn variables_come_from_the_environment_before_files() {
    let files = [
        (
            "compose.yaml",
            "services: {a: {image: 'i:${TAG}', environment: [TAG, OTHER, NONE], env_file: [e.env, {path: no.env, required: false}]}}",
        ),
        (".env", "TAG=file\nOTHER=o\n"),
        ("e.env", "OWN=1\nOTHER=lost\nBOTH=${TAG}\n"),
    ];
    let at = |pairs: &[(&str, &str)], pointer: &str| {
        json(&with(&files, &options(pairs)).unwrap().project, pointer)
    };
    assert_eq!(at(&[], "/services/a/image"), "i:file");
    assert_eq!(at(&[("TAG", "outer")], "/services/a/image"), "i:outer");
    let environment = at(&[], "/services/a/environment");
    assert_eq!(environment.to_string(), r#"{"BOTH":"file","NONE":null,"OTHER":"o","OWN":"1","TAG":"file"}"#);
    let other = Options { env_files: vec!["e.env".into()], ..options(&[]) };
    let loaded = with(&files, &other).unwrap();
    assert_eq!(json(&loaded.project, "/services/a/image"), "i:");
    assert_eq!(loaded.warnings, ["The \"TAG\" variable is not set. Defaulting to a blank string."]);
}

#[test]
fn files_are_found_and_laid_over_each_other() {
    let files = [
        ("compose.yml", "services: {a: {image: x, command: one}}"),
        ("compose.override.yaml", "services: {a: {command: two}, b: {image: y}}"),
        ("more.yaml", "name: other\nservices: {a: {tty: true}}"),
    ];
    let found = project(&files);
    assert_eq!((found.name.as_str(), words(&found, "a").ends_with("x two")), ("p", true));
    let below = Options { working_directory: "/p/deep/down".into(), ..options(&[]) };
    assert_eq!(with(&files, &below).unwrap().project.directory, Path::new("/p"));
    let both = options(&[("COMPOSE_FILE", "compose.yml:more.yaml")]);
    let loaded = with(&files, &both).unwrap().project;
    assert_eq!((loaded.name.as_str(), json(&loaded, "/services/a/tty")), ("other", true.into()));
    let named = Options { name: Some("flag".to_owned()), ..both };
    assert_eq!(with(&files, &named).unwrap().project.name, "flag");
    assert!(error(&[]).starts_with("no configuration file provided: not found"));
    let gone = Options { files: vec!["gone.yaml".into()], ..options(&[]) };
    assert_eq!(with(&files, &gone).unwrap_err(), "open /p/gone.yaml: no such file or directory");
}

#[test]
fn services_extend_others_and_files_include_files() {
    let files = [
        (
            "compose.yaml",
            "include: [sub/inc.yaml]\nservices:\n  a: {extends: b, tty: true}\n  b: {image: x, environment: {A: 1}}\n  c: {extends: {service: base, file: sub/base.yaml}, image: own}\n",
        ),
        ("sub/inc.yaml", "services: {d: {image: 'd:${TAG}', volumes: ['./x:/x']}}\nvolumes: {shared: }\n"),
        ("sub/.env", "TAG=included\n"),
        (
            "sub/base.yaml",
            "services: {base: {extends: root, env_file: b.env}, root: {image: r, privileged: true}}",
        ),
        ("sub/b.env", "B=2\n"),
    ];
    let project = project(&files);
    assert_eq!(
        json(&project, "/services/a").to_string(),
        r#"{"environment":{"A":"1"},"image":"x","networks":{"default":null},"tty":true}"#
    );
    assert_eq!(json(&project, "/services/c/environment/B"), "2");
    assert_eq!(
        (json(&project, "/services/c/image"), json(&project, "/services/c/privileged")),
        ("own".into(), true.into())
    );
    assert_eq!(json(&project, "/services/d/image"), "d:included");
    assert_eq!(json(&project, "/services/d/volumes/0/source"), "/p/sub/x");
}

#[test]
fn circles_of_files_and_services_are_named() {
    let same = error(&[("compose.yaml", "services:\n  a: {extends: b}\n  b: {extends: a}\n")]);
    assert!(
        same.contains("compose.yaml:2: circular reference")
            || same.contains("compose.yaml:3: circular reference"),
        "{same}"
    );
    let files = error(&[
        ("compose.yaml", "include: [b.yaml]\nservices: {a: {image: x}}"),
        ("b.yaml", "include: [compose.yaml]\nservices: {b: {image: x}}"),
    ]);
    assert!(
        files.contains("b.yaml:1: circular reference: /p/compose.yaml -> /p/b.yaml -> /p/compose.yaml"),
        "{files}"
    );
    let nothing = error(&[
        ("compose.yaml", "services:\n  a: {extends: {service: z, file: o.yaml}}\n"),
        ("o.yaml", "services: {}"),
    ]);
    assert_eq!(nothing, "compose.yaml:2: cannot extend service \"z\" in o.yaml: service not found");
}

#[test]
fn profiles_choose_services() {
    let text = "services:\n  a: {image: x}\n  b: {image: x, profiles: [dev]}\n  c: {image: x, profiles: [dev, test], depends_on: [b]}\n";
    let names = |options: Options| -> Result<Vec<String>, String> {
        Ok(with(&[("compose.yaml", text)], &options)?.project.services.into_keys().collect())
    };
    assert_eq!(names(options(&[])).unwrap(), ["a"]);
    assert_eq!(names(options(&[("COMPOSE_PROFILES", "dev,other")])).unwrap(), ["a", "b", "c"]);
    assert_eq!(names(Options { profiles: vec!["*".to_owned()], ..options(&[]) }).unwrap(), ["a", "b", "c"]);
    assert_eq!(names(Options { services: vec!["b".to_owned()], ..options(&[]) }).unwrap(), ["a", "b"]);
    let needed = names(Options { profiles: vec!["test".to_owned()], ..options(&[]) }).unwrap_err();
    assert_eq!(
        needed,
        "service \"b\" is required by \"c\" but is disabled. Can be enabled by profiles [\"dev\"]"
    );
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    for (text, message) in [
        (
            "services:\n  a: {image: x, networks: [n]}\n",
            "compose.yaml:2: service \"a\" refers to undefined network n",
        ),
        (
            "services:\n  a: {image: x, volumes: ['v:/v']}\n",
            "compose.yaml:2: service \"a\" refers to undefined volume v",
        ),
        (
            "services:\n  a: {image: x, secrets: [s]}\n",
            "compose.yaml:2: service \"a\" refers to undefined secret s",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n",
            "compose.yaml:2: service \"a\" depends on undefined service \"b\"",
        ),
        (
            "services:\n  a: {tty: true}\n",
            "compose.yaml:2: services.a: has neither an image nor a build context specified",
        ),
        (
            "services:\n  a: {image: '${X'}\n",
            "compose.yaml:2: invalid interpolation format for services.a.image: \"${X\". You may need to escape any $ with another $",
        ),
        (
            "services:\n  a: {image: '${X:?say it}'}\n",
            "compose.yaml:2: error while interpolating services.a.image: required variable X is missing a value: say it",
        ),
        ("services:\n  a: {image: x, env_file: e}\n", "env file /p/e not found: needed by compose.yaml:2"),
        (
            "services:\n  a: {image: x, ports: ['x']}\n",
            "compose.yaml:2: services.a.ports: invalid port \"x\": ports are numbers from 1 to 65535, or ranges",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            "dependency cycle detected: a -> b -> a",
        ),
        (
            "services:\n  a: {image: x, secrets: [s]}\nsecrets: {s: {environment: NONE}}\n",
            "compose.yaml:2: services.a: environment variable \"NONE\" required by secret \"s\" is not set",
        ),
        (
            "services:\n  a: {image: x, scale: 2, container_name: c}\n",
            "compose.yaml:2: services.a: a service with container_name cannot have more than one container",
        ),
        (
            "services: {'a b': {image: x}}\n",
            "compose.yaml:1: services.a b: names of services have letters, digits, dots, hyphens and underscores only",
        ),
        (
            "name: A/b\nservices: {}\n",
            "invalid project name \"A/b\": must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number",
        ),
    ] {
        assert_eq!(error(&[("compose.yaml", text)]), message, "{text}");
    }
}

#[test]
fn chosen_services_bring_what_they_need() {
    let project = one(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: {c: {condition: service_healthy}}}\n  c: {image: x}\n  d: {image: x}\n",
    );
    let names = |chosen: &[&str], needed| -> Vec<String> {
        let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
        project.selected(&chosen, needed).unwrap().into_iter().map(|service| service.name.clone()).collect()
    };
    assert_eq!(names(&[], true), ["c", "b", "a", "d"]);
    assert_eq!(names(&["b"], true), ["c", "b"]);
    assert_eq!(names(&["a", "c"], false), ["c", "a"]);
    assert_eq!(project.selected(&["z".to_owned()], true).unwrap_err().to_string(), "no such service: z");
}

#[test]
fn networks_and_volumes_have_names_and_words() {
    let project = one(
        "services: {a: {image: x, networks: [n, e], volumes: ['v:/v']}}\nnetworks:\n  n: {internal: true, ipam: {config: [{subnet: 10.1.0.0/24, gateway: 10.1.0.1}]}, labels: [k=v]}\n  e: {external: true, name: theirs}\n  unused: {}\nvolumes:\n  v: {name: own, driver_opts: {type: tmpfs}}\n",
    );
    let services: Vec<_> = project.services.values().collect();
    let used: Vec<&str> =
        project.used_networks(&services).iter().map(|(_, network)| network.name.as_str()).collect();
    assert_eq!(used, ["theirs", "p_n"]);
    assert_eq!(
        project.networks["n"].words().join(" "),
        "--label k=v --subnet 10.1.0.0/24 --gateway 10.1.0.1 --internal"
    );
    assert_eq!(project.volumes["v"].words().join(" "), "--opt type=tmpfs");
    assert_eq!(json(&project, "/volumes/v/name"), "own");
    assert!(json(&project, "/networks/unused").is_null());
}

#[test]
fn hooks_are_commands_with_their_surroundings() {
    let project = one(
        "services:\n  a:\n    image: x\n    post_start:\n      - {command: sh -c 'a b', user: root, environment: {A: 1}}\n      \
         - {command: [c], privileged: true, working_dir: /w}\n    pre_stop: [{command: d}]\n",
    );
    let service = &project.services["a"];
    let [first, second] = &service.post_start()[..] else { panic!("two") };
    assert_eq!(
        (&first.command[..], &first.env[..]),
        (&["sh", "-c", "a b"].map(str::to_owned)[..], &["A=1".to_owned()][..])
    );
    assert_eq!((first.user.as_deref(), first.privileged), (Some("root"), false));
    assert_eq!(
        (second.command.len(), second.privileged, second.working_dir.as_deref()),
        (1, true, Some("/w"))
    );
    assert_eq!(service.pre_stop()[0].command, ["d"]);
}

//! The examples of `docs/ci`: their commands run here as they stand there, each step in a shell of its own as the service would
//! start it. `lap` and buildx are those of the tests; where the examples say `docker login`, `lap login` stands in.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::daemon::plugin;
use common::env;
use testkit::command::program_file;
use testkit::{Context, DockerRegistry, Lap, RegistryDoor, TestEnv};

/// The account of the registry: `ci` with the password `let me in`.
const ACCOUNT: &str = "ci:$2b$05$D4j7h/DPkjsJZWCLglVphOAypOvGxBs8FaXfF8lVtan9VFCFlFA3e\n";

/// A step of an example.
#[derive(Debug)]
struct Step {
    name: String,
    script: String,
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ci").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The steps of a workflow that run commands, in order. The example keeps to a form that can be read by lines.
fn steps_of_workflow(text: &str) -> Vec<Step> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut steps, mut name) = (Vec::new(), String::new());
    for (number, line) in lines.iter().enumerate() {
        if let Some(found) = line.trim().strip_prefix("- name: ") {
            name = found.to_owned();
        }
        let Some(command) = line.trim().strip_prefix("run: ") else { continue };
        let script = if command == "|" {
            let block = lines[number + 1..].iter();
            let block = block.take_while(|inner| inner.trim().is_empty() || indent(inner) > indent(line));
            block.map(|inner| inner.trim_start()).collect::<Vec<_>>().join("\n")
        } else {
            command.to_owned()
        };
        steps.push(Step { name: name.clone(), script });
    }
    steps
}

/// The scripts of a pipeline: what comes before each, and each.
fn scripts_of_pipeline(text: &str) -> (String, Vec<Step>) {
    let (mut before, mut jobs, mut job, mut list) = (Vec::new(), Vec::<Step>::new(), String::new(), "");
    for line in text.lines() {
        match line.trim() {
            "before_script:" => list = "before",
            "script:" => list = "script",
            trimmed => match trimmed.strip_prefix("- ").filter(|_| !list.is_empty()) {
                Some(command) if list == "before" => before.push(command.to_owned()),
                Some(command) => match jobs.iter_mut().find(|known| known.name == job) {
                    Some(known) => known.script.push_str(&format!("\n{command}")),
                    None => jobs.push(Step { name: job.clone(), script: command.to_owned() }),
                },
                None => list = "",
            },
        }
        if indent(line) == 0 && line.ends_with(':') {
            job = line.trim_end_matches(':').to_owned();
        }
    }
    (before.join("\n"), jobs)
}

/// A checkout with tests, a registry that asks who one is, and a directory of programs.
struct Service<'a> {
    env: &'a TestEnv,
    registry: DockerRegistry,
    checkout: Context,
    programs: PathBuf,
}

impl<'a> Service<'a> {
    fn new(env: &'a TestEnv) -> Option<Self> {
        let accounts = env.work().join("accounts");
        fs::write(&accounts, ACCOUNT).unwrap();
        let door = RegistryDoor { accounts: Some(accounts), ..RegistryDoor::default() };
        let registry = DockerRegistry::start_with(&door)?;
        let checkout = env.context();
        checkout.file("source", "content\n").dockerfile(
            "FROM busybox AS build\nCOPY source /source\nRUN tr a-z A-Z < /source > /made\n\
             FROM build AS test\nRUN grep -q CONTENT /made\nFROM busybox\nCOPY --from=build /made /made\n",
        );
        let programs = env.work().join("programs");
        fs::create_dir(&programs).unwrap();
        Some(Self { env, registry, checkout, programs })
    }

    fn program(&self, name: &str, script: &str) {
        program_file(&self.programs.join(name), format!("#!/bin/sh\n{script}\n").as_bytes());
    }

    /// Runs a step in the checkout.
    fn run(&self, step: &Step, variables: &[(&str, &str)]) -> String {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.programs.display());
        let home = self.env.home();
        let mut shell = Lap::new(Path::new("/bin/bash"));
        for (name, value) in variables {
            shell = shell.env(name, value);
        }
        let shell = shell.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &step.script]);
        let shell = shell.current_dir(self.checkout.path()).env("PATH", path).env("HOME", &home);
        shell
            .env("DOCKER_CONFIG", home.join(".docker"))
            .env("BUILDX_CONFIG", home.join("buildx"))
            .ok()
            .stdout_text()
    }
}

#[test]
fn the_workflow_for_github_builds_and_pushes() {
    let env = env();
    let (Some(buildx), Some(service)) = (plugin("docker-buildx"), Service::new(&env)) else { return };
    let (lap, store) = (testkit::binary::lap().display().to_string(), env.root().display().to_string());
    let pids = env.work().join("pids");
    service.program("lap", &format!("echo $$ >> {}\nexec {lap} --root {store} \"$@\"", pids.display()));
    service.program(
        "docker",
        &format!("case $1 in buildx) shift; exec {} \"$@\";; *) exec lap \"$@\";; esac", buildx.display()),
    );
    let steps = steps_of_workflow(&example("github-actions.yml"));
    let image = service.registry.reference("team/app");
    let builder = format!("unix://{}/run/buildkit.sock", env.work().display());
    let output = env.work().join("output").display().to_string();
    let variables = [
        ("REGISTRY", service.registry.address()),
        ("IMAGE", &image),
        ("BUILDER", &builder),
        ("GITHUB_ACTOR", "ci"),
        ("TOKEN", "let me in"),
        ("GITHUB_SHA", "0123abc"),
        ("GITHUB_OUTPUT", &output),
    ];
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    let expected =
        ["Install", "Start the builder", "Log in", "Test", "Build and push", "Tell what was pushed"];
    assert_eq!(names, expected);
    // Installed is what is tested.
    for step in &steps[1..] {
        service.run(step, &variables);
    }
    let told = fs::read_to_string(&output).unwrap();
    let digest = told.trim().strip_prefix("digest=").unwrap();
    env.lap(["pull", &format!("{image}@{digest}")]).ok();
    assert_eq!(
        env.lap(["run", "--rm", &format!("{image}@{digest}"), "cat", "/made"]).ok().stdout_text(),
        "CONTENT\n"
    );
    for pid in fs::read_to_string(&pids).unwrap().lines() {
        // All but the builder have ended, and their numbers may be others' by now.
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&command).contains(&store) {
            continue;
        }
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
}

#[test]
fn the_pipeline_for_gitlab_begins_where_the_last_runner_ended() {
    let env = env();
    let Some(service) = Service::new(&env) else { return };
    let lap = testkit::binary::lap().display().to_string();
    let (before, jobs) = scripts_of_pipeline(&example("gitlab-ci.yml"));
    assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["test", "image"]);
    let image = service.registry.reference("team/app");
    let pipeline = |commit: &str, store: &str| {
        // Each runner is empty but for what GitLab keeps.
        service.program("lap", &format!("exec {lap} \"$@\""));
        env.lap(["save", "-o"]).arg(env.work().join("base.tar")).arg("busybox").ok();
        Lap::new(Path::new(&lap)).args(["--root", store, "load", "-i"]).arg(env.work().join("base.tar")).ok();
        let variables = [
            ("IMAGE", image.as_str()),
            ("LAPSTRAKE_ROOT", store),
            ("CI_REGISTRY", service.registry.address()),
            ("CI_REGISTRY_USER", "ci"),
            ("CI_REGISTRY_PASSWORD", "let me in"),
            ("CI_COMMIT_SHORT_SHA", commit),
        ];
        let run = |job: &Step| {
            let script = format!("{before}\n{}", job.script);
            service.run(&Step { name: job.name.clone(), script }, &variables)
        };
        jobs.iter().map(run).collect::<Vec<_>>().join("\n")
    };
    let store = |name: &str| env.work().join(name).display().to_string();
    assert!(pipeline("first", &store("first-runner")).contains("context"));
    // The second runner has all steps from the first one.
    let cached = Lap::new(Path::new(&lap))
        .args(["--root", &store("third-runner"), "load", "-i"])
        .arg(env.work().join("base.tar"));
    cached.ok();
    pipeline("second", &store("second-runner"));
    let build = Lap::new(Path::new(&lap))
        .args(["--root", &store("third-runner"), "build", "--progress", "plain"])
        .args(["--cache-from", "type=records,src=.lapstrake/steps", "."])
        .current_dir(service.checkout.path())
        .ok();
    assert!(build.stderr_text().contains("CACHED"), "{build}");
    env.lap(["pull", &format!("{image}:second")]).ok();
}

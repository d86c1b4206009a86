//! `--pull`: when registries are asked for images, how often, and what is done where they cannot be.

mod common;

use common::image_id;
use testkit::registry::Fault;
use testkit::{Context, FaultyRegistry, TestEnv, images};

/// An environment that knows a registry's image from before.
struct Known {
    env: TestEnv,
    registry: FaultyRegistry,
    context: Context,
    base: String,
}

impl Known {
    fn new() -> Self {
        let registry = FaultyRegistry::start();
        registry.put_image("base", "latest", &images::busybox());
        let base = registry.reference("base:latest");
        let env = TestEnv::new();
        let context = env.context();
        context.dockerfile(&format!("FROM {base}\nRUN echo made > /made\n"));
        let known = Self { env, registry, context, base };
        known.build("--pull=missing").ok();
        known
    }

    fn build(&self, flag: &str) -> testkit::Lap {
        self.env.lap(["build", "--progress", "plain", "-t", "x", flag]).arg(self.context.path())
    }

    fn run(&self, when: &str) -> testkit::Lap {
        self.env.lap(["run", "--rm", "--pull", when, &self.base, "true"])
    }

    /// The requests since `before`.
    fn requests(&self, before: usize) -> Vec<String> {
        self.registry.seen("/v2/base/").split_off(before).into_iter().map(|seen| seen.line).collect()
    }

    fn seen(&self) -> usize {
        self.registry.seen("/v2/base/").len()
    }
}

#[test]
fn what_has_not_changed_costs_no_request_or_one() {
    let known = Known::new();
    let id = image_id(&known.env, "x");
    for (flag, requests) in [
        ("--pull=missing", 0),
        ("--pull=never", 0),
        ("--pull=false", 0),
        ("--pull=newer", 1),
        ("--pull=always", 1),
        ("--pull", 1),
    ] {
        let before = known.seen();
        known.build(flag).ok();
        let seen = known.requests(before);
        assert_eq!(seen.len(), requests, "{flag}: {seen:?}");
        assert!(seen.iter().all(|line| line.starts_with("HEAD ")), "{flag}: {seen:?}");
        assert_eq!(image_id(&known.env, "x"), id);
    }
    for (when, requests) in [("missing", 0), ("never", 0), ("newer", 1), ("always", 1)] {
        let before = known.seen();
        known.run(when).ok();
        let seen = known.requests(before);
        assert_eq!(seen.len(), requests, "{when}: {seen:?}");
    }
}

#[test]
fn what_has_changed_is_fetched_if_it_is_asked_for() {
    let known = Known::new();
    let id = image_id(&known.env, "x");
    known.registry.put_image(
        "base",
        "latest",
        &images::busybox().configure(|config| config.config.env.push("CHANGED=yes".to_owned())),
    );
    for flag in ["--pull=missing", "--pull=never"] {
        known.build(flag).ok();
        assert_eq!(image_id(&known.env, "x"), id, "{flag}");
    }
    known.build("--pull=newer").ok();
    assert_ne!(image_id(&known.env, "x"), id);
    let shown =
        known.env.lap(["run", "--rm", "--pull", "never", &known.base, "sh", "-c", "echo $CHANGED"]).ok();
    assert_eq!(shown.stdout_text(), "yes\n");
}

#[test]
fn without_its_registry_a_build_has_what_the_store_has() {
    let known = Known::new();
    known.registry.inject(u32::MAX, "/v2/base/", Fault::Status(403, None));
    for flag in ["--pull=missing", "--pull=never"] {
        known.build(flag).ok();
        known.run(flag.trim_start_matches("--pull=")).ok();
    }
    let newer = known.build("--pull=newer").ok();
    newer.stderr_has(&["is what the store has, its registry cannot be asked"]);
    known.run("newer").ok();
    known.build("--pull").fails(1);
    known.run("always").fails(125);
    let unknown = known.env.context();
    unknown.dockerfile(&format!("FROM {}\n", known.registry.reference("other:latest")));
    let never = known.env.lap(["build", "--pull=never"]).arg(unknown.path()).fails(1);
    never.stderr_has(&["no such image"]);
    assert_eq!(known.registry.seen("/v2/other/").len(), 0);
    let wrong = known.env.lap(["build", "--pull=sometimes"]).arg(unknown.path()).fails(2);
    wrong.stderr_has(&["use always, newer, missing or never"]);
}

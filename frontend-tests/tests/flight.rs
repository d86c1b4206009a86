//! Builds of several processes at once: a step runs in one of them and the others wait for it, whatever becomes of the
//! one that has it.

mod common;

use common::{build, env, outcome};
use nix::sys::signal::Signal;
use testkit::{Context, Running, TestEnv};

/// A step that hangs when it runs for the first time. The cache mount counts how often it ran.
const HANGS_ONCE: &str = "FROM busybox\nRUN --mount=type=cache,id=runs,target=/runs echo x >> /runs/n; \
    echo run-$(wc -l < /runs/n); [ $(wc -l < /runs/n) -ge 2 ] || sleep 1000; echo made > /made\n";

/// How often the step ran.
fn runs(env: &TestEnv) -> String {
    let asking = env.context();
    asking.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,id=runs,target=/runs echo ran-$(wc -l < /runs/n)-times\n",
    );
    let text = build(env, &asking, &["--no-cache"]).stderr_text();
    let mut numbers = text.lines().filter_map(|line| line.split_once(" ran-")?.1.strip_suffix("-times"));
    let told = numbers.find(|number| number.parse::<u32>().is_ok());
    told.unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn start(env: &TestEnv, context: &Context) -> Running {
    env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn()
}

/// One build hangs in the step and two wait for it; then the first gets `signal`.
fn one_of_two_takes_over(signal: Signal) {
    let env = env();
    let context = env.context();
    context.dockerfile(HANGS_ONCE);
    let mut first = start(&env, &context);
    first.wait_for("run-1");
    let mut waiting = [start(&env, &context), start(&env, &context)];
    waiting.iter_mut().for_each(|build| build.wait_for("RUN --mount"));
    first.signal(signal);
    first.finish();
    let mut ends: Vec<String> = waiting
        .into_iter()
        .map(|build| {
            let output = build.finish();
            assert_eq!(output.code(), Some(0), "{output}");
            outcome(&output, "RUN --mount")
        })
        .collect();
    ends.sort();
    // The second is told as one that ran, since it had begun; what it gives is the other's result.
    assert_eq!(runs(&env), "2", "{ends:?}");
    env.lap(["store", "check"]).ok();
}

#[test]
fn when_the_build_that_runs_a_step_is_killed_one_that_waits_takes_over() {
    one_of_two_takes_over(Signal::SIGKILL);
}

#[test]
fn when_it_is_cancelled_the_others_are_not() {
    one_of_two_takes_over(Signal::SIGINT);
}

#[test]
fn a_build_that_waits_can_be_cancelled_and_the_one_that_runs_goes_on() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,id=runs,target=/runs echo x >> /runs/n; echo begun; \
         until [ -e /runs/go ]; do sleep 0.05; done\n",
    );
    let mut running = start(&env, &context);
    running.wait_for("begun");
    let mut waiting = start(&env, &context);
    waiting.wait_for("RUN --mount");
    waiting.signal(Signal::SIGINT);
    assert_eq!(waiting.finish().code(), Some(130));
    let releasing = env.context();
    releasing.dockerfile("FROM busybox\nRUN --mount=type=cache,id=runs,target=/runs touch /runs/go\n");
    build(&env, &releasing, &[]);
    let output = running.finish();
    assert_eq!((output.code(), outcome(&output, "RUN --mount")), (Some(0), "DONE".to_owned()), "{output}");
    assert_eq!(runs(&env), "1");
}

#[test]
fn many_builds_run_each_step_once_although_the_one_that_works_is_killed() {
    let env = env();
    let context = env.context();
    let step = |name: &str, then: &str| {
        format!(
            "RUN --mount=type=cache,id=runs,target=/runs echo x >> /runs/{name}; cp /proc/sys/kernel/random/uuid /{name}; {then}\n"
        )
    };
    // The first one to come here hangs. What it needs is kept by then.
    let hang = "mkdir /runs/second-came || exit 0; echo at-''it; sleep 1000";
    context.dockerfile(&format!(
        "FROM busybox AS left\n{}FROM busybox AS right\n{}COPY --from=left /left /\n{}FROM busybox\nCOPY --from=left /left /\nCOPY --from=right /right /middle /\n{}",
        step("left", "true"),
        step("middle", "true"),
        step("right", hang),
        step("last", "true"),
    ));
    let named =
        |name: &str| env.lap(["build", "--progress", "plain", "-t", name]).arg(context.path()).spawn();
    let mut first = named("first");
    first.wait_for("at-it");
    let others = ["a", "b", "c", "d"].map(|name| (name, named(name)));
    first.signal(Signal::SIGKILL);
    first.finish();
    let ids: std::collections::BTreeSet<String> = others
        .into_iter()
        .map(|(name, build)| {
            let output = build.finish();
            assert_eq!(output.code(), Some(0), "{output}");
            common::image_id(&env, name)
        })
        .collect();
    assert_eq!(ids.len(), 1, "all have the same results");
    let asking = env.context();
    asking.dockerfile("FROM busybox\nRUN --mount=type=cache,id=runs,target=/runs cd /runs; wc -l left middle right last > /counts\n");
    let counts = common::build_tree(&env, &asking, &[]).text("counts");
    let counts: Vec<&str> = counts.split_whitespace().collect();
    assert_eq!(counts[..8], ["1", "left", "1", "middle", "2", "right", "1", "last"]);
    env.lap(["store", "check"]).ok();
}

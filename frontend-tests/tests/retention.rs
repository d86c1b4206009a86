//! Automatic collection after a build, by rules in a file.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{build, env, image_id, outcome};
use testkit::wait::until;
use testkit::{Context, Lap, TestEnv};

/// How often a store is collected at most.
const MINUTE: Duration = Duration::from_secs(60);

/// Large and quick to make, so the first to go.
const LARGE: &str = "FROM busybox\nARG N\nRUN echo $N >/n && dd if=/dev/zero of=/large bs=1024 count=4096\n";

fn write_rules(env: &TestEnv, text: &str) -> PathBuf {
    let file = env.home().join(".config/lapstrake/lapstrake.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

fn context(env: &TestEnv, dockerfile: &str) -> Context {
    let context = env.context();
    context.dockerfile(dockerfile);
    context
}

/// A build that collects when it has told its result.
fn build_and_collect(env: &TestEnv, context: &Context, args: &[&str]) -> Lap {
    env.lap(["build", "--progress", "plain"]).env("LAPSTRAKE_GC", "wait").args(args).arg(context.path())
}

/// The kinds of the records of the cache, and how many bytes they take without what images need.
fn cache(env: &TestEnv) -> (Vec<String>, u64) {
    let text = env.lap(["builder", "du", "--format", "{{.Type}} {{.Shared}} {{.Size}}"]).ok().stdout_text();
    let records: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let own =
        records.iter().filter(|record| record[1] == "false").map(|record| record[2].parse::<u64>().unwrap());
    (records.iter().map(|record| record[0].to_owned()).collect(), own.sum())
}

#[test]
fn the_cache_stays_below_its_limit_without_being_asked() {
    let env = env();
    write_rules(&env, "[[worker.oci.gcpolicy]]\nmaxUsedSpace = \"6MB\"\n");
    let context = context(&env, LARGE);
    for n in ["1", "2", "3"] {
        build(&env, &context, &["--build-arg", &format!("N={n}"), "-t", "made"]);
        env.lap(["image", "prune", "-f"]).ok();
    }
    let (_, before) = cache(&env);
    assert!(before > 8 << 20, "{before}");
    let begun = Instant::now();
    build_and_collect(&env, &context, &["--build-arg", "N=4", "-t", "new"]).ok();
    let (_, after) = cache(&env);
    assert!(after <= 6 << 20, "{after}");
    // What the build has made is not touched.
    let again = build(&env, &context, &["--build-arg", "N=4", "-t", "new"]);
    assert_eq!(outcome(&again, "RUN echo"), "CACHED");
    env.lap(["run", "--rm", "new", "ls", "/large"]).ok();
    // Within a minute of the last time, nothing is done.
    for n in ["5", "6", "7"] {
        build_and_collect(&env, &context, &["--build-arg", &format!("N={n}"), "-t", "made"]).ok();
    }
    env.lap(["image", "prune", "-f"]).ok();
    let (_, grown) = cache(&env);
    let collected = env.lap(["store", "gc", "--if-due"]).ok().stdout_text();
    assert!(begun.elapsed() > MINUTE || (grown > 6 << 20 && collected.is_empty()), "{grown} {collected}");
    env.lap(["store", "gc"]).ok().stdout_has(&["Total reclaimed space: "]);
    assert!(cache(&env).1 <= 6 << 20);
}

#[test]
fn a_build_does_not_wait_for_the_collection() {
    let env = env();
    write_rules(&env, "[[worker.oci.gcpolicy]]\nall = true\n");
    build(&env, &context(&env, LARGE), &["--build-arg", "N=1", "-t", "made"]);
    env.lap(["image", "prune", "-af"]).ok();
    env.load(&testkit::images::busybox());
    let small = context(&env, "FROM busybox\nRUN true\n");
    env.lap(["build", "-t", "small"]).env("LAPSTRAKE_GC", "background").arg(small.path()).ok();
    // It goes on when the build has ended, and says that it has begun first: whoever comes then is not due.
    let is_done = || !cache(&env).0.contains(&"regular".to_owned());
    until("the collection came to its end", is_done);
    env.lap(["run", "--rm", "small", "true"]).ok();
    // Nothing is left behind that would meet the removal of the store.
    while env.lap(["store", "gc"]).ok().stdout_text() != "Total reclaimed space: 0B\n" {}
}

#[test]
fn rules_choose_by_kind_and_age() {
    let env = env();
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nCOPY file /\nRUN --mount=type=cache,target=/c dd if=/dev/zero of=/c/f bs=1024 count=2000\n",
    );
    context.file("file", "x");
    build(&env, &context, &["-t", "made"]);
    let kinds = |env: &TestEnv| cache(env).0;
    // The hashes of a context are kept once its files are older than a tick of the clock; so another build.
    let all = kinds(&env);
    assert!(all.contains(&"exec.cachemount".to_owned()) && all.contains(&"regular".to_owned()), "{all:?}");
    let collect = |rules: &str| {
        write_rules(&env, rules);
        env.lap(["store", "gc"]).ok().stdout_text()
    };
    let mounts = "[[worker.oci.gcpolicy]]\nfilters = [\"type==exec.cachemount\", \"type==source.local\"]\n";
    assert_eq!(collect(&format!("{mounts}keepDuration = \"48h\"\n")), "Total reclaimed space: 0B\n");
    assert_eq!(
        collect(&format!("[worker.oci]\ngc = true\n{mounts}reservedSpace = \"1GB\"\n")),
        "Total reclaimed space: 0B\n"
    );
    collect(mounts);
    assert!(kinds(&env).iter().all(|kind| kind == "regular"), "{:?}", kinds(&env));
    assert!(!kinds(&env).is_empty());
    env.lap(["run", "--rm", "made", "cat", "/file"]).ok().stdout_has(&["x"]);
}

#[test]
fn what_is_in_use_stays_whatever_the_rules_say() {
    let env = env();
    write_rules(&env, "[[worker.oci.gcpolicy]]\nall = true\n");
    let context = context(
        &env,
        "FROM busybox AS first\nRUN echo first >/first\nFROM first\n\
         RUN --mount=type=cache,target=/c echo x >/c/f && echo be''gun && exec sleep 600\n",
    );
    let mut running = env.lap(["run", "--rm", "busybox", "sh", "-c", "echo up; exec sleep 600"]).spawn();
    running.wait_for("up");
    let mut building = env.lap(["build", "--progress", "plain"]).arg(context.path()).spawn();
    building.wait_for("begun");
    env.lap(["image", "prune", "-af"]).ok();
    env.lap(["store", "gc"]).ok();
    let used = env.lap(["builder", "du", "--filter", "inuse", "--format", "{{.Type}}"]).ok().stdout_text();
    assert!(used.contains("exec.cachemount"), "{used}");
    env.lap(["run", "--rm", "busybox", "true"]).ok();
    for process in [running, building] {
        process.signal(nix::sys::signal::Signal::SIGKILL);
        process.finish();
    }
    env.lap(["store", "check"]).ok();
}

#[test]
fn mistakes_in_the_rules_stop_the_build_before_it_begins() {
    let env = env();
    let context = context(&env, "FROM busybox\nRUN true\n");
    let file = write_rules(&env, "# rules\n[[worker.oci.gcpolicy]]\nmaxUsedSpce = \"6MB\"\n");
    let failed = env.lap(["build"]).arg(context.path()).fails(1);
    let place = format!("{}, line 3: unknown field `maxUsedSpce`, expected one of", file.display());
    failed.stderr_has(&[&place, "maxUsedSpace"]);
    let elsewhere = env.work().join("rules.toml");
    std::fs::write(&elsewhere, "[worker.oci]\ngc = false\n").unwrap();
    env.lap(["build"]).env("LAPSTRAKE_CONFIG", &elsewhere).arg(context.path()).ok();
    let missing = env.work().join("nothing.toml");
    env.lap(["build"])
        .env("LAPSTRAKE_CONFIG", &missing)
        .arg(context.path())
        .fails(1)
        .stderr_has(&["nothing.toml"]);
    env.lap(["build"])
        .env("LAPSTRAKE_CONFIG", &elsewhere)
        .env("LAPSTRAKE_GC", "perhaps")
        .arg(context.path())
        .fails(2);
}

#[test]
fn too_little_room_is_told_before_a_build() {
    let env = env();
    let context = context(&env, "FROM busybox\nRUN true\n");
    write_rules(&env, "[worker.oci]\nminFreeSpace = \"4000TB\"\n");
    let warned = build(&env, &context, &["-t", "made"]);
    let root = env.root().display().to_string();
    warned.stderr_has(&[
        "LowDiskSpace",
        &format!("{root} has "),
        "free, and should have 4.4PB; lap builder prune",
    ]);
    write_rules(&env, "[worker.oci]\nminFreeSpace = 1\n");
    let quiet = build(&env, &context, &["-t", "made"]).stderr_text();
    assert!(!quiet.contains("LowDiskSpace"), "{quiet}");
    assert!(!image_id(&env, "made").is_empty());
}

#[test]
fn records_are_listed_filtered_and_pruned_by_what_they_are() {
    let env = env();
    let context = context(
        &env,
        "FROM busybox\nRUN echo one >/one\nRUN --mount=type=cache,target=/c echo two >/c/two\nRUN echo three >/three\n",
    );
    build(&env, &context, &[]);
    build(&env, &context, &[]);
    env.lap(["image", "prune", "-f"]).ok();
    let text = env.lap(["buildx", "du"]).ok().stdout_text();
    assert!(text.starts_with("ID ") && text.contains("LAST ACCESSED"), "{text}");
    for total in ["Shared:", "Private:", "Reclaimable:", "Total:"] {
        assert!(text.contains(total), "{text}");
    }
    let verbose = env.lap(["builder", "du", "--verbose", "--filter", "description~=echo one"]).ok();
    verbose.stdout_has(&["RUN echo one >/one", "Usage count:    ", "Build time:", "Type:           regular"]);
    let ids = |filter: &[&str]| -> Vec<String> {
        let filters = filter.iter().flat_map(|filter| ["--filter", filter]);
        let text = env.lap(["builder", "du", "--format", "{{.ID}}"]).args(filters).ok().stdout_text();
        text.lines().map(str::to_owned).collect()
    };
    let [one, three] =
        ["description~=echo one", "description~=echo three"].map(|filter| ids(&[filter]).remove(0));
    assert_eq!(ids(&["mutable", "type=exec.cachemount"]).len(), 1);
    assert!(ids(&["immutable"]).contains(&one) && ids(&["type=source.git.checkout"]).is_empty());
    assert!(ids(&["inuse"]).is_empty() && ids(&["until=24h"]).is_empty());
    // Others stand on the first.
    assert_eq!(
        env.lap(["builder", "prune", "-f", "--filter", &format!("id={one}")]).ok().stdout_text(),
        "Total reclaimed space: 0B\n"
    );
    let pruned =
        env.lap(["builder", "prune", "-f", "--filter", "description~=echo three"]).ok().stdout_text();
    assert!(
        pruned.starts_with(&format!("Deleted build cache objects:\n{three}\n\nTotal reclaimed space: ")),
        "{pruned}"
    );
    assert_eq!(ids(&[&format!("id={one}")]), [one]);
    env.lap(["builder", "prune", "-f", "--filter", "kind=regular"])
        .fails(2)
        .stderr_has(&["there is no property \"kind\""]);
    env.lap(["image", "prune", "-f", "--filter", "type=regular"]).fails(2);
}

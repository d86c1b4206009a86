//! Every kind of work done once, small: whether it can be measured, not how fast it is.

use std::path::Path;
use std::time::Duration;

use testkit::{Lap, binary, judges, privilege};

/// Works of every part of the results, by their names there.
const WORKS: [&str; 7] = [
    "rebuild with nothing changed, 20 steps, 50 files",
    "COPY of 50,000 files of 4 KiB, first time",
    "COPY of one file of 1 GiB",
    "pull to first process of an image of 50,000 files",
    "prune of an image of 50,000 files",
    "docker's API: run --rm of true",
    "engine: rm -f of a sleeping container",
];

#[test]
fn every_kind_of_work_can_be_measured() {
    let programs = ["docker", "docker-registry", "ip", "iptables"].map(judges::program);
    if privilege::root().is_none() || programs.iter().any(Option::is_none) {
        return;
    }
    let bench = Lap::new(Path::new(env!("CARGO_BIN_EXE_bench")));
    let output = bench
        .args(["--alone", "--small", "--rounds", "1", "--lap"])
        .arg(binary::lap())
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CARGO_TARGET_DIR", binary::cache_dir().join(".."))
        .deadline(Duration::from_secs(900))
        .ok();
    let table = output.stdout_text();
    for work in WORKS {
        assert!(table.contains(&format!("| {work} | lap")), "{work} is not in the table\n{output}");
    }
    assert!(table.matches("| *limit here: ").count() >= WORKS.len(), "limits are missing\n{output}");
}

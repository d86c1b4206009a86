//! Packed layers as they are in a store, and as containers have them mounted.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::Pid;
use testkit::TestEnv;

use super::names_in;

/// `EROFS_SUPER_MAGIC_V1` (`linux/magic.h`).
const EROFS: i64 = 0xe0f5_e1e2;

/// In which form each layer of the store is.
pub(crate) fn forms(env: &TestEnv) -> Vec<&'static str> {
    let layers = env.root().join("snapshots-v1");
    let form = |name: &String| {
        let has = |file: &str| layers.join(name).join(file).exists();
        match (has("index") && has("tar"), has("fs")) {
            (true, false) => "packed",
            (false, true) => "dir",
            _ => "something else",
        }
    };
    names_in(&layers).iter().map(form).collect()
}

/// The process that looks after a container.
pub(crate) fn supervisor(env: &TestEnv, name: &str) -> Pid {
    let pid = env.lap(["inspect", "-f", "{{.State.Pid}}", name]).ok().stdout_text();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(parent.trim().parse().unwrap())
}

/// The EROFS filesystems that the container's layers are, by their device numbers.
pub(crate) fn filesystems(env: &TestEnv, name: &str) -> BTreeSet<u64> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", supervisor(env, name))).unwrap();
    let open = open.map(|entry| entry.unwrap().path());
    let packed = open.filter(|path| rustix::fs::statfs(path).is_ok_and(|found| found.f_type == EROFS));
    let found: BTreeSet<u64> = packed.map(|path| std::fs::metadata(path).unwrap().dev()).collect();
    assert!(!found.is_empty(), "{name} has no packed layers");
    found
}

/// Waits until files that were written just now are old enough to be remembered by their status: a clock's tick, and something.
pub(crate) fn let_files_age() {
    let written = std::time::Instant::now();
    while written.elapsed() < std::time::Duration::from_millis(100) {
        std::thread::yield_now();
    }
}

//! Two hundred containers come and go, in every way that containers have, and nothing of them stays on the machine: no
//! mount, interface, control group, process, firewall rule, row or file.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use common::containers::Containers;
use common::names_in;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CONTAINERS: usize = 200;

/// So many at once.
const AT_ONCE: usize = 10;

/// What one environment has on this machine.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: Vec<String>,
    interfaces: BTreeSet<String>,
    rules: String,
    processes: Vec<String>,
    volumes: String,
    files: BTreeSet<PathBuf>,
}

impl Machine {
    fn of(env: &Containers) -> Self {
        let (root, run) = (env.root(), env.run());
        let (root_text, run_text) = (root.display().to_string(), run.display().to_string());
        let is_ours = |text: &str| text.contains(&root_text) || text.contains(&run_text);
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let bridges = env.bridges();
        let mut interfaces = BTreeSet::new();
        let mut rules = String::new();
        for bridge in &bridges {
            let ports = names_in(&Path::new("/sys/class/net").join(bridge).join("brif"));
            interfaces.extend(ports.into_iter().map(|port| format!("{bridge}/{port}")));
            let table = format!("lapstrake_{bridge}");
            let listed = Command::new("nft").args(["list", "table", "inet", &table]).output().unwrap();
            rules += &String::from_utf8_lossy(&listed.stdout);
        }
        interfaces.extend(bridges);
        let mut files = BTreeSet::new();
        let stored =
            ["containers-v1", "volumes-v1", "snapshots-v1", "ingest", "trash"].map(|name| root.join(name));
        let networks = names_in(&run.join("networks"));
        let leases = networks.iter().map(|name| run.join("networks").join(name).join("leases"));
        for dir in leases.chain(stored) {
            files.extend(names_in(&dir).into_iter().map(|name| dir.join(name)));
        }
        Self {
            mounts: mountinfo.lines().filter(|line| is_ours(line)).map(str::to_owned).collect(),
            interfaces,
            rules,
            processes: processes(&is_ours),
            volumes: env.lap(["volume", "ls", "-q"]).ok().stdout_text(),
            files,
        }
    }
}

/// What there is when it is as wanted, or never comes to be: the kernel removes the interfaces of a network namespace a moment
/// after its last process.
fn settled(env: &Containers, wanted: impl Fn(&Machine) -> bool) -> Machine {
    let deadline = Instant::now() + testkit::wait::PATIENCE;
    loop {
        let machine = Machine::of(env);
        if wanted(&machine) || Instant::now() > deadline {
            return machine;
        }
    }
}

/// The processes whose command line tells that they are ours. Zombies have none.
fn processes(is_ours: &dyn Fn(&str) -> bool) -> Vec<String> {
    let pids = names_in(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
    let lines = pids.filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    lines.filter(|line| is_ours(line)).collect()
}

/// The control groups below this directory whose names hold one of these ids.
fn groups(dir: &Path, ids: &[String], found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name().into_string().unwrap_or_default();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            found.push(entry.path());
        }
        groups(&entry.path(), ids, found);
    }
}

/// One container from its beginning to its end; answers its id.
fn live(env: &Containers, number: usize) -> String {
    let name = format!("c{number}");
    let detached = |flags: &[&str]| {
        let command = ["busybox", "sh", "-c", "trap 'exit 0' TERM; echo up; sleep 1000 & wait"];
        env.detached(&[&["--name", &name], flags, &command].concat())
    };
    match number % 5 {
        0 => {
            let cidfile = env.work().join(format!("{name}.cid"));
            let cidfile_text = cidfile.to_str().unwrap();
            let flags =
                ["--rm", "--cidfile", cidfile_text, "--network", "net", "-p", "80", "-v", "/anonymous"];
            env.lap(["run"]).args(flags).args(["busybox", "touch", "/anonymous/f"]).ok();
            std::fs::read_to_string(cidfile).unwrap()
        }
        1 => {
            let id = detached(&["-p", "127.0.0.1::80/udp", "--memory", "64m", "-v", "kept:/data"]);
            env.lap(["rm", "-f", &name]).ok();
            id
        }
        2 => {
            let id = env.lap(["create", "--name", &name, "busybox", "sleep", "1000"]).ok().stdout_text();
            for words in [&["start"][..], &["pause"], &["unpause"], &["kill"], &["wait"], &["rm"]] {
                env.lap(words).args([&name]).ok();
            }
            id.trim().to_owned()
        }
        3 => {
            let id =
                detached(&["--network", "net", "--restart", "always", "--tmpfs", "/t", "--shm-size", "1m"]);
            env.wait_for(&name, "up");
            env.lap(["exec", &name, "touch", "/t/f"]).ok();
            env.lap(["stop", &name]).ok();
            env.lap(["rm", &name]).ok();
            id
        }
        _ => {
            // The process that looks after it dies first.
            let id = detached(&["--network", "net", "-p", "80", "--init"]);
            kill(Pid::from_raw(env.shim_of(&id)), Signal::SIGKILL).unwrap();
            env.lap(["rm", "-f", &name]).ok();
            id
        }
    }
}

#[test]
fn nothing_stays_of_two_hundred_containers() {
    let env = Containers::new();
    env.lap(["network", "create", "net"]).ok();
    env.lap(["volume", "create", "kept"]).ok();
    // The first ones make what is there for all: the default network, the store's files.
    (0..5).for_each(|number| drop(live(&env, CONTAINERS + number)));
    let before = settled(&env, |machine| {
        machine.processes.is_empty() && machine.interfaces.iter().all(|name| !name.contains('/'))
    });
    assert_eq!(before.volumes, "kept\n");
    let mut ids = Vec::new();
    for round in 0..CONTAINERS / AT_ONCE {
        let numbers = round * AT_ONCE..(round + 1) * AT_ONCE;
        std::thread::scope(|scope| {
            let threads: Vec<_> = numbers
                .map(|number| {
                    scope.spawn({
                        let env = &env;
                        move || live(env, number)
                    })
                })
                .collect();
            ids.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        });
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), CONTAINERS);
    assert_eq!(settled(&env, |machine| *machine == before), before);
    assert_eq!(env.lap(["ps", "-aq"]).ok().stdout_text(), "");
    let mut left = Vec::new();
    groups(Path::new("/sys/fs/cgroup"), &ids, &mut left);
    assert_eq!(left, [] as [PathBuf; 0]);
    env.lap(["store", "check"]).ok();
    // The network has no endpoints left, so it may go, and its bridge goes with it.
    env.lap(["network", "rm", "net"]).ok();
    env.lap(["volume", "rm", "kept"]).ok();
}

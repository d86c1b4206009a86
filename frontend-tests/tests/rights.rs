//! What the processes of `lap run` may do: capabilities, users, groups, limits of resources, kernel settings.

mod common;

use common::env;
use testkit::TestEnv;

/// The standard output of a shell script in a container with some flags, and without a network.
fn says(env: &TestEnv, flags: &[&str], script: &str) -> String {
    common::says(env, &[&["--network", "none"], flags].concat(), script)
}

/// Capabilities of a container that nothing was said about, as in Docker.
const USUAL: u64 = 0xa804_25fb;
const SYS_ADMIN: u64 = 1 << 21;
const NET_ADMIN: u64 = 1 << 12;

/// The five sets of a process: inheritable, permitted, effective, bounding, ambient.
fn capabilities(env: &TestEnv, flags: &[&str]) -> [u64; 5] {
    let text = says(env, flags, "grep ^Cap /proc/self/status");
    let sets = text.lines().map(|line| line.split_whitespace().last().unwrap());
    let sets: Vec<u64> = sets.map(|set| u64::from_str_radix(set, 16).unwrap()).collect();
    sets.try_into().unwrap()
}

/// All capabilities that this kernel knows, or that we have.
fn every() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn each_user_has_the_five_sets_of_capabilities_that_docker_gives() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    let of_root = |set| [0, set, set, set, 0];
    let of_user = |set| [0, 0, 0, set, 0];
    let cases: [(&[&str], [u64; 5]); 9] = [
        (&[], of_root(USUAL)),
        (&["-u", "1000"], of_user(USUAL)),
        (&["-u", "1000", "--cap-add", "NET_ADMIN"], of_user(USUAL | NET_ADMIN)),
        (&["--cap-add", "net_admin"], of_root(USUAL | NET_ADMIN)),
        (&["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"], of_root(every() & !SYS_ADMIN)),
        (&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"], of_root(NET_ADMIN)),
        (&["--privileged"], of_root(every())),
        (&["--privileged", "-u", "1000"], of_user(every())),
        // In Docker too, a privileged container has them all, whatever is dropped.
        (&["--privileged", "--cap-drop", "SYS_ADMIN"], of_root(every())),
    ];
    for (flags, expected) in cases {
        assert_eq!(capabilities(&env, flags), expected, "{flags:?}");
    }
}

#[test]
fn gaining_rights_is_forbidden_in_every_spelling() {
    let env = env();
    let forbidden = |flags: &[&str]| says(&env, flags, "grep NoNewPrivs /proc/self/status");
    for option in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"] {
        assert_eq!(forbidden(&["--security-opt", option]), "NoNewPrivs:\t1\n", "{option}");
        assert_eq!(forbidden(&["--security-opt", option, "--privileged"]), "NoNewPrivs:\t1\n", "{option}");
    }
    assert_eq!(forbidden(&["--security-opt", "no-new-privileges:false"]), "NoNewPrivs:\t0\n");
    let bad = env.lap(["run", "--rm", "--security-opt", "no-new-privileges:maybe", "busybox", "true"]);
    bad.fails(125).stderr_has(&["no-new-privileges:maybe"]);
}

#[test]
fn limits_of_resources_are_those_of_lap_unless_they_are_given() {
    let env = env();
    let of_container = says(&env, &[], "cat /proc/self/limits");
    let row = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let ours = std::fs::read_to_string("/proc/self/limits").unwrap();
    for name in ["Max cpu time", "Max stack size", "Max core file size", "Max processes", "Max open files"] {
        assert_eq!(row(&of_container, name), row(&ours, name), "{name}");
    }
    let flags = [
        "--ulimit",
        "cpu=7",
        "--ulimit",
        "stack=65536:131072",
        "--ulimit",
        "core=0",
        "--ulimit",
        "nproc=100:200",
        "--ulimit",
        "fsize=-1",
        "--ulimit",
        "memlock=4096",
        "--ulimit",
        "sigpending=50:60",
        "--ulimit",
        "nofile=50",
    ];
    let given = says(&env, &flags, "cat /proc/self/limits");
    let expected = [
        ("Max cpu time", ["7", "7"]),
        ("Max stack size", ["65536", "131072"]),
        ("Max core file size", ["0", "0"]),
        ("Max processes", ["100", "200"]),
        ("Max file size", ["unlimited", "unlimited"]),
        ("Max locked memory", ["4096", "4096"]),
        ("Max pending signals", ["50", "60"]),
        ("Max open files", ["50", "50"]),
    ];
    for (name, values) in expected {
        assert_eq!(row(&given, name), values, "{name}");
    }
    for bad in ["nofile", "nofile=", "nofile=x", "nofile=2:1", "nofile=-1:5", "files=5", "nofile=1:2:3"] {
        env.lap(["run", "--rm", "--ulimit", bad, "busybox", "true"])
            .fails(125)
            .stderr_has(&["--ulimit", bad]);
    }
    // What we may not give is refused, not lowered.
    let ours = row(&ours, "Max locked memory");
    let asked =
        env.lap(["run", "--rm", "--network", "none", "--ulimit", "memlock=-1", "busybox", "true"]).run();
    let may_raise = asked.code() == Some(0);
    assert!(may_raise || ours[1] != "unlimited", "{asked}");
    if !may_raise {
        asked.stderr_has(&["memlock to unlimited:unlimited", "not permitted"]);
    }
    // From inside nobody gets beyond the hard limit.
    let raise = "ulimit -n 60 2>/dev/null || echo refused";
    assert_eq!(says(&env, &["--ulimit", "nofile=50", "-u", "1000"], raise), "refused\n");
}

#[test]
fn kernel_settings_are_named_in_either_way() {
    let env = env();
    let read = "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/sem /proc/sys/fs/mqueue/msg_max";
    let flags = [
        "--sysctl",
        "net/ipv4/ip_local_port_range=2000 3000",
        "--sysctl",
        "kernel.sem=32000 1024000000 500 4096",
        "--sysctl",
        "fs.mqueue.msg_max=11",
    ];
    let host = std::fs::read_to_string("/proc/sys/kernel/sem").unwrap();
    assert_eq!(says(&env, &flags, read), "2000\t3000\n32000\t1024000000\t500\t4096\n11\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/sem").unwrap(), host);
    for bad in ["kernel.msgmax", "=1", ""] {
        env.lap(["run", "--rm", "--sysctl", bad, "busybox", "true"]).fails(125).stderr_has(&["NAME=VALUE"]);
    }
    for (bad, flags) in [
        ("kernel.hostname=x", &[][..]),
        ("vm.overcommit_memory=1", &[]),
        ("fs.file-max=5", &[]),
        ("user.max_user_namespaces=0", &["--privileged"]),
        ("net.ipv4.ip_forward=1", &["--network", "host"]),
        ("kernel.shmmax=1", &["--ipc", "host"]),
        ("kernel.domainname=x", &["--uts", "host"]),
    ] {
        let refused =
            env.lap(["run", "--rm"]).args(flags).args(["--sysctl", bad, "busybox", "true"]).fails(125);
        refused.stderr_has(&[bad.split('=').next().unwrap()]);
    }
}

/// There is nobody to be protected from the users of a network that is the container's own.
#[test]
fn any_user_may_have_any_port_of_a_network_of_its_own() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    // The server's input stays open: at the end of it busybox's nc ends its side of the
    // connection, and a client that sees that first leaves without having sent anything.
    let serve = "mkfifo /dev/shm/open && nc -l -p 80 <> /dev/shm/open > /dev/shm/got & \
                 i=0; until echo hello | nc 127.0.0.1 80 2> /dev/null; do i=$((i+1)); \
                 [ $i -lt 200 ] || exit 1; sleep 0.02; done; wait; cat /dev/shm/got";
    assert_eq!(says(&env, &["-u", "1000"], serve), "hello\n");
    let settings = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range";
    assert_eq!(says(&env, &[], settings), "0\n0\t2147483647\n");
    let port = ["--sysctl", "net/ipv4/ip_unprivileged_port_start=1024"];
    assert_eq!(says(&env, &port, settings), "1024\n0\t2147483647\n");
    let refused = [&port[..], &["-u", "1000"]].concat();
    assert_ne!(says(&env, &refused, "nc -l -p 80 < /dev/null 2> /dev/null || echo refused"), "");
    // The machine's own is as it was.
    let own = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let before = std::fs::read_to_string(own).unwrap();
    let shared = env.lap(["run", "--rm", "--network", "host", "busybox", "cat", own]).ok();
    assert_eq!(shared.stdout_text(), before);
}

/// Who is in no group of a file's rules may get rid of none of his own (CVE-2022-36109).
#[test]
fn the_primary_group_is_among_the_others() {
    let env = env();
    let groups = |flags: &[&str]| says(&env, flags, "grep ^Groups /proc/self/status");
    assert_eq!(groups(&["-u", "1000:1001", "--group-add", "4242"]).trim_end(), "Groups:\t1001 4242");
    assert_eq!(groups(&[]).trim_end(), "Groups:\t0");
}

#[test]
fn bad_groups_and_capabilities_are_named() {
    let env = env();
    for (flags, said) in [
        (["--group-add", "nobody-has-this"], "nobody-has-this"),
        (["--group-add", "4294967296"], "4294967296"),
        (["--cap-add", "CAP_CAP_CHOWN"], "CAP_CAP_CHOWN"),
        (["--cap-drop", "FLY"], "FLY"),
    ] {
        env.lap(["run", "--rm"]).args(flags).args(["busybox", "true"]).fails(125).stderr_has(&[said]);
    }
}

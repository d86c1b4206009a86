//! What `lap run` mounts: directories in memory with their options, the isolation of mounts, and names of the
//! machine in `/etc/hosts`.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use common::{env, says};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

#[test]
fn directories_in_memory_have_the_options_that_are_given() {
    let env = env();
    let run = |options: &str, script: &str| {
        let tmpfs = format!("/t{options}");
        says(&env, &["--network", "none", "--tmpfs", &tmpfs], script)
    };
    let flags = |options: &str| {
        let line = run(options, "grep ' /t ' /proc/mounts");
        line.split(' ').nth(3).unwrap().split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let has = |options: &str, flag: &str| flags(options).iter().any(|one| one == flag);
    for usual in ["rw", "nosuid", "nodev", "noexec"] {
        assert!(has("", usual), "{usual}");
    }
    assert!(!has(":exec", "noexec") && has(":exec", "nosuid"));
    assert!(has(":ro", "ro") && !has(":suid", "nosuid") && has(":noatime", "noatime"));
    assert!(has(":size=5%,nr_inodes=77", "nr_inodes=77"));
    let program = "cp /bin/busybox /t/echo && /t/echo works 2>&1; true";
    assert!(run("", program).contains("Permission denied"));
    assert_eq!(run(":exec", program), "works\n");
    assert_eq!(run(":uid=7,gid=8,mode=0710", "stat -c '%u:%g %a' /t"), "7:8 710\n");
    assert_eq!(run(":mode=1770", "stat -c '%u:%g %a' /t"), "0:0 1770\n");
    // What the image has there is hidden, not copied.
    assert_eq!(says(&env, &["--network", "none", "--tmpfs", "/bin/x"], "ls /bin/x | wc -l"), "0\n");
    for bad in ["/t:lowerdir=/etc", "/t:size=", "/t:uid=", "/t:size=5%%"] {
        env.lap(["run", "--rm", "--tmpfs", bad, "busybox", "true"]).fails(125).stderr_has(&[bad]);
    }
    // What only the kernel knows to be wrong is its to refuse.
    let refused = env.lap(["run", "--rm", "--tmpfs", "/t:nr_inodes=many", "busybox", "true"]).fails(125);
    refused.stderr_has(&["/t"]);
}

/// A mount on the host, gone at the end.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn mounts_of_one_side_are_not_seen_on_the_other() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    let shared = env.work().join("shared");
    std::fs::create_dir(&shared).unwrap();
    // Everything that is mounted below is to be seen by all who share it.
    mount(&shared, &shared, "", MountFlags::BIND, None::<&std::ffi::CStr>).unwrap();
    let _outer = Mounted(shared.clone());
    mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
    for name in ["inside", "outside"] {
        std::fs::create_dir(shared.join(name)).unwrap();
    }
    let volume = format!("{}:/v", shared.display());
    let script = "mount -t tmpfs none /v/inside && touch /v/inside/file; trap 'ls /v/*; exit 0' USR1; echo ready; \
                  while :; do sleep 0.05; done";
    let flags = ["run", "--rm", "--network", "none", "--privileged", "-v", &volume];
    let mut running = env.lap(flags).args(["busybox", "sh", "-c", script]).spawn();
    running.wait_for("ready");
    assert_eq!(std::fs::read_dir(shared.join("inside")).unwrap().count(), 0);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(shared.join("inside").to_str().unwrap()), "{table}");
    let _inner = Mounted(shared.join("outside"));
    mount("none", shared.join("outside"), "tmpfs", MountFlags::empty(), None::<&std::ffi::CStr>).unwrap();
    std::fs::write(shared.join("outside/file"), "of the host").unwrap();
    running.signal(nix::sys::signal::Signal::SIGUSR1);
    let output = running.finish();
    assert!(output.stdout_text().ends_with("/v/inside:\nfile\n\n/v/outside:\n"), "{output}");
}

#[test]
fn the_machine_is_reached_by_the_name_that_it_is_given() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    let server = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        client.write_all(b"HTTP/1.0 200 OK\r\n\r\nof the host\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    });
    let names = ["--add-host", "me:host-gateway", "--add-host", "db=10.1.2.3", "--add-host", "six:[fd00::7]"];
    let script = format!("grep -E '[[:space:]](db|six)$' /etc/hosts; wget -qO- http://me:{port}/");
    assert_eq!(says(&env, &names, &script), "10.1.2.3\tdb\nfd00::7\tsix\nof the host\n");
    answering.join().unwrap();
    // Where the network is the machine's own, so is its loopback interface.
    let shared = says(&env, &["--network", "host", "--add-host", "me:host-gateway"], "grep me$ /etc/hosts");
    assert_eq!(shared, "127.0.0.1\tme\n");
    for bad in ["me", "me:", ":10.0.0.1", "me:nobody", "me=[10.0.0.1"] {
        env.lap(["run", "--rm", "--add-host", bad, "busybox", "true"]).fails(125).stderr_has(&[bad]);
    }
}

#[test]
fn resolvers_are_those_given_with_all_that_belongs_to_them() {
    let env = env();
    let flags = [
        "--dns",
        "192.0.2.1",
        "--dns",
        "2001:db8::1",
        "--dns-search",
        "a.test",
        "--dns-search",
        "b.test",
        "--dns-opt",
        "ndots:3",
        "--dns-option",
        "rotate",
    ];
    let expected =
        "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test b.test\noptions ndots:3 rotate\n";
    for network in ["bridge", "none", "host"] {
        let flags = [&["--network", network], &flags[..]].concat();
        let said = says(&env, &flags, "grep -v '^#' /etc/resolv.conf | grep .");
        assert_eq!(said, expected, "{network}");
    }
    assert!(!says(&env, &["--dns-search", "."], "cat /etc/resolv.conf").contains("search"));
    env.lap(["run", "--rm", "--dns", "nobody", "busybox", "true"]).fails(2).stderr_has(&["nobody"]);
}

#[test]
fn programs_find_the_files_of_dockers_containers() {
    let env = env();
    let script =
        "test -f /.dockerenv && test ! -s /.dockerenv && readlink /etc/mtab && grep -c ' / ' /etc/mtab";
    assert_eq!(says(&env, &["--network", "none"], script), "/proc/mounts\n1\n");
    assert_eq!(says(&env, &["--network", "none", "--read-only"], script), "/proc/mounts\n1\n");
    // What the image has stays, and nothing is put into directories of the host.
    let context = env.context();
    context.dockerfile(
        "FROM busybox\nRUN test ! -e /.dockerenv && test ! -e /etc/mtab\nRUN echo mine >/etc/mtab\n",
    );
    env.lap(["build", "-q", "-t", "own"]).arg(context.path()).ok();
    let own = env.lap(["run", "--rm", "own", "sh", "-c", "cat /etc/mtab; ls -A / | grep docker"]).ok();
    assert_eq!(own.stdout_text(), "mine\n.dockerenv\n");
    let etc = env.work().join("etc");
    std::fs::create_dir(&etc).unwrap();
    let volume = format!("{}:/etc", etc.display());
    says(&env, &["--network", "none", "-v", &volume], "test ! -e /etc/mtab");
    assert!(!common::names_in(&etc).contains(&"mtab".to_owned()));
}

//! Namespaces, mounts, rights and filters, as the container's process sees them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use runner::{
    EtcFiles, ExitStatus, ExtraMount, MountKind, Network, Resource, ResourceLimit, RunRequest,
    SeccompProfile, User, etc_files,
};

use crate::support::{image, lists_devices, run};

fn stdout(request: &RunRequest) -> String {
    let output = run(request);
    assert_eq!(output.status, ExitStatus::Exited(0), "{output:?}");
    output.stdout
}

/// Fields of `/proc/self/status` inside, by name.
fn status_fields(request: &RunRequest) -> impl Fn(&str) -> String + use<> {
    let text = stdout(request);
    move |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }
}

const NAMESPACES: [&str; 6] = ["pid", "mnt", "ipc", "uts", "cgroup", "net"];

/// Which namespaces differ from ours.
fn own_namespaces(links: &str) -> Vec<&'static str> {
    let differs = |(name, inside): &(&str, &str)| {
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        ours.to_string_lossy() != *inside
    };
    assert_eq!(links.lines().count(), NAMESPACES.len(), "{links}");
    NAMESPACES.into_iter().zip(links.lines()).filter(differs).map(|(name, _)| name).collect()
}

const LIST_NAMESPACES: &str = "for n in pid mnt ipc uts cgroup net; do readlink /proc/self/ns/$n; done";

#[test]
fn every_namespace_is_its_own() {
    let Some(image) = image() else { return };
    assert_eq!(own_namespaces(&image.shell(LIST_NAMESPACES).stdout), NAMESPACES);
}

#[test]
fn the_host_s_network_is_shared_on_request() {
    let Some(image) = image() else { return };
    let mut request = image.script(LIST_NAMESPACES);
    request.network = Network::Host;
    assert_eq!(own_namespaces(&stdout(&request)), ["pid", "mnt", "ipc", "uts", "cgroup"]);
}

#[test]
fn without_a_network_there_is_a_loopback_interface() {
    let Some(image) = image() else { return };
    let output =
        image.shell("cat /sys/class/net/lo/operstate; ls /sys/class/net; ifconfig lo | grep -c '127.0.0.1'");
    assert_eq!(output.stdout, "unknown\nlo\n1\n", "{output:?}");
}

#[test]
fn no_process_but_its_own_is_visible() {
    let Some(image) = image() else { return };
    let output = image.shell("echo $$; cd /proc; for p in [0-9]*; do echo process $p; done");
    assert_eq!(output.stdout, "1\nprocess 1\n");
}

#[test]
fn standard_mounts_are_there_and_nothing_of_the_host() {
    let Some(image) = image() else { return };
    let mounts = image.shell("cat /proc/mounts").stdout;
    let summary: Vec<String> = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| !fields[1].starts_with("/proc/") && !fields[1].starts_with("/sys/"))
        .map(|fields| format!("{} {} {}", fields[1], fields[2], fields[3].split(",size").next().unwrap()))
        .map(|line| line.split(",lowerdir").next().unwrap().replace(",inode64", ""))
        .collect();
    let device = |name| format!("/dev/{name} tmpfs rw,nosuid,noexec,relatime");
    let mut expected = vec![
        format!("/ overlay rw,{}relatime", if lists_devices() { "" } else { "nodev," }),
        "/proc proc rw,nosuid,nodev,noexec,relatime".to_owned(),
        format!("/dev tmpfs rw,nosuid{}", if lists_devices() { "" } else { ",nodev" }),
        "/dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666".to_owned(),
        "/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime".to_owned(),
        "/dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime".to_owned(),
        "/sys sysfs ro,nosuid,nodev,noexec,relatime".to_owned(),
    ];
    expected.extend(["null", "zero", "full", "random", "urandom", "tty"].map(device));
    assert_eq!(summary, expected, "{mounts}");
}

#[test]
fn host_files_are_not_visible() {
    let Some(image) = image() else { return };
    let secret = image.path("secret");
    fs::write(&secret, "of the host").unwrap();
    let script = format!("cat {0}; cat /proc/1/root{0}; cat /../../..{0}; ls /", secret.display());
    let output = image.shell(&script);
    assert_eq!(output.stdout, "bin\ndev\nproc\nsys\ntmp\n", "{output:?}");
}

#[test]
fn masked_paths_show_nothing() {
    let Some(image) = image() else { return };
    let output = image
        .shell("cat /proc/keys /proc/timer_list /proc/interrupts; ls /sys/firmware /proc/acpi; echo end");
    assert_eq!(
        output.stdout.replace("/sys/firmware:", "").replace("/proc/acpi:", "").trim(),
        "end",
        "{output:?}"
    );
    let kcore = image.shell("test -e /proc/kcore && stat -c '%t:%T' /proc/kcore");
    assert!(matches!(kcore.stdout.trim(), "" | "1:3"), "{kcore:?}");
}

#[test]
fn kernel_settings_cannot_be_written() {
    let Some(image) = image() else { return };
    for path in ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/kernel/profiling", "/proc/irq/x"]
    {
        let output = image.shell(&format!("echo x > {path}"));
        assert_ne!(output.status, ExitStatus::Exited(0), "{path}");
        let refused = ["Read-only file system", "nonexistent", "No such file"];
        assert!(refused.iter().any(|reason| output.stderr.contains(reason)), "{path}: {}", output.stderr);
    }
}

#[test]
fn rights_are_docker_s_defaults() {
    let Some(image) = image() else { return };
    let field = status_fields(&image.command(&["/bin/cat", "/proc/self/status"]));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(set), "00000000a80425fb", "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("Seccomp"), field("NoNewPrivs")), ("2".to_owned(), "0".to_owned()));
    assert_eq!(field("SigBlk"), "0000000000000000");
    assert_eq!(field("SigIgn"), "0000000000000000");
}

#[test]
fn other_users_have_no_rights_in_force() {
    let Some(image) = image() else { return };
    let mut request = image.script("cat /proc/self/status; id");
    request.user = User { uid: 1000, gid: 100, additional_gids: vec![10, 44] };
    let field = status_fields(&request);
    assert_eq!(
        (field("CapEff"), field("CapPrm")),
        ("0000000000000000".to_owned(), "0000000000000000".to_owned())
    );
    assert_eq!(field("CapBnd"), "00000000a80425fb");
    assert_eq!(
        (field("Uid"), field("Groups")),
        ("1000\t1000\t1000\t1000".to_owned(), "10 44 100".to_owned())
    );
}

#[test]
fn rights_follow_the_request() {
    let Some(image) = image() else { return };
    let mut request = image.script("cat /proc/self/status");
    request.cap_add = vec!["CHOWN".to_owned()];
    request.cap_drop = vec!["ALL".to_owned()];
    request.no_new_privileges = true;
    let field = status_fields(&request);
    assert_eq!(
        (field("CapEff"), field("CapBnd")),
        ("0000000000000001".to_owned(), "0000000000000001".to_owned())
    );
    assert_eq!((field("Seccomp"), field("NoNewPrivs")), ("2".to_owned(), "1".to_owned()));

    let mut request = image.script("cat /proc/self/status; mount -t tmpfs none /tmp; ls /sys/firmware");
    request.privileged = true;
    let field = status_fields(&request);
    let ours = format!("{:016x}", sys::probe::effective_capabilities());
    assert_eq!((field("CapEff"), field("Seccomp")), (ours, "0".to_owned()));
}

#[test]
fn the_filter_is_in_force() {
    let Some(image) = image() else { return };
    let mut request = image.script("unshare -U true");
    let filtered = run(&request);
    assert!(filtered.stderr.contains("Operation not permitted"), "{filtered:?}");
    request.seccomp = SeccompProfile::Unconfined;
    assert_eq!(run(&request).status, ExitStatus::Exited(0), "user namespaces are off on this machine");
}

#[test]
fn devices_of_the_host_cannot_be_opened() {
    let Some(image) = image() else { return };
    let script = "for at in /sda /dev/sda /dev/shm/sda /tmp/sda; do mknod $at b 8 0 && cat $at > /dev/null; done; \
                  mknod /kmsg c 1 11 && head -c 1 /kmsg; echo done";
    let output = image.shell(script);
    assert_eq!(output.stdout, "done\n", "{output:?}");
    let refused =
        ["Permission denied", "Operation not permitted"].map(|why| output.stderr.matches(why).count());
    assert_eq!(refused[0] + refused[1], 5, "{output:?}");
}

#[test]
fn standard_devices_work_and_are_not_the_host_s() {
    let Some(image) = image() else { return };
    let before = fs::metadata("/dev/null").unwrap().mode();
    let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c \
                  && chmod 600 /dev/null && stat -c %a /dev/null";
    assert_eq!(stdout(&image.script(script)), "3\n4\n600\n");
    assert_eq!(fs::metadata("/dev/null").unwrap().mode(), before);
}

#[test]
fn names_and_files_of_etc_are_provided_and_not_left() {
    let Some(image) = image() else { return };
    let script =
        "hostname; cat /etc/hostname /etc/resolv.conf; grep -c web /etc/hosts; echo more >> /etc/hosts";
    let mut request = image.script(script);
    request.hostname = Some("web".to_owned());
    request.etc = EtcFiles {
        resolv_conf: Some(b"nameserver 192.0.2.1\n".to_vec()),
        hosts: Some(etc_files::hosts("web", &[])),
        hostname: Some(b"web\n".to_vec()),
        read_only: false,
    };
    assert_eq!(stdout(&request), "web\nweb\nnameserver 192.0.2.1\n1\n");
    assert_eq!(image.changes(), [""; 0]);
    request.etc.read_only = true;
    let refused = run(&request);
    assert!(refused.stderr.contains("Read-only file system"), "{refused:?}");
}

#[test]
fn descriptors_of_ours_do_not_leak() {
    let Some(image) = image() else { return };
    // One that would survive an execve of ours.
    let directory = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&directory, rustix::io::FdFlags::empty()).unwrap();
    let output = image.shell("for fd in /proc/1/fd/*; do readlink $fd; done");
    let open: Vec<&str> = output.stdout.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(open, ["/dev/null", "pipe", "pipe"], "{output:?}");
}

#[test]
fn limits_and_umask_are_set() {
    let Some(image) = image() else { return };
    let mut request = image.script("ulimit -n; ulimit -Hn; umask");
    request.rlimits = vec![ResourceLimit { resource: Resource::Nofile, soft: 123, hard: 456 }];
    assert_eq!(stdout(&request), "123\n456\n0022\n");
}

#[test]
fn a_read_only_root_has_writable_mounts() {
    let Some(image) = image() else { return };
    let mut request = image.script("touch /tmp/x; touch /data/x && ls /data; echo y > /dev/shm/y");
    request.read_only_root = true;
    request.mounts = vec![ExtraMount {
        destination: "/data".to_owned(),
        kind: MountKind::Tmpfs { size: None, mode: 0o755, options: Vec::new() },
    }];
    let output = run(&request);
    assert_eq!((output.stdout.as_str(), output.status), ("x\n", ExitStatus::Exited(0)), "{output:?}");
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn extra_mounts_appear_and_keep_their_rules() {
    let Some(image) = image() else { return };
    let source = image.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "shared").unwrap();
    let bind = |destination: &str, read_only| ExtraMount {
        destination: destination.to_owned(),
        kind: MountKind::Bind { source: source.clone(), read_only, recursive: false },
    };
    let secret =
        MountKind::File { content: b"s3cret".to_vec(), mode: 0o400, uid: 0, gid: 0, read_only: true };
    let script =
        "cat /ro/file /run/secrets/one; echo new > /rw/new; echo no > /ro/no; stat -c %a /run/secrets/one";
    let mut request = image.script(script);
    request.mounts = vec![
        bind("/ro", true),
        bind("/rw", false),
        ExtraMount { destination: "/run/secrets/one".to_owned(), kind: secret },
    ];
    let output = run(&request);
    assert_eq!(output.stdout, "shareds3cret400\n", "{output:?}");
    assert!(output.stderr.contains("/ro/no: Read-only file system"), "{output:?}");
    assert_eq!(fs::read_to_string(source.join("new")).unwrap(), "new\n");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn the_working_directory_is_entered_and_made_on_request() {
    let Some(image) = image() else { return };
    let mut request = image.script("pwd; stat -c '%u %a' .");
    request.cwd = "/srv/app/data".to_owned();
    request.create_cwd = true;
    request.user = User { uid: 7, gid: 7, additional_gids: vec![] };
    assert_eq!(stdout(&request), "/srv/app/data\n0 755\n");
    assert_eq!(image.changes(), ["srv", "srv/app", "srv/app/data"]);
}

#[test]
fn output_can_be_opened_again_by_its_user() {
    let Some(image) = image() else { return };
    let mut request = image.script("echo out > /dev/stdout; echo err > /dev/stderr");
    request.user = User { uid: 1000, gid: 1000, additional_gids: vec![] };
    let output = run(&request);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
}

//! Devices of the host in containers: files of their own, directories of them, and those that vendors describe.

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use common::env;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use testkit::TestEnv;

/// The standard output of a shell script in a container with some flags, and without a network.
fn says(env: &TestEnv, flags: &[&str], script: &str) -> String {
    common::says(env, &[&["--network", "none"], flags].concat(), script)
}

/// A directory of the host with devices: `null` (mode 0640, of user 3), `in/zero` and the kernel's log `in/log`, and
/// what is no device.
fn directory(env: &TestEnv) -> PathBuf {
    let directory = env.work().join("devices");
    std::fs::create_dir_all(directory.join("in")).unwrap();
    std::fs::write(directory.join("file"), "no device").unwrap();
    std::os::unix::fs::symlink("/dev/kmsg", directory.join("link")).unwrap();
    for (name, mode, minor) in [("null", 0o640, 3), ("in/zero", 0o666, 5), ("in/log", 0o666, 11)] {
        let mode = Mode::from_raw_mode(mode);
        mknodat(CWD, directory.join(name), FileType::CharacterDevice, mode, makedev(1, minor)).unwrap();
        std::fs::set_permissions(
            directory.join(name),
            std::os::unix::fs::PermissionsExt::from_mode(mode.bits()),
        )
        .unwrap();
    }
    std::os::unix::fs::chown(directory.join("null"), Some(3), Some(4)).unwrap();
    directory
}

#[test]
fn what_a_container_does_to_a_device_file_is_nothing_to_the_host() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    let null = directory(&env).join("null");
    let device = format!("{}:/dev/mine", null.display());
    let script = "stat -c '%t:%T %a %u:%g' /dev/mine; chmod 604 /dev/mine; chown 5:6 /dev/mine; \
                  stat -c '%t:%T %a %u:%g' /dev/mine; echo x > /dev/mine; rm /dev/mine 2>/dev/null; true";
    assert_eq!(says(&env, &["--device", &device], script), "1:3 640 3:4\n1:3 604 5:6\n");
    let after = std::fs::metadata(&null).unwrap();
    assert_eq!((after.mode() & 0o7777, after.uid(), after.gid()), (0o640, 3, 4));
}

#[test]
fn a_directory_of_devices_is_all_devices_in_it() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    let devices = directory(&env);
    let device = format!("{}:/dev/all", devices.display());
    let script =
        "cd /dev/all; find . -type f; find . -type l; find . -type c | sort; head -c 3 in/zero | wc -c";
    assert_eq!(says(&env, &["--device", &device], script), "./in/log\n./in/zero\n./null\n3\n");
    // Access is that which was given, for each of them.
    if testkit::privilege::can_limit(&["devices"]) {
        let only_reading = format!("{device}:r");
        let script = "cd /dev/all/in; (: < log) && echo reads; (: > log) 2>/dev/null || echo refused";
        let flags = ["--cap-add", "SYSLOG", "--device", &only_reading];
        assert_eq!(says(&env, &flags, script), "reads\nrefused\n");
    }
    for none in ["file", "no-such"] {
        let path = devices.join(none).display().to_string();
        env.lap(["run", "--rm", "--device", &path, "busybox", "true"]).fails(125).stderr_has(&[&path]);
    }
}

#[test]
fn a_device_that_its_vendor_describes_is_its_nodes_mounts_and_variables() {
    if testkit::privilege::root().is_none() {
        return;
    }
    let env = env();
    let described = env.work().join("cdi");
    std::fs::create_dir(&described).unwrap();
    std::fs::write(env.work().join("library"), "of the vendor").unwrap();
    let text = format!(
        "cdiVersion: 0.6.0\nkind: example.com/source\ncontainerEdits:\n  env: [ALL=1]\ndevices:\n- name: ones\n  \
         containerEdits:\n    env: [KIND=zeros]\n    deviceNodes: [{{path: /dev/own, hostPath: /dev/zero}}]\n    \
         mounts: [{{hostPath: {}, containerPath: /lib/vendor, options: [ro]}}]\n",
        env.work().join("library").display()
    );
    std::fs::write(described.join("source.yaml"), text).unwrap();
    let directory = described.display().to_string();
    let flags = ["--cdi-spec-dir", &directory, "--device", "example.com/source=ones", "-e", "KIND=mine"];
    let script =
        "echo $KIND $ALL; cat /lib/vendor; echo; head -c 2 /dev/own | od -An -tx1; chmod 600 /dev/own";
    assert_eq!(says(&env, &flags, script), "zeros 1\nof the vendor\n 00 00\n");
    assert_ne!(std::fs::metadata("/dev/zero").unwrap().mode() & 0o777, 0o600);
    let run = |name: &str| {
        env.lap(["run", "--rm", "--cdi-spec-dir", &directory, "--device", name, "busybox", "true"])
    };
    run("example.com/source=none").fails(125).stderr_has(&["example.com/source=none"]);
    run("example.com/other=ones").fails(125).stderr_has(&["example.com/other=ones"]);
    run("=ones").fails(125).stderr_has(&["=ones"]);
}

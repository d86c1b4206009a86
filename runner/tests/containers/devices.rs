//! The devices that a container may use, also those whose files it makes itself.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use runner::{
    DeviceAccess, DeviceFile, DeviceKind, DeviceNumber, DeviceRule, ExitStatus, ExtraMount, MountKind,
    RunRequest,
};

use crate::support::{Image, image, lists_devices, run};

/// An image, where devices of containers are listed.
fn image_with_list() -> Option<Image> {
    let image = image()?;
    if !lists_devices() {
        eprintln!("skipped: the devices of containers are not listed here");
        return None;
    }
    Some(image)
}

fn stdout(request: &RunRequest) -> String {
    let output = run(request);
    assert_eq!(output.status, ExitStatus::Exited(0), "{output:?}");
    output.stdout
}

#[test]
fn harmless_devices_that_a_container_makes_work() {
    let Some(image) = image_with_list() else { return };
    let script = "mknod /null c 1 3 && echo x >/null && mknod /dev/z c 1 5 && head -c 3 /dev/z | wc -c";
    assert_eq!(stdout(&image.script(script)), "3\n");
    // Not those of the host, also for who may do much.
    let host = "mknod /kmsg c 1 11; head -c 1 /kmsg; mknod /sda b 8 0; dd if=/sda count=1";
    let mut request = image.script(host);
    request.cap_add = vec!["SYS_ADMIN".to_owned(), "SYSLOG".to_owned()];
    let output = run(&request);
    assert_eq!(output.stderr.matches("Operation not permitted").count(), 2, "{output:?}");
}

const LOG: DeviceNumber = DeviceNumber { kind: DeviceKind::Character, major: 1, minor: 11 };

/// The kernel's log as a device of a container.
fn kernel_log(destination: &str, mode: u32) -> ExtraMount {
    let file = DeviceFile { path: destination.into(), device: LOG, mode, uid: 7, gid: 8 };
    let kind = MountKind::Device { source: "/dev/kmsg".into(), nodes: vec![file], access: DeviceAccess::ALL };
    ExtraMount { destination: destination.to_owned(), kind }
}

#[test]
fn the_file_of_a_device_is_the_container_s_own() {
    let Some(image) = image() else { return };
    let of_host = || {
        let found = fs::metadata("/dev/kmsg").unwrap();
        (found.mode(), found.uid(), found.gid())
    };
    let before = of_host();
    let show = "stat -c '%t:%T %a %u:%g' /dev/log";
    let mut request = image.script(&format!("{show}; chmod 600 /dev/log; chown 1:1 /dev/log; {show}"));
    request.mounts = vec![kernel_log("/dev/log", 0o640)];
    assert_eq!(stdout(&request), "1:b 640 7:8\n1:b 600 1:1\n");
    assert_eq!(of_host(), before);
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn rules_and_mounts_add_to_the_devices() {
    let Some(image) = image_with_list() else { return };
    let open =
        "mknod /made c 1 11; (: </made) 2>/dev/null && echo reads; (: >/made) 2>/dev/null && echo writes; :";
    let mut request = image.script(open);
    // Reading this one takes a capability as well.
    request.cap_add = vec!["SYSLOG".to_owned()];
    assert_eq!(stdout(&request), "");
    let read = DeviceAccess { read: true, write: false, make: false };
    let of_log = DeviceRule { kind: Some(LOG.kind), major: Some(1), minor: None, access: read };
    request.device_rules = vec![of_log];
    assert_eq!(stdout(&request), "reads\n");
    request.device_rules.clear();
    request.mounts = vec![kernel_log("/dev/log-of-the-kernel", 0o640)];
    assert_eq!(stdout(&request), "reads\nwrites\n");
    request.mounts.clear();
    request.privileged = true;
    assert_eq!(stdout(&request), "reads\nwrites\n");
}

//! What a configuration asks for, as the container sees it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::bundle::Bundle;

#[test]
fn the_terminal_is_handed_over() {
    let Some(mut bundle) = Bundle::new("stty size; tty") else { return };
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({ "height": 31, "width": 91 });
    let socket = bundle.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let created = bundle.create("t", &["--console-socket", socket.to_str().unwrap()]);
    assert_eq!(created.code(), Some(0), "{}", bundle.output());
    let terminal = std::fs::File::from(received(&listener));
    bundle.runtime(&["start", "t"]).ok();
    let mut said = Vec::new();
    // The end of a terminal is an error (EIO).
    let _ = std::io::Read::read_to_end(&mut &terminal, &mut said);
    assert_eq!(String::from_utf8_lossy(&said), "31 91\r\n/dev/pts/0\r\n");
}

/// The descriptor that somebody sends.
fn received(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds = control.drain().filter_map(|one| match one {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.flatten().next().unwrap()
}

#[test]
fn namespaces_are_joined_by_their_paths() {
    let Some(mut bundle) = Bundle::new("echo >/fifo; read line </fifo") else { return };
    let fifo = bundle.fifo();
    bundle.start("first");
    fifo.read();
    let pid = bundle.state("first")["pid"].as_u64().unwrap();
    let joined = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];
    let mut namespaces: Vec<_> =
        joined.map(|(kind, file)| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") })).into();
    namespaces.push(json!({ "type": "mount" }));
    bundle.config["linux"]["namespaces"] = json!(namespaces);
    bundle.config["process"]["args"] = json!([
        "/bin/sh",
        "-c",
        "for n in net ipc uts pid; do
        [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n differs; done
        cat /proc/1/comm"
    ]);
    bundle.write();
    let directory = bundle.directory();
    let output = bundle.runtime(&["run", "--bundle", directory.to_str().unwrap(), "second"]).ok();
    assert_eq!(output.stdout_text(), "sh\n");
}

#[test]
fn a_user_namespace_has_its_ids_and_mounts_show_them() {
    let Some(mut bundle) =
        Bundle::new("cat /proc/self/uid_map; stat -c %u:%g /mapped/file /plain/file; id -u")
    else {
        return;
    };
    let files = bundle.path("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("file"), "").unwrap();
    for path in [files.clone(), files.join("file")] {
        std::os::unix::fs::chown(&path, Some(5), Some(6)).unwrap();
    }
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let linux = &mut bundle.config["linux"];
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for (destination, more) in [("/mapped", "idmap"), ("/plain", "ro")] {
        let options = ["bind", more];
        mounts
            .push(json!({ "destination": destination, "type": "bind", "source": files, "options": options }));
    }
    bundle.config["root"]["readonly"] = json!(false);
    let rootfs = bundle.directory().join("rootfs");
    chown_all(&rootfs, 100_000);
    bundle.write();
    let directory = bundle.directory();
    let output = bundle.runtime(&["run", "--bundle", directory.to_str().unwrap(), "user"]).ok();
    let words: Vec<String> = output.stdout_text().split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["0", "100000", "65536", "5:6", "65534:65534", "0"]);
}

fn chown_all(path: &std::path::Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in path.read_dir().unwrap() {
            chown_all(&entry.unwrap().path(), id);
        }
    }
}

#[test]
fn mount_options_have_their_effects() {
    let script = "touch /ro/x 2>/dev/null || echo read-only
        ls /filled; touch /filled/x && echo writable; grep ' /slave ' /proc/self/mountinfo | grep -c master:
        grep ' /old ' /proc/self/mountinfo | grep -c noatime; test -c /dev/mine && cat /dev/mine | wc -c";
    let Some(mut bundle) = Bundle::new(script) else { return };
    let source = bundle.path("source");
    std::fs::create_dir(&source).unwrap();
    let filled = bundle.directory().join("rootfs/filled");
    std::fs::create_dir_all(filled.join("deep")).unwrap();
    std::fs::write(filled.join("file"), "x").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for (destination, options) in [
        ("/ro", json!(["rbind", "rro"])),
        ("/slave", json!(["rbind", "rslave"])),
        ("/old", json!(["bind", "noatime"])),
    ] {
        mounts.push(
            json!({ "destination": destination, "type": "bind", "source": source, "options": options }),
        );
    }
    mounts.push(json!({ "destination": "/filled", "type": "tmpfs", "source": "tmpfs",
                        "options": ["tmpcopyup", "size=1m"] }));
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["devices"] =
        json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 0 }]);
    bundle.write();
    let directory = bundle.directory();
    let output = bundle.runtime(&["run", "--bundle", directory.to_str().unwrap(), "mounts"]).run();
    let text = output.stdout_text();
    let lines: Vec<&str> = text.lines().collect();
    let shared = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_shared = shared.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    let slaves = if is_shared.is_some_and(|line| line.contains(" shared:")) { "1" } else { "0" };
    assert_eq!(lines, ["read-only", "deep", "file", "writable", slaves, "1", "0"], "{output}");
    assert!(!filled.join("x").exists());
}

#[test]
fn unknown_things_are_refused_by_name() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.config["linux"]["rootfsPropagation"] = json!("sideways");
    assert_eq!(bundle.create("x", &[]).code(), Some(1));
    assert!(bundle.output().contains("\"sideways\""), "{}", bundle.output());
    bundle.config["linux"]["rootfsPropagation"] = json!("rprivate");
    bundle.config["linux"]["namespaces"] = json!([{ "type": "pid" }]);
    assert_eq!(bundle.create("x", &[]).code(), Some(1));
    assert!(bundle.output().contains("no mount namespace"), "{}", bundle.output());
    bundle.runtime(&["--systemd-cgroup", "list"]).fails(1).stderr_has(&["cgroupfs"]);
    bundle.runtime(&["kill", "x", "NOSIGNAL"]).fails(1).stderr_has(&["NOSIGNAL"]);
}

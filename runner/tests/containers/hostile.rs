//! Images, volumes and programs made to break out: nothing on the host changes, and the container fails with a
//! reason or runs safely.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use runner::{ExitStatus, ExtraMount, MountKind, RunError, SeccompProfile, Stdio, TtySize};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{Image, explain, image, run, try_run};

/// How often a race is tried. One start takes some milliseconds.
const ROUNDS: usize = 150;

fn bind(source: &Path, destination: &str) -> ExtraMount {
    let kind = MountKind::Bind { source: source.to_owned(), read_only: false, recursive: false };
    ExtraMount { destination: destination.to_owned(), kind }
}

fn tmpfs(destination: &str) -> ExtraMount {
    ExtraMount {
        destination: destination.to_owned(),
        kind: MountKind::Tmpfs { size: None, mode: 0o755, options: Vec::new() },
    }
}

/// A directory outside of the container with one file, which must stay as it is.
struct Bystander(PathBuf);

impl Bystander {
    fn new(image: &Image) -> Self {
        let directory = image.path("bystander");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("file"), "of the host").unwrap();
        Self(directory)
    }

    fn file(&self) -> PathBuf {
        self.0.join("file")
    }

    fn is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read_to_string(self.file()).unwrap(), "of the host");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(self.0.to_str().unwrap()), "{table}");
    }
}

/// Runs `work` while two names of a directory are exchanged all the time.
fn while_exchanged(directory: &Path, names: [&str; 2], work: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| {
            let [a, b] = names.map(|name| directory.join(name));
            let mut exchanges = 0u64;
            while !ended.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
                exchanges += 1;
            }
            exchanges
        });
        work();
        ended.store(true, Ordering::Relaxed);
        assert!(handle.join().unwrap() > ROUNDS as u64, "the race was not run");
    });
}

fn own_program() -> (Vec<u8>, i64) {
    let path = fs::read_link("/proc/self/exe").unwrap();
    (fs::read(&path).unwrap(), path.metadata().unwrap().mtime_nsec())
}

#[test]
fn cve_2019_5736_our_program_cannot_be_overwritten_from_inside() {
    let Some(image) = image() else { return };
    let before = own_program();
    // The link is exchanged with a program while containers start that have it as their command.
    let share = image.path("share");
    fs::create_dir(&share).unwrap();
    fs::write(share.join("program"), "#!/bin/sh\nfor p in /proc/[0-9]*/exe; do echo x > $p; done\n").unwrap();
    fs::set_permissions(share.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/proc/self/exe", share.join("trap")).unwrap();
    while_exchanged(&share, ["program", "trap"], || {
        for _ in 0..ROUNDS {
            // Should our program run inside after all, this argument has it do nothing.
            let mut request = image.command(&["/share/program", "--list"]);
            request.mounts = vec![bind(&share, "/share")];
            if let Err(error) = try_run(&request) {
                assert!(matches!(error, RunError::CommandNotExecutable { .. }), "{}", explain(&error));
            }
        }
    });
    assert!(own_program() == before, "our program has changed");
}

#[test]
fn a_mount_target_that_leads_out_of_the_root_stays_inside() {
    let Some(image) = image() else { return };
    let bystander = Bystander::new(&image);
    let up = format!("../../../../../../../..{}", bystander.0.display());
    symlink(&bystander.0, image.path("lower/absolute")).unwrap();
    symlink(&up, image.path("lower/relative")).unwrap();
    symlink(bystander.file(), image.path("lower/to-file")).unwrap();
    let inside = bystander.0.display();
    let mut request = image.script(&format!("touch {inside}/new /relative/sub/new && cat /to-file"));
    let secret =
        MountKind::File { content: b"given".to_vec(), mode: 0o644, uid: 0, gid: 0, read_only: false };
    request.mounts = vec![
        tmpfs("/absolute"),
        tmpfs("/relative/sub"),
        ExtraMount { destination: "/to-file".to_owned(), kind: secret },
    ];
    let output = run(&request);
    assert_eq!((output.status, output.stdout.as_str()), (ExitStatus::Exited(0), "given"), "{output:?}");
    bystander.is_untouched();
}

/// As in CVE-2021-30465: the target is exchanged with a link while the mount is made.
#[test]
fn a_mount_target_that_is_exchanged_during_the_start_stays_inside() {
    let Some(image) = image() else { return };
    let bystander = Bystander::new(&image);
    let share = image.path("share");
    fs::create_dir_all(share.join("target/inner")).unwrap();
    symlink(&bystander.0, share.join("trap")).unwrap();
    while_exchanged(&share, ["target", "trap"], || {
        for _ in 0..ROUNDS {
            let script = "echo x > /share/target/inner/written; cat /share/*/file /share/*/inner/file; true";
            let mut request = image.script(script);
            request.mounts = vec![bind(&share, "/share"), tmpfs("/share/target/inner")];
            match try_run(&request) {
                Ok(output) => assert!(!output.stdout.contains("of the host"), "{output:?}"),
                Err(error) => assert!(explain(&error).contains("/share/target/inner"), "{}", explain(&error)),
            }
        }
    });
    bystander.is_untouched();
}

/// CVE-2025-31133: the file behind masks, `/dev/null`, replaced by a link to what is to be written.
#[test]
fn cve_2025_31133_masks_do_not_depend_on_the_image_s_dev_null() {
    let Some(image) = image() else { return };
    let bystander = Bystander::new(&image);
    fs::create_dir(image.path("lower/dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", image.path("lower/dev/null")).unwrap();
    symlink(bystander.file(), image.path("lower/dev/zero")).unwrap();
    let script = "for f in /proc/timer_list /proc/kcore /proc/keys; do test -e $f && stat -c '%F %t:%T' $f; done; \
                  echo x > /proc/timer_list; cat /proc/timer_list; stat -c '%F %t:%T' /dev/null; \
                  mount | grep -c core_pattern; (: >> /proc/sys/kernel/core_pattern) || echo refused";
    let output = image.shell(script);
    let said: Vec<&str> = output.stdout.lines().collect();
    let (masks, rest) = said.split_at(said.len() - 3);
    assert!(masks.iter().all(|mask| *mask == "character special file 1:3"), "{output:?}");
    assert_eq!(rest, ["character special file 1:3", "0", "refused"], "{output:?}");
    bystander.is_untouched();
}

/// CVE-2025-31133 and CVE-2026-41579: `/dev` itself is a link into a volume that somebody else changes.
#[test]
fn cve_2026_41579_a_dev_that_is_a_link_is_refused() {
    let Some(image) = image() else { return };
    let share = image.path("share");
    fs::create_dir(&share).unwrap();
    symlink("/proc/sys/kernel/core_pattern", share.join("null")).unwrap();
    symlink("/share", image.path("lower/dev")).unwrap();
    let mut request = image.command(&["/bin/true"]);
    request.mounts = vec![bind(&share, "/share")];
    let error = explain(&try_run(&request).unwrap_err());
    assert!(error.contains("at \"/dev\"") && error.contains("symbolic links"), "{error}");
    assert_eq!(fs::read_dir(&share).unwrap().count(), 1);
}

/// CVE-2025-52565: the terminal shown as `/dev/console` where the image has a link.
#[test]
fn cve_2025_52565_the_console_is_the_container_s_terminal() {
    let Some(image) = image() else { return };
    let bystander = Bystander::new(&image);
    fs::create_dir_all(image.path("lower/dev/pts")).unwrap();
    symlink(bystander.file(), image.path("lower/dev/console")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", image.path("lower/dev/pts/0")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", image.path("lower/dev/ptmx")).unwrap();
    let script = "test -c /dev/console && test /dev/console -ef /dev/pts/0 && exit 7";
    let terminal = Stdio::Terminal(TtySize { rows: 24, columns: 80 });
    let mut process = runner::start(&image.script(script), terminal).unwrap();
    assert_eq!(process.wait().unwrap().status, ExitStatus::Exited(7));
    bystander.is_untouched();
}

/// CVE-2025-52881: what is written below `/proc` for the container must not be led elsewhere.
#[test]
fn cve_2025_52881_nothing_is_mounted_inside_of_proc() {
    let Some(image) = image() else { return };
    let share = image.path("share");
    fs::create_dir(&share).unwrap();
    symlink("/proc/self", image.path("lower/link")).unwrap();
    for destination in
        ["/proc", "/proc/sys", "/proc/self/attr", "//proc/./sysrq-trigger", "/proc/1", "/proc/new"]
    {
        for kind in [bind(&share, destination), tmpfs(destination)] {
            let mut request = image.command(&["/bin/true"]);
            request.mounts = vec![kind];
            let error = explain(&try_run(&request).unwrap_err());
            assert!(error.contains("is inside of /proc"), "{destination}: {error}");
        }
    }
    // Not by a link of the image either.
    let mut request = image.script("test ! -e /proc/self/attr/mine && test ! -e /proc/1/attr/mine");
    request.mounts = vec![tmpfs("/link/attr")];
    let error = explain(&try_run(&request).unwrap_err());
    assert!(error.contains("at \"/link/attr\"") && error.contains("not permitted"), "{error}");
    // Numbers about the machine may be replaced by better ones.
    fs::write(share.join("uptime"), "1.00 1.00\n").unwrap();
    let mut request = image.script("cat /proc/uptime");
    request.mounts = vec![bind(&share.join("uptime"), "/proc/uptime")];
    assert_eq!(run(&request).stdout, "1.00 1.00\n");
}

#[test]
fn cve_2025_52881_kernel_settings_reach_the_container_s_namespace_only() {
    let Some(image) = image() else { return };
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let host = ["/proc/sys/kernel/msgmax", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/domainname"];
    let before = host.map(read);
    // The image's own /proc is a trap: links where the settings would be written.
    fs::create_dir_all(image.path("lower/proc/sys/kernel")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", image.path("lower/proc/sys/kernel/msgmax")).unwrap();
    let mut request = image.script("cat /proc/sys/kernel/msgmax");
    request.sysctls = vec![("kernel.msgmax".to_owned(), "4321".to_owned())];
    assert_eq!(run(&request).stdout, "4321\n");
    assert_eq!(host.map(read), before);
}

#[test]
fn paths_of_the_kernel_cannot_be_written() {
    let Some(image) = image() else { return };
    let paths = [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/vm/panic_on_oom",
        "/proc/irq/default_smp_affinity",
        "/proc/bus/pci/devices",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/ksm/run",
        "/sys/power/state",
        "/sys/fs/cgroup/release_agent",
        "/sys/class/net/lo/mtu",
        "/dev/mem",
        "/dev/kmsg",
    ];
    for path in paths {
        // Opening is enough to know, and does no harm if it works.
        let output = image.shell(&format!("if test -e {path}; then : >> {path}; else false; fi"));
        assert_ne!(output.status, ExitStatus::Exited(0), "{path}: {output:?}");
    }
    let remount = "mount -o remount,rw /sys; mount -o remount,rw /proc/sys; umount /proc/kcore; \
                   umount -l /proc/timer_list; mount -t proc proc /tmp; mount -t sysfs sys /tmp; \
                   mount -t cgroup -o memory cgroup /tmp; mount -t cgroup2 none /tmp; mount -t tmpfs none /tmp";
    let output = image.shell(&format!("{remount}; mount > /dev/shm/table; grep -c ' /tmp ' /dev/shm/table"));
    assert_eq!(output.stdout, "0\n", "{output:?}");
}

/// A user namespace gives all capabilities over itself, not over what was mounted before it.
#[test]
fn nested_user_namespaces_lead_nowhere() {
    let Some(image) = image() else { return };
    fs::create_dir(image.path("lower/mnt")).unwrap();
    let nested = |script: &str| {
        let mut request =
            image.command(&["/bin/unshare", "-U", "-r", "-m", "-p", "-f", "/bin/sh", "-c", script]);
        request.seccomp = SeccompProfile::Unconfined;
        run(&request)
    };
    let works = nested("mount -t tmpfs none /mnt && echo mounted");
    assert_eq!(works.stdout, "mounted\n", "user namespaces are off on this machine: {works:?}");
    for escape in [
        "umount /proc/timer_list",
        "umount -l /proc/kcore",
        "mount -t proc proc /mnt",
        "mount -t sysfs sysfs /mnt",
        "mount -o remount,rw /sys",
        "mount -o remount,bind,rw /proc/sys && : >> /proc/sys/kernel/core_pattern",
        "mount -t cgroup -o memory cgroup /mnt && : >> /mnt/release_agent",
        "mknod /tmp/disk b 8 0",
        ": >> /proc/sysrq-trigger",
        "mount --bind /proc/1/root /mnt && test -e /mnt/etc/shadow",
    ] {
        let output = nested(&format!("{escape} && echo escaped"));
        assert!(!output.stdout.contains("escaped"), "{escape}: {output:?}");
    }
}

//! Packed layers on kernels that can do less than this one: loop devices, mounts that have to be attached, and what becomes of
//! layers where nothing of it works.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::names_in;
use common::packed::{filesystems, forms, let_files_age, supervisor};
use nix::sys::signal::{Signal, kill};
use rustix::mount::MountFlags;
use testkit::wait::until;
use testkit::{Lap, Output, TestEnv, mounted};

/// All ways to mount, by their names.
const WAYS: [&str; 4] = ["file", "file-attached", "loop", "loop-attached"];

/// What says that layers do not stay packed.
const UNPACKED: &str = "WARNING: layers are unpacked";

/// An environment whose `busybox` is packed and mounted in one way.
struct Packed {
    env: TestEnv,
    way: &'static str,
}

impl Packed {
    /// `None`, with a note, where the kernel cannot do that.
    fn new(way: &'static str) -> Option<Self> {
        testkit::privilege::root()?;
        let packed = Self { env: TestEnv::new(), way };
        let loaded = packed.load();
        if loaded.stderr_text().contains(UNPACKED) {
            testkit::privilege::skip(loaded.stderr_text().trim());
            return None;
        }
        assert_eq!(forms(&packed.env), ["packed"]);
        Some(packed)
    }

    fn load(&self) -> Output {
        self.lap(&["load", "-i"]).arg(busybox(&self.env)).ok()
    }

    fn lap(&self, args: &[&str]) -> Lap {
        self.env.lap(["--layer-form", "packed", "--layer-mount", self.way]).args(args)
    }

    fn says(&self, args: &[&str]) -> String {
        self.lap(args).ok().stdout_text()
    }

    /// Starts a container that reads a file of its image and goes on.
    fn start(&self, name: &str) {
        self.lap(&[
            "run",
            "-d",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            "cat /bin/busybox > /dev/null; sleep 1000",
        ])
        .ok();
    }
}

fn busybox(env: &TestEnv) -> PathBuf {
    let archive = env.work().join("busybox.tar");
    testkit::images::busybox().write_archive(&archive);
    archive
}

/// The files of a store that loop devices show.
fn bound(env: &TestEnv) -> Vec<String> {
    let root = env.root().to_str().unwrap().to_owned();
    let device = |name: String| {
        let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
        Some(std::fs::read_to_string(backing).ok()?.trim_end().to_owned())
    };
    let mut files: Vec<String> = names_in(Path::new("/sys/block")).into_iter().filter_map(device).collect();
    files.retain(|file| file.starts_with(&root));
    files.sort_unstable();
    files
}

/// The kernel lets go of a device some moments after its last user.
fn is_let_go(env: &TestEnv) {
    until("no loop device is left", || bound(env).is_empty());
}

/// Where a table of mounts shows something of those who mount layers.
fn traces(table: &str) -> BTreeSet<&str> {
    let of_ours =
        |line: &&str| ["erofs", "/dev/loop", "layer-", "/proc/self/fd"].iter().any(|one| line.contains(one));
    table.lines().filter(of_ours).filter_map(|line| line.split(' ').nth(4)).collect()
}

/// Where something is mounted.
fn places(table: &str) -> Vec<String> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

fn host_mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// How often it was said that layers do not stay packed.
fn said(output: &Output) -> usize {
    output.stderr_text().matches(UNPACKED).count()
}

#[test]
fn each_way_builds_and_runs_and_nothing_of_it_is_seen() {
    let mut seen = Vec::new();
    for way in WAYS {
        let Some(packed) = Packed::new(way) else { return };
        let context = packed.env.context();
        context.file("many/file", "copied").dockerfile(
            "FROM busybox AS other\nCOPY many /many\n\
             FROM busybox\nCOPY many /app\n\
             RUN --mount=type=bind,from=other,target=/other cat /other/many/file > /out && ls /bin/sh\n\
             RUN cat /proc/self/mountinfo > /mounts\nCMD cat /out /app/file\n",
        );
        packed.lap(&["build", "-t", "built"]).arg(context.path()).ok();
        assert_eq!(packed.says(&["run", "--rm", "built"]), "copiedcopied", "{way}");
        let step = packed.says(&["run", "--rm", "built", "cat", "/mounts"]);
        let mount = "type=image,source=busybox,target=/shown";
        let script = "cat /proc/self/mountinfo; ls -d /shown/bin/sh >&2";
        let ran = packed.lap(&["run", "--mount", mount, "--name", "c", "built", "sh", "-c", script]).run();
        ran.stderr_has(&["/shown/bin/sh"]);
        let container = ran.stdout_text();
        for table in [&step, &container] {
            assert!(traces(table).is_subset(&["/", "/shown"].into()), "{way}: {table}");
        }
        assert!(!host_mounts().contains(" - erofs "), "{way}");
        assert!(!host_mounts().contains(packed.env.root().to_str().unwrap()), "{way}");
        // What mounting leaves in a container, and what is found in one that has ended.
        packed.lap(&["run", "--name", "target", "-v", "vol:/etc/new/vol", "busybox", "true"]).ok();
        let changes = packed.says(&["diff", "target"]) + &packed.says(&["diff", "c"]);
        let changes: BTreeSet<String> = changes.lines().map(str::to_owned).collect();
        let out = packed.env.work().join("out");
        packed.lap(&["cp", "c:/shown/bin/busybox"]).arg(&out).ok();
        assert!(std::fs::read(&out).unwrap() == std::fs::read("/usr/bin/busybox").unwrap());
        packed.lap(&["cp"]).arg(&out).arg("target:/etc/new/vol/copied").ok();
        assert_eq!(places(&packed.says(&["start", "-a", "c"])), places(&container), "{way}");
        assert!(forms(&packed.env).contains(&"packed"), "{way}");
        assert_eq!(packed.lap(&["store", "check"]).ok().stderr_text(), "");
        packed.lap(&["rm", "-f", "c", "target"]).ok();
        is_let_go(&packed.env);
        seen.push((places(&step), places(&container), changes));
    }
    for (way, one) in WAYS.iter().zip(&seen) {
        assert_eq!(one, &seen[0], "{way}");
    }
}

#[test]
fn containers_over_loop_devices_share_them_and_leave_none() {
    for way in ["loop", "loop-attached"] {
        let Some(packed) = Packed::new(way) else { return };
        packed.start("one");
        let devices = bound(&packed.env);
        assert_eq!(devices.len(), 2, "{devices:?}");
        assert!(devices[0].ends_with("/index") && devices[1].ends_with("/tar"), "{devices:?}");
        packed.start("two");
        assert_eq!(bound(&packed.env), devices, "{way}");
        assert_eq!(filesystems(&packed.env, "one"), filesystems(&packed.env, "two"), "{way}");
        packed.lap(&["rm", "-f", "one"]).ok();
        assert_eq!(packed.says(&["exec", "two", "ls", "-d", "/bin/sh"]), "/bin/sh\n");
        packed.start("three");
        let context = packed.env.context();
        context.dockerfile("FROM busybox\nRUN echo rea''dy && sleep 1000\n");
        let mut build = packed.lap(&["build", "--progress", "plain"]).arg(context.path()).spawn();
        build.wait_for("ready");
        let mut run = packed.lap(&["run", "--rm", "busybox", "sh", "-c", "echo ready; sleep 1000"]).spawn();
        run.wait_for("ready");
        assert_eq!(bound(&packed.env), devices, "{way}");
        for name in ["two", "three"] {
            kill(supervisor(&packed.env, name), Signal::SIGKILL).unwrap();
        }
        for killed in [build, run] {
            killed.signal(Signal::SIGKILL);
            killed.finish();
        }
        is_let_go(&packed.env);
        packed.lap(&["rm", "-f", "two", "three"]).ok();
        packed.lap(&["rmi", "busybox"]).ok();
        packed.lap(&["system", "prune", "-af"]).ok();
        assert_eq!(forms(&packed.env), [""; 0]);
    }
}

#[test]
fn a_layer_that_shares_with_another_is_mounted_in_each_way() {
    for way in WAYS {
        let Some(packed) = Packed::new(way) else { return };
        let context = packed.env.context();
        let file = |number: usize, text: &str| {
            context.file(&format!("many/{number}"), format!("{number} {text}\n").repeat(5000));
        };
        (0..8).for_each(|number| file(number, "first"));
        context.dockerfile("FROM busybox\nCOPY many /app\nRUN cat /app/* | md5sum > /sum\n");
        let build = || drop(packed.lap(&["build", "-t", "built"]).arg(context.path()).ok());
        let_files_age();
        build();
        file(3, "second");
        build();
        let layers = packed.env.root().join("snapshots-v1");
        let sharing = names_in(&layers).into_iter().filter(|name| layers.join(name).join("pieces").exists());
        let sharing: Vec<String> = sharing.collect();
        assert_eq!(sharing.len(), 1, "{way}");
        let size = std::fs::metadata(layers.join(&sharing[0]).join("tar")).unwrap().len();
        assert!(size < 100_000, "{way}: it writes what has changed, not {size} bytes");
        let of_context =
            (0..8).map(|number| format!("{number} {}\n", if number == 3 { "second" } else { "first" }));
        let expected: String = of_context.map(|line| line.repeat(5000)).collect();
        let read = packed.says(&["run", "--rm", "built", "sh", "-c", "cat /app/*; cat /sum"]);
        assert_eq!(
            read.strip_prefix(&expected).map(|sum| sum.trim().len()),
            Some("d41d8cd98f00b204e9800998ecf8427e  -".len()),
            "{way}"
        );
        assert_eq!(packed.lap(&["store", "check"]).ok().stderr_text(), "");
        is_let_go(&packed.env);
        // Those who share go as well, and nothing is kept for their sake.
        packed.lap(&["rmi", "built", "busybox"]).ok();
        packed.lap(&["system", "prune", "-af"]).ok();
        assert_eq!(forms(&packed.env), [""; 0], "{way}");
    }
}

#[test]
fn many_bind_loop_devices_at_the_same_time() {
    std::thread::scope(|scope| {
        let one = || {
            let Some(packed) = Packed::new("loop") else { return };
            for _ in 0..5 {
                assert_eq!(packed.says(&["run", "--rm", "busybox", "echo", "runs"]), "runs\n");
            }
            assert_eq!(forms(&packed.env), ["packed"]);
            is_let_go(&packed.env);
        };
        (0..6).for_each(|_| drop(scope.spawn(one)));
    });
}

#[test]
fn layers_that_were_changed_are_not_found_on_older_devices() {
    let Some(packed) = Packed::new("loop") else { return };
    packed.start("one");
    let layer = names_in(&packed.env.root().join("snapshots-v1")).remove(0);
    let index = packed.env.root().join("snapshots-v1").join(layer).join("index");
    let whole = std::fs::read(&index).unwrap();
    // Another file of the same name, and the same file with another content.
    std::fs::remove_file(&index).unwrap();
    std::fs::write(&index, &whole).unwrap();
    packed.start("two");
    assert_ne!(filesystems(&packed.env, "one"), filesystems(&packed.env, "two"));
    std::fs::write(&index, vec![0; whole.len()]).unwrap();
    packed.start("three");
    assert_eq!(packed.says(&["exec", "three", "ls", "-d", "/bin/sh"]), "/bin/sh\n");
    assert!(filesystems(&packed.env, "two").is_disjoint(&filesystems(&packed.env, "three")));
    packed.lap(&["rm", "-f", "one", "two", "three"]).ok();
    is_let_go(&packed.env);
}

/// Runs `lap` with certain system calls of its first thread failing.
fn failing(env: &TestEnv, calls: &str, args: &[&str]) -> Option<Output> {
    let strace = Path::new("/usr/bin/strace");
    if !strace.exists() {
        return testkit::privilege::missing("strace is not installed");
    }
    let call = calls.split(':').next().unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={calls}"));
    let log = env.work().join("strace.log");
    let flags = ["-o", log.to_str().unwrap(), "-e", &trace, "-e", &inject];
    let output = env.lap_under(strace, &flags, args).ok();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("(INJECTED)"), "{log}");
    Some(output)
}

#[test]
fn what_the_kernel_cannot_is_found_out_and_remembered() {
    // A mount takes four calls, and so does the overlay that is tried: of files, of loop devices, the overlay.
    for (calls, devices) in [
        ("fsconfig:error=ENOTBLK:when=4", 2),
        ("fsconfig:error=ENOTBLK:when=4+8", 2),
        ("fsconfig:error=EINVAL:when=8", 0),
    ] {
        let Some(packed) = Packed::new("file") else { return };
        packed.lap(&["rmi", "busybox"]).ok();
        packed.lap(&["system", "prune", "-af"]).ok();
        let archive = busybox(&packed.env);
        let form = ["--layer-form", "packed", "--layer-mount", "auto"];
        let args = [&form[..], &["load", "-i", archive.to_str().unwrap()]].concat();
        let Some(loaded) = failing(&packed.env, calls, &args) else { return };
        assert_eq!((forms(&packed.env), said(&loaded)), (vec!["packed"], 0), "{calls}: {loaded}");
        let auto = |args: &[&str]| packed.env.lap(form).args(args).ok().stdout_text();
        auto(&["run", "-d", "--name", "c", "busybox", "sleep", "1000"]);
        assert_eq!(bound(&packed.env).len(), devices, "{calls}");
        let mounts = auto(&["exec", "c", "cat", "/proc/self/mountinfo"]);
        assert!(traces(&mounts).is_subset(&["/"].into()), "{mounts}");
        auto(&["rm", "-f", "c"]);
        is_let_go(&packed.env);
    }
}

#[test]
fn where_nothing_can_be_mounted_layers_become_directories_with_one_line() {
    for calls in [
        // EROFS is missing, the kernel's tables are full, the index is refused.
        "fsopen:error=ENODEV:when=1",
        "fsmount:error=ENOSPC:when=1+1",
        "fsconfig:error=EUCLEAN:when=4+4",
    ] {
        let Some(packed) = Packed::new("file") else { return };
        two_packed_layers(&packed);
        let args = ["--layer-mount", "file", "create", "--name", "c", "built"];
        let Some(output) = failing(&packed.env, calls, &args) else { return };
        assert_eq!(said(&output), 1, "{calls}: {output}");
        assert_eq!(output.stderr_text().lines().count(), 1, "{calls}: {output}");
        let started = packed.lap(&["start", "-a", "c"]).ok();
        assert_eq!((started.stdout_text().as_str(), said(&started)), ("copied", 0), "{calls}");
        packed.lap(&["store", "check"]).ok();
    }
}

/// Builds `built`, which has two packed layers.
fn two_packed_layers(packed: &Packed) {
    let context = packed.env.context();
    context.file("many/file", "copied").dockerfile("FROM busybox\nCOPY many /app\nCMD cat /app/file\n");
    packed.lap(&["build", "-t", "built"]).arg(context.path()).ok();
    assert_eq!(forms(&packed.env), ["packed", "packed"]);
}

/// Runs `lap` where `/dev` has what every machine has, but of loop devices only those named.
fn with_devices(loops: &[(&str, u64)], lap: Lap) -> Output {
    let new = tempfile::tempdir().unwrap();
    mounted::alone(|| {
        rustix::mount::mount("tmpfs", new.path(), "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
        let usual = [
            ("null", (1, 3)),
            ("zero", (1, 5)),
            ("full", (1, 7)),
            ("random", (1, 8)),
            ("urandom", (1, 9)),
            ("tty", (5, 0)),
        ];
        for (name, (major, minor)) in
            usual.into_iter().chain(loops.iter().map(|(name, minor)| (*name, (10, *minor))))
        {
            let (kind, mode) =
                (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o666));
            nix::sys::stat::mknod(
                &new.path().join(name),
                kind,
                mode,
                nix::libc::makedev(major, minor as u32),
            )
            .unwrap();
        }
        rustix::mount::mount_move(new.path(), "/dev").unwrap();
        lap.run()
    })
}

#[test]
fn without_loop_devices_layers_become_directories_with_one_line() {
    // There are none; all that the control device tells of are unusable.
    for loops in [&[][..], &[("loop-control", 237)]] {
        let Some(packed) = Packed::new("loop") else { return };
        two_packed_layers(&packed);
        let ran = with_devices(loops, packed.lap(&["run", "--rm", "built"]));
        assert_eq!((ran.stdout_text().as_str(), said(&ran)), ("copied", 1), "{ran}");
        assert!(ran.stderr_text().contains("/dev/loop"), "{ran}");
        assert_eq!(forms(&packed.env), ["dir", "dir"]);
        let again = with_devices(loops, packed.lap(&["run", "--rm", "built"]));
        assert_eq!((again.stdout_text().as_str(), said(&again)), ("copied", 0), "{again}");
        is_let_go(&packed.env);
        // Nobody has found out yet whether there are some.
        let other = Packed { env: TestEnv::new(), way: "loop" };
        let loaded = with_devices(loops, other.lap(&["load", "-i"]).arg(busybox(&other.env)));
        assert_eq!((forms(&other.env), said(&loaded)), (vec!["dir"], 1), "{loaded}");
        other.lap(&["run", "--rm", "busybox", "true"]).ok();
    }
}

//! Root filesystems that are hostile, large or odd, and what is left in the layer afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use base::Mount;
use base::mount::OverlayUpper;
use runner::{EtcFiles, ExitStatus, RunRequest};

use crate::support::{Image, explain, image, run, try_run};

/// A request whose container gets an `/etc/hosts` and an `/etc/resolv.conf`.
fn with_etc(image: &Image, script: &str) -> RunRequest {
    let mut request = image.script(script);
    request.etc.hosts = Some(b"provided hosts\n".to_vec());
    request.etc.resolv_conf = Some(b"provided resolv\n".to_vec());
    request
}

#[test]
fn a_kernel_filesystem_is_not_mounted_through_a_link() {
    let Some(image) = image() else { return };
    for name in ["proc", "sys"] {
        symlink("/tmp", image.path("lower").join(name)).unwrap();
        let error = explain(&try_run(&image.command(&["/bin/true"])).unwrap_err());
        assert!(error.contains(&format!("at \"/{name}\"")), "{error}");
        assert!(error.contains("symbolic links"), "{error}");
        fs::remove_file(image.path("lower").join(name)).unwrap();
    }
}

#[test]
fn links_lead_to_the_container_s_files_and_never_to_the_host_s() {
    let Some(image) = image() else { return };
    let outside = image.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("hosts"), "host").unwrap();
    fs::create_dir(image.path("lower/etc")).unwrap();
    // Absolute, to a file that exists on the host and not in the image; and relative, far too high.
    symlink(outside.join("hosts"), image.path("lower/etc/hosts")).unwrap();
    symlink("../../../../../../../etc/real", image.path("lower/etc/resolv.conf")).unwrap();
    let output = run(&with_etc(&image, "cat /etc/hosts /etc/real; echo x >> /etc/hosts"));
    assert_eq!(output.stdout, "provided hosts\nprovided resolv\n", "{output:?}");
    assert_eq!(fs::read_to_string(outside.join("hosts")).unwrap(), "host");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_directory_on_the_way_may_be_a_link() {
    let Some(image) = image() else { return };
    symlink("/private/etc", image.path("lower/etc")).unwrap();
    let output = run(&with_etc(&image, "cat /private/etc/hosts"));
    assert_eq!(output.stdout, "provided hosts\n", "{output:?}");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn links_in_a_circle_are_an_error() {
    let Some(image) = image() else { return };
    fs::create_dir(image.path("lower/etc")).unwrap();
    symlink("hosts2", image.path("lower/etc/hosts")).unwrap();
    symlink("hosts", image.path("lower/etc/hosts2")).unwrap();
    let error = explain(&try_run(&with_etc(&image, "true")).unwrap_err());
    assert!(error.contains("\"/etc/hosts\"") && error.contains("symbolic links"), "{error}");
}

#[test]
fn a_pipe_where_a_file_is_expected_blocks_nobody() {
    let Some(image) = image() else { return };
    fs::create_dir(image.path("lower/etc")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, image.path("lower/etc/hosts"), fifo, mode, 0).unwrap();
    assert_eq!(run(&with_etc(&image, "cat /etc/hosts")).stdout, "provided hosts\n");
}

#[test]
fn a_directory_where_a_file_is_expected_is_an_error() {
    let Some(image) = image() else { return };
    fs::create_dir_all(image.path("lower/etc/hosts")).unwrap();
    let error = explain(&try_run(&with_etc(&image, "true")).unwrap_err());
    assert!(error.contains("\"/etc/hosts\""), "{error}");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn only_what_the_command_did_stays_in_the_layer() {
    let Some(image) = image() else { return };
    fs::create_dir(image.path("lower/etc")).unwrap();
    let before = fs::metadata(image.path("lower/etc")).unwrap();
    let output = run(&with_etc(&image, "mkdir /srv; touch /srv/file; stat -c %Y /etc"));
    assert_eq!(output.status, ExitStatus::Exited(0), "{output:?}");
    assert_eq!(image.changes(), ["srv", "srv/file"]);

    run(&with_etc(&image, "echo x > /etc/kept; echo y > /proc/../sys2"));
    assert_eq!(image.changes(), ["etc", "etc/kept", "srv", "srv/file", "sys2"]);
    let after = fs::metadata(image.path("upper/etc")).unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
}

#[test]
fn changes_of_a_directory_around_a_stub_are_kept() {
    let Some(image) = image() else { return };
    fs::create_dir(image.path("lower/etc")).unwrap();
    run(&with_etc(&image, "chmod 700 /etc"));
    assert_eq!(image.changes(), ["etc"]);
    assert_eq!(fs::metadata(image.path("upper/etc")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_store_behind_a_link_is_cleaned_up_too() {
    let Some(image) = image() else { return };
    let link = image.path("link");
    symlink(image.path(""), &link).unwrap();
    let upper = OverlayUpper { upper: link.join("upper/../upper"), work: link.join("work") };
    let mut request = with_etc(&image, "cat /etc/hosts");
    request.root = Mount::Overlay { lower: vec![link.join("lower")], upper: Some(upper), userxattr: false };
    assert_eq!(run(&request).stdout, "provided hosts\n");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_plain_directory_can_be_the_root() {
    let Some(image) = image() else { return };
    let lower = image.path("lower");
    let before = fs::metadata(&lower).unwrap().mtime_nsec();
    let mut request = with_etc(&image, "cat /etc/hosts; ls /");
    request.root = Mount::Bind { source: lower.clone(), read_only: false };
    assert_eq!(run(&request).stdout, "provided hosts\nbin\ndev\netc\nproc\nsys\ntmp\n");
    let mut left: Vec<_> = fs::read_dir(&lower).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["bin", "tmp"]);
    assert_eq!(fs::metadata(&lower).unwrap().mtime_nsec(), before, "the directory's time is as it was");
}

#[test]
fn a_root_without_an_upper_directory_needs_its_mount_points() {
    let Some(image) = image() else { return };
    let mut request = image.script("touch /x; ls /");
    request.root = Mount::Overlay { lower: vec![image.path("lower")], upper: None, userxattr: false };
    let error = explain(&try_run(&request).unwrap_err());
    assert!(error.contains("\"/proc\"") && error.contains("Read-only file system"), "{error}");
    for directory in ["proc", "dev", "sys"] {
        fs::create_dir(image.path("lower").join(directory)).unwrap();
    }
    fs::create_dir(image.path("second")).unwrap();
    for lower in [vec![image.path("lower")], vec![image.path("second"), image.path("lower")]] {
        request.root = Mount::Overlay { lower, upper: None, userxattr: false };
        let output = run(&request);
        assert!(output.stderr.contains("Read-only file system"), "{output:?}");
        assert_eq!(output.stdout, "bin\ndev\nproc\nsys\ntmp\n", "{output:?}");
    }
}

#[test]
fn a_layer_can_be_mounted_again() {
    let Some(image) = image() else { return };
    assert_eq!(image.shell("echo one > /one").status, ExitStatus::Exited(0));
    assert_eq!(image.shell("cat /one").stdout, "one\n");
    fs::remove_dir_all(image.path("work/work")).unwrap();
}

/// Layers named so that the options of the overlay do not fit into a page.
fn many_layers(image: &Image, count: usize) -> Vec<PathBuf> {
    let layer = |number: usize| {
        let path = image.path("layers").join(format!("{number:0>80}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("from-{number}")), "").unwrap();
        path
    };
    (0..count).map(layer).chain([image.path("lower")]).collect()
}

#[test]
fn long_chains_of_layers_are_mounted() {
    let Some(image) = image() else { return };
    if kernel_version() < (6, 8) {
        eprintln!("skipped: Linux 6.8 or newer is needed for chains that do not fit into a page");
        return;
    }
    let mut request = image.script("ls / | grep -c from-");
    let upper = OverlayUpper { upper: image.path("upper"), work: image.path("work") };
    request.root = Mount::Overlay { lower: many_layers(&image, 200), upper: Some(upper), userxattr: false };
    assert_eq!(run(&request).stdout, "200\n");
}

fn kernel_version() -> (u32, u32) {
    let mut numbers = sys::probe::kernel_release().split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[test]
fn separators_in_paths_do_no_harm() {
    let Some(image) = image() else { return };
    let odd = image.path("a:b,c\\d");
    fs::rename(image.path("lower"), &odd).unwrap();
    let (upper, work) = (image.path("u:,\\x"), image.path("w:,\\x"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let mut request = image.script("echo here > /file");
    request.root = Mount::Overlay {
        lower: vec![odd.clone()],
        upper: Some(OverlayUpper { upper: upper.clone(), work: work.clone() }),
        userxattr: false,
    };
    assert_eq!(run(&request).status, ExitStatus::Exited(0));
    assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "here\n");

    if kernel_version() >= (6, 8) {
        let mut lower = many_layers(&image, 100);
        *lower.last_mut().unwrap() = odd;
        request.root = Mount::Overlay { lower, upper: Some(OverlayUpper { upper, work }), userxattr: false };
        assert_eq!(run(&request).status, ExitStatus::Exited(0));
    }
}

#[test]
fn mounts_of_the_container_are_not_seen_outside() {
    let Some(image) = image() else { return };
    let count =
        || fs::read_to_string("/proc/self/mounts").unwrap().matches(image.path("").to_str().unwrap()).count();
    let mut process = runner::start(
        &RunRequest { etc: EtcFiles::default(), ..image.command(&["/bin/sleep", "60"]) },
        runner::Stdio::CAPTURED,
    )
    .unwrap();
    assert_eq!(count(), 0);
    assert!(!Path::new(&image.path("upper/proc/self")).exists());
    process.kill().unwrap();
    process.wait().unwrap();
}

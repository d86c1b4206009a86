//! A tiny root filesystem, and running commands in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use base::event::Stream;
use base::mount::OverlayUpper;
use base::{CancelToken, Mount};
use oci_spec::runtime::LinuxResources;
use runner::cgroup::{ControlGroup, DeviceList};
use runner::{ExitStatus, RunError, RunRequest, run_logged};
use tempfile::TempDir;

/// Where Debian's `busybox-static` puts it.
const BUSYBOX: &str = "/usr/bin/busybox";

/// Names under which busybox is in `/bin`.
const APPLETS: [&str; 34] = [
    "busybox", "cat", "chmod", "dd", "echo", "env", "false", "grep", "head", "hostname", "id", "ifconfig",
    "kill", "ln", "ls", "mkdir", "mknod", "mount", "nproc", "ps", "pwd", "readlink", "rm", "sh", "sleep",
    "sort", "stat", "stty", "test", "touch", "true", "tty", "unshare", "wc",
];

/// A directory with a lower layer that has busybox, and an empty upper one.
pub(crate) struct Image {
    directory: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Makes an image, or says why containers cannot be tested here.
pub(crate) fn image() -> Option<Image> {
    if let Some(missing) = sys::probe::missing_for_containers() {
        eprintln!("skipped: {missing}");
        return None;
    }
    if !Path::new(BUSYBOX).exists() {
        eprintln!("skipped: {BUSYBOX} is missing; install the package busybox-static");
        return None;
    }
    let image = Image { directory: tempfile::tempdir().unwrap() };
    for directory in ["lower/bin", "lower/tmp", "upper", "work"] {
        fs::create_dir_all(image.path(directory)).unwrap();
    }
    testkit::command::program_file(&image.path("lower/bin/busybox"), &fs::read(BUSYBOX).unwrap());
    for applet in APPLETS.iter().filter(|applet| **applet != "busybox") {
        symlink("busybox", image.path("lower/bin").join(applet)).unwrap();
    }
    Some(image)
}

impl Image {
    /// A path in the directory of the image: `lower/…`, `upper/…`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn root(&self) -> Mount {
        Mount::Overlay {
            lower: vec![self.path("lower")],
            upper: Some(OverlayUpper { upper: self.path("upper"), work: self.path("work") }),
            userxattr: false,
        }
    }

    /// A request for a command and its arguments.
    pub(crate) fn command(&self, args: &[&str]) -> RunRequest {
        RunRequest::new(self.root(), args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    /// A request for a shell script.
    pub(crate) fn script(&self, script: &str) -> RunRequest {
        self.command(&["/bin/sh", "-c", script])
    }

    /// Runs a shell script with defaults.
    pub(crate) fn shell(&self, script: &str) -> Output {
        run(&self.script(script))
    }

    /// Everything in the upper directory, as sorted paths.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.path("upper"), Path::new(""), &mut found);
        found.sort();
        found
    }
}

fn collect(directory: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        found.push(path.to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &path, found);
        }
    }
}

/// Runs a request that is expected to start.
pub(crate) fn run(request: &RunRequest) -> Output {
    try_run(request).unwrap_or_else(|error| panic!("{}", explain(&error)))
}

pub(crate) fn try_run(request: &RunRequest) -> Result<Output, RunError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut sink = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => stdout.extend_from_slice(bytes),
        Stream::Stderr => stderr.extend_from_slice(bytes),
    };
    let finished = run_logged(request, &mut sink, &CancelToken::new())?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output { status: finished.status, stdout: text(stdout), stderr: text(stderr) })
}

/// Whether the devices of containers are listed here, as opposed to forbidden on all mounts.
pub(crate) fn lists_devices() -> bool {
    let group = ControlGroup::create(&LinuxResources::default(), DeviceList::Cheap);
    group.ok().flatten().is_some_and(|group| group.restricts_devices())
}

/// An error with its causes, as `lap` prints it.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

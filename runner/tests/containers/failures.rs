//! Commands and requests that cannot work: the error names the thing, and nothing is left behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use runner::{ExtraMount, MountKind, RunError, RunRequest, StreamTarget};

use crate::support::{Image, explain, image, try_run};

fn error(request: &RunRequest) -> RunError {
    match try_run(request) {
        Err(error) => error,
        Ok(output) => panic!("it ran: {output:?}"),
    }
}

fn write_program(image: &Image, name: &str, content: &str, mode: u32) {
    let path = image.path("lower/bin").join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_missing_command_is_127() {
    let Some(image) = image() else { return };
    for command in ["nothing", "/bin/nothing", "/bin/true/nothing", "./nothing"] {
        let error = error(&image.command(&[command]));
        assert!(matches!(error, RunError::CommandNotFound { .. }), "{error:?}");
        assert_eq!(error.exit_code(), 127);
        assert!(error.to_string().contains(command), "{error}");
    }
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    let Some(image) = image() else { return };
    write_program(&image, "plain", "text", 0o644);
    write_program(&image, "garbage", "text", 0o755);
    for command in ["/bin/plain", "plain", "/bin", "/bin/garbage"] {
        let error = error(&image.command(&[command]));
        assert!(matches!(error, RunError::CommandNotExecutable { .. }), "{command}: {error:?}");
        assert_eq!(error.exit_code(), 126);
    }
}

#[test]
fn a_command_is_searched_in_the_container_s_path() {
    let Some(image) = image() else { return };
    fs::create_dir(image.path("lower/first")).unwrap();
    write_program(&image, "../first/tool", "not executable", 0o644);
    write_program(&image, "tool", "#!/bin/sh\necho found $0\n", 0o755);
    let mut request = image.command(&["tool"]);
    request.env = vec!["PATH=/missing:/first:/bin".to_owned()];
    assert_eq!(try_run(&request).unwrap().stdout, "found /bin/tool\n");
    request.env = vec!["PATH=/missing:/first".to_owned()];
    assert_eq!(error(&request).exit_code(), 126);
    request.env = vec!["PATH=/missing".to_owned()];
    assert_eq!(error(&request).exit_code(), 127);
}

/// CVE-2019-5736: an image that names our own program as its command, or as the interpreter of one.
#[test]
fn our_own_program_cannot_be_the_command() {
    let Some(image) = image() else { return };
    write_program(&image, "script", "#!/proc/self/exe --help\n", 0o755);
    write_program(&image, "nested", "#!/bin/script\n", 0o755);
    symlink("/proc/self/exe", image.path("lower/bin/link")).unwrap();
    for command in ["/proc/self/exe", "/proc/1/exe", "/bin/script", "/bin/nested", "/bin/link", "link"] {
        let error = error(&image.command(&[command]));
        assert!(matches!(error, RunError::CommandNotExecutable { .. }), "{command}: {error:?}");
    }
}

/// CVE-2024-21626: a working directory that is reached through a descriptor of ours.
#[test]
fn a_working_directory_outside_the_root_is_refused() {
    let Some(image) = image() else { return };
    let _directory = fs::File::open("/").unwrap();
    for descriptor in 3..20 {
        let mut request = image.command(&["/bin/true"]);
        request.cwd = format!("/proc/self/fd/{descriptor}");
        let error = error(&request);
        assert!(explain(&error).contains(&request.cwd), "{}", explain(&error));
    }
}

#[test]
fn a_bad_working_directory_is_named() {
    let Some(image) = image() else { return };
    for (directory, reason) in [("/missing", "No such file or directory"), ("/bin/true", "Not a directory")] {
        let mut request = image.command(&["/bin/true"]);
        request.cwd = directory.to_owned();
        let error = explain(&error(&request));
        assert!(error.contains(&format!("the working directory \"{directory}\"")), "{error}");
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_missing_bind_source_is_named() {
    let Some(image) = image() else { return };
    let mut request = image.command(&["/bin/true"]);
    let kind =
        MountKind::Bind { source: PathBuf::from("/no/such/source"), read_only: false, recursive: false };
    request.mounts = vec![ExtraMount { destination: "/data".to_owned(), kind }];
    let error = explain(&error(&request));
    assert!(error.contains("cannot mount \"/no/such/source\" at \"/data\""), "{error}");
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn a_missing_layer_is_named() {
    let Some(image) = image() else { return };
    let mut request = image.command(&["/bin/true"]);
    request.root = base::Mount::Bind { source: image.path("gone"), read_only: false };
    let error = explain(&error(&request));
    assert!(error.contains("gone"), "{error}");
}

#[test]
fn requests_that_make_no_sense_are_refused_before_anything_happens() {
    let mount = |destination: &str| ExtraMount {
        destination: destination.to_owned(),
        kind: MountKind::Tmpfs { size: None, mode: 0o755, options: Vec::new() },
    };
    let root = base::Mount::Bind { source: PathBuf::from("/nonexistent"), read_only: false };
    let valid = RunRequest::new(root, vec!["/bin/true".to_owned()]);
    let refused: [(RunRequest, &str); 7] = [
        (RunRequest { args: vec![], ..valid.clone() }, "no command"),
        (RunRequest { cwd: "relative".to_owned(), ..valid.clone() }, "\"relative\" is not an absolute path"),
        (RunRequest { mounts: vec![mount("data")], ..valid.clone() }, "\"data\" is not an absolute path"),
        (RunRequest { mounts: vec![mount("//.")], ..valid.clone() }, "would hide the whole image"),
        (RunRequest { mounts: vec![mount("/a/../b")], ..valid.clone() }, "has a \"..\""),
        (RunRequest { env: vec!["A=\0".to_owned()], ..valid.clone() }, "environment variable"),
        (RunRequest { cap_add: vec!["CAP_FLY".to_owned()], ..valid }, "unknown capability \"CAP_FLY\""),
    ];
    let null = StreamTarget::Null;
    for (request, reason) in refused {
        let stdio = runner::Stdio::Streams { stdin: null, stdout: null, stderr: null };
        let error = runner::start(&request, stdio).unwrap_err();
        assert!(matches!(error, RunError::Request(_)), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

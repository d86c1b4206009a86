//! Input that nobody expects, and programs that take all they can get.

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt as _;

use runner::{ExitStatus, Resource, ResourceLimit, RunError, RunRequest, Stdio};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{explain, image, run, try_run};

#[test]
fn pipes_and_devices_where_programs_and_directories_are_expected() {
    let Some(image) = image() else { return };
    let make = |name: &str, kind, device| {
        mknodat(CWD, image.path("lower").join(name), kind, Mode::from_raw_mode(0o755), device).unwrap();
    };
    make("bin/pipe", FileType::Fifo, 0);
    make("bin/null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make("bin/disk", FileType::BlockDevice, rustix::fs::makedev(8, 0));
    make("bin/socket", FileType::Socket, 0);
    for command in ["/bin/pipe", "/bin/null", "/bin/disk", "/bin/socket"] {
        let error = try_run(&image.command(&[command])).unwrap_err();
        assert!(matches!(error, RunError::CommandNotExecutable { .. }), "{command}: {}", explain(&error));
        let mut request = image.command(&["/bin/true"]);
        request.cwd = command.to_owned();
        let error = explain(&try_run(&request).unwrap_err());
        assert!(error.contains(command) && error.contains("Not a directory"), "{error}");
    }
    fs::create_dir(image.path("lower/etc")).unwrap();
    make("etc/hosts", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make("etc/resolv.conf", FileType::Fifo, 0);
    let mut request = image.script("cat /etc/hosts /etc/resolv.conf");
    request.etc.hosts = Some(b"hosts\n".to_vec());
    request.etc.resolv_conf = Some(b"resolv\n".to_vec());
    assert_eq!(run(&request).stdout, "hosts\nresolv\n");
    assert!(fs::metadata(image.path("lower/etc/resolv.conf")).unwrap().file_type().is_fifo());
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn an_environment_that_no_program_can_take_is_an_error() {
    let Some(image) = image() else { return };
    let mut one = image.command(&["/bin/true"]);
    one.env.push(format!("HUGE={}", "x".repeat(200 << 10)));
    let mut many = image.command(&["/bin/true"]);
    many.env.extend((0..100_000).map(|number| format!("VARIABLE_{number}={}", "x".repeat(100))));
    for request in [one, many] {
        let error = try_run(&request).unwrap_err();
        assert_eq!(error.exit_code(), 126);
        assert!(explain(&error).contains("Argument list too long"), "{}", explain(&error));
    }
    assert_eq!(image.changes(), [""; 0]);
}

#[test]
fn ten_thousand_descriptors_of_ours_stay_ours() {
    let Some(image) = image() else { return };
    let (_, most) = raise_limit();
    let count = 10_000.min(most.saturating_sub(500));
    let files: Vec<File> = (0..count).map_while(|_| File::open("/dev/null").ok()).collect();
    for file in &files {
        rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty()).unwrap();
    }
    // In a pipeline the shell would have descriptors of its own for a moment.
    let output = image.shell("ls /proc/1/fd; true");
    assert_eq!(output.stdout, "0\n1\n2\n", "{} were open: {output:?}", files.len());
}

/// Raises our limit of open files as far as it goes; what it was and is.
fn raise_limit() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Not a test of its own: what the next test runs inside of a container.
#[test]
fn program_that_opens_many_files() {
    let Some(count) = std::env::var_os("RUNNER_TEST_OPEN_FILES") else { return };
    let count: usize = count.to_str().unwrap().parse().unwrap();
    let files: Vec<File> = (0..count).map_while(|_| File::open("/dev/null").ok()).collect();
    println!("opened {}", files.len());
}

#[test]
fn a_container_may_open_as_many_files_as_its_limit_says() {
    let Some(image) = image() else { return };
    fs::copy(std::env::current_exe().unwrap(), image.path("lower/bin/tests")).unwrap();
    let test = "bad_input::program_that_opens_many_files";
    let mut request = image.command(&["/bin/tests", "--exact", test, "--nocapture", "--test-threads=1"]);
    request.env.push("RUNNER_TEST_OPEN_FILES=10000".to_owned());
    let limited = |soft| {
        let limit = ResourceLimit { resource: Resource::Nofile, soft, hard: soft };
        RunRequest { rlimits: vec![limit], ..request.clone() }
    };
    let output = run(&limited(20_000));
    assert!(output.stdout.contains("opened 10000\n"), "{output:?}");
    let output = run(&limited(100));
    let opened = output.stdout.lines().find_map(|line| line.split("opened ").nth(1)).unwrap();
    assert!(opened.parse::<u32>().unwrap() < 100, "{output:?}");
}

#[test]
fn what_ignores_every_signal_is_killed_all_the_same() {
    let Some(image) = image() else { return };
    let script = "trap '' TERM INT HUP QUIT; (trap '' TERM; exec sleep 1000) & echo ready; while :; do wait; sleep 1000; done";
    let stdio = Stdio::CAPTURED;
    let mut process = runner::start(&image.script(script), stdio).unwrap();
    let mut ready = [0; 6];
    rustix::io::read(process.take_stdout().unwrap(), &mut ready).unwrap();
    for signal in [15, 2, 1, 3] {
        process.signal(signal).unwrap();
    }
    assert_eq!(process.try_wait().unwrap(), None);
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().status, ExitStatus::Signaled(9));
}

#[test]
fn memory_filesystems_have_an_end() {
    let Some(image) = image() else { return };
    let script = "dd if=/dev/zero of=/dev/shm/f bs=1M count=3; stat -c %s /dev/shm/f; \
                  dd if=/dev/zero of=/dev/f bs=1M count=70; stat -c %s /dev/f";
    let mut request = image.script(script);
    request.shm_size = 1 << 20;
    let output = run(&request);
    assert_eq!(output.stdout, "1048576\n67108864\n", "{output:?}");
    assert_eq!(output.stderr.matches("No space left on device").count(), 2, "{output:?}");
}

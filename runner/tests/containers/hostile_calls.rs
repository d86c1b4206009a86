//! System calls that an attacker inside would make: which are refused, and how.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use runner::{ExitStatus, RunRequest, SeccompProfile, User};

use crate::machine_code::{DATA, program, program_that_compares, program_that_prints};
use crate::support::{Image, image, run, try_run};

const EPERM: i32 = 1;
const ESRCH: i32 = 3;
const ENOSYS: i32 = 38;

/// A system call: its name, number (`asm/unistd_64.h`), arguments and data behind [`DATA`].
struct Call {
    name: &'static str,
    number: u32,
    arguments: Vec<u64>,
}

fn call(name: &'static str, number: u32, arguments: &[u64]) -> Call {
    Call { name, number, arguments: arguments.to_vec() }
}

/// What is behind [`DATA`]: a path, then at [`VECTOR`] a piece of memory as `readv(2)` takes it.
fn data() -> Vec<u8> {
    let mut data = b"/\0\0\0\0\0\0\0".to_vec();
    [DATA, 1].iter().for_each(|word| data.extend(word.to_le_bytes()));
    data
}

const VECTOR: u64 = DATA + 8;

/// A request for a program that makes the call.
fn request(image: &Image, call: &Call) -> RunRequest {
    let name = format!("call-{}-{}", call.name, call.arguments.first().unwrap_or(&0));
    let path = image.path("lower/bin").join(&name);
    write_program(&path, &program(call.number, &call.arguments, &data()));
    image.command(&[&format!("/bin/{name}")])
}

/// The error number that a call has inside; 0 when it succeeds.
fn error_number(request: &RunRequest) -> i32 {
    match run(request).status {
        ExitStatus::Exited(number) => number,
        killed => panic!("{killed:?}"),
    }
}

#[test]
fn the_programs_of_these_tests_report_what_the_kernel_says() {
    let Some(image) = image() else { return };
    assert_eq!(error_number(&request(&image, &call("getpid", 39, &[]))), 0);
    assert_eq!(error_number(&request(&image, &call("close", 3, &[77]))), 9, "EBADF");
}

#[test]
fn calls_that_reach_beyond_the_container_are_refused() {
    let Some(image) = image() else { return };
    let new_user = 0x1000_0000;
    let refused = [
        call("add_key", 248, &[DATA, DATA, DATA, 1, u64::MAX - 2]),
        call("request_key", 249, &[DATA, DATA, 0, 0]),
        call("keyctl", 250, &[0, u64::MAX - 2, 1]),
        call("bpf", 321, &[5, DATA, 0]),
        call("perf_event_open", 298, &[DATA, 0, u64::MAX, u64::MAX, 0]),
        call("userfaultfd", 323, &[0]),
        call("io_uring_setup", 425, &[1, DATA]),
        call("mount", 165, &[DATA, DATA, DATA, 0, 0]),
        call("umount2", 166, &[DATA, 0]),
        call("pivot_root", 155, &[DATA, DATA]),
        call("fsopen", 430, &[DATA, 0]),
        call("open_tree", 428, &[DATA, DATA, 1]),
        call("move_mount", 429, &[0, DATA, 0, DATA, 0]),
        call("mount_setattr", 442, &[0, DATA, 0, DATA, 32]),
        call("unshare", 272, &[new_user]),
        call("clone", 56, &[new_user | 17]),
        call("setns", 308, &[0, 0]),
        call("open_by_handle_at", 304, &[0, DATA, 0]),
        call("init_module", 175, &[DATA, 1, DATA]),
        call("finit_module", 313, &[0, DATA, 0]),
        call("kexec_load", 246, &[0, 0, 0, 0]),
        call("reboot", 169, &[0, 0, 0]),
        call("swapon", 167, &[DATA, 0]),
        call("acct", 163, &[DATA]),
        call("settimeofday", 164, &[DATA, 0]),
        call("clock_settime", 227, &[0, DATA]),
        call("syslog", 103, &[3, DATA, 10]),
        call("iopl", 172, &[3]),
        call("ioperm", 173, &[0, 1, 1]),
        call("quotactl", 179, &[0, DATA, 0, DATA]),
        call("sethostname", 170, &[DATA, 3]),
        call("personality", 135, &[0x4_0000]),
        call("socket", 41, &[38, 5, 0]),
        call("socket", 41, &[40, 1, 0]),
        call("process_madvise", 440, &[0, DATA, 0, 0, 0]),
        call("lookup_dcookie", 212, &[0, DATA, 1]),
    ];
    for call in &refused {
        assert_eq!(error_number(&request(&image, call)), EPERM, "{} {:x?}", call.name, call.arguments);
    }
}

#[test]
fn calls_that_nobody_knows_seem_not_to_exist() {
    let Some(image) = image() else { return };
    // `clone3` hides its flags from filters; the others are newer than all, and of the x32 variant.
    for call in [call("clone3", 435, &[DATA, 88]), call("new", 9999, &[]), call("x32", 0x4000_0027, &[])] {
        assert_eq!(error_number(&request(&image, &call)), ENOSYS, "{}", call.name);
    }
}

#[test]
fn processes_of_the_host_cannot_be_traced_or_read() {
    let Some(image) = image() else { return };
    let ours = u64::from(std::process::id());
    let calls = [
        call("ptrace", 101, &[16, ours, 0, 0]),
        call("process_vm_readv", 310, &[ours, VECTOR, 1, VECTOR, 1, 0]),
        call("kill", 62, &[ours, 0]),
        call("pidfd_open", 434, &[ours, 0]),
    ];
    for call in calls {
        assert_eq!(error_number(&request(&image, &call)), ESRCH, "{}", call.name);
        // Not for lack of rights: the process is not there.
        let mut all = request(&image, &call);
        all.privileged = true;
        assert_eq!(error_number(&all), ESRCH, "{}, privileged", call.name);
    }
    // Its own processes it may trace, as in Docker.
    assert_eq!(error_number(&request(&image, &call("ptrace", 101, &[0, 0, 0, 0]))), 0);
}

#[test]
fn without_the_filter_missing_capabilities_still_refuse() {
    let Some(image) = image() else { return };
    let calls = [
        call("mount", 165, &[DATA, DATA, DATA, 0, 0]),
        call("setns", 308, &[0, 0x2000_0000]),
        call("reboot", 169, &[0xfee1_dead, 0x2812_1969, 0, 0]),
        call("swapon", 167, &[DATA, 0]),
        call("acct", 163, &[0]),
        call("init_module", 175, &[DATA, 1, DATA]),
    ];
    for call in &calls {
        let mut request = request(&image, call);
        request.seccomp = SeccompProfile::Unconfined;
        for uid in [0, 1000] {
            request.user = User { uid, gid: uid, additional_gids: vec![] };
            let number = error_number(&request);
            // A descriptor that is no namespace's is bad before it is refused; some kernels have no modules.
            let bad = matches!((call.name, number), ("setns", 9 | 22) | ("init_module", ENOSYS));
            assert!(number == EPERM || bad, "{} as {uid}: {number}", call.name);
        }
    }
}

/// Programs that give rights to whoever executes them do so unless that is forbidden.
#[test]
fn rights_are_not_gained_where_that_is_forbidden() {
    let Some(image) = image() else { return };
    let geteuid = 107;
    let path = image.path("lower/bin/is-root");
    fs::write(&path, program_that_compares(geteuid, &[], 0)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut request = image.command(&["/bin/is-root"]);
    request.user = User { uid: 1000, gid: 1000, additional_gids: vec![] };
    assert_eq!(run(&request).status, ExitStatus::Exited(1), "the program has the rights of its owner");
    request.no_new_privileges = true;
    assert_eq!(run(&request).status, ExitStatus::Exited(0));
}

fn write_program(path: &Path, content: &[u8]) {
    testkit::command::program_file(path, content);
}

#[test]
fn keys_of_ours_are_out_of_reach_even_without_the_filter() {
    let Some(image) = image() else { return };
    // The number of the session keyring, asked for on the host.
    let (keyctl, get_keyring_id, session) = (250, [0, u64::MAX - 2, 0], -3i64 as u64);
    assert_eq!(get_keyring_id[1], session);
    let here = image.path("here");
    write_program(&here, &program_that_prints(keyctl, &get_keyring_id));
    let printed = std::process::Command::new(here).output().unwrap().stdout;
    let number = i64::from_le_bytes(printed.try_into().unwrap());
    let Ok(number @ 1..) = i32::try_from(number) else {
        eprintln!("skipped: this kernel has no keyrings ({number})");
        return;
    };
    write_program(
        &image.path("lower/bin/same-keyring"),
        &program_that_compares(keyctl, &get_keyring_id, number),
    );
    let mut request = image.command(&["/bin/same-keyring"]);
    request.seccomp = SeccompProfile::Unconfined;
    assert_eq!(error_number(&request), 0, "the container has our session keyring");
    request.privileged = true;
    assert_eq!(error_number(&request), 0, "the privileged container has our session keyring");
}

#[test]
fn a_call_of_another_architecture_is_judged_by_its_own_numbers() {
    let Some(image) = image() else { return };
    // `int 0x80` with 21 in eax is mount of 32-bit programs; `syscall` with 21 is access.
    let mut code = program(0, &[], b"");
    let entry = 64 + 56;
    let mount = [0xb8, 21, 0, 0, 0, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    code[entry..entry + mount.len()].copy_from_slice(&mount);
    write_program(&image.path("lower/bin/mount32"), &code);
    let output = try_run(&image.command(&["/bin/mount32"])).unwrap();
    // A kernel without 32-bit programs ends it.
    let refused = [ExitStatus::Exited(EPERM), ExitStatus::Signaled(11), ExitStatus::Exited(ENOSYS)];
    assert!(refused.contains(&output.status), "{output:?}");
}

//! The first process of a container with `--init`: starts the program that it is given, passes signals on to it,
//! collects processes that nobody else waits for, and ends with it.
//!
//! It is a program of its own, without the standard library, because it can be seen and executed by everybody in
//! the container: nothing of `lap` must be in its memory. `build.rs` compiles it, and `runner` provides it as a
//! read-only file in memory.
//!
//! ```text
//! init PROGRAM [ARGUMENT…]
//! ```

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

// The numbers of system calls, signals and errors that are used here (`asm/unistd.h`, `signal(7)`, `errno(3)`).
#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const IOCTL: usize = 29;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
}

const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const TIOCSPGRP: usize = 0x5410;
const WNOHANG: usize = 1;
const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;

/// All signals, and none.
static ALL: u64 = u64::MAX;
static NONE: u64 = 0;

/// What shells exit with when a program is missing, and when it cannot be executed.
const NOT_FOUND: usize = 127;
const NOT_EXECUTABLE: usize = 126;

/// Where programs are when the environment does not say.
const USUAL_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The kernel starts a program with the number of its arguments on top of the stack, then the arguments, a null,
// the environment, a null.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {run}", "ud2", run = sym run);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {run}", "brk 1", run = sym run);

#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: the registers of the system call; the fifth argument is zero. Pointers are the caller's to vouch for.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0usize,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: as above.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") 0usize, options(nostack));
    }
    result
}

/// The whole program; `stack` is what the kernel has left there.
unsafe extern "C" fn run(stack: *const usize) -> ! {
    // SAFETY: the layout of the stack at the start of a program; both arrays end with a null.
    unsafe {
        let count = *stack;
        let arguments = stack.add(2) as *const *const u8;
        let environment = stack.add(count + 2) as *const *const u8;
        if count < 2 {
            exit(NOT_FOUND);
        }
        set_mask(&ALL);
        match call(number::CLONE, [SIGCHLD, 0, 0, 0]) {
            0 => become_program(arguments, environment),
            child @ 1.. => supervise(child as usize),
            _ => exit(NOT_EXECUTABLE),
        }
    }
}

/// Passes signals on and collects processes until the program has ended.
unsafe fn supervise(child: usize) -> ! {
    loop {
        // SAFETY: the set is live; nothing else is asked for.
        let signal = unsafe { call(number::RT_SIGTIMEDWAIT, [&raw const ALL as usize, 0, 0, 8]) };
        match signal {
            17 => collect(child),
            1.. => {
                // SAFETY: no pointers.
                unsafe { call(number::KILL, [child, signal as usize, 0, 0]) };
            }
            _ => {}
        }
    }
}

/// Collects all processes that have ended. When the program is among them, we end as it did.
fn collect(child: usize) {
    loop {
        let mut status = 0u32;
        // SAFETY: the status is live.
        let pid = unsafe { call(number::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, 0]) };
        if pid <= 0 {
            return;
        }
        if pid as usize == child {
            let (signal, code) = (status & 0x7f, (status >> 8) & 0xff);
            exit(if signal == 0 { code } else { 128 + signal } as usize);
        }
    }
}

/// In a process group of its own, in the foreground of the terminal if there is one, executes the program.
unsafe fn become_program(arguments: *const *const u8, environment: *const *const u8) -> ! {
    // SAFETY: strings and arrays are those that the kernel has given us.
    unsafe {
        call(number::SETPGID, [0, 0, 0, 0]);
        // Without a terminal this fails, and nothing is lost.
        let group = call(number::GETPID, [0; 4]) as u32;
        call(number::IOCTL, [0, TIOCSPGRP, &raw const group as usize, 0]);
        set_mask(&NONE);
        let program = *arguments;
        let result = match contains_slash(program) {
            true => call(number::EXECVE, [program as usize, arguments as usize, environment as usize, 0]),
            false => search(program, arguments, environment),
        };
        for piece in [&b"exec: \""[..], bytes(program), b"\": ", reason(result), b"\n"] {
            call(number::WRITE, [2, piece.as_ptr() as usize, piece.len(), 0]);
        }
        exit(if result == ENOENT || result == ENOTDIR { NOT_FOUND } else { NOT_EXECUTABLE })
    }
}

/// Tries the directories of `PATH` in order, as `execvp(3)` does.
unsafe fn search(program: *const u8, arguments: *const *const u8, environment: *const *const u8) -> isize {
    let mut result = ENOENT;
    let mut buffer = [0u8; 4096];
    // SAFETY: as for the caller.
    let (name, path) = unsafe { (bytes(program), path(environment)) };
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { &b"."[..] } else { directory };
        if directory.len() + name.len() + 2 > buffer.len() {
            continue;
        }
        let pieces = directory.iter().chain(b"/").chain(name).chain(b"\0");
        for (to, from) in buffer.iter_mut().zip(pieces) {
            *to = *from;
        }
        // SAFETY: the path ends with a null; the arrays are the caller's.
        let failure = unsafe {
            call(number::EXECVE, [buffer.as_ptr() as usize, arguments as usize, environment as usize, 0])
        };
        match failure {
            ENOENT | ENOTDIR => {}
            EACCES => result = EACCES,
            other => return other,
        }
    }
    result
}

/// The value of `PATH`.
unsafe fn path(mut environment: *const *const u8) -> &'static [u8] {
    // SAFETY: the array ends with a null.
    unsafe {
        while !(*environment).is_null() {
            if let Some(path) = bytes(*environment).strip_prefix(b"PATH=") {
                return path;
            }
            environment = environment.add(1);
        }
    }
    USUAL_PATH
}

/// A string without its null.
unsafe fn bytes(text: *const u8) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: the string ends with a null, and lives as long as the program.
    unsafe {
        while *text.add(length) != 0 {
            length += 1;
        }
        core::slice::from_raw_parts(text, length)
    }
}

unsafe fn contains_slash(text: *const u8) -> bool {
    // SAFETY: as for the caller.
    unsafe { bytes(text) }.iter().any(|byte| *byte == b'/')
}

fn reason(failure: isize) -> &'static [u8] {
    match failure {
        ENOENT | ENOTDIR => b"executable file not found in the container",
        EACCES => b"permission denied",
        _ => b"cannot be executed",
    }
}

/// Blocks these signals, and no others.
fn set_mask(signals: &u64) {
    // SAFETY: the set is live, and of the kernel's size.
    unsafe { call(number::RT_SIGPROCMASK, [SIG_SETMASK, &raw const *signals as usize, 0, 8]) };
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: no pointers; the call does not return.
        unsafe { call(number::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

/// What compilers make of loops over bytes.
///
/// # Safety
/// As for memset(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: the caller vouches for the length; volatile, so that this does not become a call of itself.
        unsafe { to.add(at).write_volatile(byte as u8) };
    }
    to
}

/// The same for copies.
///
/// # Safety
/// As for memcpy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: as above.
        unsafe { to.add(at).write_volatile(*from.add(at)) };
    }
    to
}

/// The same for the ends of strings.
///
/// # Safety
/// As for strlen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the string ends with a null.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(NOT_EXECUTABLE)
}

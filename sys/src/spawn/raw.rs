//! System calls without the C library.
//!
//! A new process shares our memory until it executes its program, thread-local storage included, while
//! the thread that made it goes on. The C library's `errno` is thread-local: two processes would write
//! it at once. So the kernel is entered directly, and errors are return values.

use std::ffi::CStr;

/// A system call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// Its number (`libc::SYS_…`).
    pub(super) call: i32,
    /// Why.
    pub(super) errno: i32,
}

/// A file descriptor of the new process. It has no destructor: the process ends or executes its program,
/// and both close what is left.
pub(super) type Fd = i32;

/// The current working directory as a directory descriptor.
pub(super) const HERE: Fd = libc::AT_FDCWD;

/// An argument of a system call.
pub(super) trait Argument {
    fn word(self) -> usize;
}

macro_rules! argument {
    ($($kind:ty),*) => { $(impl Argument for $kind {
        // Sign extension of negative numbers is what the kernel expects.
        #[inline]
        fn word(self) -> usize { self as usize }
    })* };
}
argument!(i32, u32, i64, u64, usize);

impl Argument for &CStr {
    #[inline]
    fn word(self) -> usize {
        self.as_ptr() as usize
    }
}

impl<T> Argument for *const T {
    #[inline]
    fn word(self) -> usize {
        self as usize
    }
}

impl<T> Argument for *mut T {
    #[inline]
    fn word(self) -> usize {
        self as usize
    }
}

/// Makes a system call and turns the kernel's negative results into failures.
///
/// # Safety
/// As for the system call: pointers are valid for what the kernel reads or writes through them.
pub(super) unsafe fn call(number: i64, arguments: [usize; 6]) -> Result<usize, Failure> {
    // SAFETY: passed on to the caller.
    let result = unsafe { enter(number as usize, arguments) };
    // The kernel returns -4095..=-1 for errors (include/linux/err.h).
    match result {
        -4095..=-1 => Err(Failure { call: number as i32, errno: -result as i32 }),
        _ => Ok(result as usize),
    }
}

/// `invoke!(SYS_name, a, b, …)`: [`call`] with the missing arguments zero.
macro_rules! invoke {
    ($number:expr $(, $argument:expr)* $(,)?) => {{
        let mut words = [0usize; 6];
        let given = [$($crate::spawn::raw::Argument::word($argument)),*];
        for (word, value) in words.iter_mut().zip(given) {
            *word = value;
        }
        $crate::spawn::raw::call($number, words)
    }};
}
pub(super) use invoke;

#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn enter(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the `syscall` instruction with the registers of the x86-64 ABI; the kernel changes only
    // rax, rcx and r11, and memory that the caller vouches for.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[inline]
unsafe fn enter(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the `svc` instruction with the registers of the arm64 ABI; the kernel changes only x0, and
    // memory that the caller vouches for.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// Ends this process.
pub(super) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: no pointers; the call does not return.
        let _ = unsafe { invoke!(libc::SYS_exit_group, code) };
    }
}

/// `openat2(2)`; `resolve` is a set of `libc::RESOLVE_…`.
pub(super) fn open(directory: Fd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<Fd, Failure> {
    // SAFETY: all-zero is a valid value of this structure, and the kernel only reads it and the path.
    unsafe {
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = (flags | libc::O_CLOEXEC) as u64;
        how.mode = u64::from(mode);
        how.resolve = resolve;
        // EAGAIN: something was renamed during the walk, which the kernel cannot tell from an escape.
        for _ in 0..32 {
            let opened =
                invoke!(libc::SYS_openat2, directory, path, &raw const how, size_of::<libc::open_how>());
            match opened {
                Err(Failure { errno: libc::EAGAIN, .. }) => {}
                other => return other.map(|fd| fd as Fd),
            }
        }
        Err(Failure { call: libc::SYS_openat2 as i32, errno: libc::EAGAIN })
    }
}

/// `close(2)`; a failure has no consequence here.
pub(super) fn close(fd: Fd) {
    // SAFETY: no pointers. Descriptors of this process are plain numbers with no owner to surprise.
    let _ = unsafe { invoke!(libc::SYS_close, fd) };
}

/// `dup3(2)`: makes `to` name what `from` names.
pub(super) fn duplicate(from: Fd, to: Fd, flags: i32) -> Result<(), Failure> {
    // SAFETY: no pointers.
    unsafe { invoke!(libc::SYS_dup3, from, to, flags) }.map(drop)
}

/// `prctl(2)` with numbers only.
pub(super) fn prctl(option: i32, second: u64, third: u64) -> Result<usize, Failure> {
    // SAFETY: the options used in this crate take no pointers in these arguments.
    unsafe { invoke!(libc::SYS_prctl, option, second, third, 0u64, 0u64) }
}

/// Writes all bytes.
pub(super) fn write_all(fd: Fd, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length are those of a live slice, which the kernel only reads.
        let written = unsafe { invoke!(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) }?;
        bytes = bytes.get(written..).unwrap_or(&[]);
    }
    Ok(())
}

/// Mode of the file behind a descriptor (`statx(2)`).
pub(super) fn mode_of(fd: Fd) -> Result<u32, Failure> {
    status_of(fd).map(|status| u32::from(status.stx_mode))
}

/// Basic attributes of the file behind a descriptor (`statx(2)`).
pub(super) fn status_of(fd: Fd) -> Result<libc::statx, Failure> {
    // SAFETY: all-zero is a valid value, and the kernel writes one structure through the pointer.
    unsafe {
        let mut status: libc::statx = std::mem::zeroed();
        let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
        invoke!(libc::SYS_statx, fd, c"", flags, libc::STATX_BASIC_STATS, &raw mut status)?;
        Ok(status)
    }
}

/// The type of the filesystem behind a descriptor, as in `linux/magic.h` (`fstatfs(2)`).
pub(super) fn filesystem_of(fd: Fd) -> Result<i64, Failure> {
    // SAFETY: all-zero is a valid value, and the kernel writes one structure through the pointer.
    unsafe {
        let mut status: libc::statfs = std::mem::zeroed();
        invoke!(libc::SYS_fstatfs, fd, &raw mut status)?;
        Ok(status.f_type)
    }
}

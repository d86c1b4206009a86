//! Where a forerunner leaves the number of the process that it creates.
//!
//! The kernel writes it there before that process does anything (`CLONE_PARENT_SETTID`, `clone(2)`), so whatever
//! happens to the forerunner, and whatever the process tells us first, we know whom to wait for. Nobody but us collects
//! the process, so its number is not given to another ([`crate::signals::keep_ended_children`] sees to it that the
//! kernel does not).
//!
//! We and the forerunner have that memory in common, and nobody else: the process may be traced by who lives where it is
//! put, and could be made to name another process to us.

use std::ffi::c_int;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{SIGKILL, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::raw::{Failure, invoke};

/// How much is in common; the kernel deals in whole pages.
const LENGTH: usize = size_of::<AtomicI32>();

/// Held while there may be a number that a copy of our memory would get.
static COPYING: Mutex<()> = Mutex::new(());

/// A number in memory that a forerunner has in common with us.
pub(super) struct SharedNumber(NonNull<AtomicI32>);

impl SharedNumber {
    pub(super) fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // With its page, which the forerunner may be too limited to get.
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let _guard = COPYING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a new mapping where the kernel has room.
        let address = unsafe { libc::mmap(ptr::null_mut(), LENGTH, protection, flags, -1, 0) };
        let number = match NonNull::new(address) {
            Some(address) if address.as_ptr() != libc::MAP_FAILED => Self(address.cast()),
            _ => return Err(io::Error::last_os_error()),
        };
        inherit(number.address(), false)?;
        Ok(number)
    }

    /// Where it is, in our memory and in the forerunner's.
    pub(super) fn address(&self) -> *mut c_int {
        self.0.as_ptr().cast()
    }

    /// The number, once there is one.
    pub(super) fn get(&self) -> Option<u32> {
        // SAFETY: the mapping is as long as this lives, aligned to a page, and filled with zeros at first. Others write whole
        // words into it.
        let number = unsafe { self.0.as_ref() }.load(Ordering::Acquire);
        u32::try_from(number).ok().filter(|number| *number != 0)
    }
}

impl Drop for SharedNumber {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it any more. A forerunner keeps its own.
        unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

/// Has `copy` make a process that gets no number.
pub(super) fn unshared<T>(copy: impl FnOnce() -> T) -> T {
    let _guard = COPYING.lock().unwrap_or_else(PoisonError::into_inner);
    copy()
}

/// Has `copy` make the forerunner, which gets the number at `address` and none of others.
pub(super) fn shared<T>(address: *mut c_int, copy: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _guard = COPYING.lock().unwrap_or_else(PoisonError::into_inner);
    inherit(address, true)?;
    let copied = copy();
    // This has been possible before.
    let _ = inherit(address, false);
    copied
}

/// Whether copies of our memory have the number at `address`, too.
fn inherit(address: *mut c_int, inherited: bool) -> io::Result<()> {
    let advice = if inherited { libc::MADV_DOFORK } else { libc::MADV_DONTFORK };
    // SAFETY: the address is that of a mapping of a `SharedNumber` that lives; its content stays as it is.
    match unsafe { libc::madvise(address.cast(), LENGTH, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// In a forerunner: the process that it creates does not have the number at `address`, and nothing is needed any more for the kernel
/// to write there.
pub(super) fn keep_to_ourselves(address: *mut c_int) -> Result<(), Failure> {
    // SAFETY: the address is that of a mapping that we have in common with our parent, who only reads it.
    unsafe {
        address.write_volatile(0);
        invoke!(libc::SYS_madvise, address, LENGTH, libc::MADV_DONTFORK)
    }
    .map(drop)
}

/// Kills the process that a forerunner has created, and collects it.
pub(super) fn end(number: u32) -> io::Result<()> {
    let process = Pid::from_raw(i32::try_from(number).map_err(io::Error::other)?);
    kill(process, SIGKILL)?;
    loop {
        match waitid(Id::Pid(process), WaitPidFlag::WEXITED | WaitPidFlag::__WALL) {
            Err(nix::Error::EINTR) => {}
            waited => return Ok(waited.map(drop)?),
        }
    }
}

//! Where a forerunner leaves the number of the process that it creates.
//!
//! The kernel writes it there before that process does anything (`CLONE_PARENT_SETTID`, `clone(2)`), so whatever
//! happens to the forerunner, and whatever the process tells us first, we know whom to wait for. Nobody but us collects
//! the process, so its number is not given to another.

use std::ffi::c_int;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, Ordering};

/// A number in memory that the copies of our process have in common with us.
pub(super) struct SharedNumber(NonNull<AtomicI32>);

impl SharedNumber {
    pub(super) fn new() -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel has room.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), size_of::<AtomicI32>(), protection, flags, -1, 0) };
        match NonNull::new(address) {
            Some(address) if address.as_ptr() != libc::MAP_FAILED => Ok(Self(address.cast())),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where it is, in our memory and in a copy of it.
    pub(super) fn address(&self) -> *mut c_int {
        self.0.as_ptr().cast()
    }

    /// The number, once there is one.
    pub(super) fn get(&self) -> Option<u32> {
        // SAFETY: the mapping is as long as this lives, aligned to a page, and has been zero; only the kernel writes to
        // it, one whole word.
        let number = unsafe { self.0.as_ref() }.load(Ordering::Acquire);
        u32::try_from(number).ok().filter(|number| *number != 0)
    }
}

impl Drop for SharedNumber {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it any more. Copies keep theirs.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicI32>()) };
    }
}

//! Giving memory back, for processes that wait for a long time.

use std::ffi::{c_int, c_void};

/// Gives back what this process does not need while it waits: free memory of the heap, and the pages of our program
/// that nothing has changed, its code and constants. The kernel reads from the file again what is used again.
pub fn release() {
    // SAFETY: the first call has no requirements; the second calls back with a valid description, now.
    unsafe {
        libc::malloc_trim(0);
        libc::dl_iterate_phdr(Some(release_program), std::ptr::null_mut());
    }
}

/// Releases the unchanged pages of the program, which is the first of the objects that are told about.
unsafe extern "C" fn release_program(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    const PAGE: u64 = 4096;
    // SAFETY: the description and the headers that it leads to are valid for this call.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    let unchanged =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(unchanged) {
        // Whole pages only: those at the ends may be shared with something that was changed.
        let start = (base + header.p_vaddr).next_multiple_of(PAGE);
        let end = (base + header.p_vaddr + header.p_memsz) / PAGE * PAGE;
        if start < end {
            // SAFETY: pages of a private mapping of a file that cannot be written to: what they hold is in the file,
            // and they come back when they are touched, this code included.
            unsafe { libc::madvise(start as *mut c_void, (end - start) as usize, libc::MADV_DONTNEED) };
        }
    }
    // Only the first one.
    1
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on() {
        let before = String::from("on the heap");
        super::release();
        assert_eq!(before, ["on", "the", "heap"].join(" "));
    }
}

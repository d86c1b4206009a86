//! Programs that decide which devices the processes of a control group may use (`bpf(2)`).
//!
//! What such a program allows is decided by whoever writes it; this module hands it to the kernel, which
//! checks that it ends and reads only what it may. Source: the kernel's `linux/bpf.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// `BPF_PROG_LOAD` and `BPF_PROG_ATTACH`.
const LOAD: u32 = 5;
const ATTACH: u32 = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const PROGRAM_TYPE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_TYPE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: programs of this group and of those around it are all asked.
const ALLOW_MULTIPLE: u32 = 2;

/// One instruction, in the kernel's layout (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u8,
    /// The destination in the lower half, the source in the upper one.
    registers: u8,
    /// How many instructions a jump skips, or where a load reads.
    pub offset: i16,
    /// The operand.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction. Registers are numbered from 0 to 10.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: destination & 0xf | source << 4, offset, immediate }
    }

    /// The register that it writes to or compares.
    pub const fn destination(self) -> u8 {
        self.registers & 0xf
    }

    /// The register that it reads from.
    pub const fn source(self) -> u8 {
        self.registers >> 4
    }
}

/// The part of `union bpf_attr` that loading a program reads.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaching a program reads.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Has the kernel ask a program, besides those that are there, for every device that a process of a group of
/// version 2 opens or makes. It stays for as long as the group. `group` is the open directory.
///
/// # Errors
/// `EPERM` for who may not, `EINVAL` and `EACCES` for a program that the kernel does not understand.
pub fn attach_device_program(group: &File, instructions: &[Instruction]) -> io::Result<()> {
    let program = load(instructions)?;
    let attributes = AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE,
        flags: ALLOW_MULTIPLE,
    };
    // SAFETY: the structure is live, of the given size, and has no pointers.
    unsafe { bpf(ATTACH, (&raw const attributes).cast(), size_of::<AttachAttributes>()) }.map(drop)
}

fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let too_many = |_| io::Error::from_raw_os_error(libc::E2BIG);
    let attributes = LoadAttributes {
        program_type: PROGRAM_TYPE,
        instruction_count: u32::try_from(instructions.len()).map_err(too_many)?,
        instructions: instructions.as_ptr() as u64,
        // It uses no functions of the kernel, so its licence makes no difference to it.
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the structure is live and of the given size. Its pointers are to a live string and to as many
    // live instructions as it says, of the kernel's layout.
    let descriptor = unsafe { bpf(LOAD, (&raw const attributes).cast(), size_of::<LoadAttributes>()) }?;
    // SAFETY: the kernel has just made this descriptor for us. It is closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// # Safety
/// As for the command: `attributes` and its pointers are valid for what the kernel reads.
unsafe fn bpf(command: u32, attributes: *const libc::c_void, size: usize) -> io::Result<i32> {
    // SAFETY: as the caller promises.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    i32::try_from(result).ok().filter(|&result| result >= 0).ok_or_else(io::Error::last_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_layout_of_the_kernel() {
        let instruction = Instruction::new(0x61, 2, 1, 4, -1);
        assert_eq!((instruction.destination(), instruction.source()), (2, 1));
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(instruction.registers, 0x12);
    }

    #[test]
    fn what_is_no_program_or_no_group_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(attach_device_program(&file, &[]).is_err());
        // `return 1`: a program that the kernel takes, but not for a file.
        let yes = [Instruction::new(0xb7, 0, 0, 0, 1), Instruction::new(0x95, 0, 0, 0, 0)];
        assert!(attach_device_program(&file, &yes).is_err());
    }
}

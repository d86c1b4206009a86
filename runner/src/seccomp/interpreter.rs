//! An interpreter of classic BPF as far as filters use it, to ask in tests what a filter decides.

use sys::seccomp::{Filter, Instruction};

pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;

/// What a filter answers with for a failing call.
pub(super) const fn fails(errno: u32) -> u32 {
    0x0005_0000 | errno
}

/// A system call as a filter sees it (`struct seccomp_data`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    /// The 32 bits at an offset of the structure.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            other => panic!("nothing is read at {other}"),
        }
    }
}

/// The answer of a filter, and after how many instructions it was found.
pub(super) fn ask(filter: &Filter, call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = filter.instructions()[at];
        let branch = |holds: bool| usize::from(if holds { jump_true } else { jump_false });
        steps += 1;
        at += 1;
        match code {
            0x06 => return (operand, steps),
            0x20 => accumulator = call.word(operand),
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => at += branch(accumulator == operand),
            0x25 => at += branch(accumulator > operand),
            0x35 => at += branch(accumulator >= operand),
            0x45 => at += branch(accumulator & operand != 0),
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

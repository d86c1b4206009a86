//! Loading a system call filter into the kernel.
//!
//! A [`Filter`] is a classic BPF program (`seccomp(2)`). What it allows is decided by whoever compiles
//! it; this module only holds the instructions in the kernel's layout and is read by
//! [`crate::spawn`] when a process starts.

/// The most instructions the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// One instruction of classic BPF, in the kernel's layout (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// How many instructions to skip when it does not.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

/// A complete filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter(Vec<Instruction>);

/// A program has no instructions, or more than [`MAX_INSTRUCTIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a system call filter has 1 to {MAX_INSTRUCTIONS} instructions, this one has {0}")]
pub struct FilterSizeError(pub usize);

impl Filter {
    /// A filter of these instructions. The kernel checks them when the filter is loaded.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, FilterSizeError> {
        match instructions.len() {
            1..=MAX_INSTRUCTIONS => Ok(Self(instructions)),
            other => Err(FilterSizeError(other)),
        }
    }

    /// The instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_checked() {
        let instruction = Instruction { code: 6, jump_true: 0, jump_false: 0, operand: 0 };
        assert_eq!(Filter::new(vec![]), Err(FilterSizeError(0)));
        assert!(Filter::new(vec![instruction; MAX_INSTRUCTIONS]).is_ok());
        assert_eq!(
            Filter::new(vec![instruction; MAX_INSTRUCTIONS + 1]),
            Err(FilterSizeError(MAX_INSTRUCTIONS + 1))
        );
    }
}

//! Which foreign programs the kernel hands to an emulator.
//!
//! Source: kernel `Documentation/admin-guide/binfmt-misc.rst`. Whether a handler takes a program depends on
//! the first bytes of its file; here those are of an ELF file for the machine in question (`elf(5)`).

use std::path::Path;

use crate::fs::PathError;

/// Where the kernel shows its handlers.
const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";

/// A handler's description is short.
const LONGEST: u64 = 4096;

/// What of an ELF file tells its machine apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElfMachine {
    /// `e_machine`.
    pub machine: u16,
    /// Whether addresses have 64 bits.
    pub wide: bool,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

impl ElfMachine {
    /// The beginning of a program for this machine.
    fn header(self) -> [u8; 20] {
        let mut header = [0; 20];
        header[..4].copy_from_slice(b"\x7fELF");
        header[4] = if self.wide { 2 } else { 1 };
        header[5] = if self.big_endian { 2 } else { 1 };
        header[6] = 1;
        let bytes = |value: u16| if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        header[16..18].copy_from_slice(&bytes(2));
        header[18..20].copy_from_slice(&bytes(self.machine));
        header
    }
}

/// How a foreign program would be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// The path of the interpreter.
    pub interpreter: String,
    /// Whether the kernel holds the interpreter open, so that it works in any root directory (flag `F`).
    pub fixed: bool,
}

/// The emulator that the kernel uses for programs of a machine; one that works in any root directory, if
/// there is one. `None` when there is none.
///
/// # Errors
/// The kernel's list of handlers is there but cannot be read.
pub fn emulator(machine: ElfMachine) -> Result<Option<Emulator>, PathError> {
    let registry = Path::new(REGISTRY);
    if !crate::fs::exists(registry)? {
        return Ok(None);
    }
    let mut found: Option<Emulator> = None;
    for name in crate::fs::list(registry)? {
        if name == "register" || name == "status" {
            continue;
        }
        let Some(text) = crate::fs::read_limited(&registry.join(name), LONGEST)? else { continue };
        let handler = Handler::parse(&String::from_utf8_lossy(&text));
        if let Some(handler) = handler.filter(|handler| handler.takes(&machine.header()))
            && !found.as_ref().is_some_and(|found| found.fixed)
        {
            found = Some(Emulator { interpreter: handler.interpreter, fixed: handler.fixed });
        }
    }
    Ok(found)
}

/// One handler, as the kernel describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Handler {
    interpreter: String,
    fixed: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Handler {
    /// `None` for one that is disabled, and for one that goes by file name.
    fn parse(text: &str) -> Option<Self> {
        let mut handler = Self::default();
        let mut enabled = false;
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "enabled" => enabled = true,
                "interpreter" => value.clone_into(&mut handler.interpreter),
                "flags:" => handler.fixed = value.contains('F'),
                "offset" => handler.offset = value.parse().ok()?,
                "magic" => handler.magic = bytes(value)?,
                "mask" => handler.mask = bytes(value)?,
                _ => {}
            }
        }
        (enabled && !handler.magic.is_empty()).then_some(handler)
    }

    fn takes(&self, header: &[u8]) -> bool {
        let Some(start) = header.get(self.offset..) else { return false };
        let masked = |(at, magic): (usize, &u8)| {
            let mask = self.mask.get(at).copied().unwrap_or(0xff);
            // What lies beyond the header that we know cannot be judged, so it counts as fitting.
            start.get(at).is_none_or(|byte| byte & mask == magic & mask)
        };
        self.magic.iter().enumerate().all(masked)
    }
}

/// Pairs of hex digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: ElfMachine = ElfMachine { machine: 183, wide: true, big_endian: false };
    const S390X: ElfMachine = ElfMachine { machine: 22, wide: true, big_endian: true };
    /// As Debian's `qemu-user-static` registers it.
    const QEMU_ARM64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\n\
        offset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn a_handler_takes_programs_of_its_machine_only() {
        let handler = Handler::parse(QEMU_ARM64).unwrap();
        assert!(handler.fixed);
        assert!(handler.takes(&ARM64.header()));
        assert!(!handler.takes(&S390X.header()));
        assert!(!handler.takes(&ElfMachine { wide: false, ..ARM64 }.header()));
    }

    #[test]
    fn disabled_handlers_and_those_for_names_do_not_count() {
        assert_eq!(Handler::parse(&QEMU_ARM64.replace("enabled", "disabled")), None);
        assert_eq!(Handler::parse("enabled\ninterpreter /usr/bin/java\nflags: \nextension .jar\n"), None);
        assert_eq!(Handler::parse("enabled\nmagic 7f4\n"), None);
        assert_eq!(Handler::parse(""), None);
    }
}

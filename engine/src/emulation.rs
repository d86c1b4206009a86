//! Steps for another kind of machine: whether something here can run them.

use base::Platform;
use sys::binfmt::{self, ElfMachine};

use crate::error::EngineError;

/// Makes sure that programs for `platform` can be run.
///
/// # Errors
/// [`EngineError::NoEmulator`] when this machine cannot and no emulator is registered that works in a
/// container.
pub(crate) fn check(platform: &Platform) -> Result<(), EngineError> {
    let host = Platform::host();
    if runs_natively(platform, &host) {
        return Ok(());
    }
    let emulator = match machine(platform) {
        Some(machine) => binfmt::emulator(machine)?,
        None => None,
    };
    match emulator {
        Some(emulator) if emulator.fixed => Ok(()),
        Some(emulator) => {
            let (platform, interpreter) = (platform.to_string(), emulator.interpreter);
            Err(EngineError::EmulatorOutside { platform, interpreter })
        }
        None => Err(EngineError::NoEmulator { platform: platform.to_string(), host: host.to_string() }),
    }
}

/// The platforms whose programs run here, the machine's own first.
pub(crate) fn platforms_here() -> Vec<Platform> {
    let host = Platform::host();
    let known =
        ["amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x", "loong64", "mips64le", "mips64"];
    let others = known.into_iter().map(|architecture| Platform::new("linux", architecture, ""));
    let runs = |platform: &Platform| *platform != host && check(platform).is_ok();
    std::iter::once(host.clone()).chain(others.filter(runs)).collect()
}

/// Whether the kernel itself runs such programs: the machine's own, and its 32-bit predecessor's.
fn runs_natively(platform: &Platform, host: &Platform) -> bool {
    let pair = (host.architecture.as_str(), platform.architecture.as_str());
    platform.os == host.os && (pair.0 == pair.1 || matches!(pair, ("amd64", "386") | ("arm64", "arm")))
}

/// The machine numbers of ELF (`elf.h`), by Go's names of architectures.
fn machine(platform: &Platform) -> Option<ElfMachine> {
    let (machine, wide, big_endian) = match platform.architecture.as_str() {
        "amd64" => (62, true, false),
        "386" => (3, false, false),
        "arm64" => (183, true, false),
        "arm" => (40, false, false),
        "riscv64" => (243, true, false),
        "ppc64le" => (21, true, false),
        "s390x" => (22, true, true),
        "loong64" => (258, true, false),
        "mips64le" => (8, true, false),
        "mips64" => (8, true, true),
        _ => return None,
    };
    (platform.os == "linux").then_some(ElfMachine { machine, wide, big_endian })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(architecture: &str) -> Platform {
        Platform::new("linux", architecture, "")
    }

    #[test]
    fn a_machine_runs_its_own_programs_and_those_of_its_predecessor() {
        assert!(runs_natively(&linux("amd64"), &linux("amd64")));
        assert!(runs_natively(&linux("386"), &linux("amd64")));
        assert!(!runs_natively(&linux("amd64"), &linux("386")));
        assert!(!runs_natively(&Platform::new("windows", "amd64", ""), &linux("amd64")));
    }

    #[test]
    fn what_nobody_emulates_is_refused_with_advice() {
        let error = check(&Platform::new("plan9", "amd64", "")).unwrap_err();
        assert!(matches!(error, EngineError::NoEmulator { .. }));
        assert!(error.hint().is_some());
    }
}

//! The security options of a container: its system call profile, and what security modules would do.

use std::path::Path;

use runner::{ProfileFile, SeccompProfile};

use crate::error::EngineError;
use crate::request::{Isolation, SeccompChoice};

/// What a profile without a file is called.
const GIVEN: &str = "(given)";

/// No profile is larger, in bytes; Docker's has 17,000.
const LARGEST_PROFILE: u64 = 4 << 20;

/// Where the kernel says whether AppArmor is on, with a `Y`.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
/// Where SELinux is, when it is on.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// The system call profile that was chosen.
pub(super) fn seccomp(choice: &SeccompChoice) -> Result<SeccompProfile, EngineError> {
    Ok(match choice {
        SeccompChoice::Default => SeccompProfile::Default,
        SeccompChoice::Unconfined => SeccompProfile::Unconfined,
        SeccompChoice::File(path) => SeccompProfile::File(Box::new(profile(path)?)),
        SeccompChoice::Text(text) => {
            SeccompProfile::File(Box::new(parsed(text.as_bytes(), Path::new(GIVEN))?))
        }
    })
}

fn profile(path: &Path) -> Result<ProfileFile, EngineError> {
    let text = sys::fs::read_limited(path, LARGEST_PROFILE)?
        .ok_or_else(|| EngineError::LargeSeccompProfile(path.to_owned()))?;
    parsed(&text, path)
}

fn parsed(text: &[u8], path: &Path) -> Result<ProfileFile, EngineError> {
    ProfileFile::parse(text, sys::probe::kernel_release())
        .map_err(|source| EngineError::SeccompProfile { path: path.to_owned(), source })
}

/// Refuses what only a security module could do that is on. As in Docker, options of modules that are off have
/// no effect.
pub(super) fn check_modules(isolation: &Isolation) -> Result<(), EngineError> {
    let profile = isolation.apparmor.iter().find(|profile| *profile != "unconfined");
    let label = isolation.labels.iter().find(|label| *label != "disable");
    let on = [
        (profile, "AppArmor", apparmor_is_on as fn() -> bool),
        (label, "SELinux", || Path::new(SELINUX).exists()),
    ];
    match on.into_iter().find(|(option, _, is_on)| option.is_some() && is_on()) {
        Some((Some(option), module, _)) => {
            Err(EngineError::SecurityModule { module, option: option.clone() })
        }
        _ => Ok(()),
    }
}

fn apparmor_is_on() -> bool {
    // Without the module there is no such file.
    std::fs::read(APPARMOR).is_ok_and(|text| text.starts_with(b"Y"))
}

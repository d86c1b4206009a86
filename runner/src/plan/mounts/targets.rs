//! What the target of a mount has to be.

use std::path::{Path, PathBuf};

use sys::spawn::{MountSource, TargetKind};

use crate::error::RequestError;

/// Files of `/proc` over which others may be mounted: numbers about the machine, which tools such as lxcfs replace
/// by numbers about the container. The same as in runc, of those that are reached without links.
const COVERABLE: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// What the target `place` of a mount of a filesystem type has to be. Nothing is mounted into `/proc`
/// (CVE-2025-52881) but over the files of [`COVERABLE`], and over it only what is the kernel's too.
pub(super) fn kind(place: &Path, filesystem: &str, source: &MountSource) -> Result<TargetKind, RequestError> {
    let below = match (filesystem, place.strip_prefix("/proc")) {
        // Later steps protect paths in these, or mount into them, so they must be where their names say.
        ("proc" | "sysfs", _) => return Ok(TargetKind::RealDirectory),
        ("tmpfs", _) if place == Path::new("/dev") => return Ok(TargetKind::RealDirectory),
        (_, Err(_)) => return Ok(TargetKind::LikeSource),
        (_, Ok(below)) => below,
    };
    let MountSource::Host { path, .. } = source else { return Err(in_proc(place)) };
    if below == Path::new("") && path.to_bytes() == b"/proc" {
        return Ok(TargetKind::LikeSource);
    }
    match COVERABLE.iter().any(|file| below == Path::new(file)) {
        true => Ok(TargetKind::KernelFile),
        false => Err(in_proc(place)),
    }
}

fn in_proc(place: &Path) -> RequestError {
    RequestError::MountInProc { path: place.to_string_lossy().into_owned() }
}

/// A path without what makes no difference: `//` and `.`.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

//! The plan of a container that has another root directory and fewer rights, and nothing else.

use std::path::{Path, PathBuf};

use sys::spawn::{CapabilitySets, Plan, Step};

use super::{Machine, Rights, check_ids, enter_groups, exec, path, process_steps};
use crate::capabilities::CapabilitySet;
use crate::error::RequestError;
use crate::request::SeccompProfile;
use crate::spec::Bundle;

/// Rights with which a process leaves its root directory: by changing it again, or by the device of a disk.
const WAYS_OUT: [&str; 2] = ["SYS_CHROOT", "MKNOD"];

/// Makes the plan of a bundle whose process has the directory `root` of the host as its root.
pub fn chroot(
    bundle: &Bundle,
    root: &Path,
    machine: Machine,
    entrances: &[PathBuf],
) -> Result<Plan, RequestError> {
    let process = bundle.spec.process().clone().unwrap_or_default();
    let rights = Rights::of(&process, machine).without(&WAYS_OUT);
    if let Some(namespace) = machine.user_namespace {
        check_ids(bundle, process.user(), namespace.ids)?;
    }
    let mut steps = enter_groups(entrances)?;
    steps.push(Step::ChangeRoot { root: path("root directory", root)? });
    let mut bundle = bundle.clone();
    // Without the right to mount, the kernel takes a filter only of processes that can gain no rights.
    if !machine.has("SYS_ADMIN") && process.no_new_privileges() != Some(true) {
        bundle.seccomp = SeccompProfile::Unconfined;
    }
    steps.extend(process_steps(&bundle, &process, machine, rights)?);
    let creation = machine.creation(false);
    Ok(Plan { creation, steps, exec: exec(&process)?, ..Plan::default() })
}

impl Rights {
    fn without(self, names: &[&str]) -> Self {
        let taken = names.iter().filter_map(|name| CapabilitySet::named(name));
        let taken = taken.fold(CapabilitySet::EMPTY, CapabilitySet::union);
        let left = |set: u64| set & !taken.bits();
        let CapabilitySets { effective, permitted, inheritable, ambient } = self.sets;
        Self {
            bounding: CapabilitySet::from_bits(left(self.bounding.bits())),
            sets: CapabilitySets {
                effective: left(effective),
                permitted: left(permitted),
                inheritable: left(inheritable),
                ambient: left(ambient),
            },
        }
    }
}

impl Machine {
    /// Whether we have a capability.
    pub(crate) fn has(&self, name: &str) -> bool {
        let available = CapabilitySet::from_bits(self.capabilities);
        CapabilitySet::named(name).is_some_and(|one| available.contains(one))
    }

    /// Whether we may make device files.
    pub(crate) fn may_make_devices(&self) -> bool {
        self.has("MKNOD") && self.user_namespace.is_none()
    }
}

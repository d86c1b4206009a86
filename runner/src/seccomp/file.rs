//! Profiles in Docker's JSON format: the `seccomp` of an OCI runtime spec, whose rules may depend on the
//! container's capabilities, the architecture and the kernel (`--security-opt seccomp=FILE`).
//!
//! Source: the documented format of `docs.docker.com/engine/security/seccomp`. Pure.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::{Deserialize, Serialize};

use super::error::SeccompError;
use crate::capabilities::CapabilitySet;

/// The names that conditions have for the architecture that we are built for.
#[cfg(target_arch = "x86_64")]
const OURS: (&str, Arch) = ("amd64", Arch::ScmpArchX86_64);
#[cfg(target_arch = "aarch64")]
const OURS: (&str, Arch) = ("arm64", Arch::ScmpArchAarch64);

/// A profile that was read. Which of its rules hold depends on the capabilities of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileFile {
    /// What is the same for every container.
    common: LinuxSeccomp,
    rules: Vec<Entry>,
}

/// The document, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<Family>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    syscalls: Option<Vec<Entry>>,
}

/// An architecture, and others whose programs it runs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    arches: Option<Vec<String>>,
    caps: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl ProfileFile {
    /// Reads a profile for this architecture and a kernel of the release `kernel`, as `uname(2)` gives it.
    ///
    /// # Errors
    /// When it is not of the form of a profile, or says the same thing twice.
    pub fn parse(text: &[u8], kernel: &str) -> Result<Self, SeccompError> {
        let document: Document =
            serde_json::from_slice(text).map_err(|error| SeccompError::Form(error.to_string()))?;
        let kernel = version(kernel)?;
        let mut rules = Vec::new();
        for entry in document.syscalls.iter().flatten() {
            if entry.name.is_some() && entry.names.as_ref().is_some_and(|names| !names.is_empty()) {
                return Err(SeccompError::Both("name", "names"));
            }
            if entry.holds_here(kernel)? {
                rules.push(entry.clone());
            }
        }
        let mut common = LinuxSeccomp::default();
        common
            .set_default_action(document.default_action)
            .set_default_errno_ret(document.default_errno_ret)
            .set_flags(document.flags.clone())
            .set_architectures(document.architectures()?);
        Ok(Self { common, rules })
    }

    /// The profile of a container with these capabilities.
    pub(crate) fn for_capabilities(&self, capabilities: CapabilitySet) -> LinuxSeccomp {
        let holds = self.rules.iter().filter(|rule| rule.holds_with(capabilities));
        let mut profile = self.common.clone();
        profile.set_syscalls(Some(holds.map(Entry::rule).collect()));
        profile
    }
}

impl Document {
    fn architectures(self) -> Result<Option<Vec<Arch>>, SeccompError> {
        let families = self.arch_map.filter(|families| !families.is_empty());
        let (families, listed) = match (families, self.architectures.filter(|list| !list.is_empty())) {
            (Some(_), Some(_)) => return Err(SeccompError::Both("architectures", "archMap")),
            other => other,
        };
        let ours = families.into_iter().flatten().find(|family| family.architecture == OURS.1);
        let with_others = |family: Family| {
            let others = family.sub_architectures.unwrap_or_default();
            [family.architecture].into_iter().chain(others).collect()
        };
        Ok(listed.or(ours.map(with_others)))
    }
}

impl Entry {
    /// Whether the conditions on architecture and kernel hold.
    fn holds_here(&self, kernel: (u32, u32)) -> Result<bool, SeccompError> {
        let answers = |condition: &Option<Condition>| {
            condition.as_ref().map_or(Ok([None, None]), |condition| condition.of_machine(kernel))
        };
        let included = answers(&self.includes)?.into_iter().flatten().all(|holds| holds);
        let excluded = answers(&self.excludes)?.into_iter().flatten().any(|holds| holds);
        Ok(included && !excluded)
    }

    /// Whether the conditions on capabilities hold.
    fn holds_with(&self, capabilities: CapabilitySet) -> bool {
        let has = |name: &String| CapabilitySet::named(name).is_some_and(|one| capabilities.contains(one));
        let names = |condition: &Option<Condition>| {
            condition.as_ref().and_then(|condition| condition.caps.clone()).unwrap_or_default()
        };
        names(&self.includes).iter().all(has) && !names(&self.excludes).iter().any(has)
    }

    fn rule(&self) -> LinuxSyscall {
        let names = self.name.iter().chain(self.names.iter().flatten()).cloned().collect();
        let mut rule = LinuxSyscall::default();
        rule.set_names(names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(self.args.clone());
        rule
    }
}

impl Condition {
    /// Whether this is one of the architectures, and the kernel is new enough; `None` where nothing is said.
    fn of_machine(&self, kernel: (u32, u32)) -> Result<[Option<bool>; 2], SeccompError> {
        let arches = self.arches.as_ref().filter(|names| !names.is_empty());
        let here = arches.map(|names| names.iter().any(|name| name == OURS.0));
        let least = self.min_kernel.as_deref().map(version).transpose()?;
        Ok([here, least.map(|least| kernel >= least)])
    }
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> Result<(u32, u32), SeccompError> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(SeccompError::KernelVersion(text.to_owned())),
    }
}

#[cfg(test)]
mod tests;

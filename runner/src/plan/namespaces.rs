//! The part of a plan that makes and joins namespaces.
//!
//! Own namespaces come with the process where that is possible. What has to be joined before, or made after
//! something else, is a step: a control group view begins at the group that its process is in, a user
//! namespace takes our rights away, and a time namespace is for the programs executed after it is made.

use std::ffi::CString;
use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Spec};
use sys::ns::Namespaces;
use sys::spawn::{Creation, IdMap, NamespacesOf, Step};

use super::{Machine, path};
use crate::error::RequestError;

/// The namespaces of a container.
#[derive(Debug, Clone, Default)]
pub(super) struct NamespacePlan {
    /// Those that the process gets when it is created.
    pub(super) created: Namespaces,
    /// Who takes the steps.
    pub(super) creation: Creation,
    /// All that the container has of its own: created with it or made by a step.
    pub(super) own: Namespaces,
    /// All that are not the host's.
    pub(super) separate: Namespaces,
    /// The steps, which come before all that is done inside.
    pub(super) steps: Vec<Step>,
}

impl NamespacePlan {
    /// Plans the namespaces of `spec` for a process that enters control groups by the files `entrances`.
    pub(super) fn of(spec: &Spec, machine: Machine, entrances: &[PathBuf]) -> Result<Self, RequestError> {
        let linux = spec.linux().clone().unwrap_or_default();
        let listed = linux.namespaces().as_deref().unwrap_or_default();
        let mut own = Namespaces::NONE;
        let mut joined = Vec::new();
        for one in listed {
            match one.path() {
                Some(file) => joined.push((kind(one)?, path("namespace", file)?)),
                None => own = own.with(kind(one)?),
            }
        }
        let separate = joined.iter().fold(own, |set, (kind, _)| set.with(*kind));
        let others = joined.iter().fold(Namespaces::NONE, |set, (kind, _)| set.with(*kind));
        let has_score = spec.process().as_ref().is_some_and(|process| process.oom_score_adj().is_some());
        let creation = match needs_forerunner(own, others) {
            true => Creation::Forerunner,
            false => machine.creation(has_score),
        };
        let mut plan = Self { created: Namespaces::NONE, creation, own, separate, steps: Vec::new() };
        plan.enter_groups(entrances)?;
        plan.join(joined);
        plan.make(&linux, !entrances.is_empty());
        plan.set_clocks(&linux)?;
        if creation == Creation::Forerunner {
            // The kernel shows in `/proc` the processes of the namespace that whoever mounts it is in.
            plan.steps.push(Step::CreateProcess);
        }
        Ok(plan)
    }

    fn enter_groups(&mut self, entrances: &[PathBuf]) -> Result<(), RequestError> {
        self.steps.extend(super::enter_groups(entrances)?);
        Ok(())
    }

    /// The user namespace is joined last: before, we have the rights that joining the others takes.
    fn join(&mut self, mut joined: Vec<(Namespaces, CString)>) {
        joined.sort_by_key(|(kind, _)| *kind == Namespaces::USER);
        for (kinds, file) in joined {
            self.steps.push(Step::Join { kinds, of: NamespacesOf::File(file) });
            if kinds == Namespaces::USER {
                self.steps.push(Step::BecomeRoot);
            }
        }
    }

    fn make(&mut self, linux: &Linux, in_groups: bool) {
        let later = match self.creation {
            Creation::Forerunner => self.own,
            Creation::Direct | Creation::Copy => {
                let groups = if in_groups { Namespaces::CGROUP } else { Namespaces::NONE };
                let later = Namespaces::TIME.with(groups);
                self.created = self.own.without(later);
                self.own.without(self.created)
            }
        };
        if later.contains(Namespaces::USER) {
            self.steps.push(Step::Unshare(Namespaces::USER));
            let maps = |maps: &Option<Vec<LinuxIdMapping>>| maps.iter().flatten().map(id_map).collect();
            self.steps
                .push(Step::MapIds { users: maps(linux.uid_mappings()), groups: maps(linux.gid_mappings()) });
            self.steps.push(Step::BecomeRoot);
        }
        let rest = later.without(Namespaces::USER);
        if !rest.is_empty() {
            self.steps.push(Step::Unshare(rest));
        }
    }

    /// Offsets of clocks can be set until the first program is executed in a time namespace
    /// (`time_namespaces(7)`).
    fn set_clocks(&mut self, linux: &Linux) -> Result<(), RequestError> {
        let Some(offsets) = linux.time_offsets() else { return Ok(()) };
        let mut offsets: Vec<_> = offsets.iter().collect();
        offsets.sort_by_key(|(clock, _)| clock.as_str());
        for (clock, offset) in offsets {
            let seconds = offset.secs().unwrap_or(0);
            let value = format!("{clock} {seconds} {}", offset.nanosecs().unwrap_or(0));
            self.steps.push(Step::Attribute {
                file: c"/proc/self/timens_offsets".to_owned(),
                value: super::c_string("clock offset", &value)?,
            });
        }
        Ok(())
    }
}

/// Whether a process of its own has to take the steps: in a user namespace not all of them are allowed, and
/// whoever is in a process id namespace or sees a file tree already must not meet a process with our rights.
fn needs_forerunner(own: Namespaces, joined: Namespaces) -> bool {
    own.contains(Namespaces::USER)
        || [Namespaces::USER, Namespaces::PID, Namespaces::MOUNT].iter().any(|one| joined.contains(*one))
}

fn kind(namespace: &LinuxNamespace) -> Result<Namespaces, RequestError> {
    match namespace.typ() {
        LinuxNamespaceType::Mount => Ok(Namespaces::MOUNT),
        LinuxNamespaceType::Pid => Ok(Namespaces::PID),
        LinuxNamespaceType::Ipc => Ok(Namespaces::IPC),
        LinuxNamespaceType::Uts => Ok(Namespaces::UTS),
        LinuxNamespaceType::Cgroup => Ok(Namespaces::CGROUP),
        LinuxNamespaceType::Network => Ok(Namespaces::NETWORK),
        LinuxNamespaceType::User => Ok(Namespaces::USER),
        LinuxNamespaceType::Time => Ok(Namespaces::TIME),
    }
}

pub(super) fn id_map(mapping: &LinuxIdMapping) -> IdMap {
    IdMap { inside: mapping.container_id(), outside: mapping.host_id(), count: mapping.size() }
}

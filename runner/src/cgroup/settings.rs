//! What is written to which file of a group, from the resources of an OCI runtime spec. Pure.
//!
//! Source: OCI runtime-spec `config-linux.md`, "Control groups"; the kernel's documentation of each controller
//! (`cgroup-v1/memory.rst`, `scheduler/sched-bwc.rst`, `cgroup-v2.rst` …). Limits of kernel memory, which
//! kernels since 5.4 no longer know, are left out, as other runtimes do.

mod block_io;
mod memory;
mod processor;

use std::borrow::Cow;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxResources};

use super::error::CgroupError;
use super::hierarchy::{Controller, Version};

/// One value to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller whose group it is for.
    pub controller: Controller,
    /// The names that the file has, in the order of preference: they depend on the kernel's configuration.
    pub files: Vec<Cow<'static, str>>,
    /// What is written.
    pub value: String,
    /// What it is called in messages.
    pub what: &'static str,
    /// Nobody asked for it: where the kernel has no such file, it is left out.
    pub optional: bool,
}

/// The controllers that `resources` need, but for the device list.
pub fn controllers(resources: &LinuxResources) -> Vec<Controller> {
    let is_needed = |&one: &Controller| {
        [Version::One, Version::Two].iter().any(|&version| !of(resources, one, version).is_empty())
    };
    Controller::ALL.into_iter().filter(is_needed).collect()
}

/// Everything to be written, in an order that the kernel accepts for a new group. `version` tells which
/// version a controller is of; controllers without one are left out.
pub fn all(resources: &LinuxResources, version: impl Fn(Controller) -> Option<Version>) -> Vec<Setting> {
    let of_controller = |one| version(one).map_or_else(Vec::new, |version| of(resources, one, version));
    Controller::ALL.into_iter().flat_map(of_controller).collect()
}

/// The files of version 2 that a spec names itself, in the order of their names, with their values.
pub(super) fn unified(resources: &LinuxResources) -> Result<Vec<(&str, &str)>, CgroupError> {
    let given = resources.unified().iter().flatten();
    let mut files: Vec<_> = given.map(|(file, value)| (file.as_str(), value.as_str())).collect();
    files.sort_unstable();
    // Not `cgroup.procs` and its like: those are no resources.
    let is_resource = |file: &str| {
        file.contains('.') && !file.contains('/') && !file.starts_with("cgroup.") && !file.starts_with('.')
    };
    match files.iter().find(|(file, _)| !is_resource(file)) {
        Some((file, _)) => Err(CgroupError::Location {
            path: (*file).to_owned(),
            problem: "it is not the file of a resource of version 2",
        }),
        None => Ok(files),
    }
}

fn of(resources: &LinuxResources, controller: Controller, version: Version) -> Vec<Setting> {
    let mut settings = Settings { controller, version, list: Vec::new() };
    match controller {
        Controller::Cpu => resources.cpu().iter().for_each(|cpu| settings.cpu(cpu)),
        Controller::Cpuset => resources.cpu().iter().for_each(|cpu| settings.cpuset(cpu)),
        Controller::Memory => resources.memory().iter().for_each(|memory| settings.memory(memory)),
        Controller::Pids => resources.pids().iter().for_each(|pids| settings.pids(*pids)),
        Controller::Io => resources.block_io().iter().for_each(|io| settings.io(io)),
        Controller::HugePages => {
            resources.hugepage_limits().iter().flatten().for_each(|limit| settings.huge_pages(limit));
        }
        Controller::Rdma => settings.rdma(resources),
        Controller::NetworkClass => {
            resources.network().iter().for_each(|network| settings.network_class(network));
        }
        Controller::NetworkPriority => {
            resources.network().iter().for_each(|network| settings.network_priority(network));
        }
        Controller::CpuAccounting | Controller::Devices | Controller::Freezer => {}
    }
    settings.list
}

struct Settings {
    controller: Controller,
    version: Version,
    list: Vec<Setting>,
}

impl Settings {
    /// Adds a setting of the file in version 1 or the one in version 2. Where a version has no file, the
    /// other one's is missed by name.
    fn add(&mut self, what: &'static str, files: [&'static [&'static str]; 2], value: impl ToString) {
        let files = match (self.version, files) {
            (Version::One, [first, _]) if !first.is_empty() => first,
            (_, [first, []]) => first,
            (_, [_, second]) => second,
        };
        self.push(what, files.iter().map(|file| Cow::Borrowed(*file)).collect(), value.to_string());
    }

    fn push(&mut self, what: &'static str, files: Vec<Cow<'static, str>>, value: String) {
        self.list.push(Setting { controller: self.controller, files, value, what, optional: false });
    }

    fn pids(&mut self, pids: LinuxPids) {
        if pids.limit() != 0 {
            self.add("the limit of processes", [&["pids.max"]; 2], limit(pids.limit()));
        }
    }

    fn huge_pages(&mut self, pages: &LinuxHugepageLimit) {
        let size = pages.page_size();
        let (file, value) = match self.version {
            Version::One => (format!("hugetlb.{size}.limit_in_bytes"), pages.limit().to_string()),
            Version::Two => (format!("hugetlb.{size}.max"), limit(pages.limit())),
        };
        self.push("the limit of large pages", vec![Cow::Owned(file)], value);
    }

    fn rdma(&mut self, resources: &LinuxResources) {
        let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
        devices.sort_unstable_by_key(|(name, _)| *name);
        for (name, most) in devices {
            let part = |what, most: Option<u32>| most.map(|most| format!(" {what}={most}"));
            let parts = [part("hca_handle", most.hca_handles()), part("hca_object", most.hca_objects())];
            let value = format!("{name}{}", parts.into_iter().flatten().collect::<String>());
            self.add("the limit of remote memory", [&["rdma.max"]; 2], value);
        }
    }

    fn network_class(&mut self, network: &LinuxNetwork) {
        if let Some(class) = network.class_id().filter(|&class| class > 0) {
            self.add("the class of network packets", [&["net_cls.classid"], &[]], class);
        }
    }

    fn network_priority(&mut self, network: &LinuxNetwork) {
        for one in network.priorities().iter().flatten() {
            let value = format!("{} {}", one.name(), one.priority());
            self.add("the priority of network packets", [&["net_prio.ifpriomap"], &[]], value);
        }
    }
}

/// A limit in the words of version 2, where `max` is none at all.
fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use oci_spec::runtime::{
        LinuxCpuBuilder, LinuxHugepageLimitBuilder, LinuxInterfacePriorityBuilder, LinuxMemoryBuilder,
        LinuxNetworkBuilder, LinuxPidsBuilder, LinuxRdmaBuilder,
    };

    use super::*;

    /// `file=value` of everything that is written.
    pub(super) fn written(resources: &LinuxResources, version: Version) -> Vec<String> {
        let settings = all(resources, |_| Some(version));
        settings.into_iter().map(|setting| format!("{}={}", setting.files[0], setting.value)).collect()
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        assert!(controllers(&LinuxResources::default()).is_empty());
        let mut zeros = LinuxResources::default();
        zeros.set_memory(Some(LinuxMemoryBuilder::default().limit(0).swap(0).build().unwrap()));
        zeros.set_cpu(Some(LinuxCpuBuilder::default().shares(0u64).quota(0).build().unwrap()));
        zeros.set_network(Some(LinuxNetworkBuilder::default().class_id(0u32).build().unwrap()));
        assert!(controllers(&zeros).is_empty());
    }

    #[test]
    fn small_controllers_have_their_files() {
        let priority = LinuxInterfacePriorityBuilder::default().name("eth0").priority(5u32).build().unwrap();
        let network =
            LinuxNetworkBuilder::default().class_id(0x10_0001u32).priorities([priority]).build().unwrap();
        let pages = LinuxHugepageLimitBuilder::default().page_size("2MB").limit(-1).build().unwrap();
        let rdma = LinuxRdmaBuilder::default().hca_handles(3u32).build().unwrap();
        let mut resources = LinuxResources::default();
        resources
            .set_pids(Some(LinuxPidsBuilder::default().limit(-1).build().unwrap()))
            .set_network(Some(network))
            .set_hugepage_limits(Some(vec![pages]))
            .set_rdma(Some(HashMap::from([("mlx5_1".to_owned(), rdma)])));
        let first = [
            "pids.max=max",
            "hugetlb.2MB.limit_in_bytes=-1",
            "rdma.max=mlx5_1 hca_handle=3",
            "net_cls.classid=1048577",
            "net_prio.ifpriomap=eth0 5",
        ];
        assert_eq!(written(&resources, Version::One), first);
        assert_eq!(written(&resources, Version::Two)[1], "hugetlb.2MB.max=max");
    }

    #[test]
    fn files_of_version_2_are_those_of_resources() {
        let given = |file: &str| {
            let mut resources = LinuxResources::default();
            resources.set_unified(Some(HashMap::from([(file.to_owned(), "1".to_owned())])));
            unified(&resources).map(|files| files.len())
        };
        assert_eq!(given("memory.high").unwrap(), 1);
        for bad in ["cgroup.procs", "../memory.high", "a/memory.high", ".memory", "memory"] {
            assert!(given(bad).unwrap_err().to_string().contains(bad));
        }
    }
}

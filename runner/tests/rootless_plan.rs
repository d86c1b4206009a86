//! Plans of containers in a user namespace, and without any namespace, as data.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base::Mount;
use runner::plan::{self, Machine, UserNamespace};
use runner::spec;
use runner::{Network, RequestError, RunRequest, SeccompProfile, Sharing, Stdio, User};
use sys::ns::Namespaces;
use sys::spawn::{CapabilitySets, MountSource, Plan, ScratchEntry, Step};
use sys::userns::{IdMap, IdMaps, Range};

/// Docker's default set (`0xa80425fb`).
const DOCKER: u64 = 0xa804_25fb;
const SYS_CHROOT: u64 = 1 << 18;
const MKNOD: u64 = 1 << 27;

/// The maps of a user with 65536 ids, or with his own alone.
fn ids(ranges: bool) -> &'static IdMaps {
    static MAPS: [OnceLock<IdMaps>; 2] = [OnceLock::new(), OnceLock::new()];
    MAPS[usize::from(ranges)].get_or_init(|| {
        let map = match ranges {
            true => IdMap::rootless(1000, &[Range { start: 100_000, count: 65536 }]),
            false => IdMap::rootless(1000, &[]),
        };
        IdMaps { users: map.clone(), groups: map, may_set_groups: ranges }
    })
}

fn machine(ranges: bool) -> Machine {
    Machine {
        capabilities: u64::MAX,
        unified_cgroups: true,
        lists_devices: false,
        counts_memory: false,
        open_files: None,
        user_namespace: Some(UserNamespace { ids: ids(ranges), own_proc: true }),
    }
}

fn request() -> RunRequest {
    let root = Mount::Bind { source: PathBuf::from("/store/1/fs"), read_only: false };
    RunRequest { network: Network::Host, ..RunRequest::new(root, vec!["/bin/true".to_owned()]) }
}

fn try_plan(request: &RunRequest, machine: Machine) -> Result<Plan, RequestError> {
    plan::build(&spec::build(request, Stdio::CAPTURED).unwrap(), machine, &[])
}

fn plan(request: &RunRequest, machine: Machine) -> Plan {
    try_plan(request, machine).unwrap()
}

/// What is mounted at a target.
fn mounted<'p>(plan: &'p Plan, at: &str) -> &'p MountSource {
    let found = plan.steps.iter().find_map(|step| match step {
        Step::Mount { target, source, .. } if target.to_str() == Ok(at) => Some(source),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("nothing at {at}"))
}

fn is_of_the_host(source: &MountSource, wanted: &str) -> bool {
    matches!(source, MountSource::Host { path, recursive: true, .. } if path.to_str() == Ok(wanted))
}

#[test]
fn devices_are_those_of_the_host() {
    let plan = plan(&request(), machine(true));
    let entries = plan.steps.iter().find_map(|step| match step {
        Step::Scratch { entries } => Some(entries),
        _ => None,
    });
    let entries = entries.unwrap();
    let null = ScratchEntry::Bound { name: c"null".to_owned(), source: c"/dev/null".to_owned() };
    assert!(entries.contains(&null));
    assert!(!entries.iter().any(|entry| matches!(entry, ScratchEntry::Device { .. })));
}

#[test]
fn sys_is_mounted_anew_only_for_an_own_network() {
    assert!(is_of_the_host(mounted(&plan(&request(), machine(true)), "/sys"), "/sys"));
    let own = RunRequest { network: Network::None, ..request() };
    let own = plan(&own, machine(true));
    assert!(
        matches!(mounted(&own, "/sys"), MountSource::Filesystem { kind, .. } if kind.to_str() == Ok("sysfs"))
    );
    let mask = |plan: &Plan| {
        let target = |step: &Step| matches!(step, Step::Mask { target, .. } if target.to_str() == Ok("/sys/fs/cgroup"));
        plan.steps.iter().any(target)
    };
    let hybrid = Machine { unified_cgroups: false, ..machine(true) };
    assert!(mask(&plan(&request(), hybrid)) && !mask(&plan(&request(), machine(true))));
}

#[test]
fn a_hidden_proc_is_shown_as_it_is() {
    let hidden = Some(UserNamespace { ids: ids(true), own_proc: false });
    let plan = plan(&request(), Machine { user_namespace: hidden, ..machine(true) });
    assert!(is_of_the_host(mounted(&plan, "/proc"), "/proc"));
    assert!(plan.namespaces.contains(Namespaces::PID), "processes are still their own");
}

#[test]
fn what_tells_of_the_host_is_the_hosts() {
    let shared = RunRequest { pids: Sharing::Host, ipc: Sharing::Host, ..request() };
    let plan = plan(&shared, machine(true));
    assert!(is_of_the_host(mounted(&plan, "/proc"), "/proc"));
    assert!(!plan.steps.iter().any(|step| step.describe().contains("mqueue")));
}

#[test]
fn groups_that_are_not_mapped_own_nothing() {
    let gid = |plan: &Plan| match mounted(plan, "/dev/pts") {
        MountSource::Filesystem { options, .. } => options.iter().any(|(name, _)| name.to_str() == Ok("gid")),
        _ => false,
    };
    assert!(gid(&plan(&request(), machine(true))) && !gid(&plan(&request(), machine(false))));
    let groups = |plan: &Plan| {
        let groups = plan.steps.iter().find_map(|step| match step {
            Step::Identity { groups, .. } => Some(groups.clone()),
            _ => None,
        });
        groups.unwrap()
    };
    assert_eq!(groups(&plan(&request(), machine(true))), Some(vec![0]));
    assert_eq!(groups(&plan(&request(), machine(false))), None, "the kernel refuses any change");
}

#[test]
fn users_that_are_not_mapped_are_refused_by_number() {
    let with = |user: User| RunRequest { user, ..request() };
    let user = with(User { uid: 1000, ..User::default() });
    assert!(try_plan(&user, machine(true)).is_ok());
    let refused = RequestError::UnmappedId { kind: "user", id: 1000 };
    assert_eq!(try_plan(&user, machine(false)).unwrap_err(), refused);
    let group = with(User { additional_gids: vec![70_000], ..User::default() });
    let refused = RequestError::UnmappedId { kind: "group", id: 70_000 };
    assert_eq!(try_plan(&group, machine(true)).unwrap_err(), refused);
}

/// The plan of a container that has only another root directory, made with these capabilities.
fn chroot(request: &RunRequest, capabilities: u64) -> Plan {
    let bundle = spec::build(request, Stdio::CAPTURED).unwrap();
    let machine = Machine { capabilities, user_namespace: None, ..machine(true) };
    plan::chroot(&bundle, Path::new("/store/1/fs"), machine, &[]).unwrap()
}

#[test]
fn another_root_directory_comes_without_namespaces_and_without_the_rights_to_leave_it() {
    let plan = chroot(&request(), DOCKER);
    assert_eq!(plan.namespaces, Namespaces::NONE);
    assert_eq!(plan.steps[0], Step::ChangeRoot { root: c"/store/1/fs".to_owned() });
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Mount { .. } | Step::Pivot)));
    let kept = DOCKER & !SYS_CHROOT & !MKNOD;
    assert!(plan.steps.contains(&Step::BoundingSet { keep: kept }));
    assert_eq!(
        plan.steps.last(),
        Some(&Step::Capabilities(CapabilitySets {
            effective: kept,
            permitted: kept,
            ..CapabilitySets::default()
        }))
    );
}

#[test]
fn a_filter_is_loaded_where_the_kernel_takes_one() {
    let filtered = |plan: &Plan| plan.steps.iter().any(|step| matches!(step, Step::Seccomp(_)));
    assert!(!filtered(&chroot(&request(), DOCKER)));
    assert!(filtered(&chroot(&request(), u64::MAX)));
    let no_new = RunRequest { no_new_privileges: true, ..request() };
    assert!(filtered(&chroot(&no_new, DOCKER)));
    let unconfined = RunRequest { seccomp: SeccompProfile::Unconfined, ..no_new };
    assert!(!filtered(&chroot(&unconfined, DOCKER)));
}

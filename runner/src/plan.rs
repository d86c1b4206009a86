//! From a spec to a plan: the steps that a new process takes to become the container's process.
//!
//! Pure: what is needed of the machine comes as a [`Machine`]. The order of the steps is the order of
//! trust. Mounts come first, while the host is visible; then the root changes; then rights are given up,
//! the filter first, because loading it needs a right that the next steps take away.

mod chroot;
mod mount_options;
mod mounts;
mod namespaces;
mod sysctls;

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use oci_spec::runtime::{
    Capabilities, Hook, Hooks, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process, Spec, User,
};
use sys::ns::Namespaces;
use sys::open_files::{self, OpenFiles};
use sys::seccomp::Filter;
use sys::spawn::{CapabilitySets, Checkpoint, Creation, Exec, NamespacesOf, Plan, Step};
use sys::userns::IdMaps;

pub use self::chroot::chroot;
pub(crate) use self::mounts::device_numbers;
use self::namespaces::NamespacePlan;
use crate::capabilities::CapabilitySet;
use crate::cgroup::ControlGroup;
use crate::error::RequestError;
use crate::isolation;
use crate::request::{DEFAULT_PATH, SeccompProfile, Stdio};
use crate::seccomp;
use crate::spec::Bundle;

/// What a plan needs to know of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// The capabilities that we have ourselves, bit by number: no container gets more.
    pub capabilities: u64,
    /// Whether control groups are all version 2, so that one mount shows them.
    pub unified_cgroups: bool,
    /// Whether the container's group has a list of the devices that it may use, so that its mounts may have
    /// any.
    pub lists_devices: bool,
    /// Whether the container's group has the memory controller, so that it may be without memory before its program
    /// is executed.
    pub counts_memory: bool,
    /// The limit of open files that containers begin with, if ours is another one.
    pub open_files: Option<OpenFiles>,
    /// The user namespace that we are in, unless it is the machine's first.
    pub user_namespace: Option<UserNamespace>,
}

/// What a user namespace allows. Making devices is never allowed.
#[derive(Debug, Clone, Copy)]
pub struct UserNamespace {
    /// The ids that mean something in it.
    pub ids: &'static IdMaps,
    /// Whether the kernel lets us mount a `/proc`: not where the visible one has parts hidden.
    pub own_proc: bool,
}

impl UserNamespace {
    /// The one that this process is in, as it was when this was asked first; `None` for the machine's first one.
    pub fn this() -> Option<Self> {
        static THIS: OnceLock<Option<IdMaps>> = OnceLock::new();
        let found = THIS.get_or_init(|| {
            if sys::userns::is_initial() {
                return None;
            }
            // Without /proc there is nobody to tell; what then fails for its sake says so.
            IdMaps::of_this_process().ok()
        });
        found.as_ref().map(|ids| Self { ids, own_proc: isolation::has_own_proc() })
    }
}

impl Machine {
    /// The machine that we run on.
    pub fn this() -> Self {
        Self {
            capabilities: sys::probe::effective_capabilities(),
            unified_cgroups: sys::probe::has_unified_cgroups(),
            lists_devices: false,
            counts_memory: false,
            open_files: open_files::original_limit(),
            user_namespace: UserNamespace::this(),
        }
    }

    /// The machine as a container in `group` has it.
    pub(crate) fn within(group: Option<&ControlGroup>) -> Self {
        Self {
            lists_devices: group.is_some_and(ControlGroup::restricts_devices),
            counts_memory: group.is_some_and(ControlGroup::counts_memory),
            ..Self::this()
        }
    }

    /// Who takes the steps of a process that needs no forerunner. `has_score` says whether it has a score of its own by
    /// which the kernel chooses whom to end.
    fn creation(self, has_score: bool) -> Creation {
        if has_score || self.counts_memory { Creation::Copy } else { Creation::Direct }
    }
}

/// Makes the plan of a bundle whose process enters control groups by the files `entrances`.
pub fn build(bundle: &Bundle, machine: Machine, entrances: &[PathBuf]) -> Result<Plan, RequestError> {
    let process = bundle.spec.process().clone().unwrap_or_default();
    if let Some(namespace) = machine.user_namespace {
        check_ids(bundle, process.user(), namespace.ids)?;
    }
    let capabilities = Rights::of(&process, machine);
    let namespaces = NamespacePlan::of(&bundle.spec, machine, entrances)?;
    let mut steps = mounts::prepare(bundle, namespaces.own)?;
    steps.extend(namespaces.steps);
    if has_hooks(&bundle.spec, |hooks| [prestart(hooks), hooks.create_runtime()]) {
        steps.push(Step::Checkpoint(Checkpoint::Namespaces));
    }
    steps.extend(mounts::steps(bundle, machine, namespaces.separate, capabilities.bounding)?);
    let own_names = namespaces.separate.contains(Namespaces::UTS);
    if namespaces.own.contains(Namespaces::NETWORK) {
        steps.push(Step::LoopbackUp);
    }
    if let (Some(name), true) = (bundle.spec.hostname(), own_names) {
        steps.push(Step::HostName(c_string("host name", name)?));
    }
    if let (Some(name), true) = (bundle.spec.domainname(), own_names) {
        steps.push(Step::DomainName(c_string("domain name", name)?));
    }
    steps.extend(sysctls::steps(&bundle.spec, namespaces.separate)?);
    steps.extend(memory_score(&process));
    if has_hooks(&bundle.spec, |hooks| [hooks.create_container()]) {
        steps.push(Step::Checkpoint(Checkpoint::Mounts));
    }
    steps.push(Step::Pivot);
    steps.extend(mounts::propagation_of_root(&bundle.spec)?);
    steps.extend(process_steps(bundle, &process, machine, capabilities)?);
    let (namespaces, creation) = (namespaces.created, namespaces.creation);
    Ok(Plan { namespaces, creation, steps, exec: exec(&process)?, ..Plan::default() })
}

/// The steps that show the files of a container to somebody who is not in it: its root, and the last `extra` mounts of
/// the spec. Devices among them cannot be opened.
pub(crate) fn files(bundle: &Bundle, machine: Machine, extra: usize) -> Result<Vec<Step>, RequestError> {
    mounts::files(bundle, machine, extra)
}

/// Whether a spec has hooks of these kinds, for which the process has to wait.
fn has_hooks<const N: usize>(spec: &Spec, kinds: impl Fn(&Hooks) -> [&Option<Vec<Hook>>; N]) -> bool {
    let hooks = spec.hooks().as_ref();
    hooks.is_some_and(|hooks| kinds(hooks).into_iter().flatten().any(|hooks| !hooks.is_empty()))
}

/// The hooks of the kind that later versions of the spec do without, but Docker uses.
pub(crate) fn prestart(hooks: &Hooks) -> &Option<Vec<Hook>> {
    hooks.prestart()
}

/// Makes the plan of a further process in a container that runs. `kinds` are the namespaces that it has and
/// we have not.
pub fn join(
    bundle: &Bundle,
    machine: Machine,
    entrances: &[PathBuf],
    kinds: Namespaces,
) -> Result<Plan, RequestError> {
    let process = bundle.spec.process().clone().unwrap_or_default();
    let capabilities = Rights::of(&process, machine);
    let mut steps = enter_groups(entrances)?;
    steps.extend(memory_score(&process));
    steps.push(Step::Join { kinds, of: NamespacesOf::Target });
    if kinds.contains(Namespaces::USER) {
        steps.push(Step::BecomeRoot);
    }
    steps.extend(terminal(bundle.stdio, false));
    steps.extend(process_steps(bundle, &process, machine, capabilities)?);
    Ok(Plan { creation: Creation::Forerunner, steps, exec: exec(&process)?, ..Plan::default() })
}

fn enter_groups(entrances: &[PathBuf]) -> Result<Vec<Step>, RequestError> {
    let enter = |file: &PathBuf| Ok(Step::EnterGroup { file: path("control group", file)? });
    entrances.iter().map(enter).collect()
}

/// How gladly the kernel kills the process when memory is short (`proc_pid_oom_score_adj(5)`). The file is the
/// host's, so this comes before the process leaves its file tree.
fn memory_score(process: &Process) -> Option<Step> {
    let value = CString::new(process.oom_score_adj()?.to_string()).ok()?;
    Some(Step::Attribute { file: c"/proc/self/oom_score_adj".to_owned(), value })
}

/// The steps of the process itself, once it is inside: limits, working directory, rights.
fn process_steps(
    bundle: &Bundle,
    process: &Process,
    machine: Machine,
    capabilities: Rights,
) -> Result<Vec<Step>, RequestError> {
    let mut steps = Vec::new();
    steps.extend(machine.open_files.map(|OpenFiles { soft, hard }| {
        let resource = open_files::RESOURCE;
        Step::Limit { resource, soft, hard }
    }));
    steps.extend(process.rlimits().iter().flatten().map(limit));
    steps.push(Step::WorkingDirectory {
        path: path("working directory", process.cwd())?,
        create: bundle.create_cwd,
    });
    steps.extend(rights(bundle, process, capabilities, machine)?);
    Ok(steps)
}

/// Refuses ids that mean nothing in our user namespace: the kernel would, without saying which.
fn check_ids(bundle: &Bundle, user: &User, ids: &IdMaps) -> Result<(), RequestError> {
    let unmapped = |kind, id| RequestError::UnmappedId { kind, id };
    let files = bundle.files.iter();
    let users = files.clone().map(|file| file.uid).chain([user.uid()]);
    let groups = files.map(|file| file.gid).chain([user.gid()]);
    if let Some(uid) = users.into_iter().find(|uid| !ids.users.maps(*uid)) {
        return Err(unmapped("user", uid));
    }
    let added = user.additional_gids().iter().flatten().copied();
    if let Some(gid) = groups.chain(added).find(|gid| !ids.groups.maps(*gid)) {
        return Err(unmapped("group", gid));
    }
    Ok(())
}

/// The capabilities of a process: the sets that a plan can set.
#[derive(Debug, Clone, Copy)]
struct Rights {
    bounding: CapabilitySet,
    sets: CapabilitySets,
}

impl Rights {
    fn of(process: &Process, machine: Machine) -> Self {
        let sets = process.capabilities().as_ref();
        let bounding = from_spec(sets.and_then(|sets| sets.bounding().as_ref()));
        let most = bounding.intersection(CapabilitySet::from_bits(machine.capabilities));
        let set = |select: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            from_spec(sets.and_then(|sets| select(sets).as_ref())).intersection(most).bits()
        };
        let effective = set(LinuxCapabilities::effective);
        // The kernel takes nothing into force that is not permitted; what is in force is meant to be.
        let permitted = set(LinuxCapabilities::permitted) | effective;
        let inheritable = set(LinuxCapabilities::inheritable);
        let ambient = set(LinuxCapabilities::ambient) & permitted & inheritable;
        Self { bounding, sets: CapabilitySets { effective, permitted, inheritable, ambient } }
    }
}

fn from_spec(capabilities: Option<&Capabilities>) -> CapabilitySet {
    let named = capabilities.into_iter().flatten().filter_map(|one| CapabilitySet::named(&one.to_string()));
    named.fold(CapabilitySet::EMPTY, CapabilitySet::union)
}

/// The steps that give up rights, in the only order that works: ownership while we are root, the bounding
/// set while we may change it, the filter while we may load it, then the user, then what is left.
fn rights(
    bundle: &Bundle,
    process: &Process,
    capabilities: Rights,
    machine: Machine,
) -> Result<Vec<Step>, RequestError> {
    let user = process.user();
    let mut steps = vec![
        Step::OwnKeyring,
        Step::OwnStreams { streams: bundle.piped_streams(), uid: user.uid() },
        Step::Umask(user.umask().unwrap_or(0o022)),
        Step::BoundingSet { keep: capabilities.bounding.bits() },
    ];
    if process.no_new_privileges() == Some(true) {
        steps.push(Step::NoNewPrivileges);
    }
    steps.extend(filter(bundle, capabilities.bounding)?.map(Step::Seccomp));
    steps.push(identity(user, machine.user_namespace));
    steps.push(Step::Capabilities(capabilities.sets));
    Ok(steps)
}

fn filter(bundle: &Bundle, bounding: CapabilitySet) -> Result<Option<Arc<Filter>>, RequestError> {
    let profile = bundle.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    Ok(match (profile, &bundle.seccomp) {
        (Some(profile), _) => Some(seccomp::custom_filter(profile)?),
        (None, SeccompProfile::Default) => Some(seccomp::default_filter(bounding)?),
        (None, SeccompProfile::Unconfined | SeccompProfile::File(_)) => None,
    })
}

fn identity(user: &User, namespace: Option<UserNamespace>) -> Step {
    let groups = user.additional_gids().clone().unwrap_or_default();
    let may_set = namespace.is_none_or(|namespace| namespace.ids.may_set_groups);
    let groups = may_set.then_some(groups);
    Step::Identity { uid: user.uid(), gid: user.gid(), groups }
}

fn exec(process: &Process) -> Result<Exec, RequestError> {
    let strings = |what: &'static str, texts: &Option<Vec<String>>| {
        texts.iter().flatten().map(|text| c_string(what, text)).collect::<Result<Vec<_>, _>>()
    };
    let command = process.args().iter().flatten().next().ok_or(RequestError::NoCommand)?;
    Ok(Exec {
        candidates: candidates(command, process.env().as_deref().unwrap_or_default())?,
        arguments: strings("argument", process.args())?,
        environment: strings("environment variable", process.env())?,
        trusted: false,
    })
}

/// Where the command may be: at the path it is, or in a directory of the container's `PATH`.
fn candidates(command: &str, environment: &[String]) -> Result<Vec<CString>, RequestError> {
    if command.contains('/') {
        return Ok(vec![c_string("command", command)?]);
    }
    let search =
        environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let in_directory = |directory: &str| {
        // An empty entry means the working directory (POSIX).
        let directory = if directory.is_empty() { "." } else { directory };
        c_string("command", &format!("{directory}/{command}"))
    };
    search.split(':').map(in_directory).collect()
}

fn limit(limit: &PosixRlimit) -> Step {
    Step::Limit { resource: resource_number(limit.typ()), soft: limit.soft(), hard: limit.hard() }
}

/// `RLIMIT_…` numbers (`asm-generic/resource.h`), the same on x86-64 and arm64.
pub(crate) fn resource_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

/// The terminal's step, if the process has one.
fn terminal(stdio: Stdio, console: bool) -> Option<Step> {
    match stdio {
        Stdio::Terminal(size) => Some(Step::Terminal { rows: size.rows, columns: size.columns, console }),
        Stdio::Streams { .. } => None,
    }
}

fn c_string(what: &'static str, text: &str) -> Result<CString, RequestError> {
    CString::new(text).map_err(|_| RequestError::ZeroByte { what, text: text.to_owned() })
}

fn path(what: &'static str, path: &Path) -> Result<CString, RequestError> {
    use std::os::unix::ffi::OsStrExt as _;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| RequestError::ZeroByte { what, text: path.to_string_lossy().into_owned() })
}

//! From a request to an OCI runtime spec: which mounts, rights and limits a container has.
//!
//! Source: OCI runtime-spec 1.2, with the values that Docker puts into it. Pure. Two things that the spec
//! has no place for travel beside it in [`Bundle`]: how the root filesystem is mounted, and files whose
//! content is in memory. The system call filter is named, not spelled out: four hundred names per start
//! would cost more than the start.

pub(crate) mod groups;
pub(crate) mod resources;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    BoxBuilder, Capability, Linux, LinuxCapabilities, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType,
    LinuxNamespace, LinuxNamespaceType, Mount, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process,
    Root, Spec, User,
};
use sys::path_error::PathError;

use crate::capabilities::CapabilitySet;
use crate::error::RequestError;
use crate::isolation::Mode;
use crate::layers::Layers;
use crate::request::{
    self, DeviceFile, DeviceKind, EtcFiles, ExtraMount, MountKind, Network, Resource, ResourceLimit,
    RunRequest, SeccompProfile, SharedMemory, Sharing, Stdio, StreamTarget,
};

/// Paths of `/proc` and `/sys` that tell about or reach the host and have no namespace of their own.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of `/proc` that change the host when written.
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The mode that new files get no more than, as in Docker.
const UMASK: u32 = 0o022;

/// A spec and what belongs to it.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The OCI runtime spec.
    pub spec: Spec,
    /// How the root filesystem is mounted.
    pub root: base::Mount,
    /// Those of its layers, and of [`parts`](Self::parts), that have to be mounted before.
    pub(crate) layers: Layers,
    /// Where relative sources of mounts are.
    pub directory: PathBuf,
    /// Whether an overlay root skips syncing when it is unmounted.
    pub volatile_root: bool,
    /// What mounts of type [`PART`] in the spec show, by the number that is their source.
    pub parts: Vec<Part>,
    /// Files in memory, mounted after all mounts of the spec.
    pub files: Vec<ProvidedFile>,
    /// The system call filter, unless the spec has a profile of its own.
    pub seccomp: SeccompProfile,
    /// Whether a missing working directory is made.
    pub create_cwd: bool,
    /// Whether the container gets the files by which programs know Docker's.
    pub marks: bool,
    /// The terminal of the container, if it has one, else which of its streams are our pipes.
    pub stdio: Stdio,
}

/// The type of mounts that show a [`Part`]; the OCI spec knows nothing of the kind.
pub const PART: &str = "lapstrake.part";

/// The type of mounts that show what is at the same place in another mount namespace, the file of which is their
/// source.
pub const SAME: &str = "lapstrake.same";

/// Where programs expect shared memory (`shm_overview(7)`).
const SHARED_MEMORY: &str = "/dev/shm";

/// A file or directory of a filesystem of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The filesystem.
    pub source: base::Mount,
    /// The path in it, without a slash in front; `.` is all of it.
    pub path: String,
}

/// A file that exists only for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvidedFile {
    /// Where it appears.
    pub destination: String,
    /// What it holds.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Whether writes are refused.
    pub read_only: bool,
}

impl Bundle {
    /// Mounts its packed layers, which filesystems of this process are made of while it is there.
    pub(crate) fn mount_layers(&self, request: &RunRequest) -> Result<Layers, PathError> {
        let parts = self.parts.iter().map(|part| &part.source);
        Layers::of(parts.chain([&self.root]), request.layer_way, &request.kept_layers)
    }

    /// Which of the standard streams are pipes that we make for the container.
    pub(crate) fn piped_streams(&self) -> [bool; 3] {
        match self.stdio {
            Stdio::Terminal(_) => [true; 3],
            Stdio::Streams { stdin, stdout, stderr } => {
                [stdin, stdout, stderr].map(|target| target == StreamTarget::Piped)
            }
        }
    }
}

/// Builds the spec of a request whose process gets `stdio`.
pub fn build(request: &RunRequest, stdio: Stdio) -> Result<Bundle, RequestError> {
    check(request)?;
    let capabilities = match request.privileged {
        true => CapabilitySet::ALL,
        false => CapabilitySet::adjusted(&request.cap_add, &request.cap_drop)?,
    };
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(request.read_only_root));
    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_hostname(Some(request.hostname.clone().unwrap_or_else(|| "localhost".to_owned())))
        .set_domainname(request.domainname.clone())
        .set_mounts(Some(mounts(request)))
        .set_process(Some(process(request, stdio, capabilities)))
        .set_linux(Some(linux(request, capabilities)));
    Ok(Bundle {
        spec,
        root: request.root.clone(),
        layers: Layers::default(),
        directory: PathBuf::from("/"),
        volatile_root: request.volatile_root,
        parts: request.mounts.iter().filter_map(part).collect(),
        files: files(&request.etc, &request.mounts),
        seccomp: if request.privileged { SeccompProfile::Unconfined } else { request.seccomp.clone() },
        create_cwd: request.create_cwd,
        marks: request.marks,
        stdio,
    })
}

fn check(request: &RunRequest) -> Result<(), RequestError> {
    if request.args.first().is_none_or(String::is_empty) {
        return Err(RequestError::NoCommand);
    }
    if !request.cwd.starts_with('/') {
        return Err(RequestError::RelativePath { what: "working directory", path: request.cwd.clone() });
    }
    for mount in &request.mounts {
        if !mount.destination.starts_with('/') {
            return Err(RequestError::RelativePath {
                what: "mount destination",
                path: mount.destination.clone(),
            });
        }
        if mount.destination.split('/').all(|part| part.is_empty() || part == ".") {
            return Err(RequestError::MountOverRoot);
        }
        if mount.destination.split('/').any(|part| part == "..") {
            return Err(RequestError::ParentInPath { path: mount.destination.clone() });
        }
    }
    Ok(())
}

fn process(request: &RunRequest, stdio: Stdio, capabilities: CapabilitySet) -> Process {
    let mut user = User::default();
    user.set_uid(request.user.uid)
        .set_gid(request.user.gid)
        .set_umask(Some(UMASK))
        .set_additional_gids(Some(supplementary_groups(&request.user)));
    let mut process = Process::default();
    process
        .set_terminal(Some(matches!(stdio, Stdio::Terminal(_))))
        .set_user(user)
        .set_args(Some(request.args.clone()))
        .set_env(Some(request.env.clone()))
        .set_cwd(PathBuf::from(&request.cwd))
        .set_capabilities(Some(capability_sets(capabilities, request.user.uid)))
        .set_no_new_privileges(Some(request.no_new_privileges))
        .set_oom_score_adj(request.oom_score_adjustment)
        .set_rlimits(Some(request.rlimits.iter().filter_map(rlimit).collect()));
    if let Stdio::Terminal(size) = stdio {
        let console =
            BoxBuilder::default().height(u64::from(size.rows)).width(u64::from(size.columns)).build();
        process.set_console_size(console.ok());
    }
    process
}

/// The user's groups, with the primary one among them: who left that out could get rid of it by a set-group-id
/// program, and with it of rules against it (CVE-2022-36109).
fn supplementary_groups(user: &request::User) -> Vec<u32> {
    let others = user.additional_gids.iter().copied().filter(|gid| *gid != user.gid);
    std::iter::once(user.gid).chain(others).collect()
}

/// Root has the whole set in force. Another user has nothing, but programs that it executes may gain what
/// the bounding set allows. Nothing is inheritable (CVE-2022-24769).
fn capability_sets(capabilities: CapabilitySet, uid: u32) -> LinuxCapabilities {
    let in_force = if uid == 0 { capabilities } else { CapabilitySet::EMPTY };
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(to_spec(capabilities)))
        .set_effective(Some(to_spec(in_force)))
        .set_permitted(Some(to_spec(in_force)))
        .set_inheritable(Some(HashSet::new()))
        .set_ambient(Some(HashSet::new()));
    sets
}

fn to_spec(capabilities: CapabilitySet) -> HashSet<Capability> {
    capabilities.names().filter_map(|name| name.parse().ok()).collect()
}

fn linux(request: &RunRequest, capabilities: CapabilitySet) -> Linux {
    let types = [LinuxNamespaceType::Mount];
    let optional = [
        (request.pids != Sharing::Host, LinuxNamespaceType::Pid),
        (!request.share_cgroups, LinuxNamespaceType::Cgroup),
        (request.ipc != Sharing::Host, LinuxNamespaceType::Ipc),
        (!request.share_uts, LinuxNamespaceType::Uts),
        (request.network != Network::Host, LinuxNamespaceType::Network),
    ];
    let optional = optional.into_iter().filter_map(|(own, kind)| own.then_some(kind));
    let types = types.into_iter().chain(optional);
    let namespace = |typ| {
        let path = match (typ, &request.network, &request.pids, &request.ipc) {
            (LinuxNamespaceType::Network, Network::Namespace(path), ..)
            | (LinuxNamespaceType::Pid, _, Sharing::Namespace(path), _)
            | (LinuxNamespaceType::Ipc, _, _, Sharing::Namespace(path)) => Some(path.clone()),
            _ => None,
        };
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ).set_path(path);
        namespace
    };
    let paths = |chosen: &Option<Vec<String>>, usual: &[&str]| match (request.privileged, chosen) {
        (true, _) => Vec::new(),
        (false, Some(chosen)) => chosen.clone(),
        (false, None) => usual.iter().map(|path| (*path).to_owned()).collect(),
    };
    let chosen = &request.system_paths;
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(types.map(namespace).collect()))
        .set_masked_paths(Some(paths(&chosen.masked, &MASKED_PATHS)))
        .set_readonly_paths(Some(paths(&chosen.read_only, &READ_ONLY_PATHS)))
        .set_sysctl(Some(request.sysctls.iter().cloned().collect()))
        .set_resources(Some(resources::of(request)));
    let devices: Vec<LinuxDevice> = device_files(request).filter_map(device_file).collect();
    if !devices.is_empty() {
        linux.set_devices(Some(devices));
    }
    if let SeccompProfile::File(profile) = &request.seccomp {
        linux.set_seccomp(Some(profile.for_capabilities(capabilities)));
    }
    linux
}

/// The device files that are made for the container.
fn device_files(request: &RunRequest) -> impl Iterator<Item = &DeviceFile> {
    let mounted =
        request.mounts.iter().filter(|_| makes_devices(request)).flat_map(|extra| match &extra.kind {
            MountKind::Device { nodes, .. } => nodes.as_slice(),
            _ => &[],
        });
    request.devices.iter().chain(mounted)
}

/// Whether devices can be made: in a user namespace they cannot.
fn makes_devices(request: &RunRequest) -> bool {
    request.isolation == Mode::Oci
}

/// Never `None`: the builder only refuses when a field is missing.
fn device_file(file: &DeviceFile) -> Option<LinuxDevice> {
    let kind = match file.device.kind {
        DeviceKind::Block => LinuxDeviceType::B,
        DeviceKind::Character => LinuxDeviceType::C,
    };
    LinuxDeviceBuilder::default()
        .path(file.path.clone())
        .typ(kind)
        .major(i64::from(file.device.major))
        .minor(i64::from(file.device.minor))
        .file_mode(file.mode)
        .uid(file.uid)
        .gid(file.gid)
        .build()
        .ok()
}

fn mounts(request: &RunRequest) -> Vec<Mount> {
    let kernel = if request.privileged { "rw" } else { "ro" };
    let standard: [(&str, &str, &[&str]); 3] = [
        ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ];
    let kernel_interfaces: [(&str, &str, &[&str]); 3] = [
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", kernel]),
        ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", kernel]),
    ];
    let make = |(destination, kind, options)| mount(destination, kind, kind, options);
    let standard = standard.into_iter().map(make).chain(shared_memory(request));
    let standard = standard.chain(kernel_interfaces.into_iter().map(make));
    let mut parts = 0;
    let shown =
        |extra: &&ExtraMount| !(makes_devices(request) && matches!(extra.kind, MountKind::Device { .. }));
    let extra = request.mounts.iter().filter(shown);
    standard.chain(extra.filter_map(|extra| extra_mount(extra, &mut parts))).collect()
}

/// What is mounted at `/dev/shm`, if anything.
fn shared_memory(request: &RunRequest) -> Option<Mount> {
    let size = format!("size={}", request.shm_size);
    let (kind, source, options): (_, _, &[&str]) = match &request.shared_memory {
        SharedMemory::None => return None,
        SharedMemory::Own => {
            ("tmpfs", Path::new("tmpfs"), &["nosuid", "noexec", "nodev", "mode=1777", &size])
        }
        SharedMemory::Host => ("bind", Path::new(SHARED_MEMORY), &["bind", "nosuid", "noexec", "nodev"]),
        SharedMemory::Namespace(namespace) => (SAME, namespace.as_path(), &[]),
    };
    let mut mount = mount(SHARED_MEMORY, kind, "", options);
    mount.set_source(Some(source.to_owned()));
    Some(mount)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn part(extra: &ExtraMount) -> Option<Part> {
    let MountKind::Part { source, path, .. } = &extra.kind else { return None };
    let path = path.trim_matches('/');
    Some(Part { source: source.clone(), path: if path.is_empty() { "." } else { path }.to_owned() })
}

/// A mount as the spec has it; files in memory are not among those. `parts` counts the mounts of parts.
fn extra_mount(extra: &ExtraMount, parts: &mut usize) -> Option<Mount> {
    match &extra.kind {
        MountKind::File { .. } => None,
        MountKind::Part { read_only, .. } => {
            let access = if *read_only { "ro" } else { "rw" };
            let number = parts.to_string();
            *parts += 1;
            Some(mount(&extra.destination, PART, &number, &[access]))
        }
        MountKind::Device { source, .. } => {
            let mut bound = mount(&extra.destination, "bind", "", &["bind", "rw", "nosuid", "noexec", "dev"]);
            bound.set_source(Some(source.clone()));
            Some(bound)
        }
        MountKind::Connected { source, read_only, peering } => {
            let access = if *read_only { "ro" } else { "rw" };
            let mut bound = mount(&extra.destination, "bind", "", &["rbind", access, peering.name()]);
            bound.set_source(Some(source.clone()));
            Some(bound)
        }
        MountKind::Tmpfs { size, mode, options } => {
            let mode = format!("mode={mode:o}");
            let size = size.map(|size| format!("size={size}"));
            let mut all = vec!["nosuid", "nodev", "noexec", &mode];
            all.extend(size.as_deref());
            all.extend(options.iter().map(String::as_str));
            Some(mount(&extra.destination, "tmpfs", "tmpfs", &all))
        }
        MountKind::Filesystem { kind, source, options } => {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            Some(mount(&extra.destination, kind, source, &options))
        }
        MountKind::Bind { source, read_only, recursive } => {
            let bind = if *recursive { "rbind" } else { "bind" };
            let access = if *read_only { "ro" } else { "rw" };
            let mut bound = mount(&extra.destination, "bind", "", &[bind, access]);
            bound.set_source(Some(source.clone()));
            Some(bound)
        }
    }
}

fn files(etc: &EtcFiles, mounts: &[ExtraMount]) -> Vec<ProvidedFile> {
    let in_etc = [
        ("/etc/resolv.conf", &etc.resolv_conf),
        ("/etc/hosts", &etc.hosts),
        ("/etc/hostname", &etc.hostname),
    ];
    let in_etc = in_etc.into_iter().filter_map(|(destination, content)| {
        let (destination, content) = (destination.to_owned(), content.clone()?);
        Some(ProvidedFile { destination, content, mode: 0o644, uid: 0, gid: 0, read_only: etc.read_only })
    });
    let extra = mounts.iter().filter_map(|extra| match &extra.kind {
        MountKind::File { content, mode, uid, gid, read_only } => Some(ProvidedFile {
            destination: extra.destination.clone(),
            content: content.clone(),
            mode: *mode,
            uid: *uid,
            gid: *gid,
            read_only: *read_only,
        }),
        _ => None,
    });
    in_etc.chain(extra).collect()
}

/// Never `None`: the builder only refuses when a field is missing.
fn rlimit(limit: &ResourceLimit) -> Option<PosixRlimit> {
    let builder =
        PosixRlimitBuilder::default().typ(rlimit_type(limit.resource)).soft(limit.soft).hard(limit.hard);
    builder.build().ok()
}

fn rlimit_type(resource: Resource) -> PosixRlimitType {
    match resource {
        Resource::As => PosixRlimitType::RlimitAs,
        Resource::Core => PosixRlimitType::RlimitCore,
        Resource::Cpu => PosixRlimitType::RlimitCpu,
        Resource::Data => PosixRlimitType::RlimitData,
        Resource::Fsize => PosixRlimitType::RlimitFsize,
        Resource::Locks => PosixRlimitType::RlimitLocks,
        Resource::Memlock => PosixRlimitType::RlimitMemlock,
        Resource::Msgqueue => PosixRlimitType::RlimitMsgqueue,
        Resource::Nice => PosixRlimitType::RlimitNice,
        Resource::Nofile => PosixRlimitType::RlimitNofile,
        Resource::Nproc => PosixRlimitType::RlimitNproc,
        Resource::Rss => PosixRlimitType::RlimitRss,
        Resource::Rtprio => PosixRlimitType::RlimitRtprio,
        Resource::Rttime => PosixRlimitType::RlimitRttime,
        Resource::Sigpending => PosixRlimitType::RlimitSigpending,
        Resource::Stack => PosixRlimitType::RlimitStack,
    }
}

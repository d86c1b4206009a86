//! What the caller asks for: one process in one container.
//!
//! A [`RunRequest`] is plain data and complete: users are numbers, paths are absolute, contents of
//! provided files are bytes. It knows nothing of images; the engine translates image configs and flags
//! into it. Nothing here touches the system.

mod change;
mod system_paths;

use std::path::PathBuf;

use base::Mount;
use serde::{Deserialize, Serialize};
use sys::erofs::Way;

use crate::cgroup::Location;
use crate::isolation::Mode;
use crate::layers::KeptLayers;
use crate::neighbour::Neighbour;
use crate::network::Connection;
use crate::seccomp::ProfileFile;
pub use change::LimitConflict;
pub use system_paths::SystemPaths;

/// The search path for commands when the environment has no `PATH`, as Docker has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Size of `/dev/shm` in bytes when nothing else is asked for, as in Docker.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// One process to run in a container of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// How the container is isolated.
    pub isolation: Mode,
    /// How the root filesystem is mounted. Changes of the process land in its upper directory.
    pub root: Mount,
    /// Command and arguments; never empty. A command without `/` is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// The whole environment as `NAME=value`; nothing is inherited.
    pub env: Vec<String>,
    /// Absolute working directory inside the container.
    pub cwd: String,
    /// Make `cwd` (owned by root, mode 0755) when it does not exist, as `docker run -w` does.
    pub create_cwd: bool,
    /// Who the process runs as.
    pub user: User,
    /// The host name seen inside; `None` gives `localhost`.
    pub hostname: Option<String>,
    /// The domain name seen inside (`setdomainname(2)`).
    pub domainname: Option<String>,
    /// Keep the host's host name and domain name.
    pub share_uts: bool,
    /// Whose System V objects and POSIX message queues it sees.
    pub ipc: Sharing,
    /// Whose process ids it sees. If they are not its own, the kernel does not end other processes with the first one.
    pub pids: Sharing,
    /// Keep the host's view of control groups.
    pub share_cgroups: bool,
    /// How gladly the kernel kills it when memory is short, from -1000 (never) to 1000; `None` is as gladly as us.
    pub oom_score_adjustment: Option<i32>,
    /// Settings of the kernel that belong to the container's namespaces, as `net.core.somaxconn` and a value.
    pub sysctls: Vec<(String, String)>,
    /// What network the process sees.
    pub network: Network,
    /// Files of `/etc` that the container gets for its life and that never land in a layer.
    pub etc: EtcFiles,
    /// Further mounts, made in this order after the standard ones.
    pub mounts: Vec<ExtraMount>,
    /// Refuse writes to the root filesystem (mounts of their own excepted).
    pub read_only_root: bool,
    /// Every capability, no masked or read-only paths, no seccomp filter.
    pub privileged: bool,
    /// Paths of the kernel that are hidden or cannot be written to.
    #[serde(default)]
    pub system_paths: SystemPaths,
    /// Capabilities to add to Docker's default set, with or without `CAP_`; `ALL` is every one.
    pub cap_add: Vec<String>,
    /// Capabilities to take away; applied after `cap_add` when `ALL` is not among them.
    pub cap_drop: Vec<String>,
    /// Forbid gaining rights by executing setuid or file-capability programs.
    pub no_new_privileges: bool,
    /// Which system calls are allowed.
    pub seccomp: SeccompProfile,
    /// Resource limits; those not named are inherited.
    pub rlimits: Vec<ResourceLimit>,
    /// How much of the machine all processes of the container together may use.
    pub limits: Limits,
    /// Where its control group is made, and in which hierarchies.
    pub group: GroupPlace,
    /// Devices that are in `/dev` besides the usual ones. Who may use them is for [`Self::device_rules`] to say.
    pub devices: Vec<DeviceFile>,
    /// Devices that may be used and made besides the usual ones and those of mounts.
    pub device_rules: Vec<DeviceRule>,
    /// What `/dev/shm` is.
    pub shared_memory: SharedMemory,
    /// Size of `/dev/shm` in bytes, if it is the container's own.
    pub shm_size: u64,
    /// Make the files by which programs know Docker's containers, where there is nothing else: an empty `/.dockerenv`, and the link
    /// `/etc/mtab` to `/proc/mounts`. They land in the layer; containers without mounts of their own have none.
    #[serde(default)]
    pub marks: bool,
    /// What the process writes goes with the container: what mounting made in it is left there.
    #[serde(default)]
    pub transient_root: bool,
    /// Let an overlay root skip syncing its upper directory when the container ends, which is worth milliseconds. Right when
    /// durability is bought later for the whole store.
    pub volatile_root: bool,
    /// How packed layers are mounted, said anew for each start.
    #[serde(skip)]
    pub layer_way: Way,
    /// Those that are mounted already, for several containers.
    #[serde(skip)]
    pub kept_layers: KeptLayers,
}

impl RunRequest {
    /// A request with Docker's defaults: root user, `/` as working directory, no network, default
    /// capabilities and seccomp profile, no files provided.
    pub fn new(root: Mount, args: Vec<String>) -> Self {
        Self {
            isolation: Mode::Oci,
            root,
            args,
            env: vec![format!("PATH={DEFAULT_PATH}")],
            cwd: "/".to_owned(),
            create_cwd: false,
            user: User::default(),
            hostname: None,
            domainname: None,
            share_uts: false,
            ipc: Sharing::Own,
            pids: Sharing::Own,
            share_cgroups: false,
            oom_score_adjustment: None,
            sysctls: Vec::new(),
            network: Network::None,
            etc: EtcFiles::default(),
            mounts: Vec::new(),
            read_only_root: false,
            privileged: false,
            system_paths: SystemPaths::default(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            no_new_privileges: false,
            seccomp: SeccompProfile::Default,
            rlimits: Vec::new(),
            limits: Limits::default(),
            group: GroupPlace::default(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            shared_memory: SharedMemory::Own,
            shm_size: DEFAULT_SHM_SIZE,
            marks: false,
            transient_root: false,
            volatile_root: true,
            layer_way: Way::default(),
            kept_layers: KeptLayers::default(),
        }
    }
}

/// A user as the kernel knows it. [`crate::passwd::resolve`] makes one from a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub additional_gids: Vec<u32>,
}

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// Its own, with nothing but a loopback interface.
    None,
    /// A network namespace that was set up before, by the file that stands for it: a path, or one of our `/proc/self/fd/N`.
    Namespace(PathBuf),
    /// One of its own that is connected to a network when the container starts, until it ends.
    Connected(Box<Connection>),
    /// That of another container, which has to run when this one starts.
    Container {
        /// The other one.
        neighbour: Neighbour,
        /// As [`Connection::servers_chosen`].
        servers_chosen: bool,
        /// As [`Connection::host_names`].
        host_names: Vec<String>,
    },
}

/// Whose namespace of a kind a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// That of another container, which has to run when this one starts.
    Container(Neighbour),
    /// The one that this file stands for, as in [`Network::Namespace`].
    Namespace(PathBuf),
}

/// What a container has at `/dev/shm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SharedMemory {
    /// A directory in memory of its own.
    #[default]
    Own,
    /// Nothing.
    None,
    /// The host's.
    Host,
    /// That of the container whose mount namespace this file stands for.
    Namespace(PathBuf),
}

/// Limits of a control group, as the flags of `docker run` have them. What is `None` or empty is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most memory, in bytes.
    pub memory: Option<u64>,
    /// The most memory and swap space together, in bytes; -1 is no limit. `None` with a memory limit is twice
    /// that, where the kernel counts swap space.
    pub memory_swap: Option<i64>,
    /// What the kernel tries to leave to the container when memory is short, in bytes.
    pub memory_reservation: Option<u64>,
    /// How gladly the kernel swaps the container's memory out, from 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// At the memory limit processes wait instead of being killed.
    pub disable_oom_killer: bool,
    /// Weight of processor time against other groups; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<i64>,
    /// The period, in microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time for real-time processes in each of their periods.
    #[serde(default)]
    pub realtime_runtime: Option<i64>,
    /// Their period, in microseconds.
    #[serde(default)]
    pub realtime_period: Option<u64>,
    /// Processors, as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as `0-2,7`.
    pub cpuset_mems: Option<String>,
    /// The most processes and threads; -1 is no limit.
    pub pids: Option<i64>,
    /// Weight of block devices against other groups, from 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// The same for single devices, as the rate of each.
    #[serde(default)]
    pub device_weights: Vec<DeviceRate>,
    /// Bytes a second that may be read of block devices.
    pub read_bps: Vec<DeviceRate>,
    /// Bytes a second that may be written to block devices.
    pub write_bps: Vec<DeviceRate>,
    /// Reads a second of block devices.
    pub read_iops: Vec<DeviceRate>,
    /// Writes a second to block devices.
    pub write_iops: Vec<DeviceRate>,
}

/// Where the control group of a container is made, and in which hierarchies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupPlace {
    /// Beside us, in those where something is limited.
    #[default]
    WhereLimited,
    /// Beside us, in all: the container can be listed, counted, stopped and ended.
    Everywhere,
    /// Inside of this group, in all.
    Inside(Location),
}

/// A device file to be made in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// What it stands for.
    pub device: DeviceNumber,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
}

/// Devices that may be used, as `--device-cgroup-rule` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// What kind of device; `None` is both.
    pub kind: Option<DeviceKind>,
    /// Major number; `None` is every one.
    pub major: Option<u32>,
    /// Minor number; `None` is every one.
    pub minor: Option<u32>,
    /// What may be done.
    pub access: DeviceAccess,
}

/// The kinds of device files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Disks and the like.
    Block,
    /// All others.
    Character,
}

/// A device, by what the kernel knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Its kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What may be done with a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
    /// Make one (`mknod(2)`).
    pub make: bool,
}

impl DeviceAccess {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, make: true };

    /// Reads `r`, `w` and `m`, at least one and none twice.
    pub fn parse(letters: &str) -> Option<Self> {
        let mut access = Self { read: false, write: false, make: false };
        for letter in letters.chars() {
            let flag = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.make,
                _ => return None,
            };
            if std::mem::replace(flag, true) {
                return None;
            }
        }
        (!letters.is_empty()).then_some(access)
    }
}

/// How much a second may be done with a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// Major number of the device.
    pub major: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// How much.
    pub rate: u64,
}

/// Which system calls a process may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// Docker's default profile; all calls for a privileged container.
    Default,
    /// All.
    Unconfined,
    /// What a profile says, also to a privileged container.
    File(Box<ProfileFile>),
}

/// Files of `/etc` provided from outside the root filesystem. `None` leaves the image's own file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcFiles {
    /// Content of `/etc/resolv.conf`; see [`crate::etc_files::resolv_conf`].
    pub resolv_conf: Option<Vec<u8>>,
    /// Content of `/etc/hosts`; see [`crate::etc_files::hosts`].
    pub hosts: Option<Vec<u8>>,
    /// Content of `/etc/hostname`.
    pub hostname: Option<Vec<u8>>,
    /// Refuse writes to these files (BuildKit's choice for RUN; `docker run` allows writes).
    pub read_only: bool,
}

/// A mount besides the standard ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraMount {
    /// Absolute path inside the container; made if missing. Links on the way are followed inside the container's root only.
    pub destination: String,
    /// What appears there.
    pub kind: MountKind,
}

/// How a mount of a container is connected with the mount of the host that it was copied from
/// (`mount_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peering {
    /// Whether what is mounted in the container appears on the host as well. That takes a mount that is shared there,
    /// and the rights of the machine's root; else it is only received.
    pub gives: bool,
    /// Whether this is meant for the mounts below it, too.
    pub recursive: bool,
}

impl Peering {
    /// The one with this name; nothing within for the names of a mount that stays alone, `None` for what is no name.
    pub fn named(name: &str) -> Option<Option<Self>> {
        let peering = |gives, recursive| Some(Some(Self { gives, recursive }));
        match name {
            "rprivate" | "private" => Some(None),
            "rslave" => peering(false, true),
            "slave" => peering(false, false),
            "rshared" => peering(true, true),
            "shared" => peering(true, false),
            _ => None,
        }
    }

    /// The name of the option in Docker's and the OCI's documents.
    pub fn name(self) -> &'static str {
        match (self.gives, self.recursive) {
            (true, true) => "rshared",
            (true, false) => "shared",
            (false, true) => "rslave",
            (false, false) => "slave",
        }
    }
}

/// What an [`ExtraMount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// Whether writes are refused.
        read_only: bool,
        /// Whether mounts below `source` come along.
        recursive: bool,
    },
    /// A file or directory of the host, with the mounts below it, that stays connected with the host's: what is
    /// mounted there later appears here, too.
    Connected {
        /// Absolute path on the host.
        source: PathBuf,
        /// Whether writes are refused.
        read_only: bool,
        /// In which way.
        peering: Peering,
    },
    /// A file or directory of a filesystem of layers.
    Part {
        /// The filesystem.
        source: Mount,
        /// The path in it; links are followed inside of it. `/` is all of it.
        path: String,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// A device of the host, or a directory of them, that the process may use. Where devices may be made it gets
    /// files of its own, so that what it does to them (`chmod(2)`) is nothing to the host; else it gets the host's.
    Device {
        /// Absolute path on the host.
        source: PathBuf,
        /// The devices behind it, at their places in the container.
        nodes: Vec<DeviceFile>,
        /// What may be done with them.
        access: DeviceAccess,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Most bytes it may hold; `None` is the kernel's default, half of the memory.
        size: Option<u64>,
        /// Permission bits of the directory.
        mode: u32,
        /// Further options (`tmpfs(5)`, or attributes of mounts such as `exec`), which win over the usual `nosuid`,
        /// `nodev` and `noexec`.
        options: Vec<String>,
    },
    /// A filesystem of any kind, as `mount(8)` has it.
    Filesystem {
        /// Its kind (`proc(5)`, `/proc/filesystems`).
        kind: String,
        /// What it is on: a device, or whatever the kind takes.
        source: String,
        /// Its options, and attributes of the mount.
        options: Vec<String>,
    },
    /// A file in memory, for example a secret.
    File {
        /// What it holds.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Owning group.
        gid: u32,
        /// Whether writes are refused.
        read_only: bool,
    },
}

/// A resource limit (`setrlimit(2)`). Raising a hard limit needs a right that we may not have; then the container
/// does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Which resource.
    pub resource: Resource,
    /// The limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// How far the process may raise it; `u64::MAX` is none.
    pub hard: u64,
}

/// The resources that can be limited, named as in `setrlimit(2)` without `RLIMIT_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// Where the three standard streams of a process go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// Each on its own.
    Streams {
        /// File descriptor 0.
        stdin: StreamTarget,
        /// File descriptor 1.
        stdout: StreamTarget,
        /// File descriptor 2.
        stderr: StreamTarget,
    },
    /// All three are a new terminal of the container, whose other end the caller gets.
    Terminal(TtySize),
}

impl Stdio {
    /// No input; output and errors come to the caller through pipes.
    pub const CAPTURED: Self =
        Self::Streams { stdin: StreamTarget::Null, stdout: StreamTarget::Piped, stderr: StreamTarget::Piped };
    /// All three through pipes.
    pub const PIPED: Self = Self::Streams {
        stdin: StreamTarget::Piped,
        stdout: StreamTarget::Piped,
        stderr: StreamTarget::Piped,
    };
}

/// Where one stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamTarget {
    /// The same stream of this process. A container that gets our terminal this way can read from it.
    Inherit,
    /// Reads nothing, swallows everything.
    Null,
    /// A pipe whose other end the caller takes from the [`crate::Process`].
    Piped,
}

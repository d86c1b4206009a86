//! What sets a container apart from the host, as it is asked for.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use runner::etc_files::Resolver;
use runner::{DeviceAccess, DeviceRule, ResourceLimit, SystemPaths};
use serde::{Deserialize, Serialize};

/// Which system calls a container may make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeccompChoice {
    /// Docker's default profile.
    #[default]
    Default,
    /// All of them.
    Unconfined,
    /// What a profile in Docker's format says.
    File(PathBuf),
    /// What this profile says.
    Text(String),
}

/// What sets a container apart from the host, or brings it nearer to it. The default is Docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Isolation {
    /// `--privileged`
    pub privileged: bool,
    /// `--cap-add`
    pub cap_add: Vec<String>,
    /// `--cap-drop`
    pub cap_drop: Vec<String>,
    /// `--security-opt no-new-privileges`
    pub no_new_privileges: bool,
    /// `--security-opt seccomp=`
    pub seccomp: SeccompChoice,
    /// `--security-opt apparmor=`: a profile of AppArmor.
    pub apparmor: Option<String>,
    /// `--security-opt label=`: options for SELinux.
    pub labels: Vec<String>,
    /// Paths of the kernel that are masked or read-only; with `--security-opt systempaths=unconfined`, none.
    pub system_paths: SystemPaths,
    /// `--oom-score-adj`
    pub oom_score_adjustment: Option<i32>,
    /// `--pid`
    pub pids: PidMode,
    /// `--cgroupns host`
    pub share_cgroups: bool,
    /// `--read-only`
    pub read_only: bool,
    /// `--tmpfs`
    pub tmpfs: Vec<Tmpfs>,
    /// `--device /dev/…`
    pub devices: Vec<DeviceNode>,
    /// `--device vendor.com/class=name`: devices that their vendors describe (CDI).
    pub described_devices: Vec<String>,
    /// Directories with those descriptions; empty means the standard ones.
    pub device_directories: Vec<PathBuf>,
    /// `--device-cgroup-rule`
    pub device_rules: Vec<DeviceRule>,
    /// `--group-add`: names or numbers.
    pub groups: Vec<String>,
    /// `--ulimit`
    pub rlimits: Vec<ResourceLimit>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--add-host`
    pub hosts: Vec<(String, HostAddress)>,
    /// `--dns`, `--dns-search`, `--dns-option`
    pub resolver: Resolver,
    /// `--domainname`
    pub domainname: Option<String>,
    /// `--sysctl`: names and values.
    pub sysctls: Vec<(String, String)>,
    /// `--ipc`
    pub ipc: IpcMode,
    /// `--uts host`
    pub share_uts: bool,
}

/// What a name of `--add-host` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAddress {
    /// This address.
    Given(IpAddr),
    /// `host-gateway`: the machine that the container runs on, by the address that it has in the container's network.
    Gateway,
}

impl fmt::Display for HostAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(address) => address.fmt(formatter),
            Self::Gateway => formatter.write_str("host-gateway"),
        }
    }
}

/// `--pid`: whose process ids a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PidMode {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Those of the container with this name or id.
    Container(String),
}

/// `--ipc`: whose shared memory and message queues a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IpcMode {
    /// Its own, for nobody else.
    #[default]
    Private,
    /// Its own, which others may join.
    Shareable,
    /// Its own, without `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// Those of the container with this name or id.
    Container(String),
}

/// `--tmpfs /path[:options]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where it appears, absolute.
    pub target: String,
    /// The most bytes it may hold.
    pub size: Option<u64>,
    /// Permission bits of the directory.
    pub mode: u32,
    /// Further options, as in [`runner::MountKind::Tmpfs`].
    pub options: Vec<String>,
}

/// `--device /dev/host[:/dev/container[:rwm]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// The device of the host.
    pub source: PathBuf,
    /// Where it appears, absolute.
    pub target: String,
    /// What may be done with it.
    pub access: DeviceAccess,
}

//! The flags of `lap run` that set a container apart from the host or bring it nearer to it: rights, memory
//! of its own, names, kernel settings. Names and meanings are Docker's.

use std::net::IpAddr;

use clap::Args;
use engine::isolation::Wanted;
use engine::request::{IpcMode, Isolation, PidMode, Resolver, SeccompChoice, SystemPaths, Tmpfs};

use crate::build_flags::{host, limit};
use crate::device_args::{self, Device};
use crate::error::CliError;
use crate::units;

/// The mode of a tmpfs directory, as in Docker: like `/tmp`.
const TMPFS_MODE: u32 = 0o1777;

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Isolation")]
pub(crate) struct IsolationArgs {
    /// How strongly the container is isolated: auto, oci, rootless or chroot
    ///
    /// auto is the strongest that works here; any other is that one or none. lap info says which one it is, and
    /// lap system doctor how to get more.
    #[arg(
        long = "isolation",
        value_name = "MODE",
        default_value = "auto",
        env = "LAPSTRAKE_ISOLATION",
        hide_env = true
    )]
    pub(crate) mode: Wanted,

    /// Give every right, and no protection from the host
    #[arg(long)]
    pub(crate) privileged: bool,

    /// Add a capability, for example NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(crate) cap_add: Vec<String>,

    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    pub(crate) cap_drop: Vec<String>,

    /// no-new-privileges, seccomp=unconfined or a profile's file, or systempaths=unconfined
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub(crate) security_options: Vec<String>,

    /// Refuse writes to the image's files
    #[arg(long)]
    pub(crate) read_only: bool,

    /// An empty directory in memory: /path[:size=64m,mode=1777]
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,

    /// A device of the host, as /dev/host[:/dev/container[:rwm]] or vendor.com/class=name
    #[arg(long = "device", value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,

    /// Where devices of vendors are described [default: /etc/cdi, /var/run/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "DIR")]
    pub(crate) cdi_spec_dirs: Vec<std::path::PathBuf>,

    /// Devices that may be used wherever the container has them: "c 13:* rw"
    #[arg(long = "device-cgroup-rule", value_name = "RULE")]
    pub(crate) device_rules: Vec<String>,

    /// A further group of the user, by name or number
    #[arg(long = "group-add", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,

    /// Limit what each process may use: NAME=SOFT[:HARD]
    #[arg(long = "ulimit", value_name = "LIMIT")]
    pub(crate) ulimits: Vec<String>,

    /// Size of /dev/shm, for example 256m
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) shm_size: Option<u64>,

    /// Add a line to /etc/hosts
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(crate) hosts: Vec<String>,

    /// A name server instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<IpAddr>,

    /// A domain to look names up in instead of the host's; . is none
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,

    /// An option of the resolver instead of the host's
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_options: Vec<String>,

    /// Domain name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,

    /// A setting of the kernel that the container has of its own: net.core.somaxconn=1024
    #[arg(long = "sysctl", value_name = "NAME=VALUE")]
    pub(crate) sysctls: Vec<String>,

    /// Shared memory and message queues: private, shareable (others may join), none (private without /dev/shm), host,
    /// or container:NAME for those of another one
    #[arg(long, value_name = "MODE", default_value = "private")]
    pub(crate) ipc: String,

    /// Process ids: private, host, or container:NAME for those of another one
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,

    /// The view of control groups: private or host
    #[arg(long, value_name = "MODE", default_value = "private", value_parser = ["private", "host"])]
    pub(crate) cgroupns: String,

    /// How gladly the kernel kills the container when memory is short: -1000 (never) to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true,
          value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub(crate) oom_score_adj: Option<i32>,

    /// Users: those of the process that runs lap, the only choice
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,

    /// Host name: the container's own, or that of the host
    #[arg(long, value_name = "MODE", value_parser = ["host", ""])]
    pub(crate) uts: Option<String>,
}

impl IsolationArgs {
    /// What the flags mean.
    pub(crate) fn isolation(&self) -> Result<Isolation, CliError> {
        if let Some(other) = self.userns.as_deref().filter(|mode| !matches!(*mode, "" | "host")) {
            let message = format!("user namespace mode \"{other}\" is not supported");
            let hint =
                "use --userns host, and lap as an ordinary user: its containers then have no rights of root";
            return Err(CliError::usage(message, hint));
        }
        let mut isolation = Isolation {
            privileged: self.privileged,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            read_only: self.read_only,
            tmpfs: self.tmpfs.iter().map(|text| tmpfs(text)).collect::<Result<_, _>>()?,
            device_directories: self.cdi_spec_dirs.clone(),
            device_rules: self
                .device_rules
                .iter()
                .map(|text| device_args::rule(text))
                .collect::<Result<_, _>>()?,
            groups: self.groups.clone(),
            rlimits: self.ulimits.iter().map(|text| limit(text)).collect::<Result<_, _>>()?,
            shm_size: self.shm_size,
            hosts: self.hosts.iter().map(|text| host(text)).collect::<Result<_, _>>()?,
            resolver: Resolver {
                servers: self.dns.clone(),
                search: self.dns_search.clone(),
                options: self.dns_options.clone(),
            },
            domainname: self.domainname.clone(),
            sysctls: self.sysctls.iter().map(|text| sysctl(text)).collect::<Result<_, _>>()?,
            ipc: ipc(&self.ipc)?,
            share_uts: self.uts.as_deref() == Some("host"),
            pids: pids(self.pid.as_deref())?,
            share_cgroups: self.cgroupns == "host",
            oom_score_adjustment: self.oom_score_adj,
            ..Isolation::default()
        };
        for text in &self.devices {
            match device_args::device(text)? {
                Device::Node(node) => isolation.devices.push(node),
                Device::Described(name) => isolation.described_devices.push(name),
            }
        }
        self.security_options.iter().try_for_each(|option| security_option(option, &mut isolation))?;
        Ok(isolation)
    }
}

fn pids(mode: Option<&str>) -> Result<PidMode, CliError> {
    match mode {
        None | Some("" | "private") => Ok(PidMode::Own),
        Some("host") => Ok(PidMode::Host),
        Some(other) => container(other).map(PidMode::Container).ok_or_else(|| {
            let message = format!("--pid: invalid PID mode \"{other}\"");
            CliError::usage(message, "use private, host or container:NAME")
        }),
    }
}

fn ipc(mode: &str) -> Result<IpcMode, CliError> {
    match mode {
        "" | "private" => Ok(IpcMode::Private),
        "shareable" => Ok(IpcMode::Shareable),
        "none" => Ok(IpcMode::None),
        "host" => Ok(IpcMode::Host),
        other => container(other).map(IpcMode::Container).ok_or_else(|| {
            let message = format!("--ipc: invalid IPC mode \"{other}\"");
            CliError::usage(message, "use private, shareable, none, host or container:NAME")
        }),
    }
}

/// The name in `container:NAME`.
fn container(mode: &str) -> Option<String> {
    mode.strip_prefix("container:").filter(|name| !name.is_empty()).map(str::to_owned)
}

/// `name`, `name=value` or `name:value`.
fn security_option(text: &str, isolation: &mut Isolation) -> Result<(), CliError> {
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match (name, value) {
        ("no-new-privileges", "" | "true") => isolation.no_new_privileges = true,
        ("no-new-privileges", "false") => isolation.no_new_privileges = false,
        ("seccomp", "unconfined") => isolation.seccomp = SeccompChoice::Unconfined,
        ("seccomp", "builtin") => isolation.seccomp = SeccompChoice::Default,
        ("seccomp", path) if !path.is_empty() => isolation.seccomp = SeccompChoice::File(path.into()),
        ("systempaths", "unconfined") => isolation.system_paths = SystemPaths::open(),
        ("apparmor", profile) if !profile.is_empty() => isolation.apparmor = Some(profile.to_owned()),
        ("label", label) if !label.is_empty() => isolation.labels.push(label.to_owned()),
        _ => {
            let message = format!("security option \"{text}\" is not supported");
            let hint = "use no-new-privileges, seccomp=unconfined, seccomp=FILE or systempaths=unconfined";
            return Err(CliError::usage(message, hint));
        }
    }
    Ok(())
}

/// Options of a tmpfs that are passed on as they are: attributes of the mount, and those of `tmpfs(5)` without a
/// value. `nosuid`, `nodev` and `noexec` hold unless their opposite is said.
const TMPFS_WORDS: [&str; 17] = [
    "rw",
    "ro",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "strictatime",
    "noswap",
    "inode32",
    "inode64",
];
/// Those with a value.
const TMPFS_VALUES: [&str; 5] = ["uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// `/path[:option,…]`
fn tmpfs(text: &str) -> Result<Tmpfs, CliError> {
    let invalid = |why: &str| {
        let hint = "write --tmpfs /path or /path:size=64m,mode=1777";
        CliError::usage(format!("invalid tmpfs \"{text}\": {why}"), hint)
    };
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(invalid("the path in the container must be absolute"));
    }
    let mut tmpfs = Tmpfs { target: target.to_owned(), size: None, mode: TMPFS_MODE, options: Vec::new() };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", share)) if share.strip_suffix('%').is_some_and(is_number) => {
                tmpfs.options.push(option.to_owned());
            }
            Some(("size" | "tmpfs-size", value)) => {
                tmpfs.size =
                    Some(units::size(value).map_err(|hint| invalid(&format!("\"{value}\": {hint}")))?);
            }
            Some(("mode" | "tmpfs-mode", value)) => {
                tmpfs.mode = u32::from_str_radix(value, 8).map_err(|_| invalid("that is no octal mode"))?;
            }
            Some((name, value)) if TMPFS_VALUES.contains(&name) && !value.is_empty() => {
                tmpfs.options.push(option.to_owned());
            }
            None if TMPFS_WORDS.contains(&option) => tmpfs.options.push(option.to_owned()),
            _ => return Err(invalid(&format!("option \"{option}\" is not supported"))),
        }
    }
    Ok(tmpfs)
}

fn is_number(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn sysctl(text: &str) -> Result<(String, String), CliError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(
            format!("invalid kernel setting \"{text}\""),
            "write --sysctl NAME=VALUE, for example net.core.somaxconn=1024",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_are_read() {
        let parsed = tmpfs("/run:rw,noexec,size=64m,mode=700,uid=7").unwrap();
        assert_eq!((parsed.target.as_str(), parsed.size, parsed.mode), ("/run", Some(64 << 20), 0o700));
        assert_eq!(parsed.options, ["rw", "noexec", "uid=7"]);
        assert_eq!(tmpfs("/run").unwrap().mode, 0o1777);
        assert_eq!(tmpfs("/run:size=5%").unwrap().options, ["size=5%"]);
        for bad in
            ["run", "/run:size=x", "/run:mode=9", "/run:exotic", "/run:uid", "/run:uid=", "/run:lower=/etc"]
        {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn security_options_are_those_of_docker() {
        let mut isolation = Isolation::default();
        for option in ["no-new-privileges", "seccomp=unconfined", "label=disable"] {
            security_option(option, &mut isolation).unwrap();
        }
        assert!(isolation.no_new_privileges);
        assert_eq!(isolation.seccomp, SeccompChoice::Unconfined);
        for option in ["no-new-privileges:false", "seccomp=/profile.json", "systempaths=unconfined"] {
            security_option(option, &mut isolation).unwrap();
        }
        assert!(!isolation.no_new_privileges && isolation.system_paths == SystemPaths::open());
        assert_eq!(isolation.seccomp, SeccompChoice::File("/profile.json".into()));
        for bad in ["seccomp=", "seccomp", "apparmor", "systempaths=some", "label", "nonsense"] {
            assert!(security_option(bad, &mut isolation).is_err(), "{bad}");
        }
    }
}

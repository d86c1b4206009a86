//! `dockerd` as typed, and its `daemon.json`: both become words of `lap daemon`.

mod file;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser};

use crate::error::CliError;

/// Where Docker's daemon listens.
const SOCKET: &str = "unix:///var/run/docker.sock";

/// Where a port without a host is.
const LOOPBACK: &str = "127.0.0.1";

/// The group that may use the socket, if there is one of this name.
const GROUP: &str = "docker";

/// Serve Docker's API.
#[derive(Debug, Parser)]
#[command(name = "dockerd", version, args_override_self = true, max_term_width = 100)]
pub(crate) struct DockerdCli {
    /// Listen here, as unix://PATH, tcp://HOST:PORT or fd://; may be repeated [default: unix:///var/run/docker.sock]
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    hosts: Vec<String>,
    /// The file with further settings
    #[arg(long, value_name = "FILE", default_value = "/etc/docker/daemon.json")]
    pub(crate) config_file: PathBuf,
    /// Directory of the store
    #[arg(long, short_alias = 'g', alias = "graph", value_name = "DIR")]
    pub(crate) data_root: Option<PathBuf>,
    /// The group that may use the socket
    #[arg(short = 'G', long, value_name = "GROUP")]
    group: Option<String>,
    /// Write the process id here
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// How layers are kept: overlay2 or vfs
    #[arg(short, long, value_name = "DRIVER")]
    storage_driver: Option<String>,
    /// Only look at the settings
    #[arg(long)]
    validate: bool,
    /// Show numbers here, as HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<String>,

    /// Use TLS on ports; --tls=false says that none is wanted
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls: Option<bool>,
    /// Let only clients with a certificate in
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tlsverify: Option<bool>,
    /// The authority of clients' certificates
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// The daemon's certificate
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,

    /// Ask this for images of Docker Hub first; may be repeated
    #[arg(long = "registry-mirror", value_name = "URL")]
    registry_mirrors: Vec<String>,
    /// A registry, or a network of them, that needs no TLS; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST")]
    insecure_registries: Vec<String>,
    /// A label of the daemon, as NAME=VALUE; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,

    #[command(flatten)]
    containers: ContainerDefaults,
    #[command(flatten)]
    as_it_is: AsItIs,
    #[command(flatten)]
    no_effect: NoEffect,
}

/// What containers get that do not say it themselves.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Containers that do not say it themselves")]
struct ContainerDefaults {
    /// A server of names; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// An option of the resolver; may be repeated
    #[arg(long, value_name = "OPTION")]
    dns_opt: Vec<String>,
    /// A domain that short names are looked for in; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Where logs go
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// An option of that; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// A limit of processes, as nofile=1024:2048; may be repeated
    #[arg(long, value_name = "LIMIT")]
    default_ulimit: Vec<String>,
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    default_shm_size: Option<String>,
    /// With whom memory is shared: private or shareable
    #[arg(long, value_name = "MODE")]
    default_ipc_mode: Option<String>,
    /// The namespace of control groups: private or host
    #[arg(long, value_name = "MODE")]
    default_cgroupns_mode: Option<String>,
    /// The control group around theirs
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// How long they have to end, in seconds
    #[arg(long, value_name = "SECONDS")]
    default_stop_timeout: Option<String>,
    /// A first process that collects others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    init: Option<bool>,
    /// No more rights by set-user-id programs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_new_privileges: Option<bool>,
    /// Which system calls they may make
    #[arg(long, value_name = "FILE")]
    seccomp_profile: Option<String>,
}

// What is so in any case; said otherwise, it is refused.
#[derive(Debug, clap::Args)]
struct AsItIs {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    iptables: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ip_forward: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ip_masq: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    icc: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    selinux_enabled: Option<bool>,
    #[arg(long, hide = true)]
    bridge: Option<String>,
    #[arg(long, hide = true)]
    bip: Option<String>,
    #[arg(long, hide = true)]
    fixed_cidr: Option<String>,
    #[arg(long, hide = true)]
    default_address_pool: Vec<String>,
    #[arg(long, hide = true)]
    mtu: Option<String>,
    #[arg(long, hide = true)]
    ip: Option<String>,
    #[arg(long, hide = true)]
    userns_remap: Option<String>,
    #[arg(long = "authorization-plugin", hide = true)]
    authorization_plugins: Vec<String>,
    #[arg(long, hide = true)]
    http_proxy: Option<String>,
    #[arg(long, hide = true)]
    https_proxy: Option<String>,
    #[arg(long, hide = true)]
    no_proxy: Option<String>,
    #[arg(long, hide = true)]
    cpu_rt_period: Option<String>,
    #[arg(long, hide = true)]
    cpu_rt_runtime: Option<String>,
}

// What changes nothing here: it is about parts of dockerd that there are not, or how much it says.
#[derive(Debug, clap::Args)]
struct NoEffect {
    #[arg(short = 'D', long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    debug: Option<bool>,
    #[arg(short, long, hide = true)]
    log_level: Option<String>,
    #[arg(long, hide = true)]
    log_format: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    raw_logs: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    live_restore: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    experimental: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rootless: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    userland_proxy: Option<bool>,
    #[arg(long, hide = true)]
    userland_proxy_path: Option<String>,
    #[arg(long, hide = true)]
    shutdown_timeout: Option<String>,
    #[arg(long, hide = true)]
    exec_root: Option<String>,
    #[arg(long, hide = true)]
    containerd: Option<String>,
    #[arg(long, hide = true)]
    containerd_namespace: Option<String>,
    #[arg(long, hide = true)]
    containerd_plugins_namespace: Option<String>,
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    cri_containerd: bool,
    #[arg(long, hide = true)]
    exec_opt: Vec<String>,
    #[arg(long, hide = true)]
    storage_opt: Vec<String>,
    #[arg(long, hide = true)]
    feature: Vec<String>,
    #[arg(long, hide = true)]
    add_runtime: Vec<String>,
    #[arg(long, hide = true)]
    default_runtime: Option<String>,
    #[arg(long, hide = true)]
    init_path: Option<String>,
    #[arg(long, hide = true)]
    max_concurrent_downloads: Option<u32>,
    #[arg(long, hide = true)]
    max_concurrent_uploads: Option<u32>,
    #[arg(long, hide = true)]
    max_download_attempts: Option<u32>,
    #[arg(long, hide = true)]
    firewall_backend: Option<String>,
    #[arg(long, hide = true)]
    network_control_plane_mtu: Option<String>,
    #[arg(long, hide = true)]
    network_diagnostic_port: Option<String>,
    #[arg(long, hide = true)]
    swarm_default_advertise_addr: Option<String>,
    #[arg(long, hide = true)]
    node_generic_resource: Vec<String>,
    #[arg(long, hide = true)]
    host_gateway_ip: Vec<String>,
    #[arg(long, hide = true)]
    cdi_spec_dir: Vec<String>,
}

/// Reads a command line with its file.
///
/// # Errors
/// One of them is wrong, or both say the same.
pub(crate) fn read(arguments: &[String]) -> Result<DockerdCli, CliError> {
    let matches = DockerdCli::command().get_matches_from(arguments);
    let typed: BTreeSet<String> = matches
        .ids()
        .map(|id| id.as_str().replace('_', "-"))
        .filter(|name| {
            matches.value_source(&name.replace('-', "_")) == Some(clap::parser::ValueSource::CommandLine)
        })
        .collect();
    let cli = DockerdCli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let is_named = typed.contains("config-file");
    let text = match std::fs::read_to_string(&cli.config_file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => return Ok(cli),
        Err(error) => {
            return Err(CliError::failed(format!("cannot read {}: {error}", cli.config_file.display())));
        }
    };
    let words = file::words(&cli.config_file, &text, &typed)?;
    let all = arguments.first().cloned().into_iter().chain(words).chain(arguments.iter().skip(1).cloned());
    DockerdCli::try_parse_from(all).map_err(|error| {
        CliError::failed(format!("{}: {}", cli.config_file.display(), error.to_string().trim()))
    })
}

impl DockerdCli {
    /// The same in the words of `lap daemon`.
    ///
    /// # Errors
    /// Something is asked for that there is not.
    pub(crate) fn words(&self) -> Result<Vec<String>, CliError> {
        self.refuse()?;
        let mut words = Vec::new();
        let mut add = |flag: &str, value: String| words.push(format!("--{flag}={value}"));
        let usual = [SOCKET.to_owned()];
        for host in if self.hosts.is_empty() { &usual[..] } else { &self.hosts } {
            add("addr", address(host));
        }
        match &self.group {
            Some(group) => add("group", group.clone()),
            None if nix::unistd::Group::from_name(GROUP).ok().flatten().is_some() => {
                add("group", GROUP.to_owned());
            }
            None => {}
        }
        let shown = |path: &PathBuf| path.display().to_string();
        for (flag, path) in [("tlscert", &self.tlscert), ("tlskey", &self.tlskey), ("pidfile", &self.pidfile)]
        {
            path.iter().for_each(|path| add(flag, shown(path)));
        }
        // Without --tlsverify an authority is only for the daemon's own certificate.
        if let Some(authority) = self.tlscacert.as_ref().filter(|_| self.tlsverify != Some(false)) {
            add("tlscacert", shown(authority));
        }
        self.metrics_addr.iter().for_each(|address| add("debugaddr", address.clone()));
        self.labels.iter().for_each(|label| add("oci-worker-labels", label.clone()));
        self.registry_mirrors.iter().for_each(|url| add("registry-mirror", url.clone()));
        self.insecure_registries.iter().for_each(|host| add("insecure-registry", host.clone()));
        self.containers.words().into_iter().for_each(|word| add("container-flag", word));
        if self.validate {
            words.push("--validate".to_owned());
        }
        // Whoever may make containers may make them with the host's network.
        words.push("--allow-insecure-entitlement=network.host".to_owned());
        if self.tls == Some(false) {
            words.push("--insecure-tcp".to_owned());
        }
        Ok(words)
    }

    /// The driver of layers, by our names.
    pub(crate) fn driver(&self) -> Result<Option<crate::args::StorageDriver>, CliError> {
        match self.storage_driver.as_deref() {
            None | Some("") => Ok(None),
            Some("overlay2" | "overlay" | "overlayfs") => Ok(Some(crate::args::StorageDriver::Overlay)),
            Some("vfs" | "native") => Ok(Some(crate::args::StorageDriver::Native)),
            Some(other) => Err(CliError::usage(
                format!("storage driver {other} is not supported"),
                "there are overlay2 and vfs",
            )),
        }
    }

    fn refuse(&self) -> Result<(), CliError> {
        let AsItIs { iptables, ip_forward, ip_masq, icc, selinux_enabled, .. } = self.as_it_is;
        let its = &self.as_it_is;
        let network = "make a network with docker network create, which has options for it";
        for (is_refused, flag, hint) in [
            (
                iptables == Some(false),
                "--iptables=false",
                "containers' networks need rules; run them with --network host",
            ),
            (
                ip_forward == Some(false),
                "--ip-forward=false",
                "containers' networks need it; run them with --network host",
            ),
            (ip_masq == Some(false), "--ip-masq=false", network),
            (icc == Some(false), "--icc=false", network),
            (selinux_enabled == Some(true), "--selinux-enabled", "there are no labels of SELinux here"),
            (its.bridge.as_deref().is_some_and(|name| name != "none"), "--bridge", network),
            (its.bip.is_some(), "--bip", network),
            (its.fixed_cidr.is_some(), "--fixed-cidr", network),
            (!its.default_address_pool.is_empty(), "--default-address-pool", network),
            (its.mtu.as_deref().is_some_and(|mtu| mtu != "0"), "--mtu", network),
            (its.ip.as_deref().is_some_and(|ip| ip != "0.0.0.0"), "--ip", network),
            (its.userns_remap.is_some(), "--userns-remap", "run the daemon as an ordinary user instead"),
            (
                !its.authorization_plugins.is_empty(),
                "--authorization-plugin",
                "use --read-only-addr and --tls-client of lap daemon",
            ),
            (
                its.http_proxy.is_some() || its.https_proxy.is_some() || its.no_proxy.is_some(),
                "--http-proxy, --https-proxy and --no-proxy",
                "set HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the daemon's environment",
            ),
            (
                its.cpu_rt_period.is_some() || its.cpu_rt_runtime.is_some(),
                "--cpu-rt-period and --cpu-rt-runtime",
                "say them for each container",
            ),
        ] {
            if is_refused {
                return Err(CliError::usage(format!("not supported: {flag}"), hint));
            }
        }
        Ok(())
    }
}

impl ContainerDefaults {
    /// The words of `lap create` for them.
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
        for (flag, values) in [
            ("dns", &self.dns),
            ("dns-option", &self.dns_opt),
            ("dns-search", &self.dns_search),
            ("log-opt", &self.log_opt),
            ("ulimit", &self.default_ulimit),
        ] {
            values.iter().for_each(|value| add(flag, value));
        }
        for (flag, value) in [
            ("log-driver", &self.log_driver),
            ("shm-size", &self.default_shm_size),
            ("ipc", &self.default_ipc_mode),
            ("cgroupns", &self.default_cgroupns_mode),
            ("cgroup-parent", &self.cgroup_parent),
            ("stop-timeout", &self.default_stop_timeout),
        ] {
            value.iter().for_each(|value| add(flag, value));
        }
        if self.no_new_privileges == Some(true) {
            add("security-opt", "no-new-privileges");
        }
        if let Some(profile) =
            self.seccomp_profile.as_deref().filter(|profile| !matches!(*profile, "" | "builtin"))
        {
            add("security-opt", &format!("seccomp={profile}"));
        }
        if self.init == Some(true) {
            words.push("--init".to_owned());
        }
        words
    }
}

/// An address in our form, of the shorter ones that Docker takes.
fn address(host: &str) -> String {
    let port = |rest: &str| match rest.split_once(':') {
        None if rest.is_empty() => format!("tcp://{LOOPBACK}:2375"),
        None => format!("tcp://{rest}:2375"),
        Some(("", port)) => format!("tcp://{LOOPBACK}:{port}"),
        Some(_) => format!("tcp://{rest}"),
    };
    match host.split_once("://") {
        Some(("unix", "")) => SOCKET.to_owned(),
        Some(("unix", path)) if !path.starts_with('/') => format!("unix:///{path}"),
        Some(("tcp", rest)) if !rest.starts_with('[') => port(rest),
        Some(("fd", _)) => "fd://".to_owned(),
        Some(_) => host.to_owned(),
        None => port(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "--allow-insecure-entitlement=network.host";

    fn words(arguments: &[&str]) -> Vec<String> {
        let all = [&["dockerd", "--group=root"], arguments].concat();
        DockerdCli::try_parse_from(all).unwrap().words().unwrap()
    }

    #[test]
    fn addresses_have_shorter_forms() {
        for (host, expected) in [
            ("unix://", SOCKET),
            ("unix:///a", "unix:///a"),
            ("tcp://", "tcp://127.0.0.1:2375"),
            ("tcp://:2376", "tcp://127.0.0.1:2376"),
            ("tcp://0.0.0.0", "tcp://0.0.0.0:2375"),
            ("10.0.0.1:7", "tcp://10.0.0.1:7"),
            ("tcp://[::1]:7", "tcp://[::1]:7"),
            ("fd://docker.socket", "fd://"),
        ] {
            assert_eq!(address(host), expected, "{host}");
        }
    }

    #[test]
    fn flags_become_those_of_lap_daemon() {
        assert_eq!(words(&[]), ["--addr=unix:///var/run/docker.sock", "--group=root", HOST]);
        assert_eq!(
            words(&["-H", "tcp://:1", "--tls=false", "--dns=192.0.2.1", "--init", "-D", "--label", "a=b"]),
            [
                "--addr=tcp://127.0.0.1:1",
                "--group=root",
                "--oci-worker-labels=a=b",
                "--container-flag=--dns=192.0.2.1",
                "--container-flag=--init",
                HOST,
                "--insecure-tcp",
            ]
        );
        for refused in ["--bip=10.0.0.1/8", "--iptables=false", "--selinux-enabled", "--userns-remap=default"]
        {
            let cli = DockerdCli::try_parse_from(["dockerd", refused]).unwrap();
            assert!(cli.words().is_err(), "{refused}");
        }
        assert!(
            DockerdCli::try_parse_from(["dockerd", "--selinux-enabled=false", "--mtu=0"])
                .unwrap()
                .words()
                .is_ok()
        );
    }
}

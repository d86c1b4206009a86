//! `lap daemon` as typed, and `buildkitd`, which is the same program under another name.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser};

/// Build images for clients of BuildKit.
#[derive(Debug, Parser)]
#[command(name = "buildkitd", version, args_override_self = true, max_term_width = 100)]
pub(crate) struct BuildkitdCli {
    /// Directory of the store [default: /var/lib/lapstrake as root, else $XDG_DATA_HOME/lapstrake]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Listen here, as unix:///PATH, tcp://HOST:PORT or fd:// for sockets of systemd; may be repeated [default: buildkit.sock in
    /// the runtime directory]
    #[arg(long = "addr", value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) addresses: Vec<String>,

    /// Listen here, too, for clients of Docker's API who may only look; may be repeated
    #[arg(long = "read-only-addr", value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) read_only_addresses: Vec<String>,

    /// A buildkitd.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Show numbers here, as HOST:PORT: /debug/vars, /metrics and /healthz
    #[arg(long = "debugaddr", value_name = "ADDRESS")]
    pub(crate) debug_address: Option<String>,

    /// The group, by name or number, that may use the sockets besides their owner
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,

    /// The certificate that clients on tcp see
    #[arg(long = "tlscert", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Its key
    #[arg(long = "tlskey", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The authority that clients on tcp need a certificate of
    #[arg(long = "tlscacert", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// A client on tcp that may come, by the name in its certificate, and :ro behind if it may only look; may be repeated [default: all
    /// with a certificate]
    #[arg(long = "tls-client", value_name = "NAME[:ro]", requires = "tls_ca")]
    pub(crate) clients: Vec<String>,

    /// Ask this for images of Docker Hub first, as https://HOST; may be repeated
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub(crate) registry_mirrors: Vec<String>,

    /// A registry, or a network of them as 10.0.0.0/8, that needs no TLS; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub(crate) insecure_registries: Vec<String>,

    /// A flag of lap create for containers that clients of Docker's API make and that do not say it themselves, as --dns=192.0.2.1; may
    /// be repeated
    #[arg(long = "container-flag", value_name = "FLAG", allow_hyphen_values = true)]
    pub(crate) container_flags: Vec<String>,

    /// Write the process id into this file, and remove it at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Let clients ask for this: network.host, security.insecure or device; may be repeated
    #[arg(long = "allow-insecure-entitlement", value_name = "NAME")]
    pub(crate) allow: Vec<String>,

    /// Listen on tcp although anybody who reaches the port can build
    #[arg(long)]
    pub(crate) insecure_tcp: bool,

    /// How many processes of one build's steps run at once
    #[arg(long = "oci-max-parallelism", value_name = "COUNT")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Labels of the worker, as NAME=VALUE; may be repeated
    #[arg(long = "oci-worker-labels", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,

    /// Collect what the cache need not keep
    #[arg(long = "oci-worker-gc", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) collect: Option<bool>,

    /// Only look at what is said here
    #[arg(long, hide = true)]
    pub(crate) validate: bool,

    #[command(flatten)]
    others: OtherArgs,
}

// What buildkitd takes besides. There is one kind of worker here, it finds out by itself what works, and it says nothing on its
// error output that would need a level.
#[derive(Debug, Args)]
struct OtherArgs {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    debug: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    trace: Option<bool>,
    #[arg(long, hide = true)]
    log_format: Option<String>,
    #[arg(long, hide = true)]
    log_level: Option<String>,
    #[arg(long, hide = true)]
    otel_socket_path: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    save_cache_debug: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rootless: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oci_worker: Option<bool>,
    #[arg(long, hide = true)]
    oci_worker_snapshotter: Option<String>,
    #[arg(long, hide = true)]
    oci_worker_proxy_snapshotter_path: Option<String>,
    #[arg(long, hide = true)]
    oci_worker_platform: Vec<String>,
    #[arg(long, hide = true)]
    oci_worker_net: Option<String>,
    #[arg(long, hide = true)]
    oci_cni_config_path: Option<String>,
    #[arg(long, hide = true)]
    oci_cni_binary_dir: Option<String>,
    #[arg(long, hide = true)]
    oci_cni_pool_size: Option<String>,
    #[arg(long, hide = true)]
    oci_worker_binary: Option<String>,
    #[arg(long, hide = true)]
    oci_worker_apparmor_profile: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oci_worker_selinux: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oci_worker_no_process_sandbox: Option<bool>,
    #[arg(long, hide = true)]
    oci_worker_gc_keepstorage: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    oci_worker_rootless: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    containerd_worker: Option<bool>,
    #[arg(long, hide = true)]
    containerd_worker_addr: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_labels: Vec<String>,
    #[arg(long, hide = true)]
    containerd_worker_platform: Vec<String>,
    #[arg(long, hide = true)]
    containerd_worker_namespace: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_runtime: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_net: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_snapshotter: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    containerd_worker_gc: Option<bool>,
    #[arg(long, hide = true)]
    containerd_worker_gc_keepstorage: Option<String>,
}

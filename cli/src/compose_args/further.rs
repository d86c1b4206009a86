//! What `exec`, `run`, `port`, `ls` and `config` of `lap compose` take.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ExecServiceArgs {
    /// The service, then the command with its arguments
    // One list, so that flags after the service belong to the command.
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_name = "SERVICE COMMAND")]
    pub(crate) service_and_command: Vec<String>,

    /// Let it run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Give the command no terminal; it has one if we have
    #[arg(short = 'T', long = "no-tty", alias = "no-TTY")]
    pub(crate) no_tty: bool,

    /// Set an environment variable; without a value it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// User, as name|uid[:group|gid]
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// The container with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) index: Option<u32>,

    /// Give every right
    #[arg(long)]
    pub(crate) privileged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunServiceArgs {
    /// The service, then a command with arguments that replaces the service's
    #[arg(trailing_var_arg = true, required = true, value_name = "SERVICE [COMMAND]")]
    pub(crate) service_and_command: Vec<String>,

    /// Let it run in the background, and print the container's name
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,

    /// Give the container no terminal; it has one if we have
    #[arg(short = 'T', long = "no-tty", alias = "no-TTY")]
    pub(crate) no_tty: bool,

    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Set an environment variable; without a value it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Show a volume or a path of the host: [VOLUME:|/HOST/PATH:]/PATH[:ro]
    #[arg(short, long = "volume", value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,

    /// Offer a port of the container on the host
    #[arg(short, long, value_name = "PORTS")]
    pub(crate) publish: Vec<String>,

    /// Offer the service's ports on the host
    #[arg(short = 'P', long)]
    pub(crate) service_ports: bool,

    /// Add a label to the container
    #[arg(short, long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,

    /// Give the container further rights
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,

    /// Take rights from the container
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,

    /// Connect to its input, which is usual
    #[arg(short, long, hide = true)]
    interactive: bool,

    #[arg(long, hide = true)]
    quiet_pull: bool,

    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// User, as name|uid[:group|gid]
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// Replaces the entry point
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    /// Build the image although it is there
    #[arg(long)]
    pub(crate) build: bool,

    /// When to download images: always, newer, missing or never [default: as the services say]
    #[arg(long, value_name = "WHEN")]
    pub(crate) pull: Option<String>,

    /// Leave out what the service needs
    #[arg(long)]
    pub(crate) no_deps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PortOfServiceArgs {
    /// The service
    pub(crate) service: String,

    /// A port of its container
    pub(crate) port: u16,

    /// tcp or udp
    #[arg(long, default_value = "tcp", value_parser = ["tcp", "udp"])]
    pub(crate) protocol: String,

    /// The container with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) index: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceImagesArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print with a template such as '{{.Repository}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Also projects of which nothing runs
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Print only names
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print with a template such as '{{.Name}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// yaml or json
    #[arg(long, default_value = "yaml", value_parser = ["yaml", "json"])]
    pub(crate) format: String,

    /// Leave variables as they are written; what has one in it is in no long form
    #[arg(long, conflicts_with_all = ["images", "profiles", "hash"])]
    pub(crate) no_interpolate: bool,

    /// Print nothing: only look for mistakes
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print the names of the services
    #[arg(long = "services", conflicts_with_all = ["volumes", "images", "profiles", "networks"])]
    pub(crate) list_services: bool,

    /// Print the names of the volumes
    #[arg(long, conflicts_with_all = ["images", "profiles", "networks"])]
    pub(crate) volumes: bool,

    /// Print the names of the networks
    #[arg(long, conflicts_with_all = ["images", "profiles"])]
    pub(crate) networks: bool,

    /// Print the names of the images
    #[arg(long, conflicts_with = "profiles")]
    pub(crate) images: bool,

    /// Print the names of the profiles
    #[arg(long)]
    pub(crate) profiles: bool,

    /// Print by what a service's containers are known to be up to date; * is all services
    #[arg(long, value_name = "SERVICE")]
    pub(crate) hash: Option<String>,

    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

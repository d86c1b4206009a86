//! The command line of `lap oci-runtime`: the one that `runc` has, because its callers know no other.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::limit_args::RunLimitArgs;

/// An OCI runtime.
#[derive(Debug, Parser)]
#[command(name = "lap oci-runtime", disable_version_flag = true, max_term_width = 100)]
pub(crate) struct OciCli {
    /// Directory of the containers [default: oci in the runtime directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// A file that errors are added to
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,

    /// The form of what is written to --log
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// For callers that give it; there is nothing more to be told
    #[arg(long, hide = true)]
    pub(crate) debug: bool,

    /// Refused: control groups are made directly, without systemd
    #[arg(long, hide = true)]
    pub(crate) systemd_cgroup: bool,

    /// For callers that give it; found out by itself
    #[arg(long, hide = true, value_name = "BOOL")]
    pub(crate) rootless: Option<String>,

    /// Show the version
    #[arg(short, long)]
    pub(crate) version: bool,

    #[command(subcommand)]
    pub(crate) command: Option<OciCommand>,
}

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text.
    Text,
    /// A JSON object in a line.
    Json,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum OciCommand {
    /// Create a container; its program waits for start
    Create(CreateArgs),
    /// Run the program of a created container
    Start(IdArgs),
    /// Create a container, start it, wait for it and delete it
    Run(RunArgs),
    /// Print the state of a container as JSON
    State(IdArgs),
    /// Send a signal to a container
    Kill(KillArgs),
    /// Delete a container that has ended
    Delete(DeleteArgs),
    /// Run a further process in a container
    Exec(Box<ExecArgs>),
    /// List the processes of a container
    Ps(PsArgs),
    /// Suspend all processes of a container
    Pause(IdArgs),
    /// Resume all processes of a container
    Resume(IdArgs),
    /// Change the limits of a container
    Update(Box<UpdateArgs>),
    /// Print what a container uses, and when it runs out of memory
    Events(EventsArgs),
    /// Write a config.json to start from
    Spec(SpecArgs),
    /// List containers
    List(ListArgs),
    /// Print what this runtime can do as JSON
    Features,
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The container
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The container's name
    pub(crate) id: String,

    /// Directory with config.json
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,

    /// Socket at which the terminal is handed over
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,

    /// File for the number of the first process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Leave this many descriptors from 3 on to the program
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub(crate) preserve_fds: u32,

    /// For callers that give it; the root is always exchanged by pivot_root
    #[arg(long, hide = true)]
    pub(crate) no_pivot: bool,

    /// For callers that give it; no session keyring is made
    #[arg(long, hide = true)]
    pub(crate) no_new_keyring: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,

    /// Do not wait
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Do not delete the container when it has ended
    #[arg(long)]
    pub(crate) keep: bool,

    /// For callers that give it; nobody's parent is changed
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The container
    pub(crate) id: String,

    /// The signal, by name or number
    #[arg(default_value = "TERM")]
    pub(crate) signal: String,

    /// Send it to all processes
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The container
    pub(crate) id: String,

    /// Kill it before, and be content if it does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The container
    pub(crate) id: String,

    /// Command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required_unless_present = "process")]
    pub(crate) command: Vec<String>,

    /// File with the process as a spec has it
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["env", "cwd", "user", "cap"])]
    pub(crate) process: Option<PathBuf>,

    /// Socket at which the terminal is handed over
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,

    /// File for the number of the process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,

    /// Set a variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,

    /// Give the process a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// User id, and group id
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,

    /// Add a group id
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,

    /// Do not wait
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Add a capability
    #[arg(short, long, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,

    /// Programs may not gain rights
    #[arg(long)]
    pub(crate) no_new_privs: bool,

    /// Leave this many descriptors from 3 on to the program
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub(crate) preserve_fds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// The container
    pub(crate) id: String,

    /// table or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: TableFormat,

    /// For callers that give options of ps; the table is always the same
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) options: Vec<String>,
}

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The container
    pub(crate) id: String,

    /// File with limits as a spec has them, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) limits: RunLimitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// The container
    pub(crate) id: String,

    /// Print what it uses now and end
    #[arg(long)]
    pub(crate) stats: bool,

    /// How often to print, for example 5s
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub(crate) interval: String,
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Directory that config.json is written to
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// table or json
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: TableFormat,

    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

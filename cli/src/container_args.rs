//! The commands for containers as typed. Names, short forms and meanings are Docker's.

pub(crate) mod files;

use clap::{Args, Subcommand};

use self::files::{CommitArgs, CpArgs, DiffArgs, ExportArgs};
use crate::args::RunArgs;
use crate::docker_config::DockerConfig;
use crate::error::CliError;
use crate::live_args::{StatsArgs, TopArgs, UpdateArgs};
use crate::log_args::LogLinesArgs;
use crate::prune_args::PruneArgs;

#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    #[command(subcommand)]
    pub(crate) command: ContainerCommand,
}

// The commands that are typed after `container`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ContainerCommand {
    #[command(flatten)]
    Action(ContainerAction),
    /// List containers
    #[command(aliases = ["list", "ps"])]
    Ls(PsArgs),
    /// Show containers in full
    Inspect(ContainerInspectArgs),
    /// Remove all containers that do not run
    Prune(ContainerPruneArgs),
}

// The commands for containers that are typed with `container` before them or without.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ContainerAction {
    /// Run a command in a new container
    Run(Box<RunArgs>),
    /// Make a new container without starting it
    Create(Box<RunArgs>),
    /// Show what a container has written
    Logs(LogsArgs),
    /// Start containers
    Start(StartArgs),
    /// Stop containers
    Stop(StopArgs),
    /// Stop containers and start them again
    Restart(StopArgs),
    /// Send a signal to containers
    Kill(KillArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(NamesArgs),
    /// Connect to the input and output of a running container
    Attach(AttachArgs),
    /// Run a further command in a running container
    Exec(ExecArgs),
    /// Copy files between a container and this machine
    Cp(CpArgs),
    /// Show which files of a container are other than those of its image
    Diff(DiffArgs),
    /// Write the files of a container to a tar archive
    Export(ExportArgs),
    /// Make an image of a container and what it has changed
    Commit(CommitArgs),
    /// Freeze all processes of containers
    Pause(NamesArgs),
    /// Let the processes of containers go on
    Unpause(NamesArgs),
    /// Show which ports of the host lead to those of a container
    Port(PortArgs),
    /// Show the processes of a container
    Top(TopArgs),
    /// Show what containers use, again and again
    Stats(StatsArgs),
    /// Change what containers may use, and when they are started again
    Update(UpdateArgs),
    /// Give a container another name
    Rename(RenameArgs),
    /// Remove containers
    #[command(alias = "remove")]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print whole ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Show the newest containers, running or not
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) last: Option<usize>,

    /// Show the newest container, running or not
    #[arg(short, long)]
    pub(crate) latest: bool,

    /// Show how much containers have written
    #[arg(short, long)]
    pub(crate) size: bool,

    /// Only containers that fit: id, name, label, exited, status, ancestor, before, since, volume, network, publish,
    /// expose, is-task or health
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Print with a template such as '{{.Names}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContainerInspectArgs {
    /// The containers
    #[arg(required = true)]
    pub(crate) containers: Vec<String>,

    /// Print with a template such as '{{.State.Status}}', or as json
    #[arg(short, long)]
    pub(crate) format: Option<String>,

    /// Show how large containers are
    #[arg(short, long)]
    pub(crate) size: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AnyInspectArgs {
    /// Containers, images or volumes
    #[arg(required = true)]
    pub(crate) names: Vec<String>,

    /// Print with a template such as '{{.Id}}', or as json
    #[arg(short, long)]
    pub(crate) format: Option<String>,

    /// Show how large containers are
    #[arg(short, long)]
    pub(crate) size: bool,

    /// Look only for one kind of object
    #[arg(long = "type", value_parser = ["container", "image", "volume"])]
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The container
    pub(crate) container: String,

    #[command(flatten)]
    pub(crate) lines: LogLinesArgs,

    /// Show the attributes that the log was told to add
    #[arg(long)]
    pub(crate) details: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,

    /// Connect to its output and pass signals on
    #[arg(short, long)]
    pub(crate) attach: bool,

    /// Connect to its input
    #[arg(short, long)]
    pub(crate) interactive: bool,

    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArg,
}

#[derive(Debug, Args)]
pub(crate) struct DetachKeysArg {
    /// The keys that leave a container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<engine::request::DetachKeys>,
}

impl DetachKeysArg {
    /// Those of the command line, or of Docker's `config.json`, or the usual ones.
    pub(crate) fn keys(&self) -> Result<engine::request::DetachKeys, CliError> {
        self.detach_keys.clone().map_or_else(|| DockerConfig::read()?.detach_keys(), Ok)
    }
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,

    /// Another signal than the container's own
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,

    /// Seconds until a container is killed that does not end; -1 is never
    #[arg(short, long, alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,

    /// The signal
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The container
    pub(crate) container: String,

    /// Do not connect to its input
    #[arg(long)]
    pub(crate) no_stdin: bool,

    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) sig_proxy: bool,

    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArg,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The container, then the command with its arguments
    // One list, so that flags after the container belong to the command.
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_name = "CONTAINER COMMAND")]
    pub(crate) container_and_command: Vec<String>,

    /// Let it run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Pass standard input to the command
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArg,

    /// Set an environment variable; without a value it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Set environment variables from a file of NAME=VALUE lines
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<std::path::PathBuf>,

    /// User, as name|uid[:group|gid]
    #[arg(short, long)]
    pub(crate) user: Option<String>,

    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,

    /// Give every right
    #[arg(long)]
    pub(crate) privileged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// The container
    pub(crate) container: String,
    /// A port of the container: PORT or PORT/udp; all without it
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub(crate) port: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// The container
    pub(crate) container: String,
    /// Its new name
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,

    /// Kill those that run
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Remove its anonymous volumes, too
    #[arg(short, long)]
    pub(crate) volumes: bool,

    /// Remove links instead, named as CONTAINER/NAME: that container forgets this name of another one
    #[arg(short, long, conflicts_with_all = ["force", "volumes"])]
    pub(crate) link: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ContainerPruneArgs {
    #[command(flatten)]
    pub(crate) common: PruneArgs,
}

//! `lap compose` as typed. Names, short forms and meanings are those of Docker Compose.

mod further;
mod passed_on;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) use self::further::{
    ConfigArgs, ExecServiceArgs, ListArgs, PortOfServiceArgs, RunServiceArgs, ServiceImagesArgs,
};
pub(crate) use self::passed_on::{
    AttachServiceArgs, ComposeVersionArgs, CpServiceArgs, PushServicesArgs, ScaleArgs, ServiceEventsArgs,
    StatsOfServicesArgs,
};
use crate::log_args::LogLinesArgs;
use crate::render::Mode;

#[derive(Debug, Args)]
pub(crate) struct ComposeArgs {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,

    #[command(subcommand)]
    pub(crate) command: ComposeCommand,
}

// Which project is meant.
#[derive(Debug, Args)]
pub(crate) struct ProjectArgs {
    /// A Compose file, or - for standard input; later ones change what earlier ones say [default: compose.yaml here
    /// or above, and compose.override.yaml]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// The project's name [default: as the files say, or that of their directory]
    #[arg(short = 'p', long = "project-name", value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Use the services of this profile, too; * is all
    #[arg(long = "profile", value_name = "NAME")]
    pub(crate) profiles: Vec<String>,

    /// A file with variables for the Compose files [default: .env of the project's directory]
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,

    /// The directory that paths are relative to [default: that of the first file]
    #[arg(long = "project-directory", value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Tell what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How much is done at once; what may be is, the flag is for scripts
    #[arg(long, value_name = "NUMBER", hide = true, allow_hyphen_values = true)]
    parallel: Option<i64>,

    /// Colours in front of lines: auto (on a terminal), never or always
    #[arg(long, default_value = "auto", value_parser = ["auto", "never", "always"], value_name = "WHEN")]
    pub(crate) ansi: String,

    /// How to show the progress of builds
    #[arg(long, value_enum, default_value_t, env = "BUILDKIT_PROGRESS", hide_env = true)]
    pub(crate) progress: Mode,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ComposeCommand {
    /// Make and start the containers of services
    Up(Box<UpArgs>),
    /// End and remove the containers, and the networks
    Down(DownArgs),
    /// List containers
    Ps(ServicePsArgs),
    /// Show what containers have written
    Logs(ServiceLogsArgs),
    /// Build the images of services, all at once
    Build(ComposeBuildArgs),
    /// Download the images of services
    Pull(PullServicesArgs),
    /// Run a command in a container of a service
    Exec(ExecServiceArgs),
    /// Run a single command in a new container of a service
    Run(RunServiceArgs),
    /// Make the containers of services without starting them
    Create(CreateServicesArgs),
    /// Start containers that were made before
    Start(ServicesArgs),
    /// End containers
    Stop(StopServicesArgs),
    /// End containers and start them again
    Restart(RestartServicesArgs),
    /// Send a signal to containers
    Kill(KillServicesArgs),
    /// Freeze all processes of containers
    Pause(ServicesArgs),
    /// Let the processes of containers go on
    Unpause(ServicesArgs),
    /// Remove containers that do not run
    Rm(RmServicesArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(ServicesArgs),
    /// Show where a port of a service is offered
    Port(PortOfServiceArgs),
    /// List the images that containers were made of
    Images(ServiceImagesArgs),
    /// Show the processes of containers
    Top(ServicesArgs),
    /// Copy files between a container of a service and this machine
    Cp(CpServiceArgs),
    /// Connect to the input and output of a service's container
    Attach(AttachServiceArgs),
    /// Show what the containers of services use, again and again
    Stats(StatsOfServicesArgs),
    /// Show what happens to the containers of services, as it happens
    Events(ServiceEventsArgs),
    /// Upload the images of services that are built
    Push(PushServicesArgs),
    /// Give services another number of containers
    Scale(ScaleArgs),
    /// List the projects that have containers
    Ls(ListArgs),
    /// Show the project as one file, with everything filled in
    #[command(alias = "convert")]
    Config(ConfigArgs),
    /// Show the version
    Version(ComposeVersionArgs),
}

// How containers are made.
#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    /// Only these services, and what they need
    pub(crate) services: Vec<String>,

    /// Build images although they are there
    #[arg(long)]
    pub(crate) build: bool,

    /// Build no images
    #[arg(long, conflicts_with = "build")]
    pub(crate) no_build: bool,

    /// When to download images: always, newer, missing or never [default: as the services say]
    #[arg(long, value_name = "WHEN")]
    pub(crate) pull: Option<String>,

    /// Say nothing of downloads; nothing is said of them beyond a line, the flag is for scripts
    #[arg(long, hide = true)]
    quiet_pull: bool,

    /// Make containers again although nothing has changed
    #[arg(long, conflicts_with = "no_recreate")]
    pub(crate) force_recreate: bool,

    /// Keep containers although something has changed
    #[arg(long)]
    pub(crate) no_recreate: bool,

    /// Make also those again that the others need
    #[arg(long, conflicts_with = "no_recreate")]
    pub(crate) always_recreate_deps: bool,

    /// Begin anonymous volumes anew instead of taking those of the earlier containers
    #[arg(short = 'V', long)]
    pub(crate) renew_anon_volumes: bool,

    /// Remove containers of services that the files do not have
    #[arg(long)]
    pub(crate) remove_orphans: bool,

    /// Give a service so many containers
    #[arg(long, value_name = "SERVICE=NUMBER")]
    pub(crate) scale: Vec<String>,

    /// Seconds until a container is killed that does not end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateServicesArgs {
    #[command(flatten)]
    pub(crate) make: MakeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) make: MakeArgs,

    /// Let containers run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Wait until containers run, and are healthy if they have a check; implies --detach
    #[arg(long)]
    pub(crate) wait: bool,

    /// Seconds that --wait takes at most
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait_timeout: Option<u64>,

    /// Leave out what the services need
    #[arg(long)]
    pub(crate) no_deps: bool,

    /// Only make the containers
    #[arg(long)]
    pub(crate) no_start: bool,

    /// End all containers when one has ended
    #[arg(long, conflicts_with = "detach")]
    pub(crate) abort_on_container_exit: bool,

    /// End all containers when one has failed
    #[arg(long, conflicts_with = "detach")]
    pub(crate) abort_on_container_failure: bool,

    /// End with the exit code of this service; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    pub(crate) exit_code_from: Option<String>,

    /// Show only what these services write
    #[arg(long, value_name = "SERVICE", conflicts_with = "attach_dependencies")]
    pub(crate) attach: Vec<String>,

    /// Show what needed services write, too
    #[arg(long)]
    pub(crate) attach_dependencies: bool,

    /// Do not show what this service writes
    #[arg(long, value_name = "SERVICE")]
    pub(crate) no_attach: Vec<String>,

    /// Show names without colours
    #[arg(long)]
    pub(crate) no_color: bool,

    /// Show no names in front of lines
    #[arg(long)]
    pub(crate) no_log_prefix: bool,

    /// Show when each line was written
    #[arg(long)]
    pub(crate) timestamps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Only the containers of these services
    pub(crate) services: Vec<String>,

    /// Remove the volumes, too
    #[arg(short, long)]
    pub(crate) volumes: bool,

    /// Remove images: local (those without a name of their own) or all
    #[arg(long, value_name = "WHICH", value_parser = ["local", "all"])]
    pub(crate) rmi: Option<String>,

    /// Remove containers of services that the files do not have
    #[arg(long)]
    pub(crate) remove_orphans: bool,

    /// Seconds until a container is killed that does not end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    /// Only these services
    pub(crate) services: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopServicesArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Seconds until a container is killed that does not end
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct RestartServicesArgs {
    #[command(flatten)]
    pub(crate) stop: StopServicesArgs,

    /// Leave out services that are to be started again with these
    #[arg(long)]
    pub(crate) no_deps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KillServicesArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// The signal
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmServicesArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,

    /// End those that run
    #[arg(short, long)]
    pub(crate) stop: bool,

    /// Remove their anonymous volumes, too
    #[arg(short, long)]
    pub(crate) volumes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServicePsArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Show all containers, not only those that run
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print the names of services
    #[arg(long = "services")]
    pub(crate) list_services: bool,

    /// Only containers in this status
    #[arg(long = "status", value_name = "STATUS")]
    pub(crate) statuses: Vec<String>,

    /// Only containers that fit: status=STATUS
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Print whole ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Print with a template such as '{{.Name}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceLogsArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    #[command(flatten)]
    pub(crate) lines: LogLinesArgs,

    /// Only the container with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) index: Option<u32>,

    /// Show names without colours
    #[arg(long)]
    pub(crate) no_color: bool,

    /// Show no names in front of lines
    #[arg(long)]
    pub(crate) no_log_prefix: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ComposeBuildArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Set an ARG; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Ask registries for base images
    #[arg(long)]
    pub(crate) pull: bool,

    /// Push the images that have names
    #[arg(long)]
    pub(crate) push: bool,

    /// Build what the services need, too
    #[arg(long)]
    pub(crate) with_dependencies: bool,

    /// An ssh agent or keys for RUN --mount=type=ssh: default, or NAME=SOCKET, or NAME=KEYFILE,…
    #[arg(long, value_name = "NAME[=PATH]")]
    pub(crate) ssh: Vec<String>,

    /// The most memory that a step may use, for example 512m
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,

    /// How to show progress
    #[arg(long, value_enum)]
    pub(crate) progress: Option<Mode>,

    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PullServicesArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Say nothing of downloads
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Download what the services need, too
    #[arg(long)]
    pub(crate) include_deps: bool,

    /// Leave out images that can be built
    #[arg(long)]
    pub(crate) ignore_buildable: bool,

    /// End well although an image could not be downloaded
    #[arg(long)]
    pub(crate) ignore_pull_failures: bool,

    /// When: missing or always
    #[arg(long, value_name = "WHEN", value_parser = ["missing", "always"])]
    pub(crate) policy: Option<String>,
}

//! What commands of `lap compose` take that do with services what others do with containers and images.

use clap::Args;

use crate::container_args::AttachArgs;
use crate::container_args::files::CpArgs;
use crate::live_args::StatsArgs;

#[derive(Debug, Args)]
pub(crate) struct CpServiceArgs {
    // SERVICE stands where a container does.
    #[command(flatten)]
    pub(crate) copy: CpArgs,

    /// The container with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) index: Option<u32>,

    /// Copy into all containers of the service, and to or from those of single commands
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AttachServiceArgs {
    // The service stands where the container does.
    #[command(flatten)]
    pub(crate) attach: AttachArgs,

    /// The container with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) index: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct StatsOfServicesArgs {
    // Services stand where containers do.
    #[command(flatten)]
    pub(crate) stats: StatsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceEventsArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Print a JSON document for each event
    #[arg(long)]
    pub(crate) json: bool,

    /// Also what has happened from then on: an age such as 10m, or a date such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,

    /// Only up to then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PushServicesArgs {
    /// Only these services
    pub(crate) services: Vec<String>,

    /// Upload the images of what the services need, too
    #[arg(long)]
    pub(crate) include_deps: bool,

    /// End well although an image could not be uploaded
    #[arg(long)]
    pub(crate) ignore_push_failures: bool,

    /// Tell nothing of what is uploaded
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// How many containers services are to have
    #[arg(required = true, value_name = "SERVICE=NUMBER")]
    pub(crate) numbers: Vec<String>,

    /// Leave out what the services need
    #[arg(long)]
    pub(crate) no_deps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ComposeVersionArgs {
    /// Print only the number
    #[arg(long)]
    pub(crate) short: bool,

    /// pretty or json
    #[arg(short, long, default_value = "pretty", value_parser = ["pretty", "json"])]
    pub(crate) format: String,
}

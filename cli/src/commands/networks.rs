//! `lap network`: networks that containers find each other in.

use std::collections::BTreeMap;
use std::process::ExitCode;

use engine::networks::Network;
use engine::request::{NetworkCreation, NetworkUse};
use serde_json::{Value, json};

use super::containers::{each, show};
use super::{StoreChoice, now, open, prune};
use crate::error::CliError;
use crate::listing::{self, Columns};
use crate::network_args::link;
use crate::network_commands::{
    NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkInspectArgs, NetworkLsArgs, NetworkRmArgs,
};
use crate::pairs::pairs;
use crate::prune_args::PruneArgs;
use crate::table;
use crate::terminal::{print, print_line};
use docker::documents;
use docker::filters::Filters;
use docker::filters::networks::NetworkFilters;

const UNUSED: &str = "WARNING! This will remove all custom networks not used by at least one container.\n";

/// The time of what was never made, as Go has it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// How many digits of an id people read.
const SHORT: usize = 12;

/// Carries out a command.
pub(crate) fn dispatch(store: &StoreChoice, command: &NetworkCommand) -> Result<ExitCode, CliError> {
    match command {
        NetworkCommand::Create(args) => create(store, args),
        NetworkCommand::Ls(args) => list(store, args),
        NetworkCommand::Inspect(args) => inspect(store, args),
        NetworkCommand::Rm(args) => remove(store, args),
        NetworkCommand::Connect(args) => connect(store, args),
        NetworkCommand::Disconnect(args) => {
            open(store)?.disconnect_network(&args.network, &args.container)?;
            Ok(ExitCode::SUCCESS)
        }
        NetworkCommand::Prune(args) => prune_networks(store, args),
    }
}

fn create(store: &StoreChoice, args: &NetworkCreateArgs) -> Result<ExitCode, CliError> {
    print_line(&open(store)?.create_network(&creation(args)?)?.id);
    Ok(ExitCode::SUCCESS)
}

/// What the flags mean.
pub(super) fn creation(args: &NetworkCreateArgs) -> Result<NetworkCreation, CliError> {
    check(args)?;
    let mut auxiliary = BTreeMap::new();
    for (name, address) in pairs(&args.auxiliary) {
        let hint = "write it as NAME=ADDRESS, for example router=10.1.2.3";
        let bad = |_| CliError::usage(format!("\"{address}\" is no address for {name}"), hint);
        auxiliary.insert(name.clone(), address.parse().map_err(bad)?);
    }
    Ok(NetworkCreation {
        name: args.name.clone(),
        subnets: args.subnets.clone(),
        gateways: args.gateways.clone(),
        ranges: args.ranges.clone(),
        auxiliary,
        ipv6: args.ipv6,
        internal: args.internal,
        attachable: args.attachable,
        labels: pairs(&args.labels),
        driver: args.driver.clone(),
        options: pairs(&args.options),
    })
}

/// Refuses what other drivers and clusters have.
fn check(args: &NetworkCreateArgs) -> Result<(), CliError> {
    let refused = [
        (args.ipv4 == Some(false), "--ipv4=false", "networks always have IPv4 addresses"),
        (args.scope.as_deref().is_some_and(|scope| scope != "local"), "--scope", "the only scope is local"),
        (
            args.ipam_driver.as_deref().is_some_and(|driver| driver != "default"),
            "--ipam-driver",
            "addresses are given out by ourselves",
        ),
        (!args.ipam_opt.is_empty(), "--ipam-opt", "addresses are given out by ourselves"),
        (args.ingress, "--ingress", "there is no cluster"),
        (
            args.config_only || args.config_from.is_some(),
            "--config-only and --config-from",
            "say all of it here",
        ),
    ];
    unsupported(&refused)
}

/// Refuses the first flag that was given of those that are not supported.
fn unsupported(flags: &[(bool, &'static str, &'static str)]) -> Result<(), CliError> {
    match flags.iter().find(|(given, ..)| *given) {
        Some((_, flag, why)) => Err(CliError::usage(format!("not supported: {flag}"), why)),
        None => Ok(()),
    }
}

fn connect(store: &StoreChoice, args: &NetworkConnectArgs) -> Result<ExitCode, CliError> {
    let wanted = NetworkUse {
        network: args.network.clone(),
        aliases: args.aliases.clone(),
        address: args.ip,
        address6: args.ip6,
        gateway_priority: args.gw_priority,
        options: pairs(&args.options),
        link_local: args.link_local.clone(),
        links: args.links.iter().map(|text| link(text)).collect(),
        ..NetworkUse::default()
    };
    open(store)?.connect_network(&args.container, &wanted)?;
    Ok(ExitCode::SUCCESS)
}

fn list(store: &StoreChoice, args: &NetworkLsArgs) -> Result<ExitCode, CliError> {
    let filters = NetworkFilters::parse(&args.filters)?;
    let engine = open(store)?;
    let mut networks = Vec::new();
    for network in engine.networks()? {
        if filters.fit(&engine, &network)? {
            networks.push(network);
        }
    }
    let id = |network: &Network| match args.no_trunc {
        true => network.id.clone(),
        false => network.id[..SHORT].to_owned(),
    };
    if args.quiet {
        networks.iter().for_each(|network| print_line(&id(network)));
    } else if let Some(format) = args.format.as_deref().filter(|format| *format != "table") {
        let rows: Vec<Value> = networks.iter().map(|network| row(network, &id(network))).collect();
        let columns = Columns {
            template: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
            titles: &[("ID", "NETWORK ID")],
        };
        listing::show(&rows, Some(format), &columns)?;
    } else {
        let row = |network: &Network| {
            vec![id(network), network.name.clone(), network.driver.to_owned(), "local".to_owned()]
        };
        let rows: Vec<Vec<String>> = networks.iter().map(row).collect();
        print(&table::render(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"], &rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a format can use, with Docker's names.
fn row(network: &Network, id: &str) -> Value {
    let labels: Vec<String> =
        network.labels().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let definition = network.defined.as_ref().map(|defined| &defined.definition);
    json!({
        "CreatedAt": network.created_at.map_or(NEVER.to_owned(), |time| time.to_string()),
        "Driver": network.driver,
        "ID": id,
        "IPv4": "true",
        "IPv6": definition.is_some_and(|definition| definition.subnet6.is_some()).to_string(),
        "Internal": definition.is_some_and(|definition| definition.internal).to_string(),
        "Labels": labels.join(","),
        "Name": network.name,
        "Scope": "local",
    })
}

fn inspect(store: &StoreChoice, args: &NetworkInspectArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    show(&args.networks, args.format.as_deref(), |name| {
        Ok(documents::networks::document(&engine, &engine.find_network(name)?)?)
    })
}

fn remove(store: &StoreChoice, args: &NetworkRmArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    each(&args.networks, |name| match engine.remove_network(name) {
        Err(error) if args.force && error.is_missing_network() => Ok(()),
        result => result,
    })
}

fn prune_networks(store: &StoreChoice, args: &PruneArgs) -> Result<ExitCode, CliError> {
    let filters = Filters::parse_for_images(&args.filters, now())?;
    prune::confirm(UNUSED, args, "network prune")?;
    let removed = open(store)?.prune_networks(|network| {
        let is_old = filters.until.is_none_or(|until| network.created_at.is_some_and(|made| made < until));
        is_old && filters.labels.iter().all(|label| label.fits(&network.labels()))
    })?;
    prune::show_names("Deleted Networks:", &removed);
    Ok(ExitCode::SUCCESS)
}

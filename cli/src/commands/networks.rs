//! `lap network`: networks that containers find each other in.

use std::collections::BTreeMap;
use std::process::ExitCode;

use engine::Engine;
use engine::networks::{LeaseRecord, Network};
use engine::prune::LabelFilter;
use engine::request::{NetworkCreation, NetworkUse};
use serde_json::{Value, json};

use super::containers::{each, show};
use super::{StoreChoice, now, open, prune};
use crate::error::CliError;
use crate::filter::{Filters, label};
use crate::listing::{self, Columns};
use crate::network_args::link;
use crate::network_commands::{
    NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkInspectArgs, NetworkLsArgs, NetworkRmArgs,
};
use crate::pairs::pairs;
use crate::prune_args::PruneArgs;
use crate::table;
use crate::terminal::{print, print_line};

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

/// What is to be listed. One of each kind has to fit, and all labels.
#[derive(Debug, Default)]
struct NetworkFilters {
    dangling: Option<bool>,
    custom: Option<bool>,
    drivers: Vec<String>,
    ids: Vec<String>,
    names: Vec<String>,
    scopes: Vec<String>,
    labels: Vec<LabelFilter>,
}

impl NetworkFilters {
    fn parse(texts: &[String]) -> Result<Self, CliError> {
        let mut filters = Self::default();
        for text in texts {
            let owned = |value: &str| value.to_owned();
            match text.split_once('=') {
                Some(("dangling", "true" | "1")) => filters.dangling = Some(true),
                Some(("dangling", "false" | "0")) => filters.dangling = Some(false),
                Some(("type", "custom")) => filters.custom = Some(true),
                Some(("type", "builtin")) => filters.custom = Some(false),
                Some(("driver", driver)) => filters.drivers.push(owned(driver)),
                Some(("id", id)) => filters.ids.push(owned(id)),
                Some(("name", name)) => filters.names.push(owned(name)),
                Some(("scope", scope)) => filters.scopes.push(owned(scope)),
                Some(("label", value)) => filters.labels.push(label(value, true)),
                Some(("label!", value)) => filters.labels.push(label(value, false)),
                _ => {
                    let hint = "the filters are dangling=true|false, driver, id, label, name, scope \
                                and type=custom|builtin";
                    return Err(CliError::usage(format!("invalid filter '{text}'"), hint));
                }
            }
        }
        Ok(filters)
    }

    fn fit(&self, engine: &Engine, network: &Network) -> Result<bool, CliError> {
        let one_of =
            |wanted: &[String], fits: &dyn Fn(&String) -> bool| wanted.is_empty() || wanted.iter().any(fits);
        let fits = one_of(&self.names, &|name| network.name.contains(name.as_str()))
            && one_of(&self.ids, &|id| network.id.starts_with(id.as_str()))
            && one_of(&self.drivers, &|driver| driver == network.driver)
            && one_of(&self.scopes, &|scope| scope == "local")
            && self.custom.is_none_or(|custom| custom != network.is_predefined())
            && self.labels.iter().all(|label| label.fits(&network.labels()));
        Ok(fits
            && match self.dangling {
                None => true,
                Some(dangling) => {
                    let is_unused = !network.is_predefined() && engine.network_users(network)?.is_empty();
                    is_unused == dangling
                }
            })
    }
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
    show(&args.networks, args.format.as_deref(), |name| document(&engine, &engine.find_network(name)?))
}

/// A network in Docker's shape.
pub(crate) fn document(engine: &Engine, network: &Network) -> Result<Value, CliError> {
    let live = engine.live_network(network)?;
    let defined = network.defined.as_ref();
    let definition = defined.map(|defined| &defined.definition);
    let subnet = definition.and_then(|asked| asked.subnet).or(live.as_ref().map(|live| live.subnet));
    let subnet6 = match definition {
        Some(asked) => asked.subnet6,
        None => live.as_ref().and_then(|live| live.subnet6),
    };
    let mut configs = Vec::new();
    if let Some(subnet) = subnet {
        let gateway = definition.and_then(|asked| asked.gateway).unwrap_or_else(|| subnet.gateway());
        let mut config = json!({ "Subnet": subnet.to_string(), "Gateway": gateway.to_string() });
        if let Some(range) = definition.and_then(|asked| asked.range) {
            config["IPRange"] = range.to_string().into();
        }
        if let Some(defined) = defined.filter(|defined| !defined.auxiliary.is_empty()) {
            config["AuxiliaryAddresses"] = json!(defined.auxiliary);
        }
        configs.push(config);
    }
    configs.extend(
        subnet6
            .map(|subnet| json!({ "Subnet": subnet.to_string(), "Gateway": subnet.gateway().to_string() })),
    );
    let mut containers = serde_json::Map::new();
    for lease in live.iter().flat_map(|live| &live.leases) {
        // One that runs in the foreground may be gone by now.
        let name = engine.container(&lease.container).map(|container| container.name).unwrap_or_default();
        let length = live.as_ref().map_or(0, |live| live.subnet.length());
        containers.insert(lease.container.clone(), endpoint(lease, &name, length));
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created_at.map_or(NEVER.to_owned(), |time| time.to_string()),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": true,
        "EnableIPv6": subnet6.is_some(),
        "IPAM": { "Driver": "default", "Options": {}, "Config": configs },
        "Internal": definition.is_some_and(|asked| asked.internal),
        "Attachable": defined.is_some_and(|defined| defined.attachable),
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": defined.map(|defined| defined.options.clone()).unwrap_or_default(),
        "Labels": network.labels(),
    }))
}

/// What a container has in a network.
fn endpoint(lease: &LeaseRecord, name: &str, length: u8) -> Value {
    json!({
        "Name": name,
        "IPv4Address": format!("{}/{length}", lease.address),
        "IPv6Address": lease.address6.map_or(String::new(), |address| format!("{address}/64")),
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

//! `--filter` of `lap ps`.

use base::Timestamp;
use engine::containers::Container;
use engine::network::ContainerPort;
use engine::prune::LabelFilter;

use super::{FilterError, label};

/// All filters of one command. What is shown fits one of each kind, and all labels.
#[derive(Debug, Default)]
pub struct ContainerFilters {
    ids: Vec<String>,
    names: Vec<String>,
    statuses: Vec<String>,
    exited: Vec<i32>,
    ancestors: Vec<String>,
    healths: Vec<String>,
    volumes: Vec<String>,
    networks: Vec<String>,
    published: Vec<PortRange>,
    exposed: Vec<PortRange>,
    labels: Vec<LabelFilter>,
    /// Something is asked for that no container is.
    none: bool,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

/// The statuses that a container can be asked for to have.
const STATUSES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl ContainerFilters {
    /// Reads filters; `containers` are all that there are.
    pub fn parse(texts: &[String], containers: &[Container]) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        for text in texts {
            let (name, value) = text.split_once('=').ok_or_else(|| bad(text, "it has no ="))?;
            let owned = value.to_owned();
            match name {
                "id" => filters.ids.push(owned),
                "name" => filters.names.push(owned),
                "status" if STATUSES.contains(&value) => filters.statuses.push(owned),
                "status" => return Err(bad(text, "there is no such status")),
                "exited" => {
                    filters.exited.push(value.parse().map_err(|_| bad(text, "that is no exit code"))?);
                }
                "ancestor" => filters.ancestors.push(owned),
                "health" => filters.healths.push(owned),
                "volume" => filters.volumes.push(owned),
                "network" => filters.networks.push(owned),
                "publish" => filters.published.push(ports(text, value)?),
                "expose" => filters.exposed.push(ports(text, value)?),
                // There are no services, so that no container is a task of one.
                "is-task" => match base::boolean::parse(value) {
                    Some(task) => filters.none |= task,
                    None => return Err(bad(text, "it is true or false")),
                },
                "label" => filters.labels.push(label(value, true)),
                "label!" => filters.labels.push(label(value, false)),
                "before" => filters.before = Some(made(text, value, containers)?),
                "since" => filters.since = Some(made(text, value, containers)?),
                _ => return Err(bad(text, "there is no such filter")),
            }
        }
        Ok(filters)
    }

    /// Whether containers that do not run are asked for.
    pub fn is_about_status(&self) -> bool {
        !self.statuses.is_empty() || !self.exited.is_empty()
    }

    /// Whether a container is to be shown.
    pub fn fit(&self, container: &Container) -> bool {
        let state = &container.state;
        let health = state.health.as_ref().map_or("none", |health| health.status.name());
        one_of(&self.ids, |id| container.id.starts_with(id.as_str()))
            && one_of(&self.names, |name| container.name.contains(name.trim_matches(['^', '$', '/'])))
            && one_of(&self.statuses, |status| status == state.status.name())
            && one_of(&self.exited, |code| {
                *code == state.exit_code && state.status == engine::containers::Status::Exited
            })
            && one_of(&self.ancestors, |image| is_from(container, image))
            && one_of(&self.healths, |wanted| wanted == health)
            && one_of(&self.volumes, |wanted| has_mount(container, wanted))
            && one_of(&self.networks, |wanted| is_in_network(container, wanted))
            && one_of(&self.published, |wanted| publishes(container, wanted))
            && one_of(&self.exposed, |wanted| wanted.fits_any(container.document.exposed.iter()))
            && !self.none
            && self.labels.iter().all(|label| label.fits(&container.document.labels))
            && self.before.is_none_or(|before| container.created_at < before)
            && self.since.is_none_or(|since| container.created_at > since)
    }
}

/// Whether no value was given, or one of them fits.
fn one_of<T>(values: &[T], fits: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(fits)
}

/// Whether a container was made from an image, by the name that was used, by its id or the beginning of it.
fn is_from(container: &Container, image: &str) -> bool {
    let used = &container.document.image;
    let id = container.image_id.to_string();
    let is_id = id.starts_with(image) || id.trim_start_matches("sha256:").starts_with(image);
    used == image || used.strip_suffix(":latest") == Some(image) || is_id
}

/// Whether a container shows a volume, or something at this place.
fn has_mount(container: &Container, wanted: &str) -> bool {
    let mut mounts = container.document.mounts.iter();
    mounts.any(|point| {
        point.volume.as_deref() == Some(wanted)
            || point.target == wanted
            || point.source.as_os_str() == wanted
    })
}

/// Whether a container is in a network of this name or id. One that does not run is in the one that it was made for.
fn is_in_network(container: &Container, wanted: &str) -> bool {
    let state = &container.state;
    let mut joined =
        state.network.iter().chain(&state.further_networks).filter_map(|endpoint| endpoint.network.as_ref());
    container.document.network == wanted
        || joined.any(|network| network.name == wanted || network.id.starts_with(wanted))
}

/// Whether the host offers a port of a container, or was to offer it.
fn publishes(container: &Container, wanted: &PortRange) -> bool {
    wanted.fits_any(container.document.publish.iter().map(|publish| &publish.container))
}

/// Ports of a container, of one transport.
#[derive(Debug)]
struct PortRange {
    first: ContainerPort,
    last: u16,
}

impl PortRange {
    fn fits_any<'a>(&self, mut ports: impl Iterator<Item = &'a ContainerPort>) -> bool {
        let range = self.first.number..=self.last;
        ports.any(|port| port.transport == self.first.transport && range.contains(&port.number))
    }
}

/// `80`, `80/udp` or `8000-8080/tcp`.
fn ports(filter: &str, text: &str) -> Result<PortRange, FilterError> {
    let invalid = || bad(filter, "that is no port or range of ports");
    let (numbers, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let first: ContainerPort = format!("{first}/{transport}").parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    if last < first.number { Err(invalid()) } else { Ok(PortRange { first, last }) }
}

fn made(text: &str, name: &str, containers: &[Container]) -> Result<Timestamp, FilterError> {
    let found = containers.iter().find(|container| container.name == name || container.id.starts_with(name));
    found.map(|container| container.created_at).ok_or_else(|| bad(text, "there is no such container"))
}

fn bad(text: &str, why: &str) -> FilterError {
    FilterError::new(
        format!("invalid filter '{text}': {why}"),
        "the filters are id, name, label, status, exited, ancestor, health, volume, network, publish, expose, is-task, before and since",
    )
}

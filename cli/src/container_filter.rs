//! `--filter` of `lap ps`.

use base::Timestamp;
use engine::containers::Container;
use engine::prune::LabelFilter;

use crate::error::CliError;
use crate::filter::label;

/// All filters of one command. What is shown fits one of each kind, and all labels.
#[derive(Debug, Default)]
pub(crate) struct ContainerFilters {
    ids: Vec<String>,
    names: Vec<String>,
    statuses: Vec<String>,
    exited: Vec<i32>,
    ancestors: Vec<String>,
    healths: Vec<String>,
    labels: Vec<LabelFilter>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

/// The statuses that a container can be asked for to have.
const STATUSES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl ContainerFilters {
    /// Reads filters; `containers` are all that there are.
    pub(crate) fn parse(texts: &[String], containers: &[Container]) -> Result<Self, CliError> {
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
    pub(crate) fn is_about_status(&self) -> bool {
        !self.statuses.is_empty() || !self.exited.is_empty()
    }

    /// Whether a container is to be shown.
    pub(crate) fn fit(&self, container: &Container) -> bool {
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

fn made(text: &str, name: &str, containers: &[Container]) -> Result<Timestamp, CliError> {
    let found = containers.iter().find(|container| container.name == name || container.id.starts_with(name));
    found.map(|container| container.created_at).ok_or_else(|| bad(text, "there is no such container"))
}

fn bad(text: &str, why: &str) -> CliError {
    CliError::usage(
        format!("invalid filter '{text}': {why}"),
        "the filters are id, name, label, status, exited, ancestor, health, before and since",
    )
}

//! The networks and volumes of a project.

use std::collections::BTreeMap;

use compose::flags::label;
use compose::{Project, Service};
use engine::Engine;
use engine::request::{NetworkCreation, VolumeSettings};

use super::super::{networks, parsed, volumes};
use crate::error::CliError;
use crate::network_commands::NetworkCreateArgs;
use crate::terminal::complain;
use crate::volume_args::VolumeCreateArgs;

/// Makes what services need and is not there.
pub(super) fn make(engine: &Engine, project: &Project, services: &[&Service]) -> Result<(), CliError> {
    for (key, network) in project.used_networks(services) {
        let found = match engine.find_network(&network.name) {
            Ok(found) => Some(found),
            Err(error) if error.is_missing_network() => None,
            Err(error) => return Err(error.into()),
        };
        match found {
            Some(_) => {}
            None if network.external => {
                let message =
                    format!("network {} declared as external, but could not be found", network.name);
                return Err(CliError::failed_with_hint(
                    message,
                    &format!("make it with lap network create {}", network.name),
                ));
            }
            None => {
                let words = [vec![network.name.clone()], network.words()].concat();
                let asked = networks::creation(&parsed::<NetworkCreateArgs>("network", &words)?)?;
                let labels = labels(project, (label::NETWORK, key), asked.labels);
                engine.create_network(&NetworkCreation { labels, ..asked })?;
                complain(&format!(" Network {}  Created", network.name));
            }
        }
    }
    for (key, volume) in project.used_volumes(services) {
        let found = match engine.volume(&volume.name) {
            Ok(found) => Some(found),
            Err(error) if error.is_missing_volume() => None,
            Err(error) => return Err(error.into()),
        };
        match found {
            Some(_) => {}
            None if volume.external => {
                let message = format!("external volume \"{}\" not found", volume.name);
                return Err(CliError::failed_with_hint(
                    message,
                    &format!("make it with lap volume create {}", volume.name),
                ));
            }
            None => {
                let words = [volume.words(), vec![volume.name.clone()]].concat();
                let settings = volumes::settings(&parsed::<VolumeCreateArgs>("volume", &words)?)?;
                let labels = labels(project, (label::VOLUME, key), settings.labels);
                engine.create_volume(Some(&volume.name), &VolumeSettings { labels, ..settings })?;
                complain(&format!(" Volume {}  Created", volume.name));
            }
        }
    }
    Ok(())
}

fn labels(
    project: &Project,
    own: (&str, &str),
    mut labels: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for (name, value) in [(label::PROJECT, project.name.as_str()), own] {
        labels.insert(name.to_owned(), value.to_owned());
    }
    labels
}

/// Whether something was made for a project.
fn is_of(labels: &BTreeMap<String, String>, project: &str) -> bool {
    labels.get(label::PROJECT).is_some_and(|name| name == project)
}

/// Removes the networks that were made for a project. One that somebody else uses stays, which is told.
pub(super) fn remove_networks(engine: &Engine, project: &str) -> Result<(), CliError> {
    for network in engine.networks()?.into_iter().filter(|network| is_of(&network.labels(), project)) {
        // A network goes although stopped containers are in it, which could not be started any more.
        let users = engine.network_users(&network)?;
        if !users.is_empty() {
            complain(&format!(" Network {}  Resource is still in use", network.name));
            continue;
        }
        engine.remove_network(&network.id)?;
        complain(&format!(" Network {}  Removed", network.name));
    }
    Ok(())
}

/// Removes the volumes that were made for a project.
pub(super) fn remove_volumes(engine: &Engine, project: &str) -> Result<(), CliError> {
    for volume in engine.volumes()?.into_iter().filter(|volume| is_of(&volume.labels, project)) {
        if !engine.volume_users(&volume.name)?.is_empty() {
            complain(&format!(" Volume {}  Resource is still in use", volume.name));
            continue;
        }
        engine.remove_volume(&volume.name)?;
        complain(&format!(" Volume {}  Removed", volume.name));
    }
    Ok(())
}

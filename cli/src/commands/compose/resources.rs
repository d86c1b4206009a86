//! The networks and volumes of a project.

use std::collections::BTreeMap;

use compose::flags::label;
use compose::{Project, Service};
use engine::Engine;
use engine::request::{NetworkCreation, VolumeSettings};

use super::super::{networks, parsed, volumes};
use super::acting::Acting;
use super::scope::members;
use crate::error::CliError;
use crate::network_commands::NetworkCreateArgs;
use crate::volume_args::VolumeCreateArgs;

/// Makes what services need and is not there.
pub(super) fn make(
    engine: &Engine,
    acting: Acting,
    project: &Project,
    services: &[&Service],
) -> Result<(), CliError> {
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
                acting.act(|| engine.create_network(&NetworkCreation { labels, ..asked }).map(drop))?;
                acting.tell(&format!(" Network {}  Created", network.name));
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
                let settings = VolumeSettings { labels, ..settings };
                acting.act(|| engine.create_volume(Some(&volume.name), &settings).map(drop))?;
                acting.tell(&format!(" Volume {}  Created", volume.name));
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

/// Whether nobody uses something any more. When things are only told, the project's own containers count as removed.
fn gone(engine: &Engine, acting: Acting, project: &str, users: &[String]) -> Result<bool, CliError> {
    if !acting.is_dry() {
        return Ok(users.is_empty());
    }
    let own = members(engine, project)?;
    Ok(users.iter().all(|user| own.iter().any(|member| member.container.id == *user)))
}

/// Removes the networks that were made for a project. One that somebody else uses stays, which is told.
pub(super) fn remove_networks(engine: &Engine, acting: Acting, project: &str) -> Result<(), CliError> {
    for network in engine.networks()?.into_iter().filter(|network| is_of(&network.labels(), project)) {
        // A network goes although stopped containers are in it, which could not be started any more.
        let users = engine.network_users(&network)?;
        if !gone(engine, acting, project, &users)? {
            acting.tell(&format!(" Network {}  Resource is still in use", network.name));
            continue;
        }
        acting.act(|| engine.remove_network(&network.id))?;
        acting.tell(&format!(" Network {}  Removed", network.name));
    }
    Ok(())
}

/// Removes the volumes that were made for a project.
pub(super) fn remove_volumes(engine: &Engine, acting: Acting, project: &str) -> Result<(), CliError> {
    for volume in engine.volumes()?.into_iter().filter(|volume| is_of(&volume.labels, project)) {
        if !gone(engine, acting, project, &engine.volume_users(&volume.name)?)? {
            acting.tell(&format!(" Volume {}  Resource is still in use", volume.name));
            continue;
        }
        acting.act(|| engine.remove_volume(&volume.name))?;
        acting.tell(&format!(" Volume {}  Removed", volume.name));
    }
    Ok(())
}

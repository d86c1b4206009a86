//! What the supervisor of a container tells, as events.

use std::path::Path;

use runner::network::endpoint::NetworkName;
use runner::shim::health::HealthStatus;
use runner::shim::news::{News, Teller};

use super::{Attributes, EventLog, attributes};
use crate::containers::{ContainerDocument, MountPoint};
use crate::networks;
use crate::volumes;

/// Writes down what happens to one container.
#[derive(Debug)]
pub(crate) struct ContainerTeller {
    log: EventLog,
    id: String,
    /// Its labels, its name and its image.
    attributes: Attributes,
    /// The volumes that it shows.
    volumes: Vec<MountPoint>,
}

impl ContainerTeller {
    /// Tells of the container with this id and name, whose directory has the document. One whose document cannot be read
    /// has no attributes.
    pub(crate) fn new(root: &Path, id: &str, name: &str, directory: &Path) -> Self {
        let document = ContainerDocument::read(directory).ok();
        Self::of(root, id, name, document.as_ref())
    }

    /// The same, of one whose document is known.
    pub(crate) fn of(root: &Path, id: &str, name: &str, document: Option<&ContainerDocument>) -> Self {
        let mut attributes = document.map(|document| document.labels.clone()).unwrap_or_default();
        let image = document.map(|document| document.image.clone()).unwrap_or_default();
        attributes.extend([("image".to_owned(), image), ("name".to_owned(), name.to_owned())]);
        let mounts = document.map(|document| document.mounts.as_slice()).unwrap_or_default();
        let volumes = mounts.iter().filter(|point| point.volume.is_some()).cloned().collect();
        Self { log: EventLog::of(root), id: id.to_owned(), attributes, volumes }
    }

    /// Tells that something was done to the container itself.
    pub(crate) fn add<const COUNT: usize>(&self, action: &str, more: [(&str, &str); COUNT]) {
        let mut all = self.attributes.clone();
        all.extend(attributes(more));
        self.log.add("container", action, &self.id, all);
    }

    fn add_network(&self, action: &str, network: Option<NetworkName>) {
        let usual = || networks::DRIVER.to_owned();
        let (id, name, driver) = match network {
            // What an earlier version wrote down has no driver.
            Some(network) if network.driver.is_empty() => (network.id, network.name, usual()),
            Some(network) => (network.id, network.name, network.driver),
            None => (networks::default_id(), usual(), usual()),
        };
        let attributes = attributes([("container", &self.id), ("name", &name), ("type", &driver)]);
        self.log.add("network", action, &id, attributes);
    }

    fn add_volumes(&self, action: &str) {
        for point in &self.volumes {
            let Some(name) = &point.volume else { continue };
            let mut all = attributes([("container", &self.id), ("driver", volumes::DRIVER)]);
            if action == "mount" {
                let writable = point.writable.to_string();
                all.extend(attributes([
                    ("destination", &point.target),
                    ("propagation", &point.propagation),
                    ("read/write", &writable),
                ]));
            }
            self.log.add("volume", action, name, all);
        }
    }
}

impl Teller for ContainerTeller {
    fn tell(&mut self, news: News) {
        match news {
            News::JoinedNetwork(network) => self.add_network("connect", network),
            News::LeftNetwork(network) => self.add_network("disconnect", network),
            News::Started => {
                self.add_volumes("mount");
                self.add("start", []);
            }
            News::Killed(signal) => self.add("kill", [("signal", &signal.to_string())]),
            News::OutOfMemory => self.add("oom", []),
            News::Died { code, ran } => {
                let (code, ran) = (code.to_string(), ran.as_secs().to_string());
                self.add("die", [("execDuration", &ran), ("exitCode", &code)]);
                self.add_volumes("unmount");
            }
            News::Stopped => self.add("stop", []),
            News::Restarted => self.add("restart", []),
            News::Paused => self.add("pause", []),
            News::Unpaused => self.add("unpause", []),
            News::Attached => self.add("attach", []),
            News::Detached => self.add("detach", []),
            News::Updated => self.add("update", []),
            News::Resized(size) => {
                let (height, width) = (size.rows.to_string(), size.columns.to_string());
                self.add("resize", [("height", &height), ("width", &width)]);
            }
            News::Health(status) => {
                let word = match status {
                    HealthStatus::Starting => "starting",
                    HealthStatus::Healthy => "healthy",
                    HealthStatus::Unhealthy => "unhealthy",
                };
                self.add(&format!("health_status: {word}"), []);
            }
            News::ExecStarted { id, command } => {
                for action in ["exec_create", "exec_start"] {
                    self.add(&format!("{action}: {command}"), [("execID", &id)]);
                }
            }
            News::ExecDied { id, code } => {
                self.add("exec_die", [("execID", &id), ("exitCode", &code.to_string())]);
            }
        }
    }

    fn renamed(&mut self, name: String) {
        self.attributes.insert("name".to_owned(), name);
    }
}

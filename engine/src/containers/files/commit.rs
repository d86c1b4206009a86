//! An image of a container: the layers of its image, one more with what it has changed, and its config.

use std::collections::BTreeMap;

use base::image::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, Manifest, media_type};
use base::{CancelToken, Digest, Reference};
use runner::shim::health::HealthCheck;
use runner::shim::{Client, Config, Request, ShimError, Status};
use snapshotter::{ContainerRecord, LayerBlob, Lease};

use super::super::{Container, ContainerDocument};
use crate::assemble::{self, oci_layer};
use crate::error::EngineError;
use crate::{Engine, changes};

/// How a command line of a health check is run.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// What image is made of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// The container.
    pub container: String,
    /// The name of the image.
    pub name: Option<Reference>,
    /// Who makes it.
    pub author: String,
    /// The comment in its history.
    pub message: String,
    /// Instructions of a Dockerfile that change its config.
    pub changes: Vec<String>,
    /// Keep the container from changing files meanwhile.
    pub pause: bool,
}

/// An image that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its id.
    pub id: Digest,
    /// Whether the container was kept from changing files meanwhile.
    pub pause: Paused,
}

/// How a container was kept from changing files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// It did not run, nobody wanted it, or it was frozen by its control group.
    AsWanted,
    /// It has no control group; its processes were stopped by signals, which they can see.
    BySignals,
    /// It went on, and why.
    NotAtAll(String),
}

impl Engine {
    /// Makes an image of a container, and gives its id. One that runs is paused meanwhile if that is wanted and possible.
    ///
    /// # Errors
    /// There is no such container, its image is gone, a change cannot be made, or files cannot be read. The store is as
    /// before then.
    pub fn commit_container(
        &self,
        request: &CommitRequest,
        cancel: &CancelToken,
    ) -> Result<Committed, EngineError> {
        let record = self.find_container(&request.container)?;
        let container = self.container(&record.id)?;
        let lease = self.store.lease("commit")?;
        let image = self.find_and_hold(&lease, &record.image.to_string())?.image;
        // Mistakes in the changes show before anything is paused.
        let config = self.config_of(&container, image.config.clone())?;
        let mut config = changes::apply(config, &request.changes)?;
        assemble::complete(&mut config, image.manifest.layers.len());
        let (layer, pause) = self.changed_layer(&lease, &record, request.pause, cancel)?;
        let created = Some(self.clock.now());
        config.created = created;
        config.author.clone_from(&request.author);
        config.history.push(History {
            created,
            created_by: command_after_entrypoint(&container.document).join(" "),
            author: request.author.clone(),
            comment: request.message.clone(),
            empty_layer: layer.is_none(),
        });
        let mut layers = image.manifest.layers.clone();
        for layer in &mut layers {
            layer.media_type = oci_layer(&layer.media_type).to_owned();
        }
        if let Some(layer) = layer {
            config.rootfs.diff_ids.push(layer.diff_id);
            layers.push(layer.descriptor);
        }
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config: assemble::document(self, &lease, media_type::OCI_CONFIG, &config)?,
            layers,
            annotations: BTreeMap::new(),
        };
        let target = assemble::document(self, &lease, media_type::OCI_MANIFEST, &manifest)?;
        match &request.name {
            Some(name) => self.store.tag(&name.to_string(), &target)?,
            None => self.store.tag_dangling(&target)?,
        }
        self.store.sync()?;
        let (id, name) = (manifest.config.digest, request.name.as_ref().map(Reference::familiar));
        let of_image = [
            ("comment", request.message.as_str()),
            ("imageID", &id.to_string()),
            ("imageRef", name.as_deref().unwrap_or_default()),
        ];
        self.tell_of_container(&record.id, "commit", of_image);
        Ok(Committed { id, pause })
    }

    /// What a container has changed, as a layer that is unpacked, and how the container was paused meanwhile.
    fn changed_layer(
        &self,
        lease: &Lease,
        record: &ContainerRecord,
        pause: bool,
        cancel: &CancelToken,
    ) -> Result<(Option<LayerBlob>, Paused), EngineError> {
        let base = self.store.container_base(record)?;
        base.map_or(Ok(()), |base| self.store.hold(lease, base))?;
        let (pause, how) = if pause { self.pause_for_a_while(record)? } else { (None, Paused::AsWanted) };
        let hidden = self.hidden(record)?;
        let layer = self.store.container_layer(lease, record, &hidden, cancel)?;
        pause.map_or(Ok(()), Pause::end)?;
        if let Some(layer) = &layer {
            self.store.apply_layer(lease, base, &layer.descriptor, Some(&layer.diff_id), cancel)?;
        }
        Ok((layer, how))
    }

    /// Pauses a container that runs: by its control group, else by stopping its processes.
    fn pause_for_a_while(&self, record: &ContainerRecord) -> Result<(Option<Pause>, Paused), EngineError> {
        if self.container(&record.id)?.state.status != Status::Running {
            return Ok((None, Paused::AsWanted));
        }
        let Some(mut client) = self.supervisor(&record.id)? else { return Ok((None, Paused::AsWanted)) };
        match client.ask(&Request::Pause) {
            Ok(_) => Ok((Some(Pause { client: Some(client), end: Request::Resume }), Paused::AsWanted)),
            Err(ShimError::Refused { .. }) => match client.ask(&Request::Halt) {
                Ok(_) => Ok((Some(Pause { client: Some(client), end: Request::GoOn }), Paused::BySignals)),
                Err(ShimError::Refused { message, .. }) => Ok((None, Paused::NotAtAll(message))),
                Err(ShimError::Gone) => Ok((None, Paused::AsWanted)),
                Err(error) => Err(error.into()),
            },
            // It has ended meanwhile.
            Err(ShimError::Gone) => Ok((None, Paused::AsWanted)),
            Err(error) => Err(error.into()),
        }
    }

    /// The config of its image as the container has it.
    fn config_of(&self, container: &Container, image: ImageConfig) -> Result<ImageConfig, EngineError> {
        let directory = self.store.container_path(&container.id);
        let known = Config::is_written(&directory)?.then(|| Config::read(&directory)).transpose()?;
        let document = &container.document;
        let home = self.home_of(container)?;
        let command = command_after_entrypoint(document);
        let before = image.config;
        let config = ContainerConfig {
            user: document.user.clone(),
            exposed_ports: document.exposed.iter().map(|port| (port.to_string(), Empty {})).collect(),
            env: lasting_variables(document, &before.env, home.as_deref()),
            entrypoint: document.entrypoint.clone().filter(|words| !words.is_empty()),
            cmd: (!command.is_empty()).then(|| command.to_vec()),
            working_dir: if before.working_dir.is_empty() && document.working_dir == "/" {
                String::new()
            } else {
                document.working_dir.clone()
            },
            labels: document.labels.clone(),
            stop_signal: if before.stop_signal.is_empty() && document.stop_signal == DEFAULT_SIGNAL {
                String::new()
            } else {
                document.stop_signal.clone()
            },
            healthcheck: match known {
                Some(known) => healthcheck(before.healthcheck, known.health.as_ref()),
                None => before.healthcheck,
            },
            // They were carried out, or belong to builds that start from the image before.
            on_build: Vec::new(),
            ..before
        };
        Ok(ImageConfig { config, ..image })
    }

    /// The home directory of a container's user, if that is known.
    fn home_of(&self, container: &Container) -> Result<Option<String>, EngineError> {
        let tree = snapshotter::Tree::overlay(self.store.container_view(&container.id)?)?;
        let user = crate::run::resolve_user(Some(&tree), &container.document.user);
        Ok(user.ok().map(|user| user.home))
    }
}

/// The signal that asks containers to end if nothing else is said.
const DEFAULT_SIGNAL: &str = "SIGTERM";

/// A container that goes on when this is dropped.
struct Pause {
    client: Option<Client>,
    /// What lets it go on.
    end: Request,
}

impl Pause {
    fn end(mut self) -> Result<(), EngineError> {
        match self.client.take().map(|mut client| client.ask(&self.end)) {
            // Somebody was faster, or has killed it.
            None | Some(Ok(_) | Err(ShimError::Gone | ShimError::Refused { .. })) => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // What failed before is told.
        let _ = self.client.take().map(|mut client| client.ask(&self.end));
    }
}

/// The part of the command line that is not the entry point.
fn command_after_entrypoint(document: &ContainerDocument) -> &[String] {
    let start = document.entrypoint.as_ref().map_or(0, Vec::len);
    document.command.get(start..).unwrap_or_default()
}

/// The variables of a container without those that every container is given when it starts.
fn lasting_variables(document: &ContainerDocument, image: &[String], home: Option<&str>) -> Vec<String> {
    let given = [
        format!("PATH={}", runner::DEFAULT_PATH),
        format!("HOSTNAME={}", document.hostname),
        "TERM=xterm".to_owned(),
        format!("HOME={}", home.unwrap_or("/")),
    ];
    let name = |entry: &str| entry.split('=').next().map(str::to_owned);
    let is_of_image = |entry: &String| image.iter().any(|known| name(known) == name(entry));
    let lasts = |entry: &&String| is_of_image(entry) || !given.contains(entry);
    // In the order of the image, which those that a container gets by itself come before.
    let mut all: Vec<String> = document.env.iter().filter(lasts).cloned().collect();
    all.sort_by_key(|entry| image.iter().position(|known| name(known) == name(entry)).unwrap_or(usize::MAX));
    all
}

/// The health check of the image if the container has that one, else its own in the form of images.
fn healthcheck(image: Option<Healthcheck>, now: Option<&HealthCheck>) -> Option<Healthcheck> {
    let Some(now) = now else {
        return image.map(|_| Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() });
    };
    let words = |check: &Healthcheck| match check.test.split_first() {
        Some((form, line)) if form == "CMD-SHELL" => {
            SHELL.iter().map(|word| (*word).to_owned()).chain(line.iter().cloned()).collect()
        }
        Some((_, words)) => words.to_vec(),
        None => Vec::new(),
    };
    if let Some(image) = image.filter(|image| words(image) == now.command) {
        return Some(image);
    }
    let nanoseconds = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let (form, words) = match now.command.strip_prefix(&SHELL.map(str::to_owned)[..]) {
        Some(line) => ("CMD-SHELL", line),
        None => ("CMD", now.command.as_slice()),
    };
    let test = std::iter::once(form.to_owned()).chain(words.iter().cloned()).collect();
    Some(Healthcheck {
        test,
        interval: nanoseconds(now.interval),
        timeout: nanoseconds(now.timeout),
        start_period: nanoseconds(now.start_period),
        start_interval: nanoseconds(now.start_interval),
        retries: i64::from(now.retries),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(command: &[&str]) -> HealthCheck {
        HealthCheck {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
            retries: 3,
        }
    }

    fn of_image(test: &[&str]) -> Healthcheck {
        Healthcheck { test: test.iter().map(|word| (*word).to_owned()).collect(), ..Healthcheck::default() }
    }

    #[test]
    fn a_health_check_keeps_its_form() {
        let shell = of_image(&["CMD-SHELL", "curl -f x"]);
        let now = check(&["/bin/sh", "-c", "curl -f x"]);
        assert_eq!(healthcheck(Some(shell.clone()), Some(&now)), Some(shell));
        let own = healthcheck(None, Some(&now)).unwrap();
        assert_eq!(
            (own.test, own.interval, own.retries),
            (vec!["CMD-SHELL".to_owned(), "curl -f x".to_owned()], 1_000_000_000, 3)
        );
        let own = healthcheck(Some(of_image(&["CMD", "true"])), Some(&check(&["false"]))).unwrap();
        assert_eq!(own.test, ["CMD", "false"]);
        assert_eq!(healthcheck(Some(of_image(&["CMD", "true"])), None).unwrap().test, ["NONE"]);
        assert_eq!(healthcheck(None, None), None);
    }
}

//! Making the containers of services what their files say, each after what it waits for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base::CancelToken;
use compose::flags::{self, ContainerSpec, Role, label};
use compose::{Condition, Project, Service};
use engine::Engine;
use engine::containers::{Container, HealthStatus, State, Status};
use engine::request::{FileRequest, MountRequest, MountSource, RunRequest, VolumeMount};

use super::super::run;
use super::acting::Acting;
use super::hooks;
use super::scope::{Member, members};
use crate::error::{CliError, FAILED};
use crate::network_args;
use crate::terminal::complain;

/// When a container that is there is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recreate {
    Never,
    IfChanged,
    Always,
}

/// How services become what they are to be.
pub(super) struct Converge<'a> {
    pub(super) engine: &'a Engine,
    pub(super) acting: Acting,
    pub(super) project: &'a Project,
    pub(super) cancel: &'a CancelToken,
    pub(super) recreate: Recreate,
    /// For services that are not among those that were named.
    pub(super) recreate_needed: Recreate,
    pub(super) named: &'a [String],
    /// How long containers have to end.
    pub(super) timeout: Option<i64>,
    /// Whether anonymous volumes begin anew.
    pub(super) renew_volumes: bool,
    /// Whether containers are started, and not only made.
    pub(super) start: bool,
}

/// What became of a container.
pub(super) struct Started {
    pub(super) member: Member,
    /// Whether it ran before.
    pub(super) ran_before: bool,
}

impl Converge<'_> {
    /// Brings services to what they are to be. `services` are in their order; `started` is told of every container.
    pub(super) fn all(
        &self,
        services: &[&Service],
        started: &mut dyn FnMut(Started),
    ) -> Result<(), CliError> {
        let mut open: Vec<&Service> = services.to_vec();
        let mut remade = BTreeSet::new();
        while !open.is_empty() {
            let names: BTreeSet<&str> = open.iter().map(|service| service.name.as_str()).collect();
            let is_free =
                |service: &&Service| !service.dependencies.keys().any(|name| names.contains(name.as_str()));
            // Whoever need not wait goes first.
            let mut chosen = None;
            for (index, service) in open.iter().enumerate().filter(|(_, service)| is_free(service)) {
                if !self.start || self.needs_nothing(service, services)? {
                    chosen = Some(index);
                    break;
                }
                chosen = chosen.or(Some(index));
                if self.cancel.is_cancelled() {
                    return Err(cancelled());
                }
            }
            let service = open.remove(chosen.unwrap_or(0));
            if self.start {
                self.wait_for_needed(service, services)?;
            }
            if self.service(service, &remade, started)? {
                remade.insert(service.name.clone());
            }
        }
        Ok(())
    }

    /// Starts the containers that services have, each after what it waits for.
    pub(super) fn start_only(&self, services: &[&Service], there: &[Member]) -> Result<(), CliError> {
        for service in services {
            self.wait_for_needed(service, services)?;
            for member in there.iter().filter(|member| member.service == service.name) {
                self.run(member.clone(), member.is_live(), false, &mut |_| {})?;
            }
        }
        Ok(())
    }

    /// Whether all that a service waits for is as it has to be already.
    fn needs_nothing(&self, service: &Service, among: &[&Service]) -> Result<bool, CliError> {
        let waits: Vec<_> = self.waits(service, among);
        if waits.is_empty() {
            return Ok(true);
        }
        let members = members(self.engine, &self.project.name)?;
        Ok(waits.iter().all(|(name, condition)| {
            let mut of = members.iter().filter(|member| member.service == *name && !member.one_off);
            of.all(|member| judged(*condition, &member.container.state).is_some())
        }))
    }

    /// What a service waits for, but for what only has to be started.
    fn waits<'s>(&self, service: &'s Service, among: &[&Service]) -> Vec<(&'s str, Condition)> {
        let waits = service.dependencies.iter().map(|(name, needed)| (name.as_str(), needed.condition));
        waits
            .filter(|(name, condition)| {
                *condition != Condition::Started && among.iter().any(|service| service.name == *name)
            })
            .collect()
    }

    pub(super) fn wait_for_needed(&self, service: &Service, among: &[&Service]) -> Result<(), CliError> {
        if self.acting.is_dry() {
            return Ok(());
        }
        for (name, condition) in self.waits(service, among) {
            let members = members(self.engine, &self.project.name)?;
            for member in members.iter().filter(|member| member.service == name && !member.one_off) {
                let judge = |state: &State| judged(condition, state);
                let id = &member.container.id;
                let outcome = self.engine.wait_for_state(id, self.cancel, judge)?.ok_or_else(cancelled)?;
                let Err(why) = outcome else {
                    let what = if condition == Condition::Completed { "Exited" } else { "Healthy" };
                    complain(&format!(" Container {}  {what}", member.name()));
                    continue;
                };
                let message = match condition {
                    Condition::Completed => format!("service \"{name}\" {why}"),
                    _ => format!("dependency failed to start: container {} {why}", member.name()),
                };
                if service.dependencies.get(name).is_some_and(|needed| needed.required) {
                    return Err(CliError::failed(message));
                }
                complain(&format!("WARNING: optional {message}"));
            }
        }
        Ok(())
    }

    /// Brings one service to what it is to be; answers whether a container was made again.
    fn service(
        &self,
        service: &Service,
        remade: &BTreeSet<String>,
        started: &mut dyn FnMut(Started),
    ) -> Result<bool, CliError> {
        let mut there = members(self.engine, &self.project.name)?;
        there.retain(|member| member.service == service.name && !member.one_off);
        let wanted = usize::try_from(service.replicas).unwrap_or(usize::MAX);
        for member in there.split_off(wanted.min(there.len())).iter().rev() {
            self.acting.act(|| self.remove(member))?;
            self.acting.tell(&format!(" Container {}  Removed", member.name()));
        }
        let changed = |name: &String| remade.contains(name);
        let needs = |check: fn(&compose::Dependency) -> bool| {
            service.dependencies.iter().any(|(name, needed)| check(needed) && changed(name))
        };
        let (must_remake, must_restart) = (needs(|needed| needed.shares), needs(|needed| needed.restart));
        let mut any = false;
        let mut numbers: BTreeSet<u32> = there.iter().map(|member| member.number).collect();
        for member in there {
            let remake = must_remake || self.is_outdated(service, &member)?;
            any |= remake;
            let ran_before = member.is_live() && !remake;
            let member = if remake { self.remake(service, member)? } else { member };
            self.run(member, ran_before, must_restart, started)?;
        }
        while numbers.len() < wanted {
            let number = (1..).find(|number| !numbers.contains(number)).unwrap_or(1);
            numbers.insert(number);
            if self.acting.is_dry() {
                let name = self.spec(service, number)?.name;
                let steps = ["Created", "Started"].into_iter().take(1 + usize::from(self.start));
                steps.for_each(|what| self.acting.tell(&format!(" Container {name}  {what}")));
                continue;
            }
            let request = self.request(service, number, None)?;
            let id = self.create(request.name.as_deref().unwrap_or_default(), &request)?;
            let member = self.member(&id)?;
            complain(&format!(" Container {}  Created", member.name()));
            self.run(member, false, false, started)?;
        }
        Ok(any)
    }

    fn remove(&self, member: &Member) -> Result<(), CliError> {
        hooks::pre_stop(self.engine, Some(self.project), std::slice::from_ref(member))?;
        self.engine.stop_container(&member.container.id, None, self.timeout)?;
        Ok(self.engine.remove_container(&member.container.id, true, true)?)
    }

    fn member(&self, id: &str) -> Result<Member, CliError> {
        let found =
            members(self.engine, &self.project.name)?.into_iter().find(|member| member.container.id == id);
        found.ok_or_else(|| CliError::failed(format!("container {id} was removed by somebody else")))
    }

    /// Starts a container that does not run.
    fn run(
        &self,
        member: Member,
        ran_before: bool,
        restart: bool,
        started: &mut dyn FnMut(Started),
    ) -> Result<(), CliError> {
        if !self.start {
            return Ok(());
        }
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let name = member.name().to_owned();
        if self.acting.is_dry() {
            let what = match (ran_before, restart) {
                (true, false) => "Running",
                (true, true) => "Restarted",
                (false, _) => "Started",
            };
            self.acting.tell(&format!(" Container {name}  {what}"));
            started(Started { member, ran_before });
            return Ok(());
        }
        if ran_before && restart {
            hooks::pre_stop(self.engine, Some(self.project), std::slice::from_ref(&member))?;
        }
        let ran = match (ran_before, restart) {
            (true, false) => Ok("Running"),
            (true, true) => {
                self.engine.restart_container(&member.container.id, None, self.timeout).map(|()| "Restarted")
            }
            (false, _) => self.engine.start_container(&member.container.id).map(|()| "Started"),
        };
        match ran {
            Ok(what) => {
                complain(&format!(" Container {name}  {what}"));
                if what != "Running" {
                    hooks::post_start(self.engine, self.project, &member)?;
                }
            }
            Err(error) => return Err(CliError::engine(&error).about(&format!("container {name}"))),
        }
        started(Started { member, ran_before });
        Ok(())
    }

    /// Whether a container is not what the service is now.
    fn is_outdated(&self, service: &Service, member: &Member) -> Result<bool, CliError> {
        let is_named = self.named.is_empty() || self.named.contains(&service.name);
        match if is_named { self.recreate } else { self.recreate_needed } {
            Recreate::Never => return Ok(false),
            Recreate::Always => return Ok(true),
            Recreate::IfChanged => {}
        }
        let labels = &member.container.document.labels;
        let spec = self.spec(service, member.number)?;
        if self.acting.is_dry() && self.image_id(&spec).is_err() {
            // It was told that there will be another image.
            return Ok(true);
        }
        let is_same = labels.get(label::HASH) == Some(&spec.hash)
            && labels.get(label::IMAGE) == Some(&self.image_id(&spec)?);
        Ok(!is_same)
    }

    fn spec(&self, service: &Service, number: u32) -> Result<ContainerSpec, CliError> {
        Ok(flags::container(self.project, service, Role::Replica(number))?)
    }

    fn image_id(&self, spec: &ContainerSpec) -> Result<String, CliError> {
        Ok(self.engine.inspect(&spec.image)?.summary.id.to_string())
    }

    /// Makes a container again. Until the new one is there, the old one only has another name.
    fn remake(&self, service: &Service, old: Member) -> Result<Member, CliError> {
        let (id, name) = (&old.container.id, old.name());
        if self.acting.is_dry() {
            self.acting.tell(&format!(" Container {name}  Recreated"));
            return Ok(old);
        }
        let kept = (!self.renew_volumes).then_some(&old.container);
        // What is refused at once is refused before anything is stopped.
        let request = self.request(service, old.number, kept)?;
        hooks::pre_stop(self.engine, Some(self.project), std::slice::from_ref(&old))?;
        self.engine.stop_container(id, None, self.timeout)?;
        self.engine.rename_container(id, &format!("{}_{name}", old.container.short_id()))?;
        let new = match self.create(name, &request) {
            Ok(new) => new,
            Err(error) => {
                self.engine.rename_container(id, name)?;
                if old.is_live() {
                    self.engine.start_container(id)?;
                }
                return Err(error);
            }
        };
        self.engine.remove_container(id, true, self.renew_volumes)?;
        complain(&format!(" Container {name}  Recreated"));
        self.member(&new)
    }

    /// How a container is made, with the anonymous volumes of an earlier one.
    fn request(
        &self,
        service: &Service,
        number: u32,
        earlier: Option<&Container>,
    ) -> Result<RunRequest, CliError> {
        let spec = self.spec(service, number)?;
        let request = request(self.engine, &spec);
        let mut request = request.map_err(|error| error.about(&format!("container {}", spec.name)))?;
        request.supervision.labels.insert(label::IMAGE.to_owned(), self.image_id(&spec)?);
        earlier.into_iter().for_each(|earlier| keep_volumes(&mut request, earlier, self.project));
        Ok(request)
    }

    fn create(&self, name: &str, request: &RunRequest) -> Result<String, CliError> {
        let created = self.engine.create_container(request);
        created.map_err(|error| CliError::engine(&error).about(&format!("container {name}")))
    }
}

/// The request that a container is made by.
pub(super) fn request(engine: &Engine, spec: &ContainerSpec) -> Result<RunRequest, CliError> {
    let own = [format!("--name={}", spec.name), "--detach".to_owned(), spec.image.clone()];
    let words = [&spec.flags[..], &own, &spec.command].concat();
    // What is wrong stands in a file, not on the command line.
    let mut request = run::from_words(&words).map_err(|error| error.with_code(FAILED))?;
    let file = |file: &flags::FileSpec| FileRequest {
        target: file.target.clone(),
        content: file.content.clone().into_bytes(),
        mode: file.mode,
        uid: file.uid,
        gid: file.gid,
    };
    request.files = spec.files.iter().map(file).collect();
    request.supervision.health.test.clone_from(&spec.health_test);
    network_args::settle(engine, &mut request.network)?;
    Ok(request)
}

/// Shows the anonymous volumes of an earlier container at the same places.
fn keep_volumes(request: &mut RunRequest, earlier: &Container, project: &Project) {
    let is_named = |name: &String| project.volumes.values().any(|volume| volume.name == *name);
    let is_anonymous = |name: &String| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for point in &earlier.document.mounts {
        let Some(name) = point.volume.clone().filter(|name| is_anonymous(name) && !is_named(name)) else {
            continue;
        };
        let in_memory = request.isolation.tmpfs.iter().any(|memory| memory.target == point.target);
        match request.mounts.iter_mut().find(|mount| mount.target == point.target) {
            Some(mount) => {
                if let MountSource::Volume(volume @ VolumeMount { name: None, .. }) = &mut mount.source {
                    volume.name = Some(name);
                }
            }
            None if in_memory => {}
            None => request.mounts.push(MountRequest {
                source: MountSource::Volume(VolumeMount { name: Some(name), ..VolumeMount::default() }),
                target: point.target.clone(),
                read_only: !point.writable,
            }),
        }
    }
}

/// Whether a container is far enough, or will never be, and why; `None` is not yet.
fn judged(condition: Condition, state: &State) -> Option<Result<(), String>> {
    let health = state.health.as_ref().map(|health| health.status);
    match (condition, state.status, health) {
        (Condition::Started, ..) => Some(Ok(())),
        (Condition::Completed, Status::Exited, _) if state.exit_code == 0 => Some(Ok(())),
        (Condition::Completed, Status::Exited, _) => {
            Some(Err(format!("didn't complete successfully: exit {}", state.exit_code)))
        }
        (Condition::Completed, ..) => None,
        (Condition::Healthy, Status::Exited, _) => Some(Err(format!("exited ({})", state.exit_code))),
        (Condition::Healthy, Status::Running, None) => Some(Err("has no healthcheck configured".to_owned())),
        (Condition::Healthy, Status::Running, Some(HealthStatus::Healthy)) => Some(Ok(())),
        (Condition::Healthy, Status::Running, Some(HealthStatus::Unhealthy)) => {
            Some(Err("is unhealthy".to_owned()))
        }
        (Condition::Healthy, ..) => None,
    }
}

/// Waits until containers run, and are healthy if they have a check (`--wait`).
pub(super) fn wait_until_well(
    engine: &Engine,
    members: &[Member],
    limit: Option<Duration>,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    let begun = Instant::now();
    for member in members {
        let judge = |state: &State| {
            let has_no_check = state.status == Status::Running && state.health.is_none();
            let well = || judged(Condition::Healthy, state).map(|told| told.map(|()| "Healthy"));
            let told = if has_no_check { Some(Ok("Running")) } else { well() };
            let is_late = limit.is_some_and(|limit| begun.elapsed() >= limit);
            told.or_else(|| {
                is_late.then(|| Err("is not well in the time that --wait-timeout gives".to_owned()))
            })
        };
        let told = engine.wait_for_state(&member.container.id, cancel, judge)?.ok_or_else(cancelled)?;
        let what = told.map_err(|why| CliError::failed(format!("container {} {why}", member.name())))?;
        complain(&format!(" Container {}  {what}", member.name()));
    }
    Ok(())
}

/// Somebody has pressed Ctrl-C.
pub(super) fn cancelled() -> CliError {
    CliError::failed("interrupted".to_owned()).with_code(crate::error::INTERRUPTED)
}

//! `lap compose up` and `create`

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use base::CancelToken;
use compose::{Project, Service};
use engine::Engine;

use super::super::{StoreChoice, open};
use super::acting::Acting;
use super::converge::{Converge, Recreate, Started, wait_until_well};
use super::scope::{Member, members, orphans};
use super::shown::{Style, coloured, follow, style};
use super::{down, images, resources};
use crate::compose_args::{CreateServicesArgs, MakeArgs, ProjectArgs, UpArgs};
use crate::error::{CliError, INTERRUPTED};
use crate::render::Mode;
use crate::signals;
use crate::terminal::complain;

/// Makes containers without starting them.
pub(super) fn create(
    store: &StoreChoice,
    chosen: &ProjectArgs,
    args: &CreateServicesArgs,
) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let (project, progress) = (read(chosen, &args.make)?, chosen.progress);
    let (engine, acting, make) = (open(store)?, Acting::of(chosen), &args.make);
    let up = Up { engine, acting, project, make, progress, deps: true, start: false, cancel };
    up.make(&mut |_| {})?;
    Ok(ExitCode::SUCCESS)
}

/// Makes and starts containers, and shows what they write unless they are to be left alone.
pub(super) fn up(store: &StoreChoice, chosen: &ProjectArgs, args: &UpArgs) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let project = read(chosen, &args.make)?;
    if let Some(unknown) = args.exit_code_from.iter().find(|name| !project.services.contains_key(*name)) {
        return Err(compose::ComposeError::NoSuchService(unknown.clone()).into());
    }
    let (deps, start) = (!args.no_deps, !args.no_start);
    let (engine, acting, make) = (open(store)?, Acting::of(chosen), &args.make);
    let up = Up { engine, acting, project, make, progress: chosen.progress, deps, start, cancel };
    if args.detach || args.wait || args.no_start || acting.is_dry() {
        let mut started = Vec::new();
        up.make(&mut |container| started.push(container.member))?;
        if args.wait && !acting.is_dry() {
            let limit = args.wait_timeout.map(Duration::from_secs);
            wait_until_well(&up.engine, &started, limit, &up.cancel)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    up.attached(args, coloured(&chosen.ansi, args.no_color))
}

fn read(project: &ProjectArgs, args: &MakeArgs) -> Result<Project, CliError> {
    let mut project = super::load(project, &args.services)?;
    for scale in &args.scale {
        let wrong = || CliError::usage(format!("invalid --scale {scale}"), "write --scale SERVICE=NUMBER");
        let (name, number) = scale.split_once('=').ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        let service = project.services.get_mut(name);
        let service = service.ok_or_else(|| compose::ComposeError::NoSuchService(name.to_owned()))?;
        service.scale_to(number)?;
    }
    Ok(project)
}

struct Up<'a> {
    engine: Engine,
    acting: Acting,
    project: Project,
    make: &'a MakeArgs,
    progress: Mode,
    /// Whether services come that are needed.
    deps: bool,
    start: bool,
    cancel: CancelToken,
}

impl Up<'_> {
    /// Brings the project to what its files say.
    fn make(&self, started: &mut dyn FnMut(Started)) -> Result<(), CliError> {
        let args = self.make;
        let services = self.services()?;
        self.orphans()?;
        let (pull, progress) = (args.pull.as_deref(), self.progress);
        let wanted = images::Wanted { build: args.build, no_build: args.no_build, pull, progress };
        images::provide(&self.engine, self.acting, &self.project, &services, &wanted, &self.cancel)?;
        resources::make(&self.engine, self.acting, &self.project, &services)?;
        let recreate = match (args.force_recreate, args.no_recreate) {
            (true, _) => Recreate::Always,
            (_, true) => Recreate::Never,
            _ => Recreate::IfChanged,
        };
        let always = args.always_recreate_deps;
        let recreate_needed = if always { Recreate::Always } else { recreate.of_needed() };
        let converge = Converge {
            engine: &self.engine,
            acting: self.acting,
            project: &self.project,
            cancel: &self.cancel,
            recreate,
            recreate_needed,
            named: &args.services,
            timeout: args.timeout,
            renew_volumes: args.renew_anon_volumes,
            start: self.start,
        };
        converge.all(&services, started)
    }

    fn services(&self) -> Result<Vec<&Service>, CliError> {
        let services = self.project.selected(&self.make.services, self.deps)?;
        if services.is_empty() { Err(compose::ComposeError::NoService.into()) } else { Ok(services) }
    }

    fn orphans(&self) -> Result<(), CliError> {
        let orphans = orphans(&self.project, &members(&self.engine, &self.project.name)?);
        if self.make.remove_orphans {
            return down::remove(&self.engine, self.acting, None, vec![orphans], self.make.timeout, false);
        }
        if !orphans.is_empty() {
            let names: Vec<&str> = orphans.iter().map(Member::name).collect();
            // Docker's words.
            complain(&format!(
                "WARNING: Found orphan containers ([{}]) for this project. If you removed or renamed this service in your \
                 compose file, you can run this command with the --remove-orphans flag to clean it up.",
                names.join(" ")
            ));
        }
        Ok(())
    }

    /// The same, and shows what containers write until all have ended, or somebody wants them to.
    fn attached(&self, args: &UpArgs, coloured: bool) -> Result<ExitCode, CliError> {
        let services = self.services()?;
        let is_shown = |member: &Member| {
            let name = &member.service;
            let wanted = args.make.services.is_empty() || args.make.services.contains(name);
            let wanted = if args.attach.is_empty() {
                wanted || args.attach_dependencies
            } else {
                args.attach.contains(name)
            };
            let says = self.project.services.get(name).is_none_or(Service::is_attached);
            wanted && says && !args.no_attach.contains(name)
        };
        let width = super::shown::width(&self.project.name, &services);
        let (sender, receiver) = mpsc::channel();
        let cancelled = sender.clone();
        let _guard = self.cancel.on_cancel(move || drop(cancelled.send(Event::Cancelled)));
        let mut running: Vec<Member> = Vec::new();
        std::thread::scope(|scope| {
            let made = self.make(&mut |Started { member, ran_before }| {
                let style = is_shown(&member).then(|| {
                    let short = member.short_name(&self.project.name);
                    style(&short, width, running.len(), coloured, (args.no_log_prefix, args.timestamps))
                });
                let (index, id, sender) = (running.len(), member.container.id.clone(), sender.clone());
                running.push(member);
                let watch = move || {
                    let code = watch(&self.engine, &id, style.as_ref(), ran_before);
                    let _ = sender.send(Event::Ended(index, code));
                };
                let thread = std::thread::Builder::new().name("compose logs".to_owned());
                if thread.spawn_scoped(scope, watch).is_err() {
                    complain("WARNING: what a container writes is not shown: there are too many threads");
                }
            });
            if let Err(error) = made {
                // Who is attached to them goes, so they end.
                self.stop(&running)?;
                return Err(error);
            }
            if running.iter().any(&is_shown) {
                let names: Vec<String> =
                    running.iter().map(|member| member.short_name(&self.project.name)).collect();
                complain(&format!("Attaching to {}", names.join(", ")));
            }
            self.until_over(args, &running, &receiver)
        })
    }

    /// Goes on until all containers have ended.
    fn until_over(
        &self,
        args: &UpArgs,
        running: &[Member],
        events: &mpsc::Receiver<Event>,
    ) -> Result<ExitCode, CliError> {
        let aborts = args.abort_on_container_exit || args.exit_code_from.is_some();
        let mut left = running.len();
        let (mut code, mut wanted, mut is_stopping) = (0, None, false);
        while left > 0 {
            match events.recv() {
                Ok(Event::Ended(index, ended)) => {
                    left -= 1;
                    let Some(member) = running.get(index) else { continue };
                    complain(&format!("{} exited with code {ended}", member.short_name(&self.project.name)));
                    if args.exit_code_from.as_ref() == Some(&member.service) {
                        wanted = Some(ended);
                    }
                    let failed = args.abort_on_container_failure && ended != 0;
                    if (aborts || failed) && !is_stopping {
                        is_stopping = true;
                        code = ended;
                        complain("Aborting on container exit...");
                        self.stop(running)?;
                    }
                }
                Ok(Event::Cancelled) if !is_stopping => {
                    is_stopping = true;
                    code = i32::from(INTERRUPTED);
                    complain("Gracefully stopping... (press Ctrl+C again to force)");
                    self.stop(running)?;
                }
                Ok(Event::Cancelled) => {}
                Err(_) => break,
            }
        }
        Ok(ExitCode::from(u8::try_from(wanted.unwrap_or(code)).unwrap_or(u8::MAX)))
    }

    fn stop(&self, running: &[Member]) -> Result<(), CliError> {
        let levels = down::levels(Some(&self.project), running.to_vec());
        down::stop(&self.engine, self.acting, Some(&self.project), &levels, self.make.timeout)
    }
}

impl Recreate {
    /// What that means for services that are only needed.
    fn of_needed(self) -> Self {
        if self == Self::Always { Self::IfChanged } else { self }
    }
}

enum Event {
    /// The container with this index has ended for good, with this code.
    Ended(usize, i32),
    /// We are to end.
    Cancelled,
}

/// Shows what a container writes until it has ended for good; answers its exit code.
fn watch(engine: &Engine, id: &str, style: Option<&Style>, ran_before: bool) -> i32 {
    if let Some(style) = style {
        let tail = ran_before.then_some(0);
        let selection = engine::request::Selection { tail, ..engine::request::Selection::default() };
        // A container without a log is only waited for.
        let _ = follow(engine, id, selection, style);
    }
    let ended = |state: &engine::containers::State| (!state.status.is_live()).then_some(state.exit_code);
    engine.wait_for_state(id, &CancelToken::new(), ended).ok().flatten().unwrap_or(0)
}

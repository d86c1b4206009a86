//! The images of a project: built, all at once, or fetched.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use base::CancelToken;
use base::event::NullSink;
use compose::{Project, Service, build};
use engine::Engine;
use engine::error::EngineError;
use engine::request::{BuildRequest, DockerfileSource, SecretSource};

use super::super::{StoreChoice, build as build_command, open, platform, pull_policy};
use super::acting::Acting;
use crate::args::BuildArgs;
use crate::compose_args::{ComposeBuildArgs, ProjectArgs, PullServicesArgs};
use crate::error::{CliError, FAILED};
use crate::render::{self, Mode};
use crate::retention::AutoCollect;
use crate::terminal::complain;
use crate::{config_file, context, signals};

/// What is done about images before containers are made.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    /// Build also those that are there.
    pub(super) build: bool,
    /// Build none.
    pub(super) no_build: bool,
    /// When to fetch those that are not built; as each service says without it.
    pub(super) pull: Option<&'a str>,
    pub(super) progress: Mode,
}

/// Builds or fetches what services need and is not there, or is to be current.
pub(super) fn provide(
    engine: &Engine,
    acting: Acting,
    project: &Project,
    services: &[&Service],
    wanted: &Wanted<'_>,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    let (mut to_build, mut to_pull) = (Vec::new(), Vec::new());
    for service in services {
        let policy = wanted.pull.map(str::to_owned).or_else(|| service.pull_policy());
        let policy = policy.as_deref().unwrap_or("missing");
        let image = service.image(&project.name);
        let is_there = is_there(engine, &image)?;
        if service.is_built() {
            let is_wanted = wanted.build || policy == "build" || !is_there;
            if is_wanted && !wanted.no_build {
                to_build.push(*service);
            } else if !is_there {
                let message =
                    format!("service \"{}\" has no image {image}, and is not to be built", service.name);
                return Err(CliError::failed_with_hint(
                    message,
                    "leave --no-build out, or use lap compose build",
                ));
            }
            continue;
        }
        match policy {
            "build" => {
                let message =
                    format!("service \"{}\" is to be built, but has no build section", service.name);
                return Err(CliError::failed(message));
            }
            "if_not_present" | "missing" if is_there => {}
            "never" => {}
            "if_not_present" => to_pull.push((*service, "missing".to_owned())),
            // Those that are to be fetched once in a while are fetched when they are not there.
            "daily" | "weekly" if is_there => {}
            other if other.starts_with("every_") && is_there => {}
            "daily" | "weekly" => to_pull.push((*service, "missing".to_owned())),
            other if other.starts_with("every_") => to_pull.push((*service, "missing".to_owned())),
            other => to_pull.push((*service, other.to_owned())),
        }
    }
    pull_all(engine, acting, project, (&to_pull, false), cancel)?;
    all(
        engine,
        acting,
        project,
        &to_build,
        &Choices { progress: wanted.progress, ..Choices::default() },
        cancel,
    )
}

fn is_there(engine: &Engine, image: &str) -> Result<bool, CliError> {
    match engine.inspect(image) {
        Ok(_) => Ok(true),
        Err(EngineError::NoSuchImage(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn pull_all(
    engine: &Engine,
    acting: Acting,
    project: &Project,
    (services, quiet): (&[(&Service, String)], bool),
    cancel: &CancelToken,
) -> Result<(), CliError> {
    let tell = |line: &str| {
        if !quiet {
            acting.tell(line);
        }
    };
    let mut done = BTreeSet::new();
    for (service, policy) in services {
        // A word that there is not is refused before anything is fetched.
        pull_policy(policy)?;
        let image = service.image(&project.name);
        let wanted = service.platform();
        if !done.insert((image.clone(), wanted.clone())) {
            continue;
        }
        tell(&format!(" {} Pulling {image}", service.name));
        if acting.is_dry() {
            continue;
        }
        let platform = platform(wanted.as_deref())?;
        match engine.pull(&image, platform.as_ref(), Arc::new(NullSink), cancel) {
            Ok(_) => tell(&format!(" {} Pulled", service.name)),
            Err(_) if policy == "newer" && is_there(engine, &image)? => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `lap compose pull`
pub(super) fn pull(
    store: &StoreChoice,
    project: &ProjectArgs,
    args: &PullServicesArgs,
) -> Result<ExitCode, CliError> {
    let (cancel, acting) = (signals::cancel_token(), Acting::of(project));
    let project = super::load(project, &args.services)?;
    let engine = open(store)?;
    let services = project.selected(&args.services, args.include_deps)?;
    let mut failed = false;
    for service in services {
        if service.is_built() && (args.ignore_buildable || !service.has_image_name()) {
            continue;
        }
        let policy = args.policy.as_deref().unwrap_or("always");
        let image = service.image(&project.name);
        if policy == "missing" && is_there(&engine, &image)? {
            continue;
        }
        let wanted = [(service, "always".to_owned())];
        if let Err(error) = pull_all(&engine, acting, &project, (&wanted, args.quiet), &cancel) {
            error.report();
            failed = true;
        }
    }
    let code = if failed && !args.ignore_pull_failures { FAILED } else { 0 };
    Ok(ExitCode::from(code))
}

/// What the command line says about all builds.
#[derive(Debug, Default)]
struct Choices<'a> {
    words: Vec<String>,
    progress: Mode,
    quiet: bool,
    args: Option<&'a ComposeBuildArgs>,
}

/// `lap compose build`
pub(super) fn build(
    store: &StoreChoice,
    chosen: &ProjectArgs,
    args: &ComposeBuildArgs,
) -> Result<ExitCode, CliError> {
    let cancel = signals::cancel_token();
    let project = super::load(chosen, &args.services)?;
    let engine = open(store)?;
    let services = project.selected(&args.services, args.with_dependencies)?;
    let mut words: Vec<String> = args.build_args.iter().map(|text| format!("--build-arg={text}")).collect();
    words.extend(args.no_cache.then(|| "--no-cache".to_owned()));
    words.extend(args.pull.then(|| "--pull=always".to_owned()));
    words.extend(args.ssh.iter().map(|text| format!("--ssh={text}")));
    words.extend(args.memory.iter().map(|text| format!("--memory={text}")));
    let choices = Choices {
        words,
        progress: args.progress.unwrap_or(chosen.progress),
        quiet: args.quiet,
        args: Some(args),
    };
    let services: Vec<&Service> = services.into_iter().filter(|service| service.is_built()).collect();
    if services.is_empty() {
        complain("No services to build");
    }
    all(&engine, Acting::of(chosen), &project, &services, &choices, &cancel)?;
    Ok(ExitCode::SUCCESS)
}

/// A build that is about to run.
struct Ready {
    service: String,
    needs: Vec<String>,
    request: BuildRequest,
    _sources: context::Sources,
}

/// Builds images, all at once but for those that others are made of: builds of one engine share the steps that are under way.
fn all(
    engine: &Engine,
    acting: Acting,
    project: &Project,
    services: &[&Service],
    choices: &Choices<'_>,
    cancel: &CancelToken,
) -> Result<(), CliError> {
    if services.is_empty() {
        return Ok(());
    }
    let mut open = Vec::new();
    for service in services {
        open.extend(ready(project, service, choices)?);
    }
    if acting.is_dry() {
        open.iter().for_each(|ready| acting.tell(&format!(" {}  Built", ready.service)));
        return Ok(());
    }
    let collector = AutoCollect::new(config_file::read()?.retention)?;
    let renderer = render::renderer(if choices.quiet { Mode::Quiet } else { choices.progress });
    collector.warn_of_low_space(engine, renderer.as_ref());
    let mut failed = None;
    while !open.is_empty() && failed.is_none() {
        let names: BTreeSet<String> = open.iter().map(|ready| ready.service.clone()).collect();
        let (wave, later): (Vec<Ready>, Vec<Ready>) =
            open.into_iter().partition(|ready| !ready.needs.iter().any(|need| names.contains(need)));
        if wave.is_empty() {
            let names: Vec<String> = later.into_iter().map(|ready| ready.service).collect();
            let message =
                format!("the images of these services are made of each other: {}", names.join(", "));
            return Err(CliError::failed(message));
        }
        failed = one_wave(engine, &wave, &renderer, cancel);
        open = later;
    }
    renderer.finish();
    collector.collect_if_due(engine);
    match failed {
        Some((service, error)) => {
            let error = CliError::build(&error, &renderer.failed_steps());
            Err(error.about(&format!("cannot build service \"{service}\"")))
        }
        None => Ok(()),
    }
}

type Failed = Option<(String, engine::error::BuildError)>;

/// Builds at once; answers the first that failed.
fn one_wave(
    engine: &Engine,
    wave: &[Ready],
    renderer: &Arc<dyn render::Renderer>,
    cancel: &CancelToken,
) -> Failed {
    let build = |ready: &Ready| engine.build(&ready.request, renderer.clone(), cancel);
    let mut failed = None;
    std::thread::scope(|scope| {
        let start = |ready| {
            let builder = std::thread::Builder::new().name("compose build".to_owned());
            (ready, builder.spawn_scoped(scope, move || build(ready)))
        };
        let running: Vec<_> = wave.iter().map(start).collect();
        for (ready, thread) in running {
            let result = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // Without a thread it is built here.
                Err(_) => build(ready),
            };
            match result {
                Ok(_) => complain(&format!(" {}  Built", ready.service)),
                Err(error) => failed = failed.take().or(Some((ready.service.clone(), error))),
            }
        }
    });
    failed
}

/// The request of a service's build; `None` for one whose image is not built.
fn ready(project: &Project, service: &Service, choices: &Choices<'_>) -> Result<Option<Ready>, CliError> {
    let Some(spec) = build::build(project, service)? else { return Ok(None) };
    let about = |error: CliError| error.about(&format!("service \"{}\"", service.name));
    let (context, flags) =
        spec.words.split_last().map(|(last, rest)| (last.clone(), rest)).unwrap_or_default();
    let words = [flags, &choices.words, &[context]].concat();
    let args: BuildArgs = build_command::from_words(&words).map_err(about)?;
    let mut sources = context::sources(&args.context, args.file.as_deref()).map_err(about)?;
    if let Some(text) = &spec.dockerfile {
        sources.dockerfile = DockerfileSource::Text(text.clone().into_bytes());
    }
    let mut request = build_command::request(&args, &sources, &config_file::read()?).map_err(about)?;
    for (id, value) in &spec.secrets {
        request.secrets.insert(id.clone(), SecretSource::Value(value.clone().into_bytes()));
    }
    if choices.args.is_some_and(|args| args.push) && service.has_image_name() {
        request.outputs = vec![engine::request::Output::Registry(engine::request::PushOutput::default())];
    }
    Ok(Some(Ready { service: service.name.clone(), needs: spec.needs, request, _sources: sources }))
}

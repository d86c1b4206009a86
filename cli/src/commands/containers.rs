//! What one does with containers: `lap ps`, `logs`, `start`, `stop`, `kill`, `wait`, `rm` and more.

mod commit;
mod cp;
mod diff;
mod export;
mod inspect;
pub(super) mod list;
mod logs;
mod ports;
mod stats;
mod top;
mod update;

use std::process::ExitCode;

use engine::Engine;
use engine::containers::{ExecRequest, Exit};
use engine::error::EngineError;
use engine::request::Attach;

use super::{StoreChoice, now, open, prune, run};
use crate::container_args::{
    AttachArgs, ContainerAction, ContainerCommand, ContainerPruneArgs, ExecArgs, KillArgs, RmArgs, StartArgs,
    StopArgs,
};
use crate::error::{CliError, FAILED, INTERRUPTED};
use crate::terminal::{complain, print_line};
use crate::units;
pub(super) use diff::print_changes;
use docker::filters::Filters;
pub(crate) use inspect::any as inspect_any;
pub(super) use inspect::show;
pub(super) use list::row;
pub(super) use ports::offered;
pub(super) use top::text as processes;

/// Runs one of the commands that are typed after `container`.
pub(crate) fn dispatch(store: &StoreChoice, command: ContainerCommand) -> Result<ExitCode, CliError> {
    match command {
        ContainerCommand::Action(action) => act(store, action),
        ContainerCommand::Ls(args) => list::list(store, &args),
        ContainerCommand::Inspect(args) => inspect::containers(store, &args),
        ContainerCommand::Prune(args) => prune_containers(store, &args),
    }
}

/// Runs one of the commands that need no `container` before them.
pub(crate) fn act(store: &StoreChoice, action: ContainerAction) -> Result<ExitCode, CliError> {
    match action {
        ContainerAction::Run(args) => run::run(store, *args),
        ContainerAction::Create(args) => run::create(store, *args),
        ContainerAction::Logs(args) => logs::show(store, &args),
        ContainerAction::Start(args) => start(store, &args),
        ContainerAction::Stop(args) => stop(store, &args, Engine::stop_container),
        ContainerAction::Restart(args) => stop(store, &args, Engine::restart_container),
        ContainerAction::Kill(args) => kill(store, &args),
        ContainerAction::Wait(args) => wait(store, &args.containers),
        ContainerAction::Attach(args) => attach(store, &args),
        ContainerAction::Exec(args) => exec(store, args),
        ContainerAction::Cp(args) => cp::copy(store, &args),
        ContainerAction::Diff(args) => diff::show(store, &args),
        ContainerAction::Export(args) => export::write(store, &args),
        ContainerAction::Commit(args) => commit::commit(store, args),
        ContainerAction::Pause(args) => {
            let engine = open(store)?;
            each(&args.containers, |name| engine.pause_container(name))
        }
        ContainerAction::Unpause(args) => {
            let engine = open(store)?;
            each(&args.containers, |name| engine.unpause_container(name))
        }
        ContainerAction::Port(args) => ports::show(store, &args),
        ContainerAction::Stats(args) => stats::show(store, &args),
        ContainerAction::Update(args) => update::update(store, &args),
        ContainerAction::Top(args) => top::show(store, &args),
        ContainerAction::Rename(args) => {
            open(store)?.rename_container(&args.container, &args.name)?;
            Ok(ExitCode::SUCCESS)
        }
        ContainerAction::Rm(args) => remove(store, &args),
    }
}

/// Does something with each container and prints its name. Goes on after a failure, and fails at the end.
pub(super) fn each(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), EngineError>,
) -> Result<ExitCode, CliError> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            Ok(()) => print_line(name),
            Err(error) => {
                CliError::engine(&error).report();
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}

type Stop = fn(&Engine, &str, Option<i32>, Option<i64>) -> Result<(), EngineError>;

fn stop(store: &StoreChoice, args: &StopArgs, act: Stop) -> Result<ExitCode, CliError> {
    let signal = args.signal.as_deref().map(signal).transpose()?;
    let engine = open(store)?;
    each(&args.containers, |name| act(&engine, name, signal, args.timeout))
}

fn kill(store: &StoreChoice, args: &KillArgs) -> Result<ExitCode, CliError> {
    let signal = signal(&args.signal)?;
    let engine = open(store)?;
    each(&args.containers, |name| engine.kill_container(name, signal))
}

/// The number of a signal.
pub(super) fn signal(text: &str) -> Result<i32, CliError> {
    engine::request::signal_number(text)
        .map_err(|error| CliError::usage(error.to_string(), "for example TERM, SIGKILL or 9"))
}

fn wait(store: &StoreChoice, names: &[String]) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match engine.wait_container(name) {
            Ok(ended) => print_line(&ended.to_string()),
            Err(error) => {
                CliError::engine(&error).report();
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}

fn remove(store: &StoreChoice, args: &RmArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    if args.link {
        return each(&args.containers, |name| engine.remove_link(name));
    }
    each(&args.containers, |name| match engine.remove_container(name, args.force, args.volumes) {
        // As with `rm -f`, that there is nothing is no failure.
        Err(error @ EngineError::NoSuchContainer(_)) if args.force => {
            complain(&error.to_string());
            Ok(())
        }
        result => result,
    })
}

fn start(store: &StoreChoice, args: &StartArgs) -> Result<ExitCode, CliError> {
    let engine = open(store)?;
    if !args.attach && !args.interactive {
        return each(&args.containers, |name| engine.start_container(name));
    }
    let [name] = args.containers.as_slice() else {
        let message = "you cannot start and attach multiple containers at once".to_owned();
        return Err(CliError::usage(message, "name one container"));
    };
    let how = Attach {
        stdin: args.interactive,
        outputs: [true; 2],
        terminal: false,
        keys: args.detach_keys.keys()?,
        forward_signals: true,
        owner: false,
        start: true,
    };
    let ended = engine.start_attached(name, &how).map_err(|error| run::error(&error))?;
    Ok(exit_code(ended))
}

fn attach(store: &StoreChoice, args: &AttachArgs) -> Result<ExitCode, CliError> {
    let how = Attach {
        stdin: !args.no_stdin,
        outputs: [true; 2],
        terminal: false,
        keys: args.detach_keys.keys()?,
        forward_signals: args.sig_proxy,
        owner: false,
        start: false,
    };
    Ok(exit_code(open(store)?.attach_container(&args.container, &how)?))
}

fn exec(store: &StoreChoice, args: ExecArgs) -> Result<ExitCode, CliError> {
    let mut words = args.container_and_command.into_iter();
    let env = run::variables(&args.env_files, &args.env)?;
    if args.tty && args.interactive && !args.detach {
        run::need_terminal(FAILED)?;
    }
    let request = ExecRequest {
        container: words.next().unwrap_or_default(),
        command: words.collect(),
        env,
        workdir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        tty: args.tty,
        interactive: args.interactive,
        detach: args.detach,
        detach_keys: args.detach_keys.keys()?,
    };
    let ended = open(store)?.exec(&request).map_err(|error| {
        let code = error.exit_code().filter(|code| matches!(code, 126 | 127));
        CliError::engine(&error).with_code(code.unwrap_or(FAILED))
    })?;
    Ok(match ended {
        None => ExitCode::SUCCESS,
        Some(ended) => exit_code(ended),
    })
}

/// The exit code of a command that was attached to a container.
pub(super) fn exit_code(ended: Exit) -> ExitCode {
    match ended {
        Exit::Detached => ExitCode::SUCCESS,
        Exit::Interrupted => ExitCode::from(INTERRUPTED),
        Exit::Ended { code, out_of_memory } => {
            if out_of_memory {
                complain("the kernel killed a process of the container: it reached the memory limit");
            }
            ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
        }
    }
}

fn prune_containers(store: &StoreChoice, args: &ContainerPruneArgs) -> Result<ExitCode, CliError> {
    let filters = Filters::parse_for_images(&args.common.filters, now())?;
    prune::confirm("WARNING! This will remove all stopped containers.\n", &args.common, "container prune")?;
    let (removed, bytes) = open(store)?.prune_containers(|container| {
        filters.until.is_none_or(|until| container.created_at < until)
            && filters.labels.iter().all(|label| label.fits(&container.document.labels))
    })?;
    prune::show_names("Deleted Containers:", &removed);
    print_line(&format!("Total reclaimed space: {}", units::bytes(bytes)));
    Ok(ExitCode::SUCCESS)
}

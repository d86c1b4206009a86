//! `lap oci-runtime`: containers for containerd, Podman and Docker. Exit codes and outputs are those of `runc`.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use engine::oci_runtime::record::OCI_VERSION;
use engine::oci_runtime::{
    self as oci, CreateRequest, Created, ExecOptions, ExecProcess, ExecRequest, OciError, Runtime,
};
use serde::Serialize;

use crate::error::FAILED;
use crate::oci_args::{
    CreateArgs, DeleteArgs, EventsArgs, ExecArgs, KillArgs, ListArgs, LogFormat, OciCli, OciCommand, PsArgs,
    RunArgs, SpecArgs, TableFormat, UpdateArgs,
};
use crate::places;
use crate::terminal::{complain, print, print_line};

/// A program of this name is the runtime alone: callers can be given a program but no first argument.
const NAME: &str = "oci-runtime";

/// The greatest size of limits in JSON.
const MOST_LIMITS: u64 = 1 << 20;

/// What went wrong, in one line with all causes.
struct Failure(String);

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let first: &(dyn std::error::Error + 'static) = &error;
        let causes = std::iter::successors(Some(first), |error| error.source());
        Self(causes.map(in_words).collect::<Vec<_>>().join(": "))
    }
}

/// An error as callers look for it: what the kernel said begins with a small letter and has no number.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    if error.downcast_ref::<std::io::Error>().is_none_or(|error| error.raw_os_error().is_none()) {
        return text;
    }
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}

type Outcome = Result<ExitCode, Failure>;

/// Runs the command, if it is our first argument or we are called by a name that ends like it. Its flags are its
/// own, also those that have the same names as ours.
pub(crate) fn run_by_name() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().peekable();
    let name = arguments.next()?;
    let is_name = Path::new(&name).file_name()?.to_str()?.ends_with(NAME);
    if !is_name {
        arguments.next_if(|first| first == NAME)?;
    }
    Some(run(arguments.collect()))
}

/// Runs the command with what follows `oci-runtime`.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = OciCli::parse_from(std::iter::once(OsString::from("lap oci-runtime")).chain(arguments));
    if cli.version {
        let version = env!("CARGO_PKG_VERSION");
        print_line(&format!("lap oci-runtime version {version}\nspec: {OCI_VERSION}"));
        return ExitCode::SUCCESS;
    }
    match dispatch(&cli) {
        Ok(code) => code,
        Err(Failure(message)) => {
            complain(&message);
            if let Some(file) = &cli.log {
                add_to_log(file, cli.log_format, &message);
            }
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(cli: &OciCli) -> Outcome {
    if cli.systemd_cgroup {
        let why = "control groups of systemd are not supported: use the cgroupfs driver of the caller";
        return Err(Failure(why.to_owned()));
    }
    let Some(command) = &cli.command else {
        return Err(Failure("no command; see lap oci-runtime --help".to_owned()));
    };
    let root = match &cli.root {
        Some(root) => std::path::absolute(root)?,
        None => default_root()?,
    };
    let runtime = Runtime::new(root);
    let done = |()| Ok(ExitCode::SUCCESS);
    match command {
        OciCommand::Create(args) => create(&runtime, args, false).map(|_| ExitCode::SUCCESS),
        OciCommand::Start(args) => done(runtime.start(&args.id)?),
        OciCommand::Run(args) => run_to_end(&runtime, args),
        OciCommand::State(args) => state(&runtime, &args.id),
        OciCommand::Kill(args) => kill(&runtime, args),
        OciCommand::Delete(args) => delete(&runtime, args),
        OciCommand::Exec(args) => exec(&runtime, args),
        OciCommand::Ps(args) => processes(&runtime, args),
        OciCommand::Pause(args) => done(runtime.set_paused(&args.id, true)?),
        OciCommand::Resume(args) => done(runtime.set_paused(&args.id, false)?),
        OciCommand::Update(args) => update(&runtime, args),
        OciCommand::Events(args) => events(&runtime, args),
        OciCommand::Spec(args) => spec(args),
        OciCommand::List(args) => list(&runtime, args),
        OciCommand::Features => print_json(&oci::features::features()),
    }
}

fn default_root() -> Result<PathBuf, Failure> {
    let store = places::store_root().map_err(|error| Failure(error.message().to_owned()))?;
    Ok(places::runtime_directory(&store).join("oci"))
}

/// `stays` tells whether we stay in the foreground.
fn create(runtime: &Runtime, args: &CreateArgs, stays: bool) -> Result<Created, Failure> {
    let kept = oci::inherited(args.preserve_fds)?;
    Ok(runtime.create(&CreateRequest {
        id: &args.id,
        bundle: &args.bundle,
        console_socket: args.console_socket.as_deref(),
        pid_file: args.pid_file.as_deref(),
        kept: kept.iter().map(|fd| fd.as_fd()).collect(),
        stays,
    })?)
}

fn run_to_end(runtime: &Runtime, args: &RunArgs) -> Outcome {
    let id = &args.create.id;
    let created = create(runtime, &args.create, !args.detach)?;
    let finished = match args.detach {
        true => runtime.start(id).map(|()| ExitCode::SUCCESS),
        false => oci::attend(created, || runtime.start(id)).map(|ended| exit_code(ended.code())),
    };
    if (!args.detach && !args.keep) || finished.is_err() {
        delete(runtime, &DeleteArgs { id: id.clone(), force: true })?;
    }
    Ok(finished?)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

fn state(runtime: &Runtime, id: &str) -> Outcome {
    let known = runtime.look_up(id)?;
    print_json(&known.record.state(known.status.name()))
}

fn print_json(value: &impl Serialize) -> Outcome {
    print_line(&serde_json::to_string_pretty(value)?);
    Ok(ExitCode::SUCCESS)
}

fn kill(runtime: &Runtime, args: &KillArgs) -> Outcome {
    runtime.kill(&args.id, oci::parse_signal(&args.signal)?, args.all)?;
    Ok(ExitCode::SUCCESS)
}

fn delete(runtime: &Runtime, args: &DeleteArgs) -> Outcome {
    match runtime.delete(&args.id, args.force) {
        Err(OciError::Unknown { .. }) if args.force => {}
        deleted => deleted?,
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(runtime: &Runtime, args: &ExecArgs) -> Outcome {
    let kept = oci::inherited(args.preserve_fds)?;
    let process = match &args.process {
        Some(file) => ExecProcess::File(file),
        None => ExecProcess::Like(exec_options(args)?),
    };
    let created = runtime.exec(&ExecRequest {
        id: &args.id,
        process,
        console_socket: args.console_socket.as_deref(),
        pid_file: args.pid_file.as_deref(),
        kept: kept.iter().map(|fd| fd.as_fd()).collect(),
        detached: args.detach,
    })?;
    match args.detach {
        true => Ok(ExitCode::SUCCESS),
        // It runs already.
        false => Ok(exit_code(oci::attend(created, || Ok(()))?.code())),
    }
}

fn exec_options(args: &ExecArgs) -> Result<ExecOptions, Failure> {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| Failure(format!("invalid user or group \"{text}\": give its number")))
    };
    let user = args.user.as_deref().map(|text| match text.split_once(':') {
        Some((user, group)) => Ok::<_, Failure>((number(user)?, Some(number(group)?))),
        None => Ok((number(text)?, None)),
    });
    Ok(ExecOptions {
        args: args.command.clone(),
        env: args.env.clone(),
        cwd: args.cwd.clone(),
        user: user.transpose()?,
        groups: args.additional_gids.clone(),
        terminal: args.tty,
        capabilities: args.cap.clone(),
        no_new_privileges: args.no_new_privs,
    })
}

fn processes(runtime: &Runtime, args: &PsArgs) -> Outcome {
    let pids = runtime.processes(&args.id)?;
    if args.format == TableFormat::Json {
        return print_json(&pids);
    }
    print(&oci::process_table(&pids));
    Ok(ExitCode::SUCCESS)
}

fn update(runtime: &Runtime, args: &UpdateArgs) -> Outcome {
    let limits = match &args.resources {
        None => {
            let limits = args.limits.limits().map_err(|error| Failure(error.message().to_owned()))?;
            oci::limits_from_flags(&limits)
        }
        Some(file) => {
            let mut bytes = Vec::new();
            match file.to_str() {
                Some("-") => std::io::stdin().take(MOST_LIMITS).read_to_end(&mut bytes)?,
                _ => std::fs::File::open(file)?.take(MOST_LIMITS).read_to_end(&mut bytes)?,
            };
            oci::limits_from_json(&bytes)?
        }
    };
    runtime.update(&args.id, &limits)?;
    Ok(ExitCode::SUCCESS)
}

fn events(runtime: &Runtime, args: &EventsArgs) -> Outcome {
    let print_event = |event: &oci::Event| -> Result<(), Failure> {
        print_line(&serde_json::to_string(event)?);
        Ok(())
    };
    print_event(&runtime.statistics(&args.id)?)?;
    if args.stats {
        return Ok(ExitCode::SUCCESS);
    }
    let interval = base::time::parse_duration(&args.interval).filter(|time| !time.is_zero());
    let interval = interval.ok_or_else(|| Failure(format!("invalid interval \"{}\"", args.interval)))?;
    let mut kills = runtime.memory_kills(&args.id)?;
    while runtime.wait_for_end(&args.id, interval.min(Duration::from_secs(3600)))? {
        let now = runtime.memory_kills(&args.id)?;
        if now > kills {
            kills = now;
            print_event(&oci::Event { kind: "oom", id: args.id.clone(), data: None })?;
        }
        print_event(&runtime.statistics(&args.id)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn spec(args: &SpecArgs) -> Outcome {
    let path = args.bundle.join("config.json");
    let text = serde_json::to_string_pretty(&oci::default_spec()?)?;
    let mut file = std::fs::File::create_new(&path)
        .map_err(|error| Failure(format!("cannot write {}: {error}", path.display())))?;
    file.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn list(runtime: &Runtime, args: &ListArgs) -> Outcome {
    let known = runtime.list()?;
    if args.quiet {
        known.iter().for_each(|one| print_line(&one.record.id));
        return Ok(ExitCode::SUCCESS);
    }
    if args.format == TableFormat::Json {
        return print_json(&known.iter().map(|one| one.record.state(one.status.name())).collect::<Vec<_>>());
    }
    let rows: Vec<Vec<String>> = known
        .iter()
        .map(|one| {
            let record = &one.record;
            let (pid, bundle) = (record.pid.to_string(), record.bundle.display().to_string());
            vec![record.id.clone(), pid, one.status.name().to_owned(), bundle, record.created.clone()]
        })
        .collect();
    print(&crate::table::render(&["ID", "PID", "STATUS", "BUNDLE", "CREATED"], &rows));
    Ok(ExitCode::SUCCESS)
}

/// Adds an error to the caller's log. That it cannot be written is not worth a second error.
fn add_to_log(file: &Path, format: LogFormat, message: &str) {
    let now = engine::now();
    let line = match format {
        LogFormat::Text => format!("time=\"{now}\" level=error msg={message:?}\n"),
        LogFormat::Json => {
            let entry = serde_json::json!({ "level": "error", "msg": message, "time": now.to_string() });
            format!("{entry}\n")
        }
    };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let _ = opened.and_then(|mut file| file.write_all(line.as_bytes()));
}

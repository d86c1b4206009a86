//! A process where a step failed: the step's own operation with another command, over a snapshot on top of what the
//! step left.

use base::CancelToken;
use llb::ExecOp;
use runner::KeptLayers;
use runner::shim::Config;
use runner::shim::news::Silence;
use runner::shim::restart::RestartPolicy;
use snapshotter::tree::Follow;

use super::Opened;
use crate::Engine;
use crate::containers::Exit;
use crate::error::EngineError;
use crate::ops::{BuildGroup, Surroundings};
use crate::request::{LogDriver, LogOptions, Secrets, SshSources};
use crate::run::USUAL_SIZE;

/// The shell where the step had none.
const SHELL: &str = "/bin/sh";

/// The signal that asks the process to end.
const STOP_SIGNAL: &str = "SIGTERM";

/// A process to be started where a step failed.
#[derive(Debug, Clone, Default)]
pub struct DebugRequest {
    /// The build; `None` is the newest of which a failed step is kept.
    pub build: Option<String>,
    /// Command and arguments; empty is the step's shell.
    pub command: Vec<String>,
    /// Secrets for the step's mounts. Those that are not given are missing.
    pub secrets: Secrets,
    /// The same for ssh agents.
    pub ssh: SshSources,
    /// Whether it gets a terminal.
    pub tty: bool,
}

impl Engine {
    /// Runs a process where a step failed, on our own standard streams, until it ends. It finds everything as the step
    /// left it, and what it changes is gone afterwards, but for caches. Call it on the main thread.
    ///
    /// # Errors
    /// There is no such build, nothing is kept of it, or the process cannot be started.
    pub fn debug(&self, request: &DebugRequest) -> Result<Exit, EngineError> {
        let opened = self.open_failed(request.build.as_deref())?;
        let op = self.operation(&opened, request)?;
        let inputs = opened.inputs();
        let active = self.store.prepare(&opened.lease, Some(opened.root))?;
        let (settings, group) = (opened.document.settings(), BuildGroup::default());
        let surroundings = Surroundings {
            engine: self,
            lease: &opened.lease,
            secrets: &request.secrets,
            ssh: &request.ssh,
            settings: &settings,
            group: &group,
            layers: KeptLayers::default(),
            portable: None,
        };
        let mounts = surroundings.mounts(&op, &inputs, &CancelToken::new())?;
        let process = surroundings.process(&op, inputs.first().copied().flatten(), &active, &mounts)?;
        let directory = self.store.scratch(&opened.lease)?;
        let (ended, _supervisor) = {
            let config = config(process, request.tty)?;
            runner::run_foreground(
                directory.path(),
                config,
                crate::containers::log_drivers::surroundings(Silence),
            )?
        };
        Ok(ended.into())
    }

    fn operation(&self, opened: &Opened, request: &DebugRequest) -> Result<ExecOp, EngineError> {
        let mut op = opened.document.op.clone();
        let shell = shell_of(&op);
        let tree = self.tree_of(opened.root)?;
        let is_there = |path: &str| tree.lookup(path, Follow::Last).map(|found| found.is_some());
        op.args = match request.command.as_slice() {
            [] if shell.starts_with('/') && !is_there(&shell)? => {
                return Err(EngineError::NoShell { build: opened.build.clone(), shell });
            }
            [] => vec![shell],
            command => command.to_vec(),
        };
        if request.tty && !op.env.iter().any(|entry| entry.starts_with("TERM=")) {
            op.env.push("TERM=xterm".to_owned());
        }
        Ok(op)
    }
}

/// The shell of a step: that of `SHELL` in the Dockerfile, as far as its command tells.
pub(super) fn shell_of(op: &ExecOp) -> String {
    match op.args.as_slice() {
        [shell, .., option, _line] if is_line_option(option) => shell.clone(),
        _ => SHELL.to_owned(),
    }
}

/// Whether what follows is a line for a shell: `-c`, `-ec`.
fn is_line_option(word: &str) -> bool {
    word.starts_with('-') && word.ends_with('c') && !word.starts_with("--")
}

/// A process on our streams that nobody else looks after.
fn config(process: runner::RunRequest, tty: bool) -> Result<Config, EngineError> {
    Ok(Config {
        request: process,
        terminal: tty.then(|| runner::own_size().unwrap_or(USUAL_SIZE)),
        open_stdin: true,
        stdin_once: !tty,
        log: LogOptions { driver: LogDriver::None, max_files: 1, ..LogOptions::default() },
        restart: RestartPolicy::No,
        health: None,
        stop_signal: runner::signal::parse(STOP_SIGNAL)?,
        stop_timeout: None,
        remove: true,
    })
}

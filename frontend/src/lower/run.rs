//! RUN: a process over the stage's filesystem.

use llb::{ExecOp, Input, NetworkMode, Op, op::ScriptFile};
use parser::ast::{Command, Heredoc, Instruction, Run};

use super::{Lowering, StageState};
use crate::args::proxy_env;
use crate::error::LowerError;
use crate::history;

/// Where a heredoc script with a `#!` line appears in the container.
const SCRIPT_DIRECTORY: &str = "/dev/pipes/";

impl Lowering<'_> {
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), LowerError> {
        refuse_unsupported(run)?;
        let (args, files) = command_line(state, run);
        let declared = |name: &str| state.build_args.iter().any(|(known, _)| known == name);
        let op = ExecOp {
            has_root: state.root.is_some(),
            env: state.environment.entries(),
            proxy_env: proxy_env(&self.options.build_args, declared),
            cwd: state.workdir().to_owned(),
            user: state.config.config.user.clone(),
            network: self.network(run)?,
            files,
            ..ExecOp::new(args.clone())
        };
        let metadata = self.step(state, instruction);
        let inputs: Vec<Input> = state.root.into_iter().collect();
        state.root = Some(self.graph.add(Op::Exec(op), &state.platform, &inputs, metadata));
        let shown = created_by(state, &args);
        history::layer(&mut state.config, shown, self.options.epoch);
        Ok(())
    }

    fn network(&self, run: &Run) -> Result<NetworkMode, LowerError> {
        let Some(written) = &run.network else { return Ok(self.options.network) };
        match written.text.as_str() {
            "default" => Ok(self.options.network),
            "none" => Ok(NetworkMode::None),
            "host" => Ok(NetworkMode::Host),
            other => {
                let message = format!("unknown network mode \"{other}\"");
                Err(LowerError::with_help(
                    "unknown-network",
                    written.span,
                    message,
                    "use default, none or host",
                ))
            }
        }
    }
}

fn refuse_unsupported(run: &Run) -> Result<(), LowerError> {
    if let Some(mount) = run.mounts.first() {
        return Err(LowerError::unsupported(mount.raw.span, "RUN --mount"));
    }
    if let Some(device) = run.devices.first() {
        return Err(LowerError::unsupported(device.span, "RUN --device"));
    }
    match &run.security {
        Some(mode) if mode.text != "sandbox" => {
            Err(LowerError::unsupported(mode.span, &format!("RUN --security={}", mode.text)))
        }
        _ => Ok(()),
    }
}

/// The program to run, and the scripts it needs.
fn command_line(state: &StageState, run: &Run) -> (Vec<String>, Vec<ScriptFile>) {
    let text = match &run.command {
        Command::Exec { args, .. } => return (args.clone(), Vec::new()),
        Command::Shell(line) => &line.text,
    };
    match run.heredocs.as_slice() {
        [only] if is_only_a_heredoc(text) => match script(only) {
            Some(file) => (vec![file.path.clone()], vec![file]),
            None => (in_shell(state, &only.content), Vec::new()),
        },
        heredocs => (in_shell(state, &with_heredocs(text, heredocs)), Vec::new()),
    }
}

/// The shell form's command line.
pub(super) fn in_shell(state: &StageState, line: &str) -> Vec<String> {
    let mut args = state.shell();
    args.push(line.to_owned());
    args
}

/// Whether a command is nothing but `<<EOF`: then the body is the script.
fn is_only_a_heredoc(text: &str) -> bool {
    let text = text.trim();
    text.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("<<")
        && !text.contains(char::is_whitespace)
}

/// A body with a `#!` line is a program of its own.
fn script(heredoc: &Heredoc) -> Option<ScriptFile> {
    heredoc.content.starts_with("#!").then(|| ScriptFile {
        path: format!("{SCRIPT_DIRECTORY}{}", heredoc.name),
        mode: 0o755,
        content: heredoc.content.clone().into_bytes(),
    })
}

/// The command with its heredocs behind it, so that the shell itself reads them.
fn with_heredocs(text: &str, heredocs: &[Heredoc]) -> String {
    let mut line = text.to_owned();
    for heredoc in heredocs {
        line.push('\n');
        line.push_str(&heredoc.content);
        line.push_str(&heredoc.name);
    }
    line
}

/// The history text: build arguments first, as in `RUN |1 A=b /bin/sh -c make # buildkit`.
fn created_by(state: &StageState, args: &[String]) -> String {
    let mut parts = Vec::new();
    if !state.build_args.is_empty() {
        parts.push(format!("|{}", state.build_args.len()));
        parts.extend(state.build_args.iter().map(|(name, value)| format!("{name}={value}")));
    }
    parts.extend(args.iter().cloned());
    format!("RUN {} # buildkit", parts.join(" "))
}

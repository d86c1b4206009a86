//! RUN: a process over the stage's filesystem.

use llb::{DeviceRequest, ExecOp, Input, Metadata, NetworkMode, Op, ScriptFile, SecurityMode};
use parser::ast::{Command, Heredoc, Instruction, Run, Word};

use super::mounts::Mounts;
use super::scans::is_for_builder;
use super::{Lowering, StageState};
use crate::args::{Environment, proxy_env};
use crate::error::LowerError;
use crate::history;
use crate::options::Entitlement;
use crate::stage::Stage;

/// Where a heredoc script with a `#!` line appears in the container.
const SCRIPT_DIRECTORY: &str = "/dev/pipes/";

/// The build argument that names the host of RUN.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// What progress shows in place of a secret.
const MASKED: &str = "****";

impl<'a> Lowering<'a> {
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        stage: &Stage<'a>,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), LowerError> {
        let (args, files) = command_line(state, run);
        let mut inputs: Vec<Input> = state.root.into_iter().collect();
        let mounts = self.mounts(state, stage, run, inputs.len())?;
        inputs.extend(&mounts.inputs);
        let declared = |name: &str| state.build_args.iter().any(|(known, _)| known == name);
        let mut env = state.environment.clone();
        if let Some((name, value)) = mounts.agent_variable().filter(|(name, _)| env.get(name).is_none()) {
            env.set(name, value);
        }
        let op = ExecOp {
            has_root: state.root.is_some(),
            args: args.clone(),
            env: env.entries().into_iter().filter(|entry| !is_for_builder(entry)).collect(),
            proxy_env: proxy_env(&self.options.build_args, declared),
            cwd: state.workdir().to_owned(),
            user: state.config.config.user.clone(),
            network: self.network(run)?,
            security: self.security(run)?,
            hostname: self.options.build_args.get(HOSTNAME).cloned(),
            files,
            devices: self.devices(run)?,
            ..ExecOp::new(Vec::new())
        };
        let metadata = self.run_step(state, instruction, &mounts);
        let op = ExecOp { mounts: mounts.mounts, ..op };
        state.root = Some(self.graph.add(Op::Exec(op), &state.platform, &inputs, metadata));
        let shown = created_by(state, &args);
        history::layer(&mut state.config, shown, self.epoch);
        Ok(())
    }

    /// The metadata of the step. Its name shows nothing of what a secret sets.
    fn run_step(&self, state: &mut StageState, instruction: &Instruction, mounts: &Mounts) -> Metadata {
        let secrets: Vec<&str> = mounts.secret_variables().collect();
        if secrets.is_empty() {
            return self.step(state, instruction);
        }
        let mut masked: Environment = state.environment.clone();
        secrets.iter().for_each(|name| masked.set(name, MASKED));
        let environment = std::mem::replace(&mut state.environment, masked);
        let metadata = self.step(state, instruction);
        state.environment = environment;
        metadata
    }

    fn network(&self, run: &Run) -> Result<NetworkMode, LowerError> {
        let Some(written) = &run.network else { return Ok(self.options.network) };
        match written.text.as_str() {
            "default" => Ok(self.options.network),
            "none" => Ok(NetworkMode::None),
            "host" => {
                if self.options.network != NetworkMode::Host {
                    self.entitled(Entitlement::NetworkHost, written)?;
                }
                Ok(NetworkMode::Host)
            }
            other => {
                let message = format!("unknown network mode \"{other}\"");
                let help = "use default, none or host";
                Err(LowerError::with_help("unknown-network", written.span, message, help))
            }
        }
    }

    fn security(&self, run: &Run) -> Result<SecurityMode, LowerError> {
        let Some(written) = &run.security else { return Ok(SecurityMode::Sandbox) };
        match written.text.as_str() {
            "sandbox" => Ok(SecurityMode::Sandbox),
            "insecure" => {
                self.entitled(Entitlement::SecurityInsecure, written)?;
                Ok(SecurityMode::Insecure)
            }
            other => {
                let message = format!("unknown security mode \"{other}\"");
                let help = "use sandbox or insecure";
                Err(LowerError::with_help("unknown-security", written.span, message, help))
            }
        }
    }

    fn devices(&self, run: &Run) -> Result<Vec<DeviceRequest>, LowerError> {
        let device = |written: &Word| {
            self.entitled(Entitlement::Device, written)?;
            let mut options = written.text.split(',');
            let name = options.next().unwrap_or_default();
            let name = name.strip_prefix("name=").unwrap_or(name).to_owned();
            let mut required = false;
            for option in options {
                match option {
                    "required" | "required=true" => required = true,
                    "required=false" => required = false,
                    other => {
                        let message = format!("a device has no option \"{other}\"");
                        let help = "write --device=NAME or --device=NAME,required";
                        return Err(LowerError::with_help("invalid-device", written.span, message, help));
                    }
                }
            }
            Ok(DeviceRequest { name, required })
        };
        run.devices.iter().map(device).collect()
    }

    /// Refuses what the caller has not agreed to.
    fn entitled(&self, entitlement: Entitlement, written: &Word) -> Result<(), LowerError> {
        if self.options.allow.contains(&entitlement) {
            return Ok(());
        }
        let name = entitlement.name();
        let message = format!("this step needs the entitlement {name}, which was not given");
        let help = format!("if you trust this Dockerfile, build with --allow {name}");
        Err(LowerError::with_help("not-entitled", written.span, message, help))
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

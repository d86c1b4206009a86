//! Instructions that change only the image config.

use base::image::{Empty, Healthcheck as HealthcheckConfig};
use parser::ast::{Command, Healthcheck, Instruction, InstructionKind, KeyValue, Word};

use super::run::in_shell;
use super::{Lowering, StageState};
use crate::args::set_config_env;
use crate::error::LowerError;
use crate::history;

impl Lowering<'_> {
    /// Applies `kind` and adds its history entry.
    pub(super) fn metadata(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        kind: &InstructionKind,
    ) -> Result<(), LowerError> {
        let text = match kind {
            InstructionKind::Env(pairs) => self.env(state, pairs)?,
            InstructionKind::Label(pairs) => self.label(state, pairs)?,
            InstructionKind::User(user) => self.user(state, user)?,
            InstructionKind::Expose(ports) => self.expose(state, ports)?,
            InstructionKind::Volume(paths) => self.volume(state, paths)?,
            InstructionKind::Cmd(command) => cmd(state, command),
            InstructionKind::Entrypoint(command) => entrypoint(state, command),
            InstructionKind::Shell(shell) => {
                state.config.config.shell.clone_from(shell);
                format!("SHELL {}", history::plain_list(shell))
            }
            InstructionKind::StopSignal(signal) => self.stop_signal(state, signal)?,
            InstructionKind::Healthcheck(check) => healthcheck(state, check),
            InstructionKind::Maintainer(name) => {
                state.config.author = self.expander.word(name, &state.environment)?;
                format!("MAINTAINER {}", state.config.author)
            }
            InstructionKind::OnBuild { text, .. } => {
                // Like BuildKit's, it leaves no trace in the history.
                state.config.config.on_build.push(text.clone());
                return Ok(());
            }
            InstructionKind::From(_)
            | InstructionKind::Run(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Add(_)
            | InstructionKind::Arg(_)
            | InstructionKind::Workdir(_)
            | InstructionKind::Invalid => {
                let message = "this instruction cannot stand here";
                return Err(LowerError::at("unexpected-instruction", instruction.span, message));
            }
        };
        history::metadata(&mut state.config, text, self.epoch);
        Ok(())
    }

    /// All pairs see the environment from before the instruction.
    fn pairs(&self, state: &StageState, pairs: &[KeyValue]) -> Result<Vec<(String, String)>, LowerError> {
        let expand = |word: &Word| self.expander.word(word, &state.environment);
        pairs.iter().map(|pair| Ok((expand(&pair.key)?, expand(&pair.value)?))).collect()
    }

    fn env(&self, state: &mut StageState, pairs: &[KeyValue]) -> Result<String, LowerError> {
        let pairs = self.pairs(state, pairs)?;
        for (name, value) in &pairs {
            // What nobody set before is not in the config either.
            match state.environment.get(name) {
                Some(_) => set_config_env(&mut state.config.config.env, name, value),
                None => state.config.config.env.push(format!("{name}={value}")),
            }
            state.environment.set(name, value);
        }
        Ok(format!("ENV {}", shown(&pairs)))
    }

    fn label(&self, state: &mut StageState, pairs: &[KeyValue]) -> Result<String, LowerError> {
        let pairs = self.pairs(state, pairs)?;
        state.config.config.labels.extend(pairs.iter().cloned());
        Ok(format!("LABEL {}", shown(&pairs)))
    }

    fn user(&self, state: &mut StageState, user: &Word) -> Result<String, LowerError> {
        let user = self.nonempty(state, user, "USER")?;
        state.config.config.user = user;
        Ok(format!("USER {}", state.config.config.user))
    }

    fn stop_signal(&self, state: &mut StageState, signal: &Word) -> Result<String, LowerError> {
        let value = self.nonempty(state, signal, "STOPSIGNAL")?;
        if !is_signal(&value) {
            let message = format!("\"{value}\" is not a signal");
            let help = "use a name such as SIGTERM, or a number from 1 to 64";
            return Err(LowerError::with_help("invalid-signal", signal.span, message, help));
        }
        state.config.config.stop_signal = value;
        Ok(format!("STOPSIGNAL {}", state.config.config.stop_signal))
    }

    fn nonempty(&self, state: &StageState, word: &Word, keyword: &str) -> Result<String, LowerError> {
        let value = self.expander.word(word, &state.environment)?;
        if value.is_empty() {
            return Err(LowerError::at(
                "empty-argument",
                word.span,
                format!("{keyword} is empty after expansion"),
            ));
        }
        Ok(value)
    }

    fn expose(&self, state: &mut StageState, written: &[Word]) -> Result<String, LowerError> {
        let mut ports = Vec::new();
        for word in written {
            for text in self.expander.words(word, &state.environment)? {
                self.expander.findings().exposed_port(&text, word.span);
                ports.extend(parse_ports(&text).ok_or_else(|| {
                    let message = format!("invalid port \"{text}\"");
                    let help = "write port[-port][/tcp|/udp|/sctp], with ports from 1 to 65535";
                    LowerError::with_help("invalid-port", word.span, message, help)
                })?);
            }
        }
        ports.sort();
        ports.dedup();
        let config = &mut state.config.config;
        config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), Empty {})));
        Ok(format!("EXPOSE {}", history::plain_list(&ports)))
    }

    fn volume(&self, state: &mut StageState, paths: &[Word]) -> Result<String, LowerError> {
        let mut volumes = Vec::new();
        for path in paths {
            volumes.push(self.nonempty(state, path, "VOLUME")?);
        }
        state.config.config.volumes.extend(volumes.iter().map(|path| (path.clone(), Empty {})));
        Ok(format!("VOLUME {}", history::plain_list(&volumes)))
    }
}

fn shown(pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    shown.join(" ")
}

fn command_args(state: &StageState, command: &Command) -> Vec<String> {
    match command {
        Command::Exec { args, .. } => args.clone(),
        Command::Shell(line) => in_shell(state, &line.text),
    }
}

fn cmd(state: &mut StageState, command: &Command) -> String {
    let args = command_args(state, command);
    let text = format!("CMD {}", history::quoted_list(&args));
    state.config.config.cmd = Some(args);
    state.config.config.args_escaped = true;
    state.cmd_set = true;
    text
}

/// ENTRYPOINT forgets a CMD that came from the base, because it belonged to the old entry point.
fn entrypoint(state: &mut StageState, command: &Command) -> String {
    let args = command_args(state, command);
    let text = format!("ENTRYPOINT {}", history::quoted_list(&args));
    state.config.config.entrypoint = Some(args);
    if !state.cmd_set {
        state.config.config.cmd = None;
    }
    text
}

fn healthcheck(state: &mut StageState, check: &Healthcheck) -> String {
    let config = match check {
        Healthcheck::None => {
            HealthcheckConfig { test: vec!["NONE".to_owned()], ..HealthcheckConfig::default() }
        }
        Healthcheck::Check { interval, timeout, start_period, start_interval, retries, command } => {
            let test = match command {
                Command::Exec { args, .. } => {
                    std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
                }
                Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.text.clone()],
            };
            HealthcheckConfig {
                test,
                interval: interval.unwrap_or(0),
                timeout: timeout.unwrap_or(0),
                start_period: start_period.unwrap_or(0),
                start_interval: start_interval.unwrap_or(0),
                retries: retries.unwrap_or(0),
            }
        }
    };
    let text = format!("HEALTHCHECK {}", history::healthcheck(&config));
    state.config.config.healthcheck = Some(config);
    text
}

/// `8000-8002/udp` as three ports with their protocol. An address and a port of the host before them
/// (`127.0.0.1:80:80`) mean nothing in an image, as in Docker.
fn parse_ports(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let range = ports.rsplit_once(':').map_or(ports, |(_, inside)| inside);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// Names and numbers that Linux knows; real-time signals as `RTMIN+n` and `RTMAX-n`.
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 34] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| rest.is_empty() || rest[1..].parse::<u32>().is_ok_and(|n| n <= 15);
    NAMES.contains(&name)
        || name
            .strip_prefix("RTMIN")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('+') && offset(rest))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && offset(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_ranges_and_protocols() {
        assert_eq!(parse_ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(parse_ports("127.0.0.1:8080:80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_ports("1-3/sctp").unwrap(), ["1/sctp", "2/sctp", "3/sctp"]);
        for bad in ["0", "70000", "a", "3-1", "80/icmp", ""] {
            assert_eq!(parse_ports(bad), None, "{bad}");
        }
    }

    #[test]
    fn signals_are_names_or_numbers() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["0", "65", "SIGFOO", "", "RTMIN-1", "RTMIN+"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}

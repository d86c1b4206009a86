//! Credential helpers: programs called `docker-credential-NAME` that keep logins, asked on their standard input.
//!
//! A helper gets the caller's whole environment, since it talks to the user's agents and key rings, and limited time. What it
//! answers is no more trusted than any other program's output.
//!
//! Source: the protocol in the documentation of `docker-credential-helpers`.

use std::ffi::{CString, NulError, OsString};
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use base::{Fault, Faulty};
use registry::Credential;
use registry::docker_config::server_key;
use serde::Deserialize;
use sys::ns::{Ending, Namespaces, PidFd};
use sys::path_error::{PathContext as _, PathError};
use sys::spawn::{Exec, LaunchError, Plan, Step, launch};

use super::RegistryFiles;

/// How long a helper may take unless something else is said: it may ask the user for a passphrase.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that is read of an answer, in bytes.
const LONGEST_ANSWER: u64 = 256 * 1024;

/// The most that is sent, in bytes: what a pipe takes without a reader.
const LONGEST_INPUT: usize = 32 * 1024;

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// The signal that cannot be caught (`signal(7)`).
const SIGKILL: i32 = 9;

/// Why a helper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It is not installed.
    #[error("the credential helper {name} is configured, but not installed")]
    Missing {
        /// The program.
        name: String,
    },
    /// The configuration names something that is no program's name.
    #[error("\"{name}\" is not the name of a credential helper")]
    Name {
        /// What is configured.
        name: String,
    },
    /// It could not be started.
    #[error("cannot run the credential helper {name}")]
    Start {
        /// The program.
        name: String,
        /// Why.
        #[source]
        source: LaunchError,
    },
    /// No pipe to it could be made.
    #[error("cannot talk to the credential helper {name}")]
    Pipe {
        /// The program.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to be its standard error.
    #[error(transparent)]
    File(#[from] PathError),
    /// Something that it would be given has a NUL byte.
    #[error("the environment has a NUL byte")]
    Environment(#[from] NulError),
    /// What it is to keep is too long.
    #[error("the credential is too long for the helper {name}")]
    TooLong {
        /// The program.
        name: String,
    },
    /// It says that it failed.
    #[error("the credential helper {name} failed: {message}")]
    Failed {
        /// The program.
        name: String,
        /// What it said, made fit for a terminal.
        message: String,
    },
    /// It did not come to an end.
    #[error("the credential helper {name} did not answer within {} s", limit.as_secs())]
    Slow {
        /// The program.
        name: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It answered something else than a credential.
    #[error("the credential helper {name} did not answer with a credential")]
    Answer {
        /// The program.
        name: String,
    },
}

impl Faulty for HelperError {
    fn fault(&self) -> Fault {
        match self {
            Self::Name { .. } | Self::TooLong { .. } | Self::Environment(_) => Fault::Input,
            Self::Start { source, .. } => source.fault(),
            Self::File(error) => error.fault(),
            _ => Fault::Environment,
        }
    }
}

/// What helpers answer to `get`.
#[derive(Deserialize)]
struct Kept {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// A configured helper.
pub(super) struct Helper<'a> {
    files: &'a RegistryFiles,
    /// The program.
    name: String,
}

impl<'a> Helper<'a> {
    /// The helper that configuration calls `name`.
    pub(super) fn new(files: &'a RegistryFiles, name: &str) -> Result<Self, HelperError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !name.bytes().all(is_name) {
            return Err(HelperError::Name { name: name.escape_default().to_string() });
        }
        Ok(Self { files, name: format!("docker-credential-{name}") })
    }

    /// The program.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The credential that it keeps for `registry`.
    pub(super) fn get(&self, registry: &str) -> Result<Option<Credential>, HelperError> {
        let (ending, answer) = self.run("get", server_key(registry).as_bytes())?;
        if ending != Ending::Exited(0) {
            let message = shown(&answer);
            // The protocol has no other sign for this.
            let unknown = message.contains("credentials not found") || message.contains("no credentials");
            return if unknown { Ok(None) } else { Err(self.failed(&answer)) };
        }
        let bad = |_| HelperError::Answer { name: self.name.clone() };
        let Kept { user, secret } = serde_json::from_slice(&answer).map_err(bad)?;
        Ok(match (user.as_str(), secret.as_str()) {
            (_, "") => None,
            (TOKEN_USER, _) => Some(Credential::IdentityToken(secret)),
            _ => Some(Credential::Password { user, password: secret }),
        })
    }

    /// Has it keep a credential.
    pub(super) fn store(&self, registry: &str, credential: &Credential) -> Result<(), HelperError> {
        let (user, secret) = match credential {
            Credential::Password { user, password } => (user.as_str(), password),
            Credential::IdentityToken(token) | Credential::RegistryToken(token) => (TOKEN_USER, token),
        };
        let kept = serde_json::json!({"ServerURL": server_key(registry), "Username": user, "Secret": secret});
        self.succeed("store", kept.to_string().as_bytes())
    }

    /// Has it forget a registry.
    pub(super) fn erase(&self, registry: &str) -> Result<(), HelperError> {
        self.succeed("erase", server_key(registry).as_bytes())
    }

    fn succeed(&self, action: &str, input: &[u8]) -> Result<(), HelperError> {
        match self.run(action, input)? {
            (Ending::Exited(0), _) => Ok(()),
            (_, answer) => Err(self.failed(&answer)),
        }
    }

    fn failed(&self, answer: &[u8]) -> HelperError {
        HelperError::Failed { name: self.name.clone(), message: shown(answer) }
    }

    /// Runs it with this input, and gives how it ended and what it wrote.
    fn run(&self, action: &str, input: &[u8]) -> Result<(Ending, Vec<u8>), HelperError> {
        if input.len() > LONGEST_INPUT {
            return Err(HelperError::TooLong { name: self.name.clone() });
        }
        let pipe = |source| HelperError::Pipe { name: self.name.clone(), source };
        let (stdin, mut to_stdin) = std::io::pipe().map_err(pipe)?;
        to_stdin.write_all(input).map_err(pipe)?;
        drop(to_stdin);
        let (from_stdout, stdout) = std::io::pipe().map_err(pipe)?;
        let null = Path::new("/dev/null");
        let stderr = std::fs::File::options().write(true).open(null).at("open", null)?;
        let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let process = match launch(self.plan(action)?, Some(streams)) {
            Ok(launched) => Arc::new(launched.process),
            Err(failure) => return Err(self.not_started(failure.error)),
        };
        drop(stdout);
        self.answer(process, from_stdout)
    }

    /// What it writes, and how it ends, unless that takes too long.
    fn answer(&self, process: Arc<PidFd>, stdout: PipeReader) -> Result<(Ending, Vec<u8>), HelperError> {
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::clone(&process);
        let listen = move || {
            let mut answer = Vec::new();
            let read = stdout.take(LONGEST_ANSWER).read_to_end(&mut answer);
            let ended = read.and_then(|_| waiting.wait());
            // Nobody listens any more if it took too long.
            let _ = sender.send(ended.map(|(ending, _)| (ending, answer)));
        };
        let pipe = |source| HelperError::Pipe { name: self.name.clone(), source };
        std::thread::Builder::new().name("credential-helper".to_owned()).spawn(listen).map_err(pipe)?;
        let limit = self.files.helper_patience.unwrap_or(PATIENCE);
        match receiver.recv_timeout(limit) {
            Ok(ended) => ended.map_err(pipe),
            Err(_) => {
                // It can only fail for a process that does not exist any more.
                let _ = process.signal(SIGKILL);
                Err(HelperError::Slow { name: self.name.clone(), limit })
            }
        }
    }

    fn plan(&self, action: &str) -> Result<Plan, HelperError> {
        let text = |text: OsString| CString::new(text.into_vec());
        let candidates = self.files.programs.iter().map(|directory| text(directory.join(&self.name).into()));
        let variables = self.files.environment.iter().map(|(name, value)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            text(entry)
        });
        Ok(Plan {
            namespaces: Namespaces::NONE,
            steps: vec![Step::Umask(0o077)],
            exec: Exec {
                candidates: candidates.collect::<Result<_, _>>()?,
                arguments: vec![text(self.name.clone().into())?, text(action.into())?],
                environment: variables.collect::<Result<_, _>>()?,
                trusted: true,
            },
            ..Plan::default()
        })
    }

    fn not_started(&self, error: LaunchError) -> HelperError {
        let name = self.name.clone();
        match error {
            LaunchError::Execute { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                HelperError::Missing { name }
            }
            source => HelperError::Start { name, source },
        }
    }
}

/// The beginning of an answer, fit for a terminal.
fn shown(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(200).map(clean).collect()
}

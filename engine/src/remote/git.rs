//! Git repositories, read with the git program.
//!
//! [`Fetcher::pin_commit`] asks the server what a branch or tag stands for; [`Fetcher::checkout`]
//! fetches that one commit and lays out its files. Nothing of the repository is kept but the files, which
//! the build cache knows by their commit.
//!
//! The program runs apart from the user's configuration: no system or global settings, no hooks, no
//! prompts, no protocols that run programs or read local files. Names from outside never stand where git
//! could take them for options. Secrets are passed in its environment, for their origin only.
//!
//! Source: `git(1)`, `git-config(1)`, `git-fetch(1)`, `gitprotocol-v2(5)`.

mod checkout;
mod error;
mod refs;

use std::ffi::OsString;
use std::path::Path;

use base::event::Stream;
use base::git_url::{GitUrl, is_commit_id};
use base::{CancelToken, Digest};
use llb::GitSource;
use snapshotter::ScratchDir;

pub(crate) use self::checkout::Checkout;
pub use self::error::GitError;
use super::Fetcher;
use super::access::{OriginHeader, without_credentials};
use super::host_program::HostProgram;
use crate::error::EngineError;
use crate::ssh::Agent;

/// Settings that hold for every call.
const SETTINGS: [(&str, &str); 9] = [
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("safe.directory", "*"),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("init.defaultBranch", "main"),
    ("credential.helper", ""),
];

/// The protocols that a repository and its submodules may be fetched with.
const PROTOCOLS: &str = "http:https:ssh:git";

/// Nobody else may use the agent's socket.
const AGENT_MODE: u32 = 0o600;

/// A transfer below 1000 bytes per second for so many seconds is given up.
const STALL_SECONDS: &str = "60";

/// How git runs for one repository.
struct Git<'a> {
    program: HostProgram<'a>,
    /// The repository, without a password.
    remote: String,
    cancel: &'a CancelToken,
    /// Its home directory, empty.
    _home: ScratchDir,
    /// The agent with SSH keys.
    _agent: Option<Agent>,
}

impl Fetcher<'_> {
    /// The commit that a repository's URL stands for now. A complete commit id stands for itself, and the
    /// server is not asked.
    pub(crate) fn pin_commit(&self, url: &GitUrl) -> Result<String, EngineError> {
        if let Some(checksum) = url.checksum.as_ref().filter(|_| url.fetch_by_commit) {
            return Ok(checksum.clone());
        }
        if let Some(commit) = url.reference.as_ref().filter(|reference| is_commit_id(reference)) {
            return Ok(refs::checked(url, commit.clone())?);
        }
        let asked = url.reference.as_deref().unwrap_or("HEAD");
        let (name, of) =
            (format!("load metadata for {} {asked}", url.shown()), format!("ADD {}", url.shown()));
        self.step(&name, &of, false, |fetcher, _| {
            let git = Git::new(fetcher, &url.remote)?;
            Ok(refs::checked(url, refs::commit_of(&git, url)?)?)
        })
    }

    /// The files of a commit, in a directory that goes away with its owner. Messages of git are shown as
    /// the output of `vertex`.
    pub(crate) fn checkout(&self, source: &GitSource, vertex: Digest) -> Result<Checkout, EngineError> {
        let git = Git::new(self, &source.remote)?;
        let directory = self.engine.store.scratch(self.lease)?;
        let mut told = |text: &str| {
            let line = format!("{}\n", text.trim_end());
            self.progress.log(vertex, Stream::Stderr, line.as_bytes(), line.as_bytes());
        };
        checkout::checkout(&git, source, directory, &mut told)
    }
}

impl<'a> Git<'a> {
    fn new(fetcher: &Fetcher<'a>, remote: &str) -> Result<Self, EngineError> {
        let Fetcher { engine, lease, access, cancel, .. } = *fetcher;
        let home = engine.store.scratch(lease)?;
        let start =
            |source| Agent::start(&engine.store, lease, source, AGENT_MODE, sys::rootdir::own_ids(), cancel);
        // Also for a repository that comes over HTTP: its submodules may not.
        let agent = access.agent()?.as_ref().map(start).transpose()?;
        let mut environment = environment(home.path(), &access.of_repository(remote)?);
        environment.extend(engine.proxies.iter().map(|(name, value)| (name.clone(), value.into())));
        if let Some(agent) = &agent {
            environment.push(("SSH_AUTH_SOCK".to_owned(), agent.socket().into()));
        }
        let program = HostProgram { store: &engine.store, lease, name: "git", environment };
        Ok(Self { program, remote: without_credentials(remote), cancel, _home: home, _agent: agent })
    }

    /// Runs git and gives what it printed. `action` says what it is for, as in "cannot …".
    fn run(&self, action: &'static str, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        self.run_with(action, arguments.iter().map(OsString::from).collect())
    }

    /// Runs git in a directory of the store.
    fn run_in(
        &self,
        directory: &Path,
        action: &'static str,
        arguments: &[&str],
    ) -> Result<Vec<u8>, GitError> {
        let place = ["-C".into(), OsString::from(directory)].into_iter();
        self.run_with(action, place.chain(arguments.iter().map(OsString::from)).collect())
    }

    fn run_with(&self, action: &'static str, arguments: Vec<OsString>) -> Result<Vec<u8>, GitError> {
        let finished = self.program.run(&arguments, self.cancel)?;
        match finished.success {
            true => Ok(finished.stdout),
            false => Err(GitError::failed(action, &self.remote, &finished.stderr)),
        }
    }
}

fn environment(home: &Path, headers: &[OriginHeader]) -> Vec<(String, OsString)> {
    let known_hosts = home.join("known_hosts");
    let ssh = format!(
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='{}'",
        known_hosts.display().to_string().replace('\'', "'\\''")
    );
    let fixed = [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "false"),
        ("SSH_ASKPASS_REQUIRE", "never"),
        ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
        ("GIT_PROTOCOL_FROM_USER", "0"),
        ("GIT_HTTP_LOW_SPEED_LIMIT", "1000"),
        ("GIT_HTTP_LOW_SPEED_TIME", STALL_SECONDS),
        ("LC_ALL", "C"),
        ("GIT_SSH_COMMAND", &ssh),
    ];
    let mut all: Vec<(String, OsString)> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    all.push(("HOME".to_owned(), home.into()));
    let own = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let headers = headers.iter();
    let headers = headers.map(|one| (format!("http.{}.extraHeader", one.origin), one.header.clone()));
    let settings: Vec<(String, String)> = own.chain(headers).collect();
    all.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string().into()));
    for (number, (name, value)) in settings.into_iter().enumerate() {
        all.push((format!("GIT_CONFIG_KEY_{number}"), name.into()));
        all.push((format!("GIT_CONFIG_VALUE_{number}"), value.into()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_knows_nothing_of_the_user_and_secrets_stay_out_of_arguments() {
        let header = OriginHeader { origin: "https://a/".to_owned(), header: "Authorization: x".to_owned() };
        let all = environment(Path::new("/it's home"), &[header]);
        let value = |name: &str| {
            let found = all.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        assert_eq!(value("GIT_CONFIG_NOSYSTEM"), "1");
        assert_eq!(value("GIT_CONFIG_GLOBAL"), "/dev/null");
        assert_eq!(value("GIT_TERMINAL_PROMPT"), "0");
        assert_eq!(value("GIT_ALLOW_PROTOCOL"), "http:https:ssh:git");
        assert!(value("GIT_SSH_COMMAND").ends_with("UserKnownHostsFile='/it'\\''s home/known_hosts'"));
        let last = SETTINGS.len();
        assert_eq!(value("GIT_CONFIG_COUNT"), (last + 1).to_string());
        assert_eq!(value(&format!("GIT_CONFIG_KEY_{last}")), "http.https://a/.extraHeader");
        assert_eq!(value(&format!("GIT_CONFIG_VALUE_{last}")), "Authorization: x");
    }
}

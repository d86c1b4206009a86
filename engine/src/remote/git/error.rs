//! Why a git repository could not be read.

use base::git_url::without_password;
use base::{Fault, Faulty};

use crate::remote::host_program::ProgramError;

/// The most characters that are shown of what git says.
const MAX_MESSAGE: usize = 600;

/// A repository that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Git did not run.
    #[error("cannot read a git repository")]
    Program(#[from] ProgramError),
    /// Git ran and failed.
    #[error("cannot {action} {remote}: git says: {message}")]
    Failed {
        /// What was tried, as in "cannot fetch …".
        action: &'static str,
        /// The repository, without a password.
        remote: String,
        /// The end of what git said, on one line.
        message: String,
    },
    /// The repository has no such branch or tag.
    #[error("{remote} has no branch or tag \"{reference}\"")]
    NoReference {
        /// The repository, without a password.
        remote: String,
        /// What was asked for.
        reference: String,
        /// The name that was likely meant, else some of those that there are.
        existing: Vec<String>,
    },
    /// The repository has no commit at all.
    #[error("{remote} has no default branch; it may be empty")]
    Empty {
        /// The repository, without a password.
        remote: String,
    },
    /// The ref stands for another commit than the one that was demanded.
    #[error("{reference} of {remote} is commit {actual}, but the checksum demands {expected}")]
    Checksum {
        /// The repository, without a password.
        remote: String,
        /// What was asked for.
        reference: String,
        /// The commit, or the start of its id.
        expected: String,
        /// What the ref stands for.
        actual: String,
    },
    /// The commit has no such directory.
    #[error("commit {commit} of {remote} has no directory \"{subdir}\"")]
    NoDirectory {
        /// The repository, without a password.
        remote: String,
        /// The commit.
        commit: String,
        /// The directory.
        subdir: String,
        /// The directory that was likely meant, else some of those that there are.
        existing: Vec<String>,
    },
}

impl GitError {
    /// A failure of the program, by its error output.
    pub(super) fn failed(action: &'static str, remote: &str, stderr: &str) -> Self {
        let shown = without_password(remote);
        let stderr = stderr.replace(remote, &shown);
        let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let telling: Vec<&str> = lines.iter().copied().filter(|line| !line.starts_with("hint:")).collect();
        let joined = telling.join("; ");
        let clean = joined.chars().map(|c| if c.is_control() { ' ' } else { c });
        let skipped = joined.chars().count().saturating_sub(MAX_MESSAGE);
        Self::Failed { action, remote: shown, message: clean.skip(skipped).collect() }
    }

    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Program(ProgramError::Missing { .. }) => {
                Some("install it, for example with: apt-get install git".to_owned())
            }
            Self::Program(_) | Self::Empty { .. } | Self::Checksum { .. } => None,
            Self::Failed { message, .. } => advice(message).map(str::to_owned),
            // A single name is one that was likely meant; otherwise it may be the start of a commit's id.
            Self::NoReference { reference, existing, .. }
                if existing.len() != 1 && is_short_id(reference) =>
            {
                Some("a commit is named by its complete id".to_owned())
            }
            Self::NoReference { existing, .. } => suggestion(existing),
            Self::NoDirectory { existing, .. } => suggestion(existing),
        }
    }
}

fn is_short_id(reference: &str) -> bool {
    (7..40).contains(&reference.len()) && reference.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What to do about something that git says.
fn advice(message: &str) -> Option<&'static str> {
    let cases = [
        (
            &["could not read Username", "Authentication failed", "error: 401", "error: 403"][..],
            "a private repository needs a secret with the id GIT_AUTH_TOKEN or GIT_AUTH_HEADER",
        ),
        (
            &["Permission denied (publickey", "Could not open a connection to your authentication agent"],
            "give \
          the build your SSH agent with --ssh default",
        ),
        (&["cannot run ssh"], "install it, for example with: apt-get install openssh-client"),
        (&["not our ref", "unadvertised object"], "the server has no such commit, or does not give it out"),
        (&["not allowed"], "repositories and submodules come over http, https, ssh or git"),
    ];
    cases.iter().find(|(texts, _)| texts.iter().any(|text| message.contains(text))).map(|(_, advice)| *advice)
}

fn suggestion(existing: &[String]) -> Option<String> {
    match existing {
        [] => None,
        [only] => Some(format!("did you mean \"{only}\"?")),
        several => Some(format!("there are: {}", several.join(", "))),
    }
}

impl Faulty for GitError {
    fn fault(&self) -> Fault {
        match self {
            Self::Program(error) => error.fault(),
            Self::Failed { .. } => Fault::Environment,
            _ => Fault::Input,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> GitError {
        GitError::failed("fetch", "https://u:secret@h/r.git", stderr)
    }

    #[test]
    fn what_git_says_is_one_harmless_line() {
        let error = failed("hint: x\nfatal: unable to access 'https://u:secret@h/r.git':\u{1b}[31m no\n\n");
        let expected = "cannot fetch https://u:xxxxx@h/r.git: git says: \
                        fatal: unable to access 'https://u:xxxxx@h/r.git': [31m no";
        assert_eq!(error.to_string(), expected);
        assert!(failed(&format!("{}the end", "x".repeat(5000))).to_string().ends_with("the end"));
        assert!(failed(&"x".repeat(5000)).to_string().len() < 1000);
    }

    #[test]
    fn advice_fits_the_failure() {
        let hint = |stderr: &str| failed(stderr).hint().unwrap_or_default();
        assert!(
            hint("fatal: could not read Username for 'https://h': prompts disabled")
                .contains("GIT_AUTH_TOKEN")
        );
        assert!(hint("git@h: Permission denied (publickey).").contains("--ssh default"));
        assert!(hint("fatal: transport 'file' not allowed").contains("over http, https, ssh or git"));
        assert_eq!(hint("fatal: something else"), "");
        let missing = GitError::from(ProgramError::Missing { name: "git" });
        assert!(missing.hint().unwrap().contains("apt-get install git"));
    }
}

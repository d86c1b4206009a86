//! Git repositories to build from: made with the git program, at a fixed time.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{TestEnv, WebServer};

/// The time of all commits: 2001-02-03T04:05:06Z.
const COMMIT_TIME: &str = "981173106 +0000";

/// A repository with a working tree.
pub struct Repository {
    directory: PathBuf,
}

impl Repository {
    /// An empty repository `name` below the work directory of `env`, on the branch `main`.
    pub fn create(env: &TestEnv, name: &str) -> Self {
        let directory = env.work().join("repositories").join(name);
        std::fs::create_dir_all(&directory).expect("a directory below a new one");
        let repository = Self { directory };
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// Its working tree.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes a file.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        std::fs::write(path, content).expect("a writable file");
        self
    }

    /// Sets the mode of a file.
    pub fn mode(&self, path: &str, mode: u32) -> &Self {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.directory.join(path), permissions).expect("a file of ours");
        self
    }

    /// Commits all that there is.
    pub fn commit(&self) -> &Self {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a commit"]);
        self
    }

    /// The id of the newest commit.
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the repository and gives what it printed, without the line end.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory).args(arguments).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &self.directory);
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Somebody");
            command.env(format!("GIT_{role}_EMAIL"), "somebody@example.com");
            command.env(format!("GIT_{role}_DATE"), COMMIT_TIME);
        }
        let output = command.output().expect("git is installed");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Serves the repository, and all others of `env`, and gives its URL, which ends in `.git`.
    pub fn serve(&self, server: &WebServer) -> String {
        let parent = self.directory.parent().expect("it is in a directory");
        server.serve_repositories(parent);
        let name = self.directory.file_name().expect("it has a name").to_string_lossy();
        server.url(&format!("/git/{name}/.git"))
    }
}

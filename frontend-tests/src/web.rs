//! What a case finds on the web: files, and a git repository, on a server of the loopback interface.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use testkit::web::{WebFile, WebServer};

use crate::files::{self, Files};

/// One commit of the repository.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commit {
    /// The files to write over those of the commit before.
    pub files: Files,
    /// A tag for it.
    pub tag: Option<String>,
    /// The branch that begins here; without it the commit goes on the one before.
    pub branch: Option<String>,
}

/// A server for one case.
pub struct Web {
    server: WebServer,
    /// Where the repository was made.
    repositories: PathBuf,
    /// The hash of the repository's last commit.
    pub commit: String,
}

impl Web {
    /// Starts a server with a repository of `commits`, if there are any, that is made below `dir`, and that asks for
    /// `authorization`.
    pub fn start(commits: &[Commit], authorization: Option<&str>, dir: &Path) -> Self {
        let server = WebServer::start();
        let commit = if commits.is_empty() { String::new() } else { make_repository(commits, dir) };
        server.serve_repositories(dir);
        if let Some(authorization) = authorization {
            server.require_for_repositories(authorization);
        }
        Self { server, repositories: dir.to_owned(), commit }
    }

    /// Offers files, over older ones.
    pub fn put(&self, files: &Files) {
        for (path, file) in files {
            let content = file.content();
            let tag = base::Digest::of(&content).short().to_owned();
            let file = file.headers().into_iter().fold(WebFile::new(content), |web, (name, value)| {
                if name == "Authorization" { web.secret(&value) } else { web.header(&name, &value) }
            });
            self.server.put(&format!("/{path}"), file.etag(&tag));
        }
    }

    /// Adds commits to the branch `main` of the repository.
    pub fn commit(&self, commits: &[Commit]) {
        if !commits.is_empty() {
            let work = self.repositories.join("work");
            add_commits(&work, commits);
            git(&work, &["push", "--quiet", "../repo.git", "main"]);
        }
    }

    /// The server's URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    /// The URL of the repository.
    pub fn repository(&self) -> String {
        self.server.url("/git/repo.git")
    }
}

/// Makes `repo.git` in `dir`, and returns the hash of its last commit.
fn make_repository(commits: &[Commit], dir: &Path) -> String {
    let work = dir.join("work");
    std::fs::create_dir_all(&work).unwrap_or_else(|error| panic!("create {}: {error}", work.display()));
    git(&work, &["init", "--quiet", "--initial-branch", "main"]);
    add_commits(&work, commits);
    let head = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["checkout", "--quiet", "main"]);
    git(dir, &["clone", "--quiet", "--bare", "work", "repo.git"]);
    head.trim().to_owned()
}

/// Adds commits to what is checked out in `work`.
fn add_commits(work: &Path, commits: &[Commit]) {
    for commit in commits {
        if let Some(branch) = &commit.branch {
            git(work, &["checkout", "--quiet", "-b", branch]);
        }
        files::write(work, &commit.files);
        git(work, &["add", "--all"]);
        git(work, &["commit", "--quiet", "--allow-empty", "--message", "a commit"]);
        if let Some(tag) = &commit.tag {
            git(work, &["tag", tag]);
        }
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", dir);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@example.com");
        command.env(format!("GIT_{who}_DATE"), "2001-09-09T01:46:40Z");
    }
    let output = command.output().expect("git is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

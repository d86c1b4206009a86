//! OpenSSH's agent and keys for tests.

use std::path::{Path, PathBuf};

use testkit::{Context, Lap, Running, TestEnv};

/// The ssh programs of this machine; says why if they are missing.
pub(crate) fn openssh() -> Option<()> {
    let there =
        ["ssh-agent", "ssh-add", "ssh-keygen"].iter().all(|name| Path::new("/usr/bin").join(name).exists());
    if !there {
        eprintln!("skipped: ssh-add is missing; install the package openssh-client");
    }
    there.then_some(())
}

/// A new key, with a comment to know it by.
pub(crate) fn key(env: &TestEnv) -> String {
    let path = env.work().join("id");
    let keygen = Lap::new(Path::new("/usr/bin/ssh-keygen"));
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "test key", "-f"]).arg(&path).ok();
    path.display().to_string()
}

/// Puts this machine's ssh-add, with all that it needs, into `tool` of a context.
pub(crate) fn put_ssh_add(context: &Context) {
    let listed = Lap::new(Path::new("/usr/bin/ldd")).arg("/usr/bin/ssh-add").ok().stdout_text();
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for path in paths.chain(["/usr/bin/ssh-add"]) {
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let name = if name.starts_with("ld-linux") { "loader" } else { name };
        context.file(&format!("tool/{name}"), std::fs::read(path).unwrap());
        context.mode(&format!("tool/{name}"), 0o755);
    }
}

/// Mounts the program of [`put_ssh_add`] and calls it.
pub(crate) const SSH_ADD: &str =
    "--mount=source=tool,target=/tool /tool/loader --library-path /tool /tool/ssh-add";

/// An agent with one key. Dropped, it ends.
pub(crate) struct Agent {
    socket: PathBuf,
    running: Option<Running>,
}

impl Agent {
    /// Starts one and gives it `key`.
    pub(crate) fn start(env: &TestEnv, key: &str) -> Self {
        let socket = env.work().join("agent");
        let mut running = Lap::new(Path::new("/usr/bin/ssh-agent")).arg("-D").arg("-a").arg(&socket).spawn();
        running.wait_for("SSH_AUTH_SOCK");
        let agent = Self { socket, running: Some(running) };
        agent.add().arg("-q").arg(key).ok();
        agent
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// `ssh-add` for this agent, not started yet.
    pub(crate) fn add(&self) -> Lap {
        Lap::new(Path::new("/usr/bin/ssh-add")).env("SSH_AUTH_SOCK", &self.socket)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal(nix::sys::signal::Signal::SIGTERM);
            running.finish();
        }
    }
}

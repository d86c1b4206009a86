//! Further processes in running containers.

use runner::DetachKeys;
use runner::passwd::ResolvedUser;
use runner::shim::{Execution, Request};
use snapshotter::Tree;

use super::lifecycle::Exit;
use crate::Engine;
use crate::error::EngineError;
use crate::run::resolve_user;

/// A further process that is wanted.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// In which container.
    pub container: String,
    /// Command and arguments.
    pub command: Vec<String>,
    /// `-e`: `NAME=value`
    pub env: Vec<String>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`
    pub user: Option<String>,
    /// `--privileged`
    pub privileged: bool,
    /// `-t`
    pub tty: bool,
    /// `-i`
    pub interactive: bool,
    /// `-d`
    pub detach: bool,
    /// `--detach-keys`
    pub detach_keys: DetachKeys,
}

impl Engine {
    /// Runs a further process in a container; on our own streams and to its end, unless it is to go on without
    /// us.
    ///
    /// # Errors
    /// There is no such container, it does not run, or the program cannot be started.
    pub fn exec(&self, request: &ExecRequest) -> Result<Option<Exit>, EngineError> {
        let (container, mut client) = self.running(&request.container)?;
        let mut env = request.env.clone();
        if request.tty {
            env.insert(0, "TERM=xterm".to_owned());
        }
        let user = match &request.user {
            None => None,
            Some(user) => {
                let dirs = self.store.container_view(&container.id)?;
                let ResolvedUser { user, home } = resolve_user(Some(&Tree::overlay(dirs)?), user)?;
                env.insert(0, format!("HOME={home}"));
                Some(user)
            }
        };
        let terminal = request.tty.then(|| runner::own_size().unwrap_or(crate::run::USUAL_SIZE));
        let execution = Execution {
            args: request.command.clone(),
            env,
            cwd: request.workdir.clone(),
            user,
            privileged: request.privileged,
            terminal,
            streams: [false; 3],
            detach: request.detach,
        };
        if request.detach {
            client.ask(&Request::Exec(Box::new(execution)))?;
            return Ok(None);
        }
        Ok(Some(
            runner::exec(&mut client, execution, request.interactive, request.detach_keys.clone())?.into(),
        ))
    }
}

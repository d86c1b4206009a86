//! Further processes in running containers.

use runner::passwd::ResolvedUser;
use runner::shim::{Execution, Reply, Request};
use runner::{DetachKeys, TtySize};
use snapshotter::Tree;

use super::Container;
use super::lifecycle::Exit;
use super::streams::Connected;
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
        let size = runner::own_size();
        let execution = self.execution(request, &container, size)?;
        if request.detach {
            client.ask(&Request::Exec(Box::new(execution)))?;
            return Ok(None);
        }
        Ok(Some(
            runner::exec(&mut client, execution, request.interactive, request.detach_keys.clone())?.into(),
        ))
    }

    /// Runs a further process in a container and answers the ends of its streams: those of input, output and errors that
    /// are `wanted`. It goes on when they are dropped. `id` is what it is called, and `size` that of its terminal.
    ///
    /// # Errors
    /// As for [`exec`](Self::exec).
    pub fn exec_connected(
        &self,
        request: &ExecRequest,
        id: &str,
        wanted: [bool; 3],
        size: Option<TtySize>,
    ) -> Result<Connected, EngineError> {
        let (container, mut client) = self.running(&request.container)?;
        let execution = Execution {
            streams: wanted,
            lingers: true,
            id: Some(id.to_owned()),
            ..self.execution(request, &container, size)?
        };
        let (ends, reply) = runner::connect(&mut client, wanted, &Request::Exec(Box::new(execution)))?;
        let pid = match reply {
            Reply::Executing { pid } => pid,
            _ => 0,
        };
        Ok(Connected::new(client, ends, request.tty, pid))
    }

    /// What the supervisor is asked for, with no streams yet.
    fn execution(
        &self,
        request: &ExecRequest,
        container: &Container,
        size: Option<TtySize>,
    ) -> Result<Execution, EngineError> {
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
        Ok(Execution {
            args: request.command.clone(),
            env,
            cwd: request.workdir.clone(),
            user,
            privileged: request.privileged,
            terminal: request.tty.then(|| size.unwrap_or(crate::run::USUAL_SIZE)),
            streams: [false; 3],
            detach: request.detach,
            lingers: false,
            id: None,
        })
    }
}

//! `LLBBridge/ExecProcess`: processes in containers of a build, several of them on one stream.
//!
//! A process begins with `Init` and is answered `Started`. Then pieces of its streams go both ways until it ends: `Exit`, and
//! `Done` after all that it wrote.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use engine::session::{SessionProcess, Streams, resize};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tonic::{Code, Status, Streaming};

use crate::builds::Command;
use crate::gateway::Asked;
use crate::proto::frontend::exec_message::Input;
use crate::proto::frontend::{DoneMessage, ExecMessage, ExitMessage, FdMessage, InitMessage, StartedMessage};
use crate::proto::rpc;

/// How much of a stream is passed on at once, in bytes.
const PIECE: usize = 32 << 10;

/// How many messages wait for a slow client.
const WAITING: usize = 16;

/// How many processes one stream may have.
const MOST: usize = 64;

type Outgoing = Sender<Result<ExecMessage, Status>>;

/// A process that runs.
struct Running {
    process: Arc<SessionProcess>,
    /// What goes to its input, until that is closed.
    input: Option<Sender<Vec<u8>>>,
    terminal: Option<OwnedFd>,
}

/// Runs the processes that `incoming` asks for. Answers what they say.
pub(crate) fn processes(
    asked: Asked,
    mut incoming: Streaming<ExecMessage>,
) -> Receiver<Result<ExecMessage, Status>> {
    let (outgoing, receiver) = channel(WAITING);
    tokio::spawn(async move {
        let mut running: HashMap<String, Running> = HashMap::new();
        loop {
            let message = tokio::select! {
                message = incoming.message() => message,
                () = outgoing.closed() => return,
            };
            let Ok(Some(ExecMessage { process_id, input: Some(input) })) = message else { return };
            let handled = match input {
                Input::Init(init) => match start(&asked, &process_id, init, running.len(), &outgoing).await {
                    Ok(started) => {
                        running.insert(process_id, started);
                        Ok(())
                    }
                    Err(status) => exit(&outgoing, &process_id, Err(status)).await,
                },
                input => {
                    if let Some(process) = running.get_mut(&process_id) {
                        process.tell(input).await;
                    }
                    Ok(())
                }
            };
            if handled.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The client has hung up.
struct Gone;

async fn send(outgoing: &Outgoing, process: &str, input: Input) -> Result<(), Gone> {
    let message = ExecMessage { process_id: process.to_owned(), input: Some(input) };
    outgoing.send(Ok(message)).await.map_err(|_| Gone)
}

/// Tells how a process ended, and that there is nothing more of it.
async fn exit(outgoing: &Outgoing, process: &str, ended: Result<i32, Status>) -> Result<(), Gone> {
    let message = match ended {
        Ok(0) => ExitMessage::default(),
        Ok(code) => {
            let message = format!("exit code: {code}");
            let error = rpc::Status { code: Code::Unknown.into(), message, details: Vec::new() };
            ExitMessage { code: u32::try_from(code).unwrap_or(1), error: Some(error) }
        }
        Err(status) => {
            let message = status.message().to_owned();
            let error = rpc::Status { code: status.code().into(), message, details: Vec::new() };
            ExitMessage { code: NEVER_RAN, error: Some(error) }
        }
    };
    send(outgoing, process, Input::Exit(message)).await?;
    send(outgoing, process, Input::Done(DoneMessage {})).await
}

/// The exit code of a process that could not be started (BuildKit, `gateway.UnknownExitStatus`).
const NEVER_RAN: u32 = 255;

async fn start(
    asked: &Asked,
    id: &str,
    init: InitMessage,
    running: usize,
    outgoing: &Outgoing,
) -> Result<Running, Status> {
    if running >= MOST {
        return Err(Status::resource_exhausted(format!("a stream has at most {MOST} processes")));
    }
    let has_input = init.tty || init.fds.contains(&0);
    let process = asked.ask(|reply| Command::StartProcess(Box::new(init), reply)).await?;
    let Streams { stdin, stdout, stderr, terminal } = process.take_streams();
    let copy = |fd: &OwnedFd| {
        fd.try_clone().map_err(|error| Status::internal(format!("cannot copy a stream: {error}")))
    };
    let (stdin, stdout) = match &terminal {
        Some(terminal) => (Some(copy(terminal)?), Some(copy(terminal)?)),
        None => (stdin, stdout),
    };
    let input = stdin.filter(|_| has_input).map(writer);
    send(outgoing, id, Input::Started(StartedMessage {})).await.map_err(|Gone| Status::cancelled("gone"))?;
    let readers = [(1, stdout), (2, stderr)].into_iter().filter_map(|(fd, stream)| Some((fd, stream?)));
    let readers: Vec<_> = readers
        .map(|(fd, stream)| {
            let (id, outgoing) = (id.to_owned(), outgoing.clone());
            tokio::task::spawn_blocking(move || read(&id, fd, stream, &outgoing))
        })
        .collect();
    let (waited, id, outgoing) = (Arc::clone(&process), id.to_owned(), outgoing.clone());
    tokio::spawn(async move {
        let ended = tokio::task::spawn_blocking(move || waited.wait()).await;
        for reader in readers {
            let _ = reader.await;
        }
        let ended = match ended {
            Ok(Ok(code)) => Ok(code),
            Ok(Err(error)) => Err(crate::failed(&error)),
            Err(_) => Err(Status::internal("nobody waited for the process")),
        };
        let _ = exit(&outgoing, &id, ended).await;
    });
    Ok(Running { process, input, terminal })
}

/// Passes on what a process writes, to the end.
fn read(id: &str, fd: u32, stream: OwnedFd, outgoing: &Outgoing) {
    let (mut stream, mut buffer) = (File::from(stream), vec![0; PIECE]);
    let say = |data: &[u8], eof: bool| {
        let file = FdMessage { fd, eof, data: data.to_vec() };
        let message = ExecMessage { process_id: id.to_owned(), input: Some(Input::File(file)) };
        outgoing.blocking_send(Ok(message)).is_ok()
    };
    // A terminal whose processes have gone cannot be read any more: that is its end.
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if !buffer.get(..length).is_some_and(|piece| say(piece, false)) {
            return;
        }
    }
    say(&[], true);
}

/// Writes to a process on a thread of its own. Of what a process does not read, a little waits, and the client then does.
fn writer(stdin: OwnedFd) -> Sender<Vec<u8>> {
    let (sender, mut receiver) = channel::<Vec<u8>>(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut stdin = File::from(stdin);
        while let Some(data) = receiver.blocking_recv() {
            if stdin.write_all(&data).is_err() {
                return;
            }
        }
    });
    sender
}

impl Running {
    /// Passes on what a client says to the process. What a process does not take any more is lost.
    async fn tell(&mut self, input: Input) {
        match input {
            Input::File(FdMessage { fd: 0, eof, data }) => {
                if let Some(input) = &self.input
                    && !data.is_empty()
                {
                    let _ = input.send(data).await;
                }
                if eof {
                    self.input = None;
                }
            }
            Input::Resize(size) => {
                let side = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
                if let Some(terminal) = &self.terminal {
                    let _ = resize(terminal, side(size.rows), side(size.cols));
                }
            }
            Input::Signal(signal) => drop(self.process.signal(&signal.name)),
            _ => {}
        }
    }
}

//! Being attached to a container that somebody else supervises.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;

use base::event::Stream;
use rustix::event::PollFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use sys::signals::SignalPipe;

use super::detach_keys::{DetachKeys, KeyMatcher};
use super::raw_mode::RawMode;
use super::relay::{Input, copy_output, wait_for};
use super::{FORWARDED, own_size};
use crate::shim::{Attached, Client, Ended, Execution, Reply, Request, ShimError};

/// After so many requests to end in vain we end ourselves.
const IMPATIENCE: u32 = 3;

/// How to be attached.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Pass our input on.
    pub stdin: bool,
    /// Take its output and its errors. Without either, we leave it at the end of our input.
    pub outputs: [bool; 2],
    /// The container has a terminal.
    pub terminal: bool,
    /// The keys that leave it, where it has a terminal.
    pub keys: DetachKeys,
    /// Pass signals on; else they end us and leave the container running.
    pub forward_signals: bool,
    /// The container is to end with us, unless we have left it.
    pub owner: bool,
    /// Start it once we are attached.
    pub start: bool,
}

/// Connects our streams to the container's until it ends or we leave it. Call it on the main thread: it is the
/// one that the kernel prefers to deliver signals to.
///
/// # Errors
/// The supervisor refuses, has gone, or could not start the container.
pub fn attach(client: &mut Client, how: &Attach) -> Result<Attached, ShimError> {
    let signals = SignalPipe::new(&caught()).map_err(ShimError::system("catch the signals"))?;
    let [stdout, stderr] = how.outputs_there();
    let request = Request::Attach { stdin: how.stdin, stdout, stderr, owner: how.owner };
    let (ends, _) = connect(client, [how.stdin, stdout, stderr], &request)?;
    if how.start {
        client.ask(&Request::Start)?;
    }
    relay(client, how, &signals, ends)
}

impl Attach {
    /// Those of the outputs that the container has: a terminal has one.
    fn outputs_there(&self) -> [bool; 2] {
        let [stdout, stderr] = self.outputs;
        if self.terminal { [stdout || stderr, false] } else { [stdout, stderr] }
    }
}

/// Runs a further process in the container, connected to our streams, until it ends, or the keys leave it. With us it
/// ends, too.
///
/// # Errors
/// The supervisor refuses or has gone, or the program cannot be started.
pub fn exec(
    client: &mut Client,
    mut execution: Execution,
    stdin: bool,
    keys: DetachKeys,
) -> Result<Attached, ShimError> {
    let signals = SignalPipe::new(&caught()).map_err(ShimError::system("catch the signals"))?;
    let terminal = execution.terminal.is_some();
    execution.streams = [stdin, true, !terminal];
    let how = Attach {
        stdin,
        outputs: [true; 2],
        terminal,
        keys,
        forward_signals: false,
        owner: true,
        start: false,
    };
    let streams = execution.streams;
    let (ends, _) = connect(client, streams, &Request::Exec(Box::new(execution)))?;
    relay(client, &how, &signals, ends)
}

/// The signals that an attached command deals with.
fn caught() -> Vec<i32> {
    let ours = [Signal::WINCH, Signal::TSTP, Signal::CONT];
    FORWARDED.iter().chain(&ours).map(|signal| signal.as_raw()).collect()
}

/// Moves bytes and passes signals on until the end.
fn relay(
    client: &mut Client,
    how: &Attach,
    signals: &SignalPipe,
    (stdin, outputs): OurEnds,
) -> Result<Attached, ShimError> {
    thread::scope(|scope| {
        // Ours is a terminal like theirs before anything of theirs is shown on it.
        let session = Session::new(client, how, signals, stdin)?;
        for (stream, from) in outputs {
            thread::Builder::new()
                .name("lap-output".to_owned())
                .spawn_scoped(scope, move || copy_output(from, stream))
                .map_err(ShimError::system("copy the output"))?;
        }
        let ended = session.run();
        if !matches!(ended, Ok(Attached::Ended(_))) {
            client.hang_up();
        }
        ended
        // Leaving the scope waits until all output has been copied.
    })
}

/// A way to get an answer that has come.
type Take = fn(&mut Client) -> Result<Option<Reply>, ShimError>;

/// The other ends of a process's streams: where its input is written to, and where its outputs are read from.
pub type OurEnds = (Option<OwnedFd>, Vec<(Stream, OwnedFd)>);

/// Hands the supervisor one end each of new pipes for those of input, output and errors that are `wanted`, and answers the
/// others, and what the supervisor says.
///
/// # Errors
/// The supervisor refuses or has gone.
pub fn connect(
    client: &mut Client,
    wanted: [bool; 3],
    request: &Request,
) -> Result<(OurEnds, Reply), ShimError> {
    let [with_stdin, with_stdout, with_stderr] = wanted;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(ShimError::system("make a pipe"));
    let mut theirs = Vec::new();
    let mut stdin = None;
    if with_stdin {
        let (read, write) = pipe()?;
        theirs.push(read);
        stdin = Some(write);
    }
    let mut outputs = Vec::new();
    for (_, stream) in
        [(with_stdout, Stream::Stdout), (with_stderr, Stream::Stderr)].iter().filter(|one| one.0)
    {
        let (read, write) = pipe()?;
        theirs.push(write);
        outputs.push((*stream, read));
    }
    let borrowed: Vec<_> = theirs.iter().map(OwnedFd::as_fd).collect();
    let reply = client.ask_with(request, &borrowed)?;
    Ok(((stdin, outputs), reply))
}

/// A connection in use.
struct Session<'a> {
    client: &'a mut Client,
    how: &'a Attach,
    signals: &'a SignalPipe,
    input: Input,
    raw: Option<RawMode>,
    interrupts: u32,
}

impl<'a> Session<'a> {
    fn new(
        client: &'a mut Client,
        how: &'a Attach,
        signals: &'a SignalPipe,
        stdin: Option<OwnedFd>,
    ) -> Result<Self, ShimError> {
        let keys = (how.terminal && super::is_typed()).then(|| KeyMatcher::new(how.keys.clone()));
        let input = Input::new(stdin, keys).map_err(ShimError::system("pass on the input"))?;
        let mut session = Self { client, how, signals, input, raw: None, interrupts: 0 };
        session.enter();
        Ok(session)
    }

    /// Makes our terminal fit: raw, and the container's of the same size.
    fn enter(&mut self) {
        if self.how.terminal {
            if self.how.stdin {
                self.raw = RawMode::enter(self.raw.take(), io::stdin().as_fd());
            }
            self.resize();
        }
    }

    fn resize(&mut self) {
        if let Some(size) = own_size().filter(|_| self.how.terminal) {
            // One that has ended meanwhile has said so, which is read next, and needs no size.
            let _ = self.client.tell(&Request::Resize(size));
        }
    }

    fn run(mut self) -> Result<Attached, ShimError> {
        // It may have come together with the answer to what was asked before.
        if let Some(ended) = self.take_answers(Client::received)? {
            return Ok(Attached::Ended(ended));
        }
        loop {
            let stdin = self.input.wants_more().then_some(io::stdin());
            let [answered, signalled, readable, _] = wait_for([
                Some((self.client.as_fd(), PollFlags::IN)),
                Some((self.signals.as_fd(), PollFlags::IN)),
                stdin.as_ref().map(|stdin| (stdin.as_fd(), PollFlags::IN)),
                self.input.pending().map(|to| (to, PollFlags::OUT)),
            ])
            .map_err(ShimError::system("wait for the container"))?;
            if answered && let Some(ended) = self.take_answers(Client::poll)? {
                return Ok(Attached::Ended(ended));
            }
            if signalled && self.take_signals()? {
                return Ok(Attached::Interrupted);
            }
            if readable && self.input.fill().map_err(ShimError::system("read the input"))? {
                self.client.leave()?;
                return Ok(Attached::Detached);
            }
            self.input.drain().map_err(ShimError::system("pass on the input"))?;
            if self.how.outputs == [false; 2] && self.input.is_over() {
                self.client.leave()?;
                return Ok(Attached::Detached);
            }
        }
    }

    /// How it has ended, if it has, by the answers that `first` and then the rest of them give.
    fn take_answers(&mut self, first: Take) -> Result<Option<Ended>, ShimError> {
        let mut reply = first(self.client);
        loop {
            match reply {
                Ok(Some(Reply::Ended(ended))) => return Ok(Some(ended)),
                Ok(None) => return Ok(None),
                // A signal for a container that is just ending.
                Ok(Some(_)) | Err(ShimError::Refused { .. }) => reply = self.client.received(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Deals with the signals that have come. `true` when they end us.
    fn take_signals(&mut self) -> Result<bool, ShimError> {
        while let Some(signal) = self.signals.next() {
            if signal == Signal::WINCH.as_raw() {
                self.resize();
            } else if signal == Signal::TSTP.as_raw() {
                self.raw = None;
                sys::signals::stop_self();
            } else if signal == Signal::CONT.as_raw() {
                self.enter();
            } else if !self.how.forward_signals {
                if !self.how.owner {
                    self.client.leave()?;
                }
                return Ok(true);
            } else {
                if signal == Signal::INT.as_raw() || signal == Signal::TERM.as_raw() {
                    self.interrupts += 1;
                }
                if self.interrupts >= IMPATIENCE {
                    return Ok(true);
                }
                self.client.tell(&Request::Signal { signal })?;
            }
        }
        Ok(false)
    }
}

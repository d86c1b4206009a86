//! Running a process in the foreground: what `lap run` needs.
//!
//! The process's streams are connected to ours, signals that we get are passed on, and a terminal of ours
//! is raw meanwhile and restored on every way out. Output always passes through a pipe or a terminal of
//! the container's: given our own terminal as its output, a process could read from it.
//!
//! Signals go to the container's first process, which ignores those that it has no handler for, as with
//! `docker run`.

mod raw_mode;
mod relay;

use std::io;
use std::os::fd::AsFd;
use std::thread;

use rustix::process::Signal;
use rustix::termios::tcgetwinsize;
use sys::signals::SignalPipe;

use self::raw_mode::RawMode;
use crate::error::RunError;
use crate::process::{Finished, Process, start};
use crate::request::{RunRequest, Stdio, StreamTarget, TtySize};

/// Signals that are passed on.
const FORWARDED: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// How the process is connected to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interactive {
    /// Pass our standard input on (`-i`); else the process reads nothing.
    pub stdin: bool,
    /// Give the process a terminal (`-t`).
    pub terminal: bool,
}

/// Runs the process of a request in the foreground. Call it on the main thread: it is the one that the
/// kernel prefers to deliver signals to.
pub fn run_interactive(request: &RunRequest, mode: Interactive) -> Result<Finished, RunError> {
    let mut caught: Vec<i32> = FORWARDED.iter().map(|signal| signal.as_raw()).collect();
    caught.push(Signal::WINCH.as_raw());
    // Caught before the start, so that no signal ends us while the container lives.
    let signals = SignalPipe::new(&caught).map_err(failed("catch the signals"))?;
    if mode.terminal {
        run_in_terminal(request, mode, &signals)
    } else {
        run_in_pipes(request, mode, &signals)
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Supervise { operation, source }
}

fn run_in_terminal(
    request: &RunRequest,
    mode: Interactive,
    signals: &SignalPipe,
) -> Result<Finished, RunError> {
    let size = own_size();
    let mut process = start(request, Stdio::Terminal(size.unwrap_or(TtySize { rows: 24, columns: 80 })))?;
    let missing = || failed("open the terminal")(io::ErrorKind::NotFound.into());
    let terminal = process.take_terminal().ok_or_else(missing)?;
    let raw_mode = if mode.stdin { RawMode::enter(io::stdin().as_fd()) } else { None };
    let relayed = relay::terminal(&process, &terminal, mode.stdin, signals);
    drop(raw_mode);
    relayed.map_err(failed("relay the terminal"))?;
    drop(terminal);
    process.wait()
}

fn run_in_pipes(request: &RunRequest, mode: Interactive, signals: &SignalPipe) -> Result<Finished, RunError> {
    let stdin = if mode.stdin { StreamTarget::Piped } else { StreamTarget::Null };
    let stdio = Stdio::Streams { stdin, stdout: StreamTarget::Piped, stderr: StreamTarget::Piped };
    let mut process = start(request, stdio)?;
    let (stdin, stdout, stderr) = (process.take_stdin(), process.take_stdout(), process.take_stderr());
    thread::scope(|scope| {
        let copies =
            [(stdout, relay::Target::Stdout, "lap-stdout"), (stderr, relay::Target::Stderr, "lap-stderr")];
        for (from, target, name) in copies {
            let Some(from) = from else { continue };
            let copy = move || relay::copy_output(from, target);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn_scoped(scope, copy)
                .map_err(failed("copy the output"))?;
        }
        relay::input(&process, stdin, signals).map_err(failed("pass on input and signals"))
        // Leaving the scope waits until all output has been copied.
    })?;
    process.wait()
}

/// The size of our terminal, if one of our streams is one.
fn own_size() -> Option<TtySize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(TtySize { rows: size.ws_row, columns: size.ws_col })
}

/// Passes on the signals that came. `resized` is called for a change of our terminal's size.
fn pass_signals(process: &Process, signals: &SignalPipe, resized: impl Fn(TtySize)) -> io::Result<()> {
    while let Some(signal) = signals.next() {
        if signal != Signal::WINCH.as_raw() {
            process.signal(signal).map_err(io::Error::other)?;
        } else if let Some(size) = own_size() {
            resized(size);
        }
    }
    Ok(())
}

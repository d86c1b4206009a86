//! Programs of the host that networks need: `iptables-restore`, and `pasta` or `slirp4netns` for ordinary users.
//!
//! They get an environment of nothing but `PATH`, and a process id namespace, so nothing of them outlives them or
//! us (see [`sys::spawn`]).

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::MemfdFlags;
use sys::ns::{Ending, Namespaces, PidFd};
use sys::path_error::PathContext as _;
use sys::spawn::{Exec, LaunchError, LaunchFailure, Plan, Step, launch};

use super::error::NetworkError;
use crate::request::DEFAULT_PATH;

/// The most that is read of what a program says, in bytes.
const MOST: u64 = 64 << 10;

/// Whether a program is in the standard directories.
pub(super) fn is_installed(name: &str) -> Result<bool, NetworkError> {
    for directory in DEFAULT_PATH.split(':') {
        if sys::fs::exists(&Path::new(directory).join(name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs a program to its end with some text as its input. What it writes to its error output is part of the error
/// if it fails.
pub(super) fn run(name: &'static str, arguments: &[&str], input: &str) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::Start { program: name, source };
    let (mut stdin, mut stderr) = (memory(name)?, memory(name)?);
    stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).map_err(failed)?;
    let null = null()?;
    let streams = [stdin.as_fd(), null.as_fd(), stderr.as_fd()];
    let process = launch(plan(name, arguments)?, Some(streams)).map_err(not_started(name))?.process;
    let (ending, _) = process.wait().map_err(failed)?;
    if ending == Ending::Exited(0) {
        return Ok(());
    }
    stderr.rewind().map_err(failed)?;
    Err(NetworkError::Program { program: name, message: said(&stderr) })
}

/// A program that serves until this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    process: PidFd,
    /// Kept open: a program that writes where nobody can read is killed.
    output: io::PipeReader,
}

impl Server {
    /// Starts it and waits until what it wrote to its output says that it is ready.
    pub(super) fn start(
        name: &'static str,
        arguments: &[&str],
        stdin: BorrowedFd<'_>,
        is_ready: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::Start { program: name, source };
        let mut stderr = memory(name)?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let streams = [stdin, writer.as_fd(), stderr.as_fd()];
        let launched = launch(plan(name, arguments)?, Some(streams)).map_err(not_started(name))?;
        let mut server = Self { process: launched.process, output: reader };
        drop(writer);
        let (mut written, mut piece) = (Vec::new(), [0; 256]);
        while !is_ready(&written) {
            let length = server.output.read(&mut piece).map_err(failed)?;
            if length == 0 || written.len() as u64 > MOST {
                stderr.rewind().map_err(failed)?;
                return Err(NetworkError::Program { program: name, message: said(&stderr) });
            }
            written.extend(&piece[..length]);
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both can only fail for a process that does not exist any more.
        let _ = self.process.signal(rustix::process::Signal::KILL.as_raw());
        let _ = self.process.wait();
    }
}

/// The last line that a program wrote, where it says why it ended.
fn said(output: &File) -> String {
    let mut text = Vec::new();
    // A message that cannot be read back is no reason to hide that the program failed.
    let _ = output.take(MOST).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("it ended without a word").to_owned()
}

/// A file that is only in memory.
fn memory(name: &'static str) -> Result<File, NetworkError> {
    let made = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC);
    made.map(File::from).map_err(|errno| NetworkError::Start { program: name, source: errno.into() })
}

fn null() -> Result<File, NetworkError> {
    let path = Path::new("/dev/null");
    Ok(File::options().read(true).write(true).open(path).at("open", path)?)
}

fn plan(name: &'static str, arguments: &[&str]) -> Result<Plan, NetworkError> {
    let text = |text: String| {
        let wrong = |error: NulError| NetworkError::Start { program: name, source: error.into() };
        CString::new(text).map_err(wrong)
    };
    let candidates = DEFAULT_PATH.split(':').map(|directory| text(format!("{directory}/{name}")));
    let arguments = std::iter::once(name).chain(arguments.iter().copied());
    Ok(Plan {
        namespaces: Namespaces::PID,
        steps: vec![Step::Umask(0o022)],
        exec: Exec {
            candidates: candidates.collect::<Result<_, _>>()?,
            arguments: arguments.map(|argument| text(argument.to_owned())).collect::<Result<_, _>>()?,
            environment: vec![text(format!("PATH={DEFAULT_PATH}"))?],
            trusted: true,
        },
        ..Plan::default()
    })
}

fn not_started(program: &'static str) -> impl Fn(LaunchFailure) -> NetworkError {
    move |failure| {
        let source = match failure.error {
            LaunchError::Execute { source, .. } => source,
            other => io::Error::other(other),
        };
        NetworkError::Start { program, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_program_said_is_in_the_error() {
        run("sh", &["-c", "read -r line; test \"$line\" = word"], "word\n").unwrap();
        let error = run("sh", &["-c", "echo why >&2; exit 1"], "").unwrap_err();
        assert_eq!(error.to_string(), "sh failed: why");
        let error = run("no-such-program", &[], "").unwrap_err();
        assert!(matches!(error, NetworkError::Start { program: "no-such-program", .. }), "{error}");
        assert!(is_installed("sh").unwrap() && !is_installed("no-such-program").unwrap());
    }

    #[test]
    fn a_server_is_waited_for_until_it_is_ready() {
        let null = null().unwrap();
        let start =
            |script| Server::start("sh", &["-c", script], null.as_fd(), |output| output == b"ready\n");
        drop(start("echo ready; exec tail -f /dev/null").unwrap());
        let error = start("echo not; echo why >&2").unwrap_err();
        assert_eq!(error.to_string(), "sh failed: why");
    }
}

//! Running a program of the host to its end, unseen by the user: without input or a terminal, with an
//! environment of its own, its output caught in files.
//!
//! It gets a process id namespace, so nothing that it started is left when it ends, whatever ends it.

use std::ffi::{CString, NulError, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Arc;

use base::{CancelToken, Fault, Faulty};
use snapshotter::{Lease, Store, StoreError};
use sys::ns::{Ending, Namespaces, PidFd};
use sys::path_error::{PathContext as _, PathError};
use sys::spawn::{Exec, LaunchError, LaunchFailure, Plan, Step, launch};

/// The most that is kept of each output, in bytes.
const MAX_OUTPUT: u64 = 64 << 20;

/// The most that is read of a server's first line, in bytes.
const LONGEST_LINE: u64 = 4096;

/// A program that is run several times in one environment.
pub(crate) struct HostProgram<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    /// Its name, looked up in the standard directories.
    pub(crate) name: &'static str,
    /// All that its environment has, besides `PATH`.
    pub(crate) environment: Vec<(String, OsString)>,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) success: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The program is not installed.
    #[error("the program {name} is not installed")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// It could not be started.
    #[error("cannot run {name}")]
    Start {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: LaunchError,
    },
    /// It could not be waited for.
    #[error("cannot wait for {name}")]
    Wait {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended instead of serving.
    #[error("{name} ended at once")]
    Ended {
        /// Its name.
        name: &'static str,
    },
    /// An argument holds a NUL byte.
    #[error("an argument of {name} has a NUL byte")]
    Argument {
        /// The program.
        name: &'static str,
        /// Where.
        #[source]
        source: NulError,
    },
    /// Its output could not be caught.
    #[error(transparent)]
    File(#[from] PathError),
    /// The store has no place for its output.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was cancelled.
    #[error("interrupted")]
    Cancelled,
}

impl Faulty for ProgramError {
    fn fault(&self) -> Fault {
        match self {
            Self::Missing { .. } | Self::Wait { .. } | Self::Ended { .. } => Fault::Environment,
            Self::Start { source, .. } => source.fault(),
            Self::Argument { .. } => Fault::Input,
            Self::File(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Cancelled => Fault::Cancelled,
        }
    }
}

impl HostProgram<'_> {
    /// Runs the program with these arguments.
    pub(crate) fn run(&self, arguments: &[OsString], cancel: &CancelToken) -> Result<Finished, ProgramError> {
        cancel.check().map_err(|_| ProgramError::Cancelled)?;
        let outputs = self.store.scratch(self.lease)?;
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| outputs.path().join(name));
        let null = Path::new("/dev/null");
        let streams = [
            File::open(null).at("open", null)?,
            sys::fs::create_new(&stdout, 0o600)?,
            sys::fs::create_new(&stderr, 0o600)?,
        ];
        let launched = launch(self.plan(arguments)?, Some(streams.each_ref().map(|file| file.as_fd())));
        let process = Arc::new(launched.map_err(|failure| self.not_started(failure))?.process);
        let killer = process.clone();
        let guard = cancel.on_cancel(move || {
            // It can only fail for a process that does not exist any more, which is what was wanted.
            let _ = killer.signal(SIGKILL);
        });
        let ended = process.wait().map_err(|source| ProgramError::Wait { name: self.name, source })?;
        drop(guard);
        cancel.check().map_err(|_| ProgramError::Cancelled)?;
        let read = |path| Ok::<_, PathError>(sys::fs::read_limited(path, MAX_OUTPUT)?.unwrap_or_default());
        Ok(Finished {
            success: ended.0 == Ending::Exited(0),
            stdout: read(&stdout)?,
            stderr: String::from_utf8_lossy(&read(&stderr)?).into_owned(),
        })
    }

    /// Starts the program as a server: it runs until the answer is dropped. Waits for the first line that it
    /// prints, which says that it is ready.
    pub(crate) fn serve(&self, arguments: &[OsString]) -> Result<Server, ProgramError> {
        let null = Path::new("/dev/null");
        let nothing = File::open(null).at("open", null)?;
        let failed = |source| ProgramError::Wait { name: self.name, source };
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let streams = [nothing.as_fd(), writer.as_fd(), nothing.as_fd()];
        let launched = launch(self.plan(arguments)?, Some(streams));
        let process = launched.map_err(|failure| self.not_started(failure))?.process;
        let server = Server { process };
        drop(writer);
        let mut line = String::new();
        BufReader::new(reader.take(LONGEST_LINE)).read_line(&mut line).map_err(failed)?;
        if line.is_empty() { Err(ProgramError::Ended { name: self.name }) } else { Ok(server) }
    }

    fn plan(&self, arguments: &[OsString]) -> Result<Plan, ProgramError> {
        let wrong = |source| ProgramError::Argument { name: self.name, source };
        let text = |text: OsString| CString::new(text.into_vec()).map_err(wrong);
        let directories = runner::DEFAULT_PATH.split(':');
        let candidates = directories.map(|directory| text(format!("{directory}/{}", self.name).into()));
        let variables = self.environment.iter().map(|(name, value)| {
            let mut entry = OsString::from(format!("{name}="));
            entry.push(value);
            text(entry)
        });
        let path = text(format!("PATH={}", runner::DEFAULT_PATH).into());
        let own_name = text(self.name.into());
        Ok(Plan {
            namespaces: Namespaces::PID,
            steps: vec![Step::Umask(0o022)],
            exec: Exec {
                candidates: candidates.collect::<Result<_, _>>()?,
                arguments: std::iter::once(own_name)
                    .chain(arguments.iter().cloned().map(text))
                    .collect::<Result<_, _>>()?,
                environment: std::iter::once(path).chain(variables).collect::<Result<_, _>>()?,
                trusted: true,
            },
            ..Plan::default()
        })
    }

    fn not_started(&self, failure: LaunchFailure) -> ProgramError {
        let name = self.name;
        match failure.error {
            LaunchError::Execute { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ProgramError::Missing { name }
            }
            source => ProgramError::Start { name, source },
        }
    }
}

/// A program that serves others. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: PidFd,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both can only fail for a process that does not exist any more.
        let _ = self.process.signal(SIGKILL);
        let _ = self.process.wait();
    }
}

/// The signal that cannot be caught (`signal(7)`).
const SIGKILL: i32 = 9;

#[cfg(test)]
mod tests {
    use base::time::FixedClock;

    use super::*;

    /// Runs a shell with `script` in an environment of `A=1`.
    fn shell(name: &'static str, script: &str, cancel: &CancelToken) -> Result<Finished, ProgramError> {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(FixedClock(base::Timestamp::UNIX_EPOCH));
        let store =
            Store::open(directory.path(), snapshotter::Options { clock, ..Default::default() }).unwrap();
        let lease = store.lease("test").unwrap();
        let environment = vec![("A".to_owned(), "1".into())];
        let program = HostProgram { store: &store, lease: &lease, name, environment };
        program.run(&["-c".into(), script.into()], cancel)
    }

    fn run(script: &str) -> Finished {
        shell("sh", script, &CancelToken::new()).unwrap()
    }

    #[test]
    fn output_and_outcome_are_caught() {
        let finished = run("echo \"$A$HOME$USER\"; echo oops >&2; umask; cat");
        assert_eq!(String::from_utf8(finished.stdout).unwrap(), "1\n0022\n");
        assert_eq!((finished.success, finished.stderr.as_str()), (true, "oops\n"));
        assert!(!run("exit 3").success);
    }

    #[test]
    fn a_program_that_is_not_installed_is_named() {
        let error = shell("no-such-program", "", &CancelToken::new()).unwrap_err();
        assert!(matches!(error, ProgramError::Missing { name: "no-such-program" }), "{error}");
    }

    #[test]
    fn cancelling_ends_the_program_and_what_it_started() {
        let cancel = CancelToken::new();
        let canceller = cancel.clone();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| shell("sh", "cat /dev/zero > /dev/null & wait", &cancel));
            canceller.cancel();
            let error = running.join().unwrap().unwrap_err();
            assert!(matches!(error, ProgramError::Cancelled), "{error}");
        });
    }

    #[test]
    fn an_argument_cannot_hide_another() {
        let error = shell("sh", "a\0b", &CancelToken::new()).unwrap_err();
        assert!(matches!(error, ProgramError::Argument { .. }), "{error}");
    }
}

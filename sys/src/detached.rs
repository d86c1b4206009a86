//! Starting a program that goes on when we are gone.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::path_error::{PathContext as _, PathError};

/// Starts `program` in a process group of its own, so that an interrupt at the terminal is not meant for
/// it, without input or output, and in the root directory, so that it keeps nothing from being unmounted.
/// `variables` are added to our environment. Nobody waits for it.
///
/// # Errors
/// The program cannot be started.
pub fn start(program: &Path, args: &[OsString], variables: &[(OsString, OsString)]) -> Result<(), PathError> {
    #[expect(clippy::disallowed_methods, reason = "this is where programs are started that outlive us")]
    let mut command = Command::new(program);
    command.args(args).envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir("/").process_group(0).spawn().map(drop).at("start", program)
}

/// What a program that was started by [`start_connected`] was given.
#[derive(Debug)]
pub struct Given {
    /// The connection to the process that started us.
    pub starter: OwnedFd,
    /// The file that it handed over.
    pub file: OwnedFd,
}

/// Starts `program`, called `name` in lists of processes, to go on without us, connected to us by a socket, whose
/// other end is answered. `file` goes over to it, with the lock that it may carry. The program gets the socket as its
/// standard input and the file as its standard output, and begins with [`detach`].
///
/// # Errors
/// The program cannot be started.
pub fn start_connected(
    program: &Path,
    name: &str,
    args: &[OsString],
    file: OwnedFd,
) -> Result<OwnedFd, PathError> {
    let (ours, theirs) = UnixStream::pair().at("make a connection to", program)?;
    #[expect(clippy::disallowed_methods, reason = "this is where programs are started that outlive us")]
    let mut command = Command::new(program);
    command.arg0(name).args(args).current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(file).stderr(Stdio::null());
    command.spawn().map(drop).at("start", program)?;
    Ok(ours.into())
}

/// Takes what [`start_connected`] gave us, and leaves the session of the process that did: what happens at its
/// terminal is nothing to us.
///
/// # Errors
/// It gave us nothing.
pub fn detach() -> io::Result<Given> {
    let starter = io::stdin().as_fd().try_clone_to_owned()?;
    let file = io::stdout().as_fd().try_clone_to_owned()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO] {
        // SAFETY: no pointers. The standard streams have no owner that could be surprised.
        if unsafe { libc::dup2(null.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    rustix::process::setsid()?;
    Ok(Given { starter, file })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn it_runs_alone() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let script = "read -r _ _ _ _ group _ </proc/self/stat; echo \"$PWD $X $((group == $$))\" >\"$0\"";
        let args = ["-c", script].map(OsString::from).into_iter().chain([fifo.clone().into()]);
        start(Path::new("/bin/sh"), &args.collect::<Vec<_>>(), &[("X".into(), "x".into())]).unwrap();
        let mut said = String::new();
        std::fs::File::open(&fifo).unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "/ x 1\n");
        let error = start(Path::new("/no/such/program"), &[], &[]).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}

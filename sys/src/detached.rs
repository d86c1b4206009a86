//! Starting a program that goes on when we are gone.

use std::ffi::OsString;
use std::fs::File;
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

/// Starts `program`, called `name` in lists of processes, to go on without us, connected to us by a socket: its
/// standard input, whose other end is answered. It begins with [`detach`].
///
/// # Errors
/// The program cannot be started.
pub fn start_connected(program: &Path, name: &str, args: &[OsString]) -> Result<OwnedFd, PathError> {
    let (ours, theirs) = UnixStream::pair().at("make a connection to", program)?;
    #[expect(clippy::disallowed_methods, reason = "this is where programs are started that outlive us")]
    let mut command = Command::new(program);
    command.arg0(name).args(args).current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).at("start", program)?;
    Ok(ours.into())
}

/// Takes the connection to the process that started us by [`start_connected`], and leaves its session: what
/// happens at its terminal is nothing to us.
///
/// # Errors
/// There is no such connection.
pub fn detach() -> io::Result<OwnedFd> {
    let starter = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    // SAFETY: no pointers. The standard input has no owner that could be surprised.
    if unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::process::setsid()?;
    Ok(starter)
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

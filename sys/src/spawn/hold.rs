//! Holding a process between the last step and its program, until somebody orders it to go on.
//!
//! The order comes by a listening socket of the file system, so it may come from another process than the one
//! that made the plan, and long after. Whoever connects and sends a byte gets the connection's end as the sign
//! that the program runs, or a message that says why it does not (see [`super::report`]).
//!
//! [`wait`] runs in the new process (see [`super::raw`]), [`release`] in whoever gives the order.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen, send, socket,
};

use super::LaunchError;
use super::raw::{self, Failure, Fd, invoke};
use super::report::{self, Message, Reporter};
use crate::path_error::PathError;

/// Tells the parent that the program waits, and waits for an order on `socket`. Returns the connection by which
/// the outcome is reported.
pub(super) fn wait(reporter: Reporter, socket: Fd) -> Result<Reporter, Failure> {
    // The parent may have ended, which does not matter any more.
    let _ = reporter.holding();
    loop {
        // SAFETY: no address is asked for.
        let accepted = unsafe { invoke!(libc::SYS_accept4, socket, 0usize, 0usize, libc::SOCK_CLOEXEC) };
        match accepted {
            Ok(connection) => {
                let connection = Reporter(connection as Fd);
                // One that ends without an order was somebody who died.
                if let Ok(true) = connection.await_go() {
                    return Ok(connection);
                }
                raw::close(connection.0);
            }
            Err(Failure { errno: libc::EINTR | libc::ECONNABORTED, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Makes the socket at which a process can be held. Paths that are too long for sockets are reached through
/// their directory.
pub fn socket_at(path: &Path) -> Result<OwnedFd, PathError> {
    let failed = |source: io::Error| PathError::new("listen at", path, source);
    let socket = new_socket().map_err(failed)?;
    let (_directory, address) = address(path).map_err(failed)?;
    bind(socket.as_raw_fd(), &address).map_err(|error| failed(error.into()))?;
    listen(&socket, Backlog::new(1).unwrap_or(Backlog::MAXCONN)).map_err(|error| failed(error.into()))?;
    Ok(socket)
}

/// Orders the process that is held at the socket `path` to execute its program, `program` by name, and waits
/// until it does.
pub fn release(path: &Path, program: CString) -> Result<(), LaunchError> {
    let failed = |operation| move |source: io::Error| LaunchError::Prepare { operation, source };
    let socket = new_socket().map_err(failed("make a socket"))?;
    let (_directory, address) = address(path).map_err(failed("name a socket"))?;
    connect(socket.as_raw_fd(), &address).map_err(|error| failed("reach the held process")(error.into()))?;
    send(socket.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL)
        .map_err(|error| failed("order the held process to go on")(error.into()))?;
    match report::receive(&socket).map_err(failed("read the held process's report"))? {
        Some(Message::Failed { failure, .. }) => {
            Err(LaunchError::Execute { program, source: io::Error::from_raw_os_error(failure.errno) })
        }
        _ => Ok(()),
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// The address of a path of any length; it is good for as long as the directory's descriptor is open.
fn address(path: &Path) -> io::Result<(OwnedFd, UnixAddr)> {
    use rustix::fs::{Mode, OFlags, open};
    let around = path.parent().unwrap_or(Path::new("."));
    let directory = open(around, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((directory, UnixAddr::new(&short)?))
}

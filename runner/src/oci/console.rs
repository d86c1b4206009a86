//! Who gets a container's terminal, and handing it over to whoever asked for it.
//!
//! A command that stays in the foreground takes the terminal itself ([`super::foreground`]). Else the caller listens at a socket; it gets the terminal's other end as a descriptor (`SCM_RIGHTS`) with its
//! name as the message, which is what containerd and Podman's monitor expect.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::error::OciError;

/// Refuses a terminal that nobody would take, and takers of none, or of one that is taken already. `stays` tells
/// whether the command stays in the foreground.
pub(super) fn check(terminal: bool, socket: Option<&Path>, stays: bool) -> Result<(), OciError> {
    let problem = match (terminal, socket.is_some(), stays) {
        (true, false, false) => {
            "the process has a terminal and nobody takes it: give --console-socket, or set process.terminal to false"
        }
        (true, true, true) => {
            "there is a console socket, but a command in the foreground takes the terminal itself: add --detach"
        }
        (false, true, _) => "there is a console socket, but the process of the configuration has no terminal",
        _ => return Ok(()),
    };
    Err(OciError::Terminal { problem })
}

/// Sends `terminal` to the listener at `socket`.
pub(super) fn hand_over(terminal: &OwnedFd, socket: &Path) -> Result<(), OciError> {
    send(terminal, socket).map_err(|source| OciError::Console { path: socket.to_owned(), source })
}

fn send(terminal: &OwnedFd, socket: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [terminal.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(&stream, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

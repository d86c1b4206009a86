//! What sockets of this machine know of those who have their other ends.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

/// The call of the kernel.
mod kernel {
    nix::ioctl_read_bad!(get_unread, libc::TIOCOUTQ, libc::c_int);
}

/// How much memory holds what was sent and not yet read, in bytes: more than was sent, and 0 once all of it was read
/// (`unix(7)`, `SIOCOUTQ`).
///
/// # Errors
/// The kernel does not tell.
pub fn unread_by_peer(socket: &UnixStream) -> io::Result<usize> {
    let mut unread = 0;
    // SAFETY: the number is live and of the type that the kernel fills for this request; of a descriptor it keeps nothing.
    unsafe { kernel::get_unread(socket.as_fd().as_raw_fd(), &raw mut unread) }?;
    Ok(usize::try_from(unread).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn what_was_sent_is_unread_until_all_of_it_was_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(unread_by_peer(&ours).unwrap(), 0);
        ours.write_all(b"hello").unwrap();
        assert!(unread_by_peer(&ours).unwrap() >= 5);
        theirs.read_exact(&mut [0; 4]).unwrap();
        assert_ne!(unread_by_peer(&ours).unwrap(), 0);
        theirs.read_exact(&mut [0]).unwrap();
        assert_eq!(unread_by_peer(&ours).unwrap(), 0);
        assert_eq!(unread_by_peer(&theirs).unwrap(), 0);
    }
}

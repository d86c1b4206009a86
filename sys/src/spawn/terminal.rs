//! The container's terminal.
//!
//! It is opened in the container's own `/dev/pts`, so that its name is right inside, and its slave is
//! reached through the master (`TIOCGPTPEER`), never through a path that the image could have prepared.
//! Runs in the new process; see [`super::raw`].

use super::mounts;
use super::raw::{self, Failure, Fd, invoke};
use super::target::{CONFINED, Root};

/// Opens a terminal of the given size, hands its master to the parent, and makes its slave the standard
/// streams and, if asked for, `/dev/console`.
pub(super) fn open(root: &Root, (rows, columns): (u16, u16), console: bool) -> Result<(), Failure> {
    let master = raw::open(root.fd, c"/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0, CONFINED)?;
    let slave = open_slave(master)?;
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is live.
    unsafe { invoke!(libc::SYS_ioctl, slave, libc::TIOCSWINSZ, &raw const size) }?;
    if console {
        mounts::mount_device(root, slave, c"/dev/console")?;
    }
    root.reporter.terminal(master)?;
    raw::close(master);
    for stream in 0..3 {
        raw::duplicate(slave, stream, 0)?;
    }
    raw::close(slave);
    Ok(())
}

/// Makes the standard input the controlling terminal of this session.
pub(super) fn take_control() -> Result<(), Failure> {
    // SAFETY: the request takes a number.
    unsafe { invoke!(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0) }.map(drop)
}

fn open_slave(master: Fd) -> Result<Fd, Failure> {
    let unlocked = 0i32;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the first request reads one live integer, the second takes flags by value.
    unsafe {
        invoke!(libc::SYS_ioctl, master, libc::TIOCSPTLCK, &raw const unlocked)?;
        invoke!(libc::SYS_ioctl, master, libc::TIOCGPTPEER, flags)
    }
    .map(|fd| fd as Fd)
}

//! What a new process tells its parent before it executes its program.
//!
//! Messages travel over a pair of sockets that keep message boundaries; the new process's end closes
//! when it executes its program or ends. So the end of the stream without a [`Message::Failed`] means
//! that the program runs (or that the process was killed, which waiting for it tells).

use std::ffi::{CStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::raw::{self, Failure, Fd, invoke};

const FAILED: u8 = 1;
const CREATED: u8 = 2;
const TERMINAL: u8 = 3;
const REACHED: u8 = 4;
const HOLDING: u8 = 5;

/// Longest message: two paths and some numbers.
const MAX_MESSAGE: usize = 2 * libc::PATH_MAX as usize + 64;

/// One message.
#[derive(Debug)]
pub(super) enum Message {
    /// A step failed. The process ends.
    Failed { step: u32, failure: Failure },
    /// A mount target was missing and was made.
    Created(Created),
    /// The other end of the terminal.
    Terminal(OwnedFd),
    /// A step is reached at which the process waits for an answer.
    Reached { step: u32 },
    /// The process waits for the order to execute its program.
    Holding,
}

/// A mount target that did not exist in the root filesystem and was made for the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its absolute path inside the container, without symbolic links.
    pub path: PathBuf,
    /// Whether it is a directory; else an empty file.
    pub directory: bool,
    /// When the directory around it had last been modified: seconds and nanoseconds since 1970.
    pub parent_before: (i64, u32),
    /// When the directory around it was modified by this creation.
    pub parent_after: (i64, u32),
}

/// Fixed-size part of a message, in this machine's byte order: both ends are one program.
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    before_seconds: i64,
    after_seconds: i64,
    before_nanoseconds: u32,
    after_nanoseconds: u32,
    step: u32,
    call: i32,
    errno: i32,
    tag: u8,
    directory: u8,
    unused: [u8; 2],
}

const EMPTY: Header = Header {
    before_seconds: 0,
    after_seconds: 0,
    before_nanoseconds: 0,
    after_nanoseconds: 0,
    step: 0,
    call: 0,
    errno: 0,
    tag: 0,
    directory: 0,
    unused: [0; 2],
};

/// The new process's end.
#[derive(Clone, Copy)]
pub(super) struct Reporter(pub(super) Fd);

impl Reporter {
    /// Says that a step failed. If even that fails, the parent sees an end without explanation.
    pub(super) fn failed(self, step: u32, failure: Failure) {
        let header = Header { tag: FAILED, step, call: failure.call, errno: failure.errno, ..EMPTY };
        let _ = self.send(&header, [&[], &[]], None);
    }

    /// Says that `name` was made in `directory`, a path inside the root; the root itself is empty.
    pub(super) fn created(
        self,
        directory: &[u8],
        name: &CStr,
        is_directory: bool,
        [before, after]: [libc::statx_timestamp; 2],
    ) -> Result<(), Failure> {
        let header = Header {
            tag: CREATED,
            directory: u8::from(is_directory),
            before_seconds: before.tv_sec,
            before_nanoseconds: before.tv_nsec,
            after_seconds: after.tv_sec,
            after_nanoseconds: after.tv_nsec,
            ..EMPTY
        };
        self.send(&header, [directory, name.to_bytes()], None)
    }

    /// Hands over a terminal.
    pub(super) fn terminal(self, fd: Fd) -> Result<(), Failure> {
        self.send(&Header { tag: TERMINAL, ..EMPTY }, [&[], &[]], Some(fd))
    }

    /// Says that a step is reached, and waits until the parent has done its part.
    pub(super) fn reached(self, step: u32) -> Result<(), Failure> {
        self.send(&Header { tag: REACHED, step, ..EMPTY }, [&[], &[]], None)?;
        match self.await_go()? {
            true => Ok(()),
            false => raw::exit(1),
        }
    }

    /// Says that the program is not executed before somebody orders it.
    pub(super) fn holding(self) -> Result<(), Failure> {
        self.send(&Header { tag: HOLDING, ..EMPTY }, [&[], &[]], None)
    }

    /// Waits for one byte from the other end; `false` when that has closed.
    pub(super) fn await_go(self) -> Result<bool, Failure> {
        let mut byte = 0u8;
        loop {
            // SAFETY: one live byte behind the pointer.
            match unsafe { invoke!(libc::SYS_read, self.0, &raw mut byte, 1usize) } {
                Err(Failure { errno: libc::EINTR, .. }) => {}
                Err(Failure { errno: libc::ECONNRESET, .. }) => return Ok(false),
                other => return other.map(|length| length == 1),
            }
        }
    }

    /// Whether the parent's end is closed: the parent is dead.
    pub(super) fn is_alone(self) -> bool {
        let mut poll = libc::pollfd { fd: self.0, events: 0, revents: 0 };
        let now = [0u64; 2];
        // SAFETY: one live pollfd and one live timespec (two words, both zero) behind the pointers.
        let ready = unsafe {
            invoke!(libc::SYS_ppoll, &raw mut poll, 1usize, now.as_ptr(), std::ptr::null::<u8>(), 0usize)
        };
        ready.is_err() || poll.revents != 0
    }

    fn send(self, header: &Header, [first, second]: [&[u8]; 2], fd: Option<Fd>) -> Result<(), Failure> {
        let piece =
            |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let head =
            libc::iovec { iov_base: (&raw const *header).cast_mut().cast(), iov_len: size_of::<Header>() };
        let slash: &[u8] = if second.is_empty() { b"" } else { b"/" };
        let mut pieces = [head, piece(first), piece(slash), piece(second)];
        let mut control = Control::new(fd);
        // SAFETY: all-zero is a valid message header; its pointers are set to live buffers of the given
        // lengths, which sendmsg(2) only reads.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = pieces.as_mut_ptr();
            message.msg_iovlen = pieces.len() as _;
            if fd.is_some() {
                message.msg_control = (&raw mut control).cast();
                message.msg_controllen = size_of::<Control>() as _;
            }
            invoke!(libc::SYS_sendmsg, self.0, &raw const message, libc::MSG_NOSIGNAL)?;
        }
        Ok(())
    }
}

/// A control message that carries one descriptor, laid out as `CMSG_DATA(3)` describes for 64 bits.
#[derive(Default)]
#[repr(C, align(8))]
struct Control {
    length: u64,
    level: i32,
    kind: i32,
    fd: i32,
    padding: i32,
}

impl Control {
    fn new(fd: Option<Fd>) -> Self {
        // Length counts the header and the descriptor, not the padding.
        Self { length: 20, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fd: fd.unwrap_or(-1), padding: 0 }
    }
}

/// Receives the next message; `None` at the end of the stream.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<Option<Message>> {
    let mut header = MaybeUninit::new(EMPTY);
    let mut path = vec![0u8; MAX_MESSAGE];
    let mut control = Control::default();
    let (length, control_length) = receive_into(socket, &mut header, &mut path, &mut control)?;
    if length == 0 {
        return Ok(None);
    }
    // SAFETY: initialised above, and every bit pattern is a valid header.
    let header = unsafe { header.assume_init() };
    path.truncate(length.saturating_sub(size_of::<Header>()));
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a message has an unknown form");
    Ok(Some(match header.tag {
        FAILED => {
            Message::Failed { step: header.step, failure: Failure { call: header.call, errno: header.errno } }
        }
        CREATED => Message::Created(Created {
            path: PathBuf::from(OsString::from_vec(path)),
            directory: header.directory != 0,
            parent_before: (header.before_seconds, header.before_nanoseconds),
            parent_after: (header.after_seconds, header.after_nanoseconds),
        }),
        TERMINAL if control_length > 0 && control.kind == libc::SCM_RIGHTS && control.fd >= 0 => {
            // SAFETY: the kernel has just installed this descriptor for us; nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(control.fd) };
            Message::Terminal(fd)
        }
        REACHED => Message::Reached { step: header.step },
        HOLDING => Message::Holding,
        _ => return Err(malformed()),
    }))
}

fn receive_into(
    socket: &OwnedFd,
    header: &mut MaybeUninit<Header>,
    path: &mut [u8],
    control: &mut Control,
) -> io::Result<(usize, usize)> {
    let mut pieces = [
        libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: size_of::<Header>() },
        libc::iovec { iov_base: path.as_mut_ptr().cast(), iov_len: path.len() },
    ];
    loop {
        // SAFETY: all-zero is a valid message header; its pointers are set to live buffers that we hold
        // exclusively, with their lengths.
        let (length, control_length) = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = pieces.as_mut_ptr();
            message.msg_iovlen = pieces.len() as _;
            message.msg_control = (&raw mut *control).cast();
            message.msg_controllen = size_of::<Control>() as _;
            let length = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
            (length, message.msg_controllen as usize)
        };
        match usize::try_from(length) {
            Ok(length) => return Ok((length, control_length)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

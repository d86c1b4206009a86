//! Receiving signals as data.
//!
//! A [`SignalPipe`] catches signals for as long as it exists and delivers their numbers through a
//! descriptor that `poll(2)` can wait for. What was set before is set again when it is dropped. One may
//! exist at a time, because dispositions belong to the whole process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

/// Where the handler writes; -1 while no pipe exists.
static TARGET: AtomicI32 = AtomicI32::new(-1);

/// Catches a set of signals.
#[derive(Debug)]
pub struct SignalPipe {
    read: OwnedFd,
    /// Held so that the handler's descriptor stays valid until the dispositions are restored.
    _write: OwnedFd,
    previous: Vec<(i32, Disposition)>,
    mask: Mask,
}

/// What a signal did before.
struct Disposition(libc::sigaction);

/// The signals that the thread blocked before.
struct Mask(libc::sigset_t);

impl SignalPipe {
    /// Starts catching `signals`, which are also unblocked on this thread. Fails with `ResourceBusy` while
    /// another pipe exists.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let claimed = TARGET.compare_exchange(-1, write.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst);
        if claimed.is_err() {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "signals are already being caught"));
        }
        let mut pipe = Self { read, _write: write, previous: Vec::new(), mask: unblock(signals) };
        for signal in signals {
            // An error drops the pipe, which undoes what was done.
            let previous = set_disposition(*signal, &catching())?;
            pipe.previous.push((*signal, previous));
        }
        Ok(pipe)
    }

    /// The next signal that came, if any.
    pub fn next(&self) -> Option<i32> {
        let mut byte = [0u8];
        match rustix::io::read(&self.read, &mut byte) {
            Ok(1) => Some(i32::from(byte[0])),
            _ => None,
        }
    }
}

impl AsFd for SignalPipe {
    /// Readable when a signal came.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        for (signal, disposition) in &self.previous {
            // It was in force before, so it is valid.
            let _ = set_disposition(*signal, disposition);
        }
        // SAFETY: the mask is a live set that the kernel gave us.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask.0, std::ptr::null_mut()) };
        TARGET.store(-1, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Disposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disposition")
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

/// Stops this process as SIGTSTP does when nobody catches it, until it gets SIGCONT.
pub fn stop_self() {
    // SAFETY: no pointers; the signal has its fixed effect.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Has children that end kept until they are waited for, also if whoever started us ignores `SIGCHLD`: a program inherits that, and
/// the kernel would forget how they ended (`sigaction(2)`).
pub fn keep_ended_children() {
    // SAFETY: all-zero is a valid sigaction: what happens by default, with no flags and an empty mask.
    let default = Disposition(unsafe { std::mem::zeroed() });
    // It fails for no signal that exists.
    let _ = set_disposition(libc::SIGCHLD, &default);
}

/// Runs in the interrupted thread: only an atomic load and a write, which are allowed there.
extern "C" fn handle(signal: libc::c_int) {
    let byte = signal as u8;
    // SAFETY: errno is this thread's and is restored for the code that was interrupted; the pointer is to
    // one live byte. A full pipe loses the signal, as the kernel does with many of one kind.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        libc::write(TARGET.load(Ordering::SeqCst), (&raw const byte).cast(), 1);
        *errno = saved;
    }
}

fn catching() -> Disposition {
    // SAFETY: all-zero is a valid sigaction with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    Disposition(action)
}

fn set_disposition(signal: i32, disposition: &Disposition) -> io::Result<Disposition> {
    // SAFETY: both pointers are to live structures; a handler installed here is `handle`, which is safe
    // to run at any time, or one that was there before.
    unsafe {
        let mut previous: libc::sigaction = std::mem::zeroed();
        match libc::sigaction(signal, &raw const disposition.0, &raw mut previous) {
            0 => Ok(Disposition(previous)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn unblock(signals: &[i32]) -> Mask {
    // SAFETY: all pointers are to live sets; numbers that are no signal are refused and change nothing.
    unsafe {
        let (mut set, mut previous): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, &raw mut previous);
        Mask(previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_caught_and_dispositions_restored() {
        let raise = |signal| {
            // SAFETY: the signal is caught or ignored at every call below.
            unsafe { libc::raise(signal) };
        };
        {
            let pipe = SignalPipe::new(&[libc::SIGUSR1, libc::SIGWINCH]).unwrap();
            assert_eq!(pipe.next(), None);
            raise(libc::SIGUSR1);
            raise(libc::SIGWINCH);
            assert_eq!(
                (pipe.next(), pipe.next(), pipe.next()),
                (Some(libc::SIGUSR1), Some(libc::SIGWINCH), None)
            );
            let second = SignalPipe::new(&[libc::SIGUSR2]);
            assert_eq!(second.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        }
        // By default this signal is ignored, so the test survives it.
        raise(libc::SIGWINCH);
        let pipe = SignalPipe::new(&[libc::SIGUSR2]).unwrap();
        assert_eq!(pipe.next(), None);
        assert!(SignalPipe::new(&[]).is_err());
        drop(pipe);
        assert!(SignalPipe::new(&[libc::SIGKILL]).is_err());
        assert!(SignalPipe::new(&[libc::SIGUSR2]).is_ok());
    }
}

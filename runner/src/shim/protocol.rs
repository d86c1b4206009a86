//! How one speaks with a supervisor: messages over a stream socket, each a JSON document after its length
//! (four bytes, least first). Descriptors travel beside the first byte of the message that they belong to.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::restart::RestartPolicy;
use super::state::State;
use crate::network::Connect;
use crate::request::{Limits, RunRequest, TtySize, User};

/// The longest message in bytes.
const LONGEST: usize = 256 << 10;

/// How many descriptors come with a message at most.
const DESCRIPTORS: usize = 4;

/// What a supervisor is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// Start the container. [`Reply::Done`] when its program runs, [`Reply::Already`] if it did before, and [`Reply::Ended`]
    /// of one that has run already.
    Start,
    /// Send a signal to the first process. [`Reply::Done`] once that is done.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Ask it to end, kill it when it does not, and do not start it again. [`Reply::Ended`].
    Stop {
        /// Another signal than the container's own.
        signal: Option<i32>,
        /// Seconds until it is killed, instead of its own; -1 is for ever.
        timeout: Option<i64>,
    },
    /// End it, wait for that, and start it anew. [`Reply::Done`] when its program runs again.
    Restart {
        /// As in `Stop`.
        signal: Option<i32>,
        /// As in `Stop`.
        timeout: Option<i64>,
    },
    /// Tell when it has ended for good. [`Reply::Ended`].
    Wait,
    /// Tell when it ends the next time, also if it is started again then. [`Reply::Ended`]; none of one that has ended
    /// already, whose supervisor goes.
    WaitNext,
    /// Connect the descriptors that come along, of pipes: what it reads, where its output and its errors go;
    /// each if asked for. [`Reply::Done`] at once, and [`Reply::Ended`] later, or only that of one that has run
    /// already. Without a [`Request::Detach`], the end of the connection is the end of the container, if `owner`.
    Attach {
        /// The first descriptor is the reading end of its input.
        stdin: bool,
        /// The next is the writing end of its output.
        stdout: bool,
        /// The next is the writing end of its errors.
        stderr: bool,
        /// Whether the container is to end with this connection.
        owner: bool,
    },
    /// Undo [`Request::Attach`]. [`Reply::Done`].
    Detach,
    /// The terminal of who is attached has another size. [`Reply::Done`].
    Resize(TtySize),
    /// Tell what is known. [`Reply::State`].
    Status,
    /// Tell how the container is run; for one that goes with its command nobody else knows. [`Reply::Settings`].
    Settings,
    /// Freeze the processes of the container. [`Reply::Done`].
    Pause,
    /// Let them go on. [`Reply::Done`].
    Resume,
    /// The container has another name. [`Reply::Done`].
    Renamed {
        /// It.
        name: String,
    },
    /// Change limits and the restart policy, all that are named or nothing. [`Reply::Done`].
    Update(Box<Update>),
    /// Connect the container to a further network. [`Reply::Done`].
    JoinNetwork(Box<Connect>),
    /// Take the container out of a network. [`Reply::Done`].
    LeaveNetwork {
        /// The network's id, or the default one's name.
        network: String,
        /// What people call it.
        name: String,
    },
    /// Forget the further name of another container. [`Reply::Done`].
    RemoveLink {
        /// The name.
        alias: String,
    },
    /// Stop the processes of a container that no control group can freeze, by signals. They go on at the end of this
    /// connection at the latest. [`Reply::Done`].
    Halt,
    /// Undo [`Request::Halt`]. [`Reply::Done`].
    GoOn,
    /// Send the root directory of the container, open for reading, over the socket that comes along: a [`Reply::Done`]
    /// with it. [`Reply::Done`] once that is done.
    Files,
    /// Run a further process in the container, connected to the descriptors that come along. [`Reply::Executing`] when
    /// its program runs, and [`Reply::Ended`] when it has ended, unless nobody waits for that.
    Exec(Box<Execution>),
}

/// What is to be changed about a container. What is `None` or not named stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Its limits, as [`Limits::changed`] takes them.
    pub limits: Limits,
    /// When it is started again.
    pub restart: Option<RestartPolicy>,
}

/// A further process of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Command and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, in place of the container's variables of the same names.
    pub env: Vec<String>,
    /// Another working directory than the container's.
    pub cwd: Option<String>,
    /// Another user than the container's.
    pub user: Option<User>,
    /// Every right.
    pub privileged: bool,
    /// Give it a terminal of this size.
    pub terminal: Option<TtySize>,
    /// Which of its streams are connected to the descriptors that come along, in this order: pipes whose reading
    /// end is its input, whose writing ends are its output and its errors.
    pub streams: [bool; 3],
    /// Whether it goes on when the connection ends.
    pub detach: bool,
    /// Whether it goes on when the connection ends, and its end is told all the same.
    #[serde(default)]
    pub lingers: bool,
    /// What it is called; a random id without it.
    #[serde(default)]
    pub id: Option<String>,
}

impl Execution {
    /// The process in the container that was made for `container`.
    pub(super) fn request(&self, container: &RunRequest) -> RunRequest {
        let mut request = container.clone();
        request.args.clone_from(&self.args);
        for entry in &self.env {
            let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
            let same = |known: &String| known.split_once('=').is_some_and(|(known, _)| known == name);
            request.env.retain(|known| !same(known));
            request.env.push(entry.clone());
        }
        request.cwd = self.cwd.clone().unwrap_or(request.cwd);
        request.user = self.user.clone().unwrap_or(request.user);
        request.privileged |= self.privileged;
        request
    }
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum Reply {
    /// It is done.
    Done,
    /// Somebody else has started it.
    Already,
    /// The further process runs.
    Executing {
        /// Its id as the supervisor sees it.
        pid: u32,
    },
    /// The container has ended for good.
    Ended(Ended),
    /// What is known of it.
    State(Box<State>),
    /// How it is run.
    Settings(Box<Config>),
    /// It cannot be done.
    Failed {
        /// Why.
        message: String,
        /// The exit code that stands for it.
        code: u8,
    },
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit code, or 128 and the signal's number.
    pub code: i32,
    /// Whether the kernel killed a process of it for lack of memory.
    pub out_of_memory: bool,
}

/// A message with its length before it.
pub(super) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Sends a message, waiting for room.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = frame(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let mut sent = sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    while sent < bytes.len() {
        sent += rustix::net::send(&socket, &bytes[sent..], SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// What came over a socket and is not a whole message yet.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Incoming {
    /// Reads what is there, waiting if `wait`. `false` at the end of the connection.
    pub(super) fn receive(&mut self, socket: impl AsFd, wait: bool) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0; 4096];
        let flags =
            if wait { RecvFlags::CMSG_CLOEXEC } else { RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT };
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut chunk)], &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        // Who sends more than belongs to any message gets rid of them.
        self.descriptors.truncate(DESCRIPTORS);
        self.bytes.extend_from_slice(&chunk[..received.bytes]);
        Ok(received.bytes > 0)
    }

    /// Takes the next message, if it is all there, with the descriptors that came until now.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, Malformed> {
        let Some(length) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > LONGEST {
            return Err(Malformed);
        }
        let Some(document) = self.bytes.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(document).map_err(|_| Malformed)?;
        self.bytes.drain(..4 + length);
        Ok(Some((message, self.descriptors.drain(..).collect())))
    }
}

/// What came is no message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_cross_with_their_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let attach = Request::Attach { stdin: true, stdout: false, stderr: false, owner: true };
        send(&ours, &Request::Wait, &[]).unwrap();
        send(&ours, &attach, &[read.as_fd()]).unwrap();
        drop((ours, read));
        let mut incoming = Incoming::default();
        while incoming.receive(&theirs, true).unwrap() {}
        // What came in one piece is taken by the first message; nobody sends descriptors before an answer.
        let (first, mut descriptors) = incoming.next::<Request>().unwrap().unwrap();
        let (second, more) = incoming.next::<Request>().unwrap().unwrap();
        descriptors.extend(more);
        assert_eq!((first, second), (Request::Wait, attach));
        assert!(incoming.next::<Request>().unwrap().is_none());
        rustix::io::write(&write, b"x").unwrap();
        let mut byte = [0; 1];
        assert_eq!(rustix::io::read(&descriptors[0], &mut byte), Ok(1));
    }

    #[test]
    fn garbage_is_told_from_messages() {
        let incoming = |bytes: &[u8]| Incoming { bytes: bytes.to_vec(), ..Incoming::default() };
        assert!(incoming(b"GET / HTTP/1.1\r\n").next::<Request>().is_err());
        assert!(incoming(b"\x02\0\0\0{}").next::<Request>().is_err());
        assert!(incoming(b"\x02\0\0\0{").next::<Request>().unwrap().is_none());
        assert!(incoming(b"").next::<Request>().unwrap().is_none());
    }
}

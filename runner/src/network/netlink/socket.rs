//! A netlink socket: sends messages and waits for the kernel's answers, which come before the call returns.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::message::{Message, messages};

/// `NLMSG_ERROR`: an acknowledgement; its number is 0 or a negated error.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the last of many answers.
const DONE: u16 = 3;
/// The kernel's answers come in pieces of at most this (32 KiB) or of a memory page.
const LARGEST_ANSWER: usize = 64 << 10;

/// What the kernel takes at once without being asked to take more; usually it is a little above 200 KiB.
const USUAL_LIMIT: usize = 128 << 10;

/// A service of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::network) enum Protocol {
    /// Interfaces, addresses and routes.
    Route,
    /// The firewall.
    Netfilter,
}

/// A connection to a service, for the network namespace of the thread that made it.
#[derive(Debug)]
pub(in crate::network) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(in crate::network) fn open(protocol: Protocol) -> io::Result<Self> {
        // No protocol is the first one, NETLINK_ROUTE.
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(NETFILTER),
        };
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, number)?;
        // Port 0 lets the kernel choose an address for us.
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; LARGEST_ANSWER] })
    }

    /// Sends one message and waits for its acknowledgement.
    pub(in crate::network) fn change(&mut self, message: Message) -> io::Result<()> {
        self.changes(vec![message])
    }

    /// Sends messages in one go and waits for the acknowledgement of the last. The first error of any of them
    /// is returned.
    pub(in crate::network) fn changes(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let last = self.send(messages)?;
        self.acknowledgement(None, last)
    }

    /// Sends messages that are all carried out or none: a mark of the beginning, changes of which the last one is
    /// acknowledged, and a mark of the end.
    pub(in crate::network) fn transaction(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let begin = self.sequence.wrapping_add(1);
        let end = self.send(messages)?;
        self.acknowledgement(Some(begin), end.wrapping_sub(1))
    }

    /// Waits for the acknowledgement of message number `last`, and for errors before it. An error about the
    /// beginning of a transaction may be the only answer.
    fn acknowledgement(&mut self, begin: Option<u32>, last: u32) -> io::Result<()> {
        let mut result = Ok(());
        self.receive(|kind, sequence, body| {
            if kind != ERROR {
                return false;
            }
            if let (Err(error), Ok(())) = (status(body), &result) {
                result = Err(error);
            }
            sequence == last || Some(sequence) == begin
        })?;
        result
    }

    /// Sends a question and returns what follows the header of the answer.
    pub(in crate::network) fn query(&mut self, message: Message) -> io::Result<Vec<u8>> {
        let last = self.send(vec![message])?;
        let mut answer = Ok(Vec::new());
        self.receive(|kind, sequence, body| {
            answer = if kind == ERROR { status(body).map(|()| Vec::new()) } else { Ok(body.to_vec()) };
            sequence == last
        })?;
        answer
    }

    /// Sends a question and calls `each` with what follows the header of every answer.
    pub(in crate::network) fn dump(
        &mut self,
        message: Message,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let last = self.send(vec![message])?;
        let mut result = Ok(());
        self.receive(|kind, sequence, body| {
            match kind {
                _ if sequence != last => return false,
                ERROR => result = status(body),
                DONE => {}
                _ => {
                    each(body);
                    return false;
                }
            }
            true
        })?;
        result
    }

    /// Sends messages and returns the sequence number of the last.
    fn send(&mut self, messages: Vec<Message>) -> io::Result<u32> {
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(message.finish(self.sequence));
        }
        if bytes.len() > USUAL_LIMIT {
            // Without the right to do so, the kernel says that the message is too long.
            let _ = sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len() * 2);
        }
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        Ok(self.sequence)
    }

    /// Receives messages until `is_last` says that one was the last.
    fn receive(&mut self, mut is_last: impl FnMut(u16, u32, &[u8]) -> bool) -> io::Result<()> {
        loop {
            let received = rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::empty());
            let length = match received {
                Err(Errno::INTR) => continue,
                result => result?.1,
            };
            let bytes = self.buffer.get(..length).ok_or(io::ErrorKind::FileTooLarge)?;
            let mut done = false;
            for (kind, sequence, body) in messages(bytes) {
                done |= is_last(kind, sequence, body);
            }
            if done {
                return Ok(());
            }
        }
    }
}

/// What an acknowledgement says.
fn status(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

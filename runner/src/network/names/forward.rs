//! The thread that serves names: takes questions, answers what it can, and asks other servers for the rest.
//!
//! Every question that is handed on has a socket of its own, whose port the kernel chooses, so an answer that somebody else
//! makes up has to guess it. There are only so many of them at once; what comes beyond that is dropped, as by any server
//! with too much to do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Shared;
use super::answer::{Answer, answer};
use super::sockets::Sockets;
use super::streams::Streams;

/// Where servers take questions.
pub(super) const PORT: u16 = 53;
/// How long a server has to answer before the next one is asked.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How many servers are asked at most, as by libc (`MAXNS`).
pub(super) const MOST_SERVERS: usize = 3;
/// How many questions are handed on at once.
const MOST_QUESTIONS: usize = 256;
/// How many questions are taken before answers are looked at.
const MOST_AT_ONCE: usize = 32;
/// No message over UDP is longer.
const LONGEST: usize = 65_535;

/// What the thread works on.
pub(super) struct Serving {
    sockets: Sockets,
    streams: Streams,
    knowledge: Shared,
    stop: Arc<OwnedFd>,
    asked: Vec<Asked>,
    buffer: Vec<u8>,
}

/// A question that another server was asked.
struct Asked {
    socket: UdpSocket,
    question: Vec<u8>,
    /// Who wants to know.
    client: SocketAddr,
    /// What the client is told when nobody answers.
    failure: Vec<u8>,
    /// The servers that have not been asked yet, the next one last.
    servers: Vec<IpAddr>,
    deadline: Instant,
}

impl Serving {
    pub(super) fn new(sockets: Sockets, knowledge: Shared, stop: Arc<OwnedFd>) -> Self {
        let streams = Streams::new(Arc::clone(&knowledge));
        Self { sockets, streams, knowledge, stop, asked: Vec::new(), buffer: vec![0; LONGEST] }
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            let [stop, messages, streams, asked @ ..] = ready.as_slice() else { return Ok(()) };
            if *stop {
                return Ok(());
            }
            self.take_answers(asked);
            if *messages {
                (0..MOST_AT_ONCE).take_while(|_| self.take_question()).for_each(drop);
            }
            if *streams && let Ok((stream, _)) = self.sockets.streams.accept() {
                self.streams.serve(stream);
            }
        }
    }

    /// Waits for what happens next: the end, a question, a connection, an answer to each that was asked.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let mut all = vec![
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::new(&self.sockets.messages, PollFlags::IN),
            PollFd::new(&self.sockets.streams, PollFlags::IN),
        ];
        all.extend(self.asked.iter().map(|asked| PollFd::new(&asked.socket, PollFlags::IN)));
        let first = self.asked.iter().map(|asked| asked.deadline).min();
        let left = first.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A little later rather than a little too early, which would be in vain.
        let timeout = left.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
        match poll(&mut all, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(all.iter().map(|one| !one.revents().is_empty()).collect())
    }

    /// Takes a question. `false` if there is none.
    fn take_question(&mut self) -> bool {
        let Ok((length, client)) = self.sockets.messages.recv_from(&mut self.buffer) else { return false };
        let question = self.buffer.get(..length).unwrap_or_default();
        let knowledge = self.knowledge.lock().unwrap_or_else(PoisonError::into_inner);
        match answer(question, &knowledge, None) {
            // Who does not take an answer asks again.
            Answer::Own(bytes) => drop(self.sockets.messages.send_to(&bytes, client)),
            Answer::Other(failure) => {
                let servers = knowledge.servers.iter().take(MOST_SERVERS).rev().copied().collect();
                let question = question.to_vec();
                drop(knowledge);
                self.ask(question, client, failure, servers);
            }
            Answer::None => {}
        }
        true
    }

    fn ask(&mut self, question: Vec<u8>, client: SocketAddr, failure: Vec<u8>, mut servers: Vec<IpAddr>) {
        if self.asked.len() >= MOST_QUESTIONS {
            return;
        }
        match ask_next(&question, &mut servers) {
            Some(socket) => {
                let deadline = Instant::now() + PATIENCE;
                self.asked.push(Asked { socket, question, client, failure, servers, deadline });
            }
            None => drop(self.sockets.messages.send_to(&failure, client)),
        }
    }

    /// Takes answers, and asks the next server in place of those that have not answered in time or cannot be reached.
    fn take_answers(&mut self, ready: &[bool]) {
        let now = Instant::now();
        let before = std::mem::take(&mut self.asked);
        for (index, asked) in before.into_iter().enumerate() {
            let has_come = ready.get(index).copied().unwrap_or(false);
            let answered =
                if has_come { self.take_answer(&asked) } else { Err(io::ErrorKind::WouldBlock.into()) };
            match answered {
                Ok(true) => {}
                // It was an answer to something else.
                Ok(false) => self.asked.push(asked),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && asked.deadline > now => {
                    self.asked.push(asked);
                }
                Err(_) => self.ask(asked.question, asked.client, asked.failure, asked.servers),
            }
        }
    }

    /// Hands an answer on, if it is one.
    fn take_answer(&mut self, asked: &Asked) -> io::Result<bool> {
        let length = asked.socket.recv(&mut self.buffer)?;
        let bytes = self.buffer.get(..length).unwrap_or_default();
        if !is_answer(bytes, &asked.question) {
            return Ok(false);
        }
        drop(self.sockets.messages.send_to(bytes, asked.client));
        Ok(true)
    }
}

/// Whether a message answers a question: it has the question's number, and says that it is an answer (RFC 1035 section
/// 4.1.1).
pub(super) fn is_answer(bytes: &[u8], question: &[u8]) -> bool {
    const IS_ANSWER: u8 = 0x80;
    bytes.len() >= 12 && bytes.get(..2) == question.get(..2) && bytes[2] & IS_ANSWER != 0
}

/// Asks the next server that can be reached.
fn ask_next(question: &[u8], servers: &mut Vec<IpAddr>) -> Option<UdpSocket> {
    while let Some(server) = servers.pop() {
        if let Ok(socket) = ask_one(question, server) {
            return Some(socket);
        }
    }
    None
}

fn ask_one(question: &[u8], server: IpAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect((server, PORT))?;
    socket.send(question)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_others() {
        let question = [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let mut reply = question;
        assert!(!is_answer(&reply, &question));
        reply[2] |= 0x80;
        assert!(is_answer(&reply, &question));
        assert!(!is_answer(&reply[..11], &question));
        reply[0] = 9;
        assert!(!is_answer(&reply, &question));
    }
}

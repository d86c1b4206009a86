//! What a supervisor waits for.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::connection::ConnectionId;
use super::super::streams::End;
use super::ending::Signals;
use super::exec::ExecId;
use super::{Phase, Supervisor};
use crate::cgroup::Shortage;

/// What happened.
#[derive(Clone, Copy)]
pub(super) enum Event {
    NewConnection,
    Connection(ConnectionId),
    Stream(End),
    Shortage,
    ProcessEnded,
    Exec(ExecId, End),
    ExecEnded(ExecId),
    Signal,
}

impl Supervisor {
    /// What happens next, with its flags; nothing when something else is due.
    pub(super) fn wait(&self) -> io::Result<Vec<(Event, PollFlags)>> {
        let mut events = vec![(Event::NewConnection, self.connections.listener(), PollFlags::IN)];
        for connection in self.connections.iter() {
            let unsent = if connection.has_unsent() { PollFlags::OUT } else { PollFlags::empty() };
            events.push((Event::Connection(connection.id), connection.as_fd(), PollFlags::IN | unsent));
        }
        if let Some(Signals::Stop(pipe) | Signals::Forward(pipe, _)) = &self.signals {
            events.push((Event::Signal, pipe.as_fd(), PollFlags::IN));
        }
        let streams = self.streams.interests().into_iter();
        events.extend(streams.map(|(end, fd, flags)| (Event::Stream(end), fd, flags)));
        for exec in &self.execs {
            let streams = exec.streams.interests().into_iter();
            events.extend(streams.map(|(end, fd, flags)| (Event::Exec(exec.id, end), fd, flags)));
            if !exec.is_told() {
                events.push((Event::ExecEnded(exec.id), exec.process.pidfd(), PollFlags::IN));
            }
        }
        // The last one, so that its output is read first.
        if let Phase::Running(run) = &self.phase {
            if let Some((fd, flags)) = run.kills.watched().map(Shortage::interest) {
                events.push((Event::Shortage, fd, flags));
            }
            events.push((Event::ProcessEnded, run.process.pidfd(), PollFlags::IN));
        }
        wait_for(&events, self.deadline())
    }

    /// When something is due even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let restart = match self.phase {
            Phase::Waiting(until) => Some(until),
            _ => None,
        };
        let kills = match &self.phase {
            Phase::Running(run) => run.kills.due(),
            _ => None,
        };
        let last_records = matches!(self.phase, Phase::Ended).then(|| self.streams.patience()).flatten();
        let due = [restart, self.kill_at, self.give_up_at, self.probe_deadline(), kills, last_records];
        due.into_iter().flatten().min()
    }
}

/// Waits until something happens or the deadline comes.
fn wait_for<E: Copy>(
    events: &[(E, BorrowedFd<'_>, PollFlags)],
    deadline: Option<Instant>,
) -> io::Result<Vec<(E, PollFlags)>> {
    let mut polled: Vec<PollFd<'_>> =
        events.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout = timeout.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let flags = polled.iter().map(PollFd::revents);
    let happened = events.iter().zip(flags).filter(|(_, flags)| !flags.is_empty());
    Ok(happened.map(|((event, ..), flags)| (*event, flags)).collect())
}

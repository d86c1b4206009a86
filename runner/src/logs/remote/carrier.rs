//! The thread that sends records, or writes them where nobody may be held up by a disk, with a bounded queue before it.
//!
//! Who puts records in never waits. When there are too many, either more are refused ([`Carrier::is_full`]), so that the
//! container waits, or they are dropped. A server that is away is asked again after longer and longer times; what comes
//! meanwhile is dropped, unless the driver insists.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::Timestamp;
use rustix::event::{EventfdFlags, eventfd};

use super::super::writer::LogWriter;
use super::{Driver, Message, Retries};

/// Bytes that wait before the container has to.
const ROOM: usize = 256 << 10;

/// Bytes beyond those that are taken when a container has ended, which cannot wait any more. A pipe holds no more.
const LAST: usize = 2 << 20;

/// Bytes that a record takes besides its text.
const OVERHEAD: usize = 128;

/// Bytes of stack. TLS takes the most.
const STACK: usize = 512 << 10;

/// How long a server that is away is left alone at first, and at most.
const AWAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The longest time between two tries for one record.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is carried.
pub(in crate::logs) enum Item {
    /// A record.
    Record(Message, bool),
    /// The container has ended: lines without an end are complete.
    Finish(Timestamp),
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Self::Record(message, _) => message.text.len() + OVERHEAD,
            Self::Finish(_) => 0,
        }
    }
}

/// Where it is carried to.
pub(in crate::logs) enum Target {
    Driver(Box<Driver>),
    File(Box<LogWriter>),
}

/// A queue of records and the thread that takes them out. It ends when this is dropped and it has sent what it is sending.
#[derive(Debug)]
pub(in crate::logs) struct Carrier {
    shared: Arc<Shared>,
    /// Whether records are dropped when there are too many.
    drops: bool,
    room: usize,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Told when there is room again, or nothing left, if somebody wants to know.
    news: OwnedFd,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    is_busy: bool,
    is_closed: bool,
    is_awaited: bool,
    lost: u64,
    failure: Option<String>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.size())
    }
}

impl Carrier {
    /// Begins to carry. `dropping` is the bytes from which on records are dropped.
    pub(in crate::logs) fn start(target: Target, dropping: Option<u64>) -> io::Result<Self> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), news });
        let theirs = Arc::clone(&shared);
        let name = std::thread::Builder::new().name("log".to_owned());
        name.stack_size(STACK).spawn(move || carry(&theirs, target))?;
        let room = dropping.map_or(ROOM, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Self { shared, drops: dropping.is_some(), room })
    }

    /// Takes what is to be carried, or drops it where there is no room.
    pub(in crate::logs) fn push(&self, item: Item) {
        let mut queue = self.shared.lock();
        let most = if self.drops { self.room } else { ROOM + LAST };
        let size = item.size();
        if size > 0 && !queue.items.is_empty() && queue.bytes + size > most {
            queue.lost += 1;
            return;
        }
        queue.bytes += size;
        queue.items.push_back(item);
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Whether the container has to wait. [`news`](Self::news) tells when not any more.
    pub(in crate::logs) fn is_full(&self) -> bool {
        let mut queue = self.shared.lock();
        let is_full = !self.drops && queue.bytes >= self.room;
        queue.is_awaited |= is_full;
        is_full
    }

    /// Whether everything has been sent. [`news`](Self::news) tells when it has.
    pub(in crate::logs) fn is_idle(&self) -> bool {
        let mut queue = self.shared.lock();
        let is_idle = queue.items.is_empty() && !queue.is_busy;
        queue.is_awaited |= !is_idle;
        is_idle
    }

    /// Can be read when something has changed that was asked for.
    pub(in crate::logs) fn news(&self) -> BorrowedFd<'_> {
        self.shared.news.as_fd()
    }

    /// Takes note of the news.
    pub(in crate::logs) fn clear_news(&self) {
        let _ = rustix::io::read(&self.shared.news, &mut [0; 8]);
    }

    /// Drops what was not carried.
    pub(in crate::logs) fn abandon(&self) {
        let mut queue = self.shared.lock();
        let left: Vec<Item> = queue.items.drain(..).collect();
        queue.bytes -= left.iter().map(Item::size).sum::<usize>();
        let in_hand = u64::from(queue.is_busy);
        queue.lost += in_hand + left.iter().filter(|item| item.size() > 0).count() as u64;
    }

    /// What went wrong since this was asked, in words.
    pub(in crate::logs) fn take_failure(&self) -> Option<String> {
        let mut queue = self.shared.lock();
        let lost = std::mem::take(&mut queue.lost);
        let failure = queue.failure.take();
        (lost > 0).then(|| match failure {
            Some(failure) => format!("{lost} log records were lost: {failure}"),
            None => format!("{lost} log records were lost: they came faster than they could be sent"),
        })
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item; `None` when there will be none.
    fn next(&self) -> Option<Item> {
        let mut queue = self.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(item) = queue.items.pop_front() {
                queue.is_busy = true;
                return Some(item);
            }
            // A burst is over: its memory is not needed.
            queue.items = VecDeque::new();
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// An item has been dealt with. It counts until then.
    fn done(&self, size: usize, failure: Option<String>) {
        let mut queue = self.lock();
        queue.is_busy = false;
        queue.bytes -= size;
        if let Some(failure) = failure {
            queue.lost += 1;
            queue.failure = Some(failure);
        }
        if queue.is_awaited && (queue.items.is_empty() || queue.bytes <= ROOM / 2) {
            queue.is_awaited = false;
            let _ = rustix::io::write(&self.news, &1u64.to_ne_bytes());
        }
    }

    /// Waits that long; `false` when nobody wants anything any more.
    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut queue = self.lock();
        while !queue.is_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

fn carry(shared: &Shared, target: Target) {
    let mut sending = match target {
        Target::Driver(driver) => Sending { driver, away: None },
        Target::File(mut file) => {
            while let Some(item) = shared.next() {
                let size = item.size();
                let written = write(&mut file, item);
                shared.done(size, written.err().map(|error| base::fault::chain(&error)));
            }
            return;
        }
    };
    while let Some(item) = shared.next() {
        let size = item.size();
        let sent = match item {
            Item::Record(message, _) => sending.send(&message, shared),
            Item::Finish(_) => Ok(()),
        };
        shared.done(size, sent.err().map(|error| error.to_string()));
    }
}

fn write(file: &mut LogWriter, item: Item) -> Result<(), sys::path_error::PathError> {
    match item {
        Item::Record(mut message, has_end) => {
            message.text.extend_from_slice(if has_end { b"\n" } else { b"" });
            file.write(message.stream, &message.text, message.time)
        }
        Item::Finish(now) => file.finish(now),
    }
}

/// A driver, and how long its server is left alone.
struct Sending {
    driver: Box<Driver>,
    /// Until when, and for how long that was.
    away: Option<(Instant, Duration)>,
}

impl Sending {
    fn send(&mut self, message: &Message, shared: &Shared) -> io::Result<()> {
        let retries = self.driver.retries();
        if self.away.is_some_and(|(until, _)| Instant::now() < until) {
            return Err(io::Error::other("the server is away"));
        }
        let mut wait = Duration::from_millis(retries.wait_ms);
        let mut left = retries.most;
        loop {
            let error = match self.driver.send(message) {
                Ok(()) => {
                    self.away = None;
                    return Ok(());
                }
                Err(error) => error,
            };
            if left == 0 || !shared.sleep(wait) {
                if retries == Retries::ONCE {
                    let before = self.away.map_or(Duration::ZERO, |(_, time)| time);
                    let time = (before * 2).clamp(AWAY.0, AWAY.1);
                    self.away = Some((Instant::now() + time, time));
                }
                return Err(error);
            }
            left -= 1;
            if retries.grows {
                wait = wait.mul_f64(1.5).min(LONGEST_WAIT);
            }
        }
    }
}

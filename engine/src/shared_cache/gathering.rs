//! What is to be written, a few results at a time where that is worth while.
//!
//! The first one is written at once. Those that come soon after are gathered until it is time for the next segment, or until the
//! build ends: others find a result a quarter of a second later at most, and the requests do not get more when the steps get faster.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

/// The least time between the beginnings of two segments.
pub(super) const PACE: Duration = Duration::from_millis(250);

/// How long the first one waits for others that come with it: a step has two keys.
const TOGETHER: Duration = Duration::from_millis(2);

/// How many are gathered at most.
const MOST: usize = 128;

/// What is to be written, for several threads that write.
pub(super) struct Gathering<T> {
    receiver: Receiver<T>,
    /// The least time between two segments; none where each result is one of its own.
    pace: Option<Duration>,
    /// When the last ones were taken. Held while the next ones are gathered.
    last: Mutex<Option<Instant>>,
}

impl<T> Gathering<T> {
    /// What comes from `receiver`, one at a time unless there is a pace.
    pub(super) fn new(receiver: Receiver<T>, pace: Option<Duration>) -> Self {
        Self { receiver, pace, last: Mutex::default() }
    }

    /// What is to be written next; empty when nothing more will come.
    pub(super) fn next(&self) -> Vec<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gathered: Vec<T> = self.receiver.recv().into_iter().collect();
        let Some(pace) = self.pace.filter(|_| !gathered.is_empty()) else { return gathered };
        let soon = Instant::now() + TOGETHER;
        let end = last.map_or(soon, |last| soon.max(last + pace));
        // It ends with an error when the time is over, or the build.
        while let Some(next) =
            (gathered.len() < MOST).then(|| self.receiver.recv_deadline(end).ok()).flatten()
        {
            gathered.push(next);
        }
        *last = Some(Instant::now());
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_taken_at_once_and_the_next_together() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let gathering = Gathering::new(receiver, Some(PACE));
        let begun = Instant::now();
        sender.send(1).unwrap();
        assert_eq!(gathering.next(), [1]);
        let first = begun.elapsed();
        sender.send(2).unwrap();
        sender.send(3).unwrap();
        assert_eq!(gathering.next(), [2, 3]);
        assert!(begun.elapsed() >= PACE.min(first + PACE), "they were gathered");
    }

    #[test]
    fn at_the_end_nobody_waits() {
        const HOUR: Duration = Duration::from_secs(3600);
        let (sender, receiver) = crossbeam_channel::unbounded();
        let gathering = Gathering::new(receiver, Some(HOUR));
        let begun = Instant::now();
        sender.send(1).unwrap();
        assert_eq!(gathering.next(), [1]);
        sender.send(2).unwrap();
        drop(sender);
        assert_eq!(gathering.next(), [2]);
        assert_eq!(gathering.next(), Vec::<i32>::new());
        assert!(begun.elapsed() < HOUR / 2);
    }

    #[test]
    fn no_more_are_gathered_than_fit() {
        let (sender, receiver) = crossbeam_channel::unbounded();
        (0..MOST + 1).for_each(|number| sender.send(number).unwrap());
        let (paced, single) = (Gathering::new(receiver.clone(), Some(PACE)), Gathering::new(receiver, None));
        assert_eq!(paced.next().len(), MOST);
        assert_eq!(single.next(), [MOST]);
    }
}

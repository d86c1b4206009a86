//! Telling of what the kernel kills for lack of memory: once for each, as soon as it is counted.
//!
//! Where the kernel says that memory has run out before it kills (version 1), and says it again when another process finds none before
//! the first is gone, only the count tells how often it has killed. So that is looked at again, a few times.

use std::time::{Duration, Instant};

use super::super::error::ShimError;
use super::super::news::News;
use super::{Phase, Supervisor};
use crate::cgroup::{ControlGroup, Notice, Shortage};

/// How soon the count is looked at again. The wait doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// After a wait of that length the kernel has killed, or it is found out at the end.
const LAST_WAIT: Duration = Duration::from_millis(512);

/// What is known of kills in one run of the container.
pub(super) struct Kills {
    watch: Option<Shortage>,
    told: u64,
    /// When they are counted again, and how long it was waited for that.
    again: Option<(Instant, Duration)>,
}

impl Kills {
    /// Begins to watch a group. Where the kernel does not tell at once, it is found out at the end.
    pub(super) fn watch(group: Option<&ControlGroup>) -> Self {
        Self { watch: group.and_then(|group| group.watch_shortage().ok()?), told: 0, again: None }
    }

    /// What tells of the next.
    pub(super) fn watched(&self) -> Option<&Shortage> {
        self.watch.as_ref()
    }

    /// When to count again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.again.map(|(due, _)| due)
    }

    /// How many are new when there were that many.
    pub(super) fn untold(&self, counted: u64) -> u64 {
        counted.saturating_sub(self.told)
    }

    /// Hears what the kernel tells. Whether there is something to tell although nothing is counted.
    fn hear(&mut self, now: Instant) -> bool {
        let notice = self.watch.as_ref().map_or(Notice::Nothing, Shortage::take);
        if notice == Notice::Killing {
            self.again = Some((now + FIRST_WAIT, FIRST_WAIT));
        }
        notice == Notice::Waiting
    }

    /// Whether some are new; they are not afterwards.
    fn count(&mut self, counted: u64) -> bool {
        let is_new = self.untold(counted) > 0;
        self.told = self.told.max(counted);
        is_new
    }

    /// The time to count again has come: sets the next.
    fn waited(&mut self, now: Instant) {
        let next = self.again.map(|(_, wait)| wait * 2).filter(|wait| *wait <= LAST_WAIT);
        self.again = next.map(|wait| (now + wait, wait));
    }
}

impl Supervisor {
    /// The kernel tells that memory has run out, or that it has killed a process, without which the container may go on.
    pub(super) fn memory_ran_out(&mut self) -> Result<(), ShimError> {
        let Phase::Running(run) = &mut self.phase else { return Ok(()) };
        let is_known = run.kills.hear(Instant::now());
        self.count_kills(is_known)
    }

    /// Counts again when the time for that has come.
    pub(super) fn look_for_kills(&mut self, now: Instant) -> Result<(), ShimError> {
        let Phase::Running(run) = &mut self.phase else { return Ok(()) };
        if run.kills.due().is_none_or(|due| due > now) {
            return Ok(());
        }
        run.kills.waited(now);
        self.count_kills(false)
    }

    fn count_kills(&mut self, is_known: bool) -> Result<(), ShimError> {
        let Phase::Running(run) = &mut self.phase else { return Ok(()) };
        let counted = run.process.group().and_then(|group| group.memory_kills().ok()).unwrap_or(0);
        if run.kills.count(counted) || is_known {
            self.state.out_of_memory = true;
            self.teller.tell(News::OutOfMemory);
            self.state.write(&self.directory)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_once_and_the_count_is_looked_at_for_a_second() {
        let mut kills = Kills::watch(None);
        assert!(!kills.count(0) && kills.count(1) && !kills.count(1));
        assert_eq!((kills.untold(1), kills.untold(3)), (0, 2));
        assert!(kills.count(3) && !kills.count(2) && !kills.count(3));
        let start = Instant::now();
        kills.again = Some((start + FIRST_WAIT, FIRST_WAIT));
        let mut looks = 0;
        let mut now = start;
        while let Some(due) = kills.due() {
            (looks, now) = (looks + 1, due);
            kills.waited(now);
        }
        assert_eq!((looks, now - start), (10, Duration::from_millis(1023)));
    }
}

//! Whether a container is well, from the outcomes of its health check. Pure: the time is an argument.
//!
//! The rules are Docker's. A container is *starting* until a check succeeds; failures within the start period
//! do not count as long as it is. So many failures in a row as the check says make it *unhealthy*, one success
//! *healthy* again.

use std::collections::VecDeque;
use std::time::Duration;

use base::Timestamp;
use serde::{Deserialize, Serialize};

/// How many outcomes are remembered.
const REMEMBERED: usize = 5;

/// Bytes of a check's output that are kept.
pub const MAX_OUTPUT: usize = 4096;

/// The exit code that stands for a check that took too long.
pub const TIMED_OUT: i32 = -1;

/// How to find out whether a container is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Command and arguments.
    pub command: Vec<String>,
    /// Between the end of a check and the next.
    pub interval: Duration,
    /// What a check may take.
    pub timeout: Duration,
    /// How long failures do not count after the start.
    pub start_period: Duration,
    /// Between two checks in the start period.
    pub start_interval: Duration,
    /// How many failures in a row are one too many.
    pub retries: u32,
}

/// What is known of a container's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet.
    #[default]
    Starting,
    /// The last check that counted succeeded.
    Healthy,
    /// Too many checks in a row have failed.
    Unhealthy,
}

impl HealthStatus {
    /// The name in Docker's documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Outcome {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; [`TIMED_OUT`] when it took too long.
    pub exit_code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

/// A container's health and how it came to that, as Docker's `inspect` has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// What is known.
    pub status: HealthStatus,
    /// How many checks in a row have failed.
    pub failing_streak: u32,
    /// The last outcomes, the oldest first.
    pub log: VecDeque<Outcome>,
}

/// Follows the health of one run of a container. Times are counted from its start.
#[derive(Debug)]
pub struct Monitor {
    check: HealthCheck,
    health: Health,
    next: Duration,
}

impl Monitor {
    /// The container has just started.
    pub fn new(check: HealthCheck) -> Self {
        let mut monitor = Self { check, health: Health::default(), next: Duration::ZERO };
        monitor.next = monitor.pause(Duration::ZERO);
        monitor
    }

    /// The check.
    pub fn check(&self) -> &HealthCheck {
        &self.check
    }

    /// What is known.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// When the next check is due.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Takes the outcome of a check that began at `began` and ended at `ended`.
    pub fn finished(&mut self, began: Duration, ended: Duration, outcome: Outcome) {
        let health = &mut self.health;
        let forgiven = health.status == HealthStatus::Starting && began < self.check.start_period;
        if outcome.exit_code == 0 {
            health.failing_streak = 0;
            health.status = HealthStatus::Healthy;
        } else if !forgiven {
            health.failing_streak += 1;
            if health.failing_streak >= self.check.retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
        health.log.push_back(outcome);
        while health.log.len() > REMEMBERED {
            health.log.pop_front();
        }
        self.next = ended + self.pause(ended);
    }

    /// How long to wait at `now` before the next check.
    fn pause(&self, now: Duration) -> Duration {
        let starting = self.health.status == HealthStatus::Starting && now < self.check.start_period;
        if starting { self.check.start_interval } else { self.check.interval }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn monitor(start_period: u64) -> Monitor {
        Monitor::new(HealthCheck {
            command: vec!["true".to_owned()],
            interval: seconds(30),
            timeout: seconds(30),
            start_period: seconds(start_period),
            start_interval: seconds(5),
            retries: 3,
        })
    }

    /// Feeds exit codes, each check taking no time; answers the status after each and when it was made.
    fn follow(monitor: &mut Monitor, codes: &[i32]) -> Vec<(HealthStatus, u64)> {
        let step = |code: &i32| {
            let at = monitor.next();
            let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
            monitor.finished(at, at, Outcome { start, end, exit_code: *code, output: String::new() });
            (monitor.health().status, at.as_secs())
        };
        codes.iter().map(step).collect()
    }

    use HealthStatus::{Healthy, Starting, Unhealthy};

    #[test]
    fn failures_in_a_row_make_unhealthy_and_a_success_healthy() {
        let mut monitor = monitor(0);
        let said = follow(&mut monitor, &[0, 1, 1, 0, 1, 2, TIMED_OUT, 0]);
        let statuses: Vec<HealthStatus> = said.iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [Healthy, Healthy, Healthy, Healthy, Healthy, Healthy, Unhealthy, Healthy]);
        assert_eq!(said[1].1 - said[0].1, 30);
        assert_eq!(monitor.health().log.len(), REMEMBERED);
        assert_eq!(monitor.health().failing_streak, 0);
    }

    #[test]
    fn the_start_period_forgives_and_checks_more_often() {
        let mut monitor = monitor(12);
        let said = follow(&mut monitor, &[1, 1, 1, 1, 1]);
        assert_eq!(said, [(Starting, 5), (Starting, 10), (Starting, 15), (Starting, 45), (Unhealthy, 75)]);
    }

    #[test]
    fn a_success_ends_the_start_period() {
        let mut monitor = monitor(1000);
        let said = follow(&mut monitor, &[1, 0, 1, 1, 1]);
        let expected = [(Starting, 5), (Healthy, 10), (Healthy, 40), (Healthy, 70), (Unhealthy, 100)];
        assert_eq!(said, expected);
    }
}

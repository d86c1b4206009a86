//! When a container that ended is started again. Pure.
//!
//! Policies and times are Docker's: the first restart waits 100 ms, each further one twice as long, up to a
//! minute; a container that ran for ten seconds begins anew with the waiting, not with the counting.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long the first restart waits.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// How long a restart waits at most.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Running this long counts as having been well.
const WELL: Duration = Duration::from_secs(10);

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it failed.
    OnFailure {
        /// At most this often; 0 is always.
        most: u32,
    },
    /// Always, unless somebody stopped it.
    Always,
    /// The same, and the two differ when the machine starts: see [`RestartPolicy::applies_at_boot`].
    UnlessStopped,
}

impl RestartPolicy {
    /// The name in Docker's documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure { .. } => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// Whether a container that ran before is started again when the machine has been. `stopped` tells whether
    /// somebody had asked for its end.
    pub fn applies_at_boot(self, stopped: bool) -> bool {
        match self {
            Self::Always => true,
            Self::UnlessStopped => !stopped,
            Self::No | Self::OnFailure { .. } => false,
        }
    }

    /// How often it restarts at most; 0 where that is not limited.
    pub fn most(self) -> u32 {
        match self {
            Self::OnFailure { most } => most,
            _ => 0,
        }
    }
}

/// A text that is no restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a restart policy; use no, on-failure[:count], always or unless-stopped")]
pub struct BadRestartPolicy(String);

impl FromStr for RestartPolicy {
    type Err = BadRestartPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadRestartPolicy(text.to_owned());
        match text.split_once(':') {
            None => match text {
                "no" | "" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure { most: 0 }),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(bad()),
            },
            Some(("on-failure", count)) => Ok(Self::OnFailure { most: count.parse().map_err(|_| bad())? }),
            Some(_) => Err(bad()),
        }
    }
}

/// How a container's first process ended, as far as restarting goes.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Whether it exited with code 0.
    pub succeeded: bool,
    /// How long it ran.
    pub length: Duration,
    /// Whether somebody asked for its end.
    pub stopped: bool,
}

/// Decides about restarts of one container.
#[derive(Debug, Clone)]
pub struct Restarts {
    policy: RestartPolicy,
    count: u32,
    delay: Option<Duration>,
}

impl Restarts {
    /// Nothing was restarted yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, count: 0, delay: None }
    }

    /// Decides by another policy from now on.
    pub fn set_policy(&mut self, policy: RestartPolicy) {
        self.policy = policy;
    }

    /// How often the container was started again.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// After a run: how long to wait before the next, or `None` when there is none.
    pub fn after(&mut self, run: Run) -> Option<Duration> {
        if run.length >= WELL {
            self.delay = None;
        }
        let again = match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure { most } => !run.succeeded && (most == 0 || self.count < most),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        };
        if !again || run.stopped {
            return None;
        }
        let delay = self.delay.map_or(FIRST_DELAY, |delay| (delay * 2).min(LONGEST_DELAY));
        self.delay = Some(delay);
        self.count += 1;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Run = Run { succeeded: false, length: Duration::ZERO, stopped: false };
    const DONE: Run = Run { succeeded: true, ..FAILED };

    fn delays(policy: RestartPolicy, runs: &[Run]) -> Vec<Option<u64>> {
        let mut restarts = Restarts::new(policy);
        let milliseconds = |delay: Duration| u64::try_from(delay.as_millis()).unwrap();
        runs.iter().map(|run| restarts.after(*run).map(milliseconds)).collect()
    }

    #[test]
    fn policies_decide_who_comes_back() {
        assert_eq!(delays(RestartPolicy::No, &[FAILED]), [None]);
        assert_eq!(delays(RestartPolicy::Always, &[DONE]), [Some(100)]);
        assert_eq!(delays(RestartPolicy::OnFailure { most: 0 }, &[FAILED, DONE]), [Some(100), None]);
        let twice = delays(RestartPolicy::OnFailure { most: 2 }, &[FAILED; 3]);
        assert_eq!(twice, [Some(100), Some(200), None]);
        for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
            assert_eq!(delays(policy, &[Run { stopped: true, ..FAILED }]), [None]);
        }
    }

    #[test]
    fn waiting_doubles_up_to_a_minute_and_begins_anew_after_a_good_run() {
        let mut runs = vec![FAILED; 12];
        runs.push(Run { length: Duration::from_secs(10), ..FAILED });
        let delays = delays(RestartPolicy::Always, &runs);
        let delays: Vec<u64> = delays.into_iter().flatten().collect();
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[9..], [51_200, 60_000, 60_000, 100]);
    }

    #[test]
    fn policies_are_written_as_in_docker() {
        for (text, policy) in [
            ("no", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure { most: 0 }),
            ("on-failure:3", RestartPolicy::OnFailure { most: 3 }),
        ] {
            assert_eq!(text.parse(), Ok(policy));
        }
        for bad in ["sometimes", "always:3", "on-failure:x", "on-failure:-1"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }
}

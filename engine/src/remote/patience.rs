//! How long servers are waited for, and how often they are asked again: `--timeout`, `--idle-timeout` and `--retry` for
//! what is fetched.
//!
//! The client tries again by itself what is likely to go better at once. This is for what the user knows of a server.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::event::Stream;
use base::{CancelToken, Digest, Fault, Faulty as _};
use runner::{Expired, TimeLimits};

use super::Fetcher;
use crate::error::EngineError;

/// When something was received last.
pub(crate) type LastReceived = Arc<Mutex<Instant>>;

/// What is fetched, by the names that patterns are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetched<'a> {
    /// Its name in the progress.
    pub(crate) name: &'a str,
    /// The stage that needs it, or the instruction that it is for.
    pub(crate) of: &'a str,
    /// Whether what is received is told on the way, so that nothing for long is a reason to give up.
    pub(crate) is_told: bool,
}

impl Fetcher<'_> {
    /// Does `work` as a vertex of its own, with the user's patience. `of` is the instruction that it is for.
    pub(crate) fn step<T>(
        &self,
        name: &str,
        of: &str,
        is_told: bool,
        work: impl Fn(&Fetcher<'_>, Digest) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let name = format!("[internal] {name}");
        self.progress.step(&name, |vertex| {
            let fetched = Fetched { name: &name, of, is_told };
            self.patiently(fetched, vertex, |fetcher| work(fetcher, vertex))
        })
    }

    /// Fetches something with `work`, within the limits of time that the user gave for it, and again as often as the
    /// user wants when the server is what fails.
    pub(crate) fn patiently<T>(
        &self,
        fetched: Fetched<'_>,
        vertex: Digest,
        work: impl Fn(&Fetcher<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let retries = self.rules.retries(fetched.name, fetched.of);
        for attempt in 1..=retries {
            match self.within_limits(fetched, &work) {
                Err(error) if is_of_server(&error) => {
                    let attempts = u64::from(retries) + 1;
                    let told = format!("attempt {attempt} of {attempts} failed: {error}; trying again\n");
                    self.progress.log(vertex, Stream::Stderr, told.as_bytes(), told.as_bytes());
                }
                result => return result,
            }
        }
        self.within_limits(fetched, &work)
    }

    fn within_limits<T>(
        &self,
        fetched: Fetched<'_>,
        work: &impl Fn(&Fetcher<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut limits = self.rules.time_limits(fetched.name, fetched.of);
        limits.idle = limits.idle.filter(|_| fetched.is_told);
        if limits == TimeLimits::default() {
            return work(self);
        }
        let last: LastReceived = Arc::new(Mutex::new(Instant::now()));
        let progress = self.progress.clone().noting(Arc::clone(&last));
        limited(fetched.name, (limits, &last), self.cancel, |stop| {
            work(&Fetcher { progress: &progress, cancel: stop, ..*self })
        })
    }
}

/// Does `work` within a limit of time in all. It ends early when the token that it gets is cancelled.
///
/// # Errors
/// [`EngineError::FetchTimedOut`] when it took longer, with `name` for what was fetched.
pub(crate) fn within<T>(
    limit: Duration,
    name: &str,
    cancel: &CancelToken,
    work: impl FnOnce(&CancelToken) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let limits = TimeLimits { total: Some(limit), idle: None };
    limited(name, (limits, &Arc::new(Mutex::new(Instant::now()))), cancel, work)
}

fn limited<T>(
    name: &str,
    (limits, last): (TimeLimits, &LastReceived),
    cancel: &CancelToken,
    work: impl FnOnce(&CancelToken) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let (stop, _guard) = cancel.child();
    let (expired, result) = std::thread::scope(|scope| {
        let (done, ended) = channel();
        let timer = std::thread::Builder::new().name("time-limit".to_owned());
        let stop = &stop;
        let timer = timer.spawn_scoped(scope, move || {
            let expired = wait(limits, last, &ended);
            if expired.is_some() {
                stop.cancel();
            }
            expired
        });
        let timer = timer.map_err(|source| EngineError::Threads { source })?;
        let result = work(stop);
        drop::<std::sync::mpsc::Sender<()>>(done);
        let expired = timer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, EngineError>((expired, result))
    })?;
    match (result, expired) {
        (Err(error), Some(expired)) if error.fault() == Fault::Cancelled && !cancel.is_cancelled() => {
            Err(EngineError::FetchTimedOut { name: name.to_owned(), expired })
        }
        (result, _) => result,
    }
}

/// Waits until a limit is reached, or the other end of `ended` is gone.
fn wait(limits: TimeLimits, last: &LastReceived, ended: &Receiver<()>) -> Option<Expired> {
    let begin = Instant::now();
    loop {
        let idle_since = *last.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |limit: Duration, since: Instant| limit.saturating_sub(since.elapsed());
        let total = limits.total.map(|limit| (left(limit, begin), Expired::Total(limit)));
        let idle = limits.idle.map(|limit| (left(limit, idle_since), Expired::Idle(limit)));
        let (left, expired) = total.into_iter().chain(idle).min_by_key(|(left, _)| *left)?;
        if left.is_zero() {
            return Some(expired);
        }
        match ended.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Whether a server, or the way to it, is the reason, so that it may go better another time.
fn is_of_server(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Registry(_)
            | EngineError::Download(_)
            | EngineError::Git(_)
            | EngineError::FetchTimedOut { .. }
    )
}

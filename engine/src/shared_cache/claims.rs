//! One builder at a time makes a result, of all that share a cache: who needs it meanwhile waits, but not for ever.
//!
//! Before a step runs it is claimed in a cache that this build reads and writes, as far as the cache knows claims. Whoever finds it claimed looks for the
//! record now and then, until it is there, the claim is gone, or the time is over; then it runs the step itself. A claim ends when
//! the record is written, when the step fails, and in any case after the same time, so that a builder that died stops nobody for longer.
//! Locks save work, nothing more: two that claim at the same moment are slow, not wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{CancelToken, Key, Timestamp};

use super::place::Source;
use super::reading::SharedCache;
use crate::error::EngineError;

/// How often is looked whether a result is there by now.
const LOOK: Duration = Duration::from_millis(500);

/// Whether somebody may make a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// We may.
    Ours,
    /// Another builder is at it.
    Theirs,
    /// The place knows no claims.
    Unknown,
}

/// A claim as it is written to a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) key: Key,
    /// A name that no other build has.
    pub(crate) holder: String,
    pub(crate) now: Timestamp,
    pub(crate) limit: Duration,
}

impl Claim {
    /// The claim as it is kept in files: who has it until when, in milliseconds.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let limit = i64::try_from(self.limit.as_millis()).unwrap_or(i64::MAX);
        format!("{} {}", self.holder, self.now.as_millisecond().saturating_add(limit)).into_bytes()
    }

    /// Whether what is kept is another builder's claim that is not over.
    pub(crate) fn is_of_another(&self, kept: &[u8]) -> bool {
        let Some((holder, until)) = std::str::from_utf8(kept).ok().and_then(|text| text.split_once(' '))
        else {
            return false;
        };
        let now = self.now.as_millisecond();
        holder != self.holder && until.parse::<i64>().is_ok_and(|until| until > now)
    }
}

/// What a build claims.
pub(super) struct Claims {
    holder: String,
    /// For how long something is claimed, and waited for.
    limit: Duration,
    /// The place that is asked, among those that are read.
    place: usize,
    held: Mutex<HashMap<Key, Claim>>,
    /// Set when the place turned out to know no claims.
    is_useless: AtomicBool,
}

impl Claims {
    pub(super) fn new(limit: Duration, place: usize) -> Result<Self, EngineError> {
        Ok(Self {
            holder: sys::random::hex(16)?,
            limit,
            place,
            held: Mutex::default(),
            is_useless: AtomicBool::new(false),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Key, Claim>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A result that this build may make. Dropped, others may; after [`made`](Self::made), when they can find the record.
pub(crate) struct Turn<'a> {
    cache: &'a SharedCache<'a>,
    key: Key,
    is_made: bool,
}

impl Turn<'_> {
    /// The result is made, and its record will be written.
    pub(crate) fn made(mut self) {
        self.is_made = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_made {
            self.cache.release(&self.key);
        }
    }
}

impl<'a> SharedCache<'a> {
    /// Waits until this build may make a result, or another builder has made it: then it is found under the key. At most for the time that the
    /// user gave; without one, not at all.
    pub(crate) fn turn(
        &'a self,
        key: &Key,
        step: &str,
        cancel: &CancelToken,
    ) -> Result<Option<Turn<'a>>, EngineError> {
        let useful = self.claims.as_ref().filter(|claims| !claims.is_useless.load(Ordering::Relaxed));
        let Some(claims) = useful else { return Ok(None) };
        let (place, begun) = (&*self.places[claims.place], Instant::now());
        let claimed = match self.claim(claims, place, key) {
            Claimed::Theirs => {
                let name = format!("waiting for {step}, which another builder makes");
                let wait = || self.wait(claims, place, key, begun, cancel);
                self.fetcher().progress.run(&name, wait)?
            }
            claimed => claimed,
        };
        // Somebody may have made it between our look and our claim.
        self.look_again(key);
        Ok((claimed == Claimed::Ours).then_some(Turn { cache: self, key: *key, is_made: false }))
    }

    /// Looks now and then, until there is no reason to wait any more.
    fn wait(
        &self,
        claims: &Claims,
        place: &dyn Source,
        key: &Key,
        begun: Instant,
        cancel: &CancelToken,
    ) -> Result<Claimed, EngineError> {
        let (sender, stopped) = crossbeam_channel::bounded(1);
        let _guard = cancel.on_cancel(move || {
            // Nobody waits any more when it is full.
            let _ = sender.try_send(());
        });
        loop {
            let left = claims.limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(Claimed::Unknown);
            }
            // It ends with a message when the build is cancelled.
            let _ = stopped.recv_timeout(left.min(LOOK));
            cancel.check()?;
            self.look_again(key);
            if self.find(key).is_some() {
                return Ok(Claimed::Unknown);
            }
            match self.claim(claims, place, key) {
                Claimed::Theirs => {}
                claimed => return Ok(claimed),
            }
        }
    }

    /// Claims a result. A place that fails knows no claims, and is not asked again.
    fn claim(&self, claims: &Claims, place: &dyn Source, key: &Key) -> Claimed {
        let now = self.fetcher().engine.clock.now();
        let claim = Claim { key: *key, holder: claims.holder.clone(), now, limit: claims.limit };
        let claimed = place.claim(&claim, self.fetcher().cancel).unwrap_or(Claimed::Unknown);
        match claimed {
            Claimed::Ours => drop(claims.held().insert(*key, claim)),
            Claimed::Unknown => claims.is_useless.store(true, Ordering::Relaxed),
            Claimed::Theirs => {}
        }
        claimed
    }

    /// Lets others make a result, if we have claimed it.
    pub(crate) fn release(&self, key: &Key) {
        let Some(claims) = &self.claims else { return };
        let claim = claims.held().remove(key);
        if let Some(claim) = claim {
            // If that fails, it is over some time later. It is released for a build that was cancelled, too.
            let _ = self.places[claims.place].release(&claim, &CancelToken::new());
        }
    }

    /// Releases whatever is still claimed.
    pub(crate) fn release_all(&self) {
        let held: Vec<Key> =
            self.claims.iter().flat_map(|claims| claims.held().keys().copied().collect::<Vec<_>>()).collect();
        held.iter().for_each(|key| self.release(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_over_after_its_time() {
        let claim = |holder: &str, second| Claim {
            key: Key::from_bytes([1; 32]),
            holder: holder.to_owned(),
            now: Timestamp::from_second(second).unwrap(),
            limit: Duration::from_secs(10),
        };
        let kept = claim("one", 100).to_bytes();
        assert!(claim("two", 109).is_of_another(&kept));
        assert!(!claim("two", 110).is_of_another(&kept), "it is over");
        assert!(!claim("one", 105).is_of_another(&kept), "it is ours");
        for nonsense in [&b""[..], b"one", b"one x", b"\xff 1"] {
            assert!(!claim("two", 0).is_of_another(nonsense));
        }
    }
}

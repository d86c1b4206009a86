//! A step that several builds of one process need at once is run by one of them.
//!
//! The first to come leads: it runs the step. The others wait for its end and then look the result up. The
//! step is cancelled when the last build that wants it is cancelled, not when the one is that leads. So a
//! build that has failed or was cancelled may go on with a step for the sake of others, and ends after it.
//!
//! A failure is told to the leader only. Those who waited try themselves, one after the other: what is no
//! part of a key, as the value of a secret or a time limit, may be another with them.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use base::cancel::{CancelGuard, Cancelled};
use base::{CancelToken, Key};

/// The steps under way in this process, by content key.
///
/// `P` is what the leader is told of those who wait: where they want to hear of the step, for example.
pub struct Flights<P> {
    under_way: Mutex<HashMap<Key, Arc<Flight<P>>>>,
}

impl<P> Default for Flights<P> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

/// A step under way.
struct Flight<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
    /// What its work is cancelled by.
    cancel: CancelToken,
}

struct State<P> {
    /// How many builds want it: they came, and were not cancelled since.
    wanted: usize,
    ended: bool,
    /// Those who wait, by the order in which they came.
    waiting: Vec<(usize, P)>,
    arrivals: usize,
}

impl<P: Clone> Flights<P> {
    /// Takes the lead of the step with this key, as soon as nobody else has it. `party` is what the leader gets
    /// to know of us while we wait; `waits` is called if we do, at most once for each leader.
    ///
    /// Whoever leads has to look whether there is a result by now.
    ///
    /// # Errors
    /// `cancel` was cancelled before the lead was ours.
    pub fn lead(
        &self,
        key: &Key,
        party: &P,
        cancel: &CancelToken,
        waits: impl Fn(),
    ) -> Result<Lead<'_, P>, Cancelled>
    where
        P: Send + 'static,
    {
        loop {
            cancel.check()?;
            let (flight, leads) = self.join(key);
            let wanting = cancel.on_cancel({
                let flight = Arc::clone(&flight);
                move || flight.leave()
            });
            if leads {
                return Ok(Lead { flights: self, key: *key, flight, _wanting: wanting });
            }
            waits();
            flight.wait(party, cancel);
        }
    }

    /// The flight of a step, and whether it has begun with us.
    fn join(&self, key: &Key) -> (Arc<Flight<P>>, bool) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = under_way.get(key) {
            flight.lock().wanted += 1;
            return (Arc::clone(flight), false);
        }
        let flight = Arc::new(Flight::begin());
        under_way.insert(*key, Arc::clone(&flight));
        (flight, true)
    }
}

impl<P> Flight<P> {
    /// One that is wanted by its leader.
    fn begin() -> Self {
        let state = State { wanted: 1, ended: false, waiting: Vec::new(), arrivals: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), cancel: CancelToken::new() }
    }

    /// Waits for the end, or for `cancel`.
    fn wait(&self, party: &P, cancel: &CancelToken)
    where
        P: Clone,
    {
        let mut state = self.lock();
        let arrival = state.arrivals;
        state.arrivals += 1;
        state.waiting.push((arrival, party.clone()));
        while !state.ended && !cancel.is_cancelled() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.retain(|(other, _)| *other != arrival);
    }

    /// One build less wants it. Without any, its work is cancelled.
    fn leave(&self) {
        let mut state = self.lock();
        state.wanted = state.wanted.saturating_sub(1);
        let is_wanted = state.wanted > 0;
        drop(state);
        self.changed.notify_all();
        if !is_wanted {
            self.cancel.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run a step, until it is dropped.
pub struct Lead<'a, P> {
    flights: &'a Flights<P>,
    key: Key,
    flight: Arc<Flight<P>>,
    _wanting: CancelGuard,
}

impl<P: Clone> Lead<'_, P> {
    /// Is cancelled when no build wants the step any more.
    pub fn cancel(&self) -> &CancelToken {
        &self.flight.cancel
    }

    /// Those who wait for the step now.
    pub fn waiting(&self) -> Vec<P> {
        self.flight.lock().waiting.iter().map(|(_, party)| party.clone()).collect()
    }
}

impl<P> Drop for Lead<'_, P> {
    fn drop(&mut self) {
        self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.flight.lock().ended = true;
        self.flight.changed.notify_all();
    }
}

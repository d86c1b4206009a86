//! Fail points: places where a test may end the process, or have the operation fail.
//!
//! Every function of this crate that changes files passes one first, and so does every write of the store to its
//! database. A test counts the points that a piece of work passes and repeats the work for each of them, with a
//! death or an I/O error there. So the steps of a new operation are covered without being listed anywhere.
//!
//! They are in debug builds only: elsewhere [`pass`] is an empty function. It never reads the environment: the test's
//! own process says what is to happen, with `arm`.

#[cfg(not(debug_assertions))]
use std::io;

/// Goes on, unless a test wants something to happen here. `name` is a verb phrase, as in errors.
///
/// # Errors
/// What the test wants.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass(_name: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use armed::{Action, arm, disarm, pass};

#[cfg(debug_assertions)]
mod armed {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    /// What happens at the chosen point, whose name it is given.
    pub type Action = fn(&'static str) -> io::Result<()>;

    struct Armed {
        /// How many points are to be passed before.
        left: u64,
        action: Action,
    }

    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

    /// Has `action` happen once, at the point after the next `skipped` ones, whatever thread passes it.
    pub fn arm(skipped: u64, action: Action) {
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Armed { left: skipped, action });
    }

    /// Has nothing happen. `false` when it has happened already.
    pub fn disarm() -> bool {
        ARMED.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Goes on, unless a test wants something to happen here. `name` is a verb phrase, as in errors.
    ///
    /// # Errors
    /// What the test wants.
    pub fn pass(name: &'static str) -> io::Result<()> {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        match armed.as_mut() {
            Some(Armed { left: 0, action }) => {
                let action = *action;
                *armed = None;
                // The action may take long, or pass other points.
                drop(armed);
                action(name)
            }
            Some(Armed { left, .. }) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

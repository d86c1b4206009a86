//! Cancellation for threads that block.
//!
//! A [`CancelToken`] is handed down with the work. Loops ask [`CancelToken::check`]; code that blocks
//! elsewhere (a child process, a socket) registers a callback that wakes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    next_id: AtomicU64,
    callbacks: Mutex<Vec<(u64, Callback)>>,
}

/// Tells work to stop. Clones share one state; once cancelled, always cancelled.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Shared>);

/// The work was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, and runs every registered callback once, on this thread.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        for (_, callback) in self.take_callbacks() {
            callback();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// An error once cancelled, for use with `?` in loops.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Runs `callback` when the token is cancelled, at once if it already is. Dropping the guard
    /// forgets the callback. The callback must not block.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> CancelGuard {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        self.lock().push((id, Box::new(callback)));
        // A cancel that came before the push has drained the list already, so drain it again.
        if self.is_cancelled() {
            for (_, callback) in self.take_callbacks() {
                callback();
            }
        }
        CancelGuard { token: self.clone(), id }
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    pub fn child(&self) -> (CancelToken, CancelGuard) {
        let child = CancelToken::new();
        let inner = child.clone();
        let guard = self.on_cancel(move || inner.cancel());
        (child, guard)
    }

    fn take_callbacks(&self) -> Vec<(u64, Callback)> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Callback)>> {
        self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a callback of [`CancelToken::on_cancel`] registered.
#[must_use = "dropping the guard forgets the callback"]
pub struct CancelGuard {
    token: CancelToken,
    id: u64,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.token.lock().retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn counter() -> (Arc<AtomicUsize>, impl FnOnce() + Send + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let inner = count.clone();
        (count, move || {
            inner.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[test]
    fn callback_runs_once_on_cancel() {
        let token = CancelToken::new();
        let (count, callback) = counter();
        let _guard = token.on_cancel(callback);
        token.cancel();
        token.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(token.check(), Err(Cancelled));
    }

    #[test]
    fn late_callback_runs_at_once_and_dropped_one_never() {
        let token = CancelToken::new();
        let (dropped, callback) = counter();
        drop(token.on_cancel(callback));
        token.cancel();
        let (late, callback) = counter();
        let _guard = token.on_cancel(callback);
        assert_eq!((dropped.load(Ordering::SeqCst), late.load(Ordering::SeqCst)), (0, 1));
    }

    #[test]
    fn child_follows_parent_and_not_the_reverse() {
        let parent = CancelToken::new();
        let (first, _guard_a) = parent.child();
        let (second, _guard_b) = parent.child();
        first.cancel();
        assert!(!parent.is_cancelled() && !second.is_cancelled());
        parent.cancel();
        assert!(second.is_cancelled());
    }
}

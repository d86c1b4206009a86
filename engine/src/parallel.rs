//! Doing something with many things, several at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use base::CancelToken;

use crate::error::EngineError;

/// Has `work` done with every item, by at most `count` threads. The first failure stops the others.
pub(crate) fn each_at_once<T: Sync>(
    items: &[T],
    count: usize,
    cancel: &CancelToken,
    work: impl Fn(&T, &CancelToken) -> Result<(), EngineError> + Sync,
) -> Result<(), EngineError> {
    let (stop, _guard) = cancel.child();
    let next = AtomicUsize::new(0);
    let worker = || -> Result<(), EngineError> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = work(item, &stop);
            if done.is_err() {
                stop.cancel();
            }
            done?;
        }
        Ok(())
    };
    let results: Vec<Result<(), EngineError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..items.len().min(count)).map(|_| scope.spawn(worker)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    first_cause(results, cancel)
}

/// The error that made the others stop, rather than a "cancelled" that followed from it.
fn first_cause(results: Vec<Result<(), EngineError>>, cancel: &CancelToken) -> Result<(), EngineError> {
    let mut cancelled = Ok(());
    for result in results {
        match result {
            Err(EngineError::Cancelled) if !cancel.is_cancelled() => cancelled = Err(EngineError::Cancelled),
            other => other?,
        }
    }
    cancelled
}

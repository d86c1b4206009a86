//! What clients may rely on for a while without an image: blobs that they have sent, and such that they were told are there.
//!
//! Two leases protect it, a young one and an old one. After a period the old one ends, the young one becomes the old one,
//! and what is asked for again moves to a new young one. So everything is kept for one to two periods after it was last
//! asked for, whatever there is of it, and nothing has to be remembered on disk: when the server ends, so do its leases.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::Digest;
use snapshotter::{BlobInfo, Lease, Store, StoreError};

/// For how long at least something is kept. The layers of a large image may take hours to push, but each is asked for
/// again before the manifest is.
const PERIOD: Duration = Duration::from_secs(3600);

/// Keeps blobs for a while.
pub(super) struct Grace {
    store: Store,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    young: Option<Generation>,
    old: Option<Generation>,
}

struct Generation {
    begun: Instant,
    lease: Lease,
    kept: HashSet<Digest>,
}

impl Grace {
    pub(super) fn new(store: Store) -> Self {
        Self { store, period: PERIOD, state: Mutex::default() }
    }

    /// A lease that protects what is used under it for a while.
    pub(super) fn lease(&self) -> Result<Lease, StoreError> {
        let mut state = self.lock();
        if let Some(young) = state.young.as_ref().filter(|young| young.begun.elapsed() < self.period) {
            return Ok(young.lease.clone());
        }
        let lease = self.store.lease("registry serve")?;
        let young = Generation { begun: Instant::now(), lease: lease.clone(), kept: HashSet::new() };
        let aged = state.young.replace(young);
        // If nobody came for long, the aged one is too old as well.
        let ended =
            std::mem::replace(&mut state.old, aged.filter(|aged| aged.begun.elapsed() < 2 * self.period));
        drop(state);
        // Its end is a write to the store, for which nobody else has to wait.
        drop(ended);
        Ok(lease)
    }

    /// Keeps a blob for a while. `None` when it is not there.
    pub(super) fn keep(&self, digest: &Digest) -> Result<Option<BlobInfo>, StoreError> {
        let lease = self.lease()?;
        let held = match self.store.blob(&lease, digest)? {
            Some(blob) => Some(blob),
            None => self.store.planned_blob(Some(&lease), digest)?,
        };
        if held.is_some()
            && let Some(young) = self.lock().young.as_mut()
        {
            young.kept.insert(*digest);
        }
        Ok(held)
    }

    /// Whether a blob is kept.
    pub(super) fn keeps(&self, digest: &Digest) -> bool {
        let state = self.lock();
        [&state.young, &state.old].into_iter().flatten().any(|generation| generation.kept.contains(digest))
    }

    /// Keeps a blob no longer. `false` when it was not kept.
    pub(super) fn forget(&self, digest: &Digest) -> bool {
        let mut state = self.lock();
        let State { young, old } = &mut *state;
        let mut was_kept = false;
        for generation in [young, old].into_iter().flatten() {
            was_kept |= generation.kept.remove(digest);
        }
        was_kept
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapshotter::{Options, Policy};

    fn grace(period: Duration) -> (Grace, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
        (Grace { period, ..Grace::new(store) }, dir)
    }

    fn put(grace: &Grace) -> Digest {
        let digest = grace.store.put_blob(&grace.lease().unwrap(), b"content").unwrap().digest;
        assert!(grace.keep(&digest).unwrap().is_some());
        digest
    }

    #[test]
    fn what_is_kept_is_not_collected_until_it_is_old() {
        let (grace, _dir) = grace(PERIOD);
        let digest = put(&grace);
        grace.store.gc(Policy::KEEP_CACHE).unwrap();
        assert!(grace.keeps(&digest) && grace.store.open_blob(&digest).is_ok());
        assert!(grace.forget(&digest));
        assert!(!grace.forget(&digest) && !grace.keeps(&digest));
    }

    #[test]
    fn two_periods_later_it_is_garbage() {
        let (grace, _dir) = grace(Duration::ZERO);
        let digest = put(&grace);
        grace.lease().unwrap();
        grace.lease().unwrap();
        assert!(!grace.keeps(&digest));
        grace.store.gc(Policy::KEEP_CACHE).unwrap();
        assert!(grace.store.open_blob(&digest).is_err());
        assert_eq!(grace.keep(&digest).unwrap(), None);
    }
}

//! Claims: one of several processes computes a thing and the others wait for it.
//!
//! A claim only saves work. Nothing is wrong without one, since results are immutable and the first to
//! be recorded wins. After getting a claim, look again whether the result is there by now.

use base::{CancelToken, Key};
use sys::lock::{FileLock, LockMode};

use crate::error::StoreError;
use crate::store::Store;
use crate::wait;

/// The right to compute what a key names, until dropped. It ends with its process in any case.
#[derive(Debug)]
pub struct Claim {
    /// `None` only while being dropped.
    lock: Option<FileLock>,
    waited: bool,
}

impl Claim {
    /// Whether somebody else had the claim first, so that the result may be there by now.
    pub fn waited(&self) -> bool {
        self.waited
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            // A file that stays is unlocked when this process ends and removed by the next collection.
            let _ = lock.remove();
        }
    }
}

impl Store {
    /// Waits until nobody else has a claim on `key`, and takes it.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`], and failures of the lock file.
    pub fn claim(&self, key: &Key, cancel: &CancelToken) -> Result<Claim, StoreError> {
        let (mut claim, waited) = wait::until(cancel, || self.try_claim(key))?;
        claim.waited = waited;
        Ok(claim)
    }

    /// What `known` finds; else what `make` makes, with the claim on `key` held meanwhile. Whoever had to wait
    /// for the claim looks again first: the other one has probably made it.
    pub(crate) fn once<T>(
        &self,
        key: &Key,
        cancel: &CancelToken,
        known: impl Fn() -> Result<Option<T>, StoreError>,
        make: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(known) = known()? {
            return Ok(known);
        }
        let claim = self.claim(key, cancel)?;
        if claim.waited()
            && let Some(known) = known()?
        {
            return Ok(known);
        }
        make()
    }

    /// Takes the claim on `key` if nobody has it.
    pub fn try_claim(&self, key: &Key) -> Result<Option<Claim>, StoreError> {
        let lock = FileLock::try_acquire(&self.layout().claim(key), LockMode::Exclusive)?;
        Ok(lock.map(|lock| Claim { lock: Some(lock), waited: false }))
    }
}

#[cfg(test)]
mod tests;

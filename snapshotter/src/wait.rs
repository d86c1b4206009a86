//! Waiting for what another process has, in a way that a cancel ends.

use std::sync::mpsc;
use std::time::Duration;

use base::CancelToken;

use crate::error::StoreError;

/// The first and the longest wait between two tries. A lock on a file has no event that could be waited
/// for together with a cancel, and a try takes a few microseconds.
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// Tries until `attempt` answers something. Says, too, whether that took more than one try.
pub(crate) fn until<T>(
    cancel: &CancelToken,
    mut attempt: impl FnMut() -> Result<Option<T>, StoreError>,
) -> Result<(T, bool), StoreError> {
    let (wake, woken) = mpsc::sync_channel(1);
    let _guard = cancel.on_cancel(move || {
        let _ = wake.try_send(());
    });
    let (mut wait, mut waited) = (WAITS.0, false);
    loop {
        cancel.check()?;
        if let Some(value) = attempt()? {
            return Ok((value, waited));
        }
        waited = true;
        let _ = woken.recv_timeout(wait);
        wait = (wait * 2).min(WAITS.1);
    }
}

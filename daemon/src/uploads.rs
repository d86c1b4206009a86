//! Archives that clients of Docker's API send by a call of their own, for a build that another call asks for (`upload-request`).

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, oneshot};
use tonic::Status;

/// How long a build waits for its archive to begin. The two calls are made at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// An archive on its way, and whom to tell when it has been read.
struct Offer {
    body: Body,
    read: oneshot::Sender<Result<(), String>>,
}

/// What clients offer, by the names of their builds.
#[derive(Default)]
pub(crate) struct Uploads {
    offers: Mutex<HashMap<String, Offer>>,
    changed: Notify,
}

/// Takes an offer back whose client has gone.
struct Withdraw<'a>(&'a Uploads, &'a str);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.offers.lock().unwrap_or_else(PoisonError::into_inner).remove(self.1);
    }
}

impl Uploads {
    /// Offers an archive, and waits until a build has read it.
    ///
    /// # Errors
    /// There is one of this name already, or the build did not take it.
    pub(crate) async fn offer(&self, id: &str, body: Body) -> Result<(), String> {
        let (read, told) = oneshot::channel();
        {
            let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
            if offers.contains_key(id) {
                return Err(format!("there is an upload for the build {id} already"));
            }
            offers.insert(id.to_owned(), Offer { body, read });
        }
        let _withdrawn = Withdraw(self, id);
        self.changed.notify_waiters();
        told.await.unwrap_or_else(|_| Err(format!("the build {id} did not take its upload")))
    }

    async fn take(&self, id: &str) -> Offer {
        loop {
            let changed = self.changed.notified();
            if let Some(offer) = self.offers.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
                return offer;
            }
            changed.await;
        }
    }

    /// Writes what a client sends for a build to a file; answers how many bytes that are. `progress` is told how many came so far.
    ///
    /// # Errors
    /// Nothing comes, or it ends too early, or the file cannot be written.
    pub(crate) async fn receive(
        &self,
        id: &str,
        file: &mut std::fs::File,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, Status> {
        let offer = tokio::time::timeout(PATIENCE, self.take(id)).await;
        let Offer { body, read } =
            offer.map_err(|_| Status::deadline_exceeded(format!("no upload came for the build {id}")))?;
        let mut pieces = body.into_data_stream();
        let mut bytes = 0;
        let mut result = Ok(());
        while let Some(piece) = pieces.next().await {
            result = match piece {
                Ok(piece) => {
                    bytes += piece.len() as u64;
                    progress(bytes);
                    file.write_all(&piece).map_err(|error| crate::failed(&error))
                }
                Err(error) => Err(Status::aborted(format!("the upload was cut off: {error}"))),
            };
            if result.is_err() {
                break;
            }
        }
        let told = match &result {
            Ok(()) => Ok(()),
            Err(status) => Err(status.message().to_owned()),
        };
        // Who has gone meanwhile does not want to know.
        let _ = read.send(told);
        result.map(|()| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn the_two_calls_meet_in_either_order() {
        for build_first in [false, true] {
            let (uploads, mut file) = (Uploads::default(), tempfile::tempfile().unwrap());
            let offered = uploads.offer("a", Body::from("hello"));
            let received = uploads.receive("a", &mut file, |_| {});
            let (offered, received) = run(async {
                if build_first {
                    let (received, offered) = tokio::join!(received, offered);
                    (offered, received)
                } else {
                    tokio::join!(offered, received)
                }
            });
            assert_eq!((offered, received.unwrap()), (Ok(()), 5));
        }
    }

    #[test]
    fn an_offer_goes_with_its_client() {
        let uploads = Uploads::default();
        run(async {
            let gone = tokio::time::timeout(Duration::ZERO, uploads.offer("a", Body::from("x"))).await;
            assert!(gone.is_err());
            let body = Body::from("y");
            let again = tokio::time::timeout(Duration::ZERO, uploads.offer("a", body)).await;
            assert!(again.is_err(), "the first one is still there: {again:?}");
        });
        assert!(uploads.offers.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_cut_off_is_told_to_both() {
        let (uploads, mut file) = (Uploads::default(), tempfile::tempfile().unwrap());
        let pieces = [Ok("some"), Err(std::io::Error::other("gone"))];
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let (offered, received) =
            run(async { tokio::join!(uploads.offer("a", body), uploads.receive("a", &mut file, |_| {})) });
        assert!(offered.unwrap_err().contains("cut off"));
        assert!(received.unwrap_err().message().contains("gone"));
    }
}

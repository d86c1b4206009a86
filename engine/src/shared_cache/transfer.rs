//! Many requests to a server at once, and blobs on their way into the store.

use std::future::Future;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use base::image::Descriptor;
use snapshotter::BlobWriter;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::EngineError;

/// Asks for each item, for `count` of them at once; the answers are in the order of the items.
pub(super) async fn each<T, A: Send + 'static, F>(
    items: Vec<T>,
    count: usize,
    ask: impl Fn(T) -> F,
) -> Result<Vec<A>, EngineError>
where
    F: Future<Output = Result<A, EngineError>> + Send + 'static,
{
    let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
    let permits = Arc::new(Semaphore::new(count));
    let mut requests = JoinSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let (request, permits) = (ask(item), Arc::clone(&permits));
        requests.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await.ok();
            Ok::<_, EngineError>((index, request.await?))
        });
    }
    while let Some(answer) = requests.join_next().await {
        // None of them is aborted, so one that did not end has panicked.
        let (index, answer) = answer.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        answers[index] = Some(answer);
    }
    // Each has ended, and none with an error.
    Ok(answers.into_iter().flatten().collect())
}

/// A blob on its way into the store, of which no more is taken than one byte too many: that is enough to see that it is
/// wrong.
pub(super) struct Incoming<'a> {
    to: &'a mut BlobWriter,
    left: u64,
}

impl<'a> Incoming<'a> {
    /// The blob `blob`, which is written to `to`.
    pub(super) fn new(blob: &Descriptor, to: &'a mut BlobWriter) -> Self {
        Self { to, left: blob.size.saturating_add(1) }
    }

    /// Takes the next piece; `false` when no more is wanted.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<bool, EngineError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
        self.left -= self.to.copy_from(&mut &piece[..most])?;
        Ok(self.left > 0)
    }
}

/// Copies a blob that is a file to `to`; `false` if there is none.
pub(super) fn copy_file(file: &Path, blob: &Descriptor, to: &mut BlobWriter) -> Result<bool, EngineError> {
    match sys::fs::open(file) {
        Ok(file) => {
            to.copy_from(&mut file.take(blob.size.saturating_add(1)))?;
            Ok(true)
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

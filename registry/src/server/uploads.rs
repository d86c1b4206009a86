//! Blobs that are being uploaded: who they are, and how their bytes get into the store.
//!
//! An upload lives in this process. When it is cancelled, fails, is not continued for a while or the process ends, what
//! came is gone, and its client begins anew. When a connection breaks, what was written stays and can be continued.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use base::Digest;
use hyper::body::Body as _;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::dispatch::blocking;
use super::refusal::Refusal;
use super::store::{ServeError, Upload};
use crate::http_error::ErrorCode;

/// How many uploads there may be at once. Each holds a file.
const UPLOADS: usize = 512;
/// How much is gathered before it is written, in bytes. There may be two of them for each upload.
const BATCH: usize = 256 << 10;
/// How long to wait for a request that works on the same upload. A client whose connection broke may be back before that was
/// noticed here.
const TURN: Duration = Duration::from_secs(10);

/// All uploads.
pub(super) struct Uploads {
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    patience: Duration,
}

impl Uploads {
    pub(super) fn new(patience: Duration) -> Self {
        Self { sessions: Mutex::new(HashMap::new()), patience }
    }

    /// Makes `upload` one that can be continued by its id.
    pub(super) fn add(&self, repository: &str, upload: Box<dyn Upload>) -> Result<Arc<Session>, Refusal> {
        self.sweep();
        let id = sys::random::hex(16).map_err(|error| {
            Refusal::failure(StatusCode::INTERNAL_SERVER_ERROR, "there is no number for an upload", &error)
        })?;
        let session = Arc::new(Session::new(id.clone(), repository, upload));
        let mut sessions = self.lock();
        if sessions.len() >= UPLOADS {
            let message = format!("there are {UPLOADS} uploads already; try again later");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message));
        }
        sessions.insert(id, session.clone());
        Ok(session)
    }

    /// The upload `id` of a repository.
    pub(super) fn find(&self, repository: &str, id: &str) -> Result<Arc<Session>, Refusal> {
        let found = self.lock().get(id).filter(|session| session.repository == repository).cloned();
        let message = "there is no such upload; it may have ended, failed or been given up: begin a new one";
        let session = found.ok_or_else(|| Refusal::absent(ErrorCode::BlobUploadUnknown, message))?;
        session.touch();
        Ok(session)
    }

    /// Forgets an upload. What came goes with the last request that works on it.
    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Forgets uploads that nobody continues.
    pub(super) fn sweep(&self) {
        self.lock().retain(|_, session| Arc::strong_count(session) > 1 || session.idle() < self.patience);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One upload.
pub(super) struct Session {
    pub(super) id: String,
    repository: String,
    /// How many bytes are written.
    received: AtomicU64,
    used: Mutex<Instant>,
    content: Content,
}

/// What is written to; `None` once it has become a blob.
type Content = Arc<tokio::sync::Mutex<Option<Box<dyn Upload>>>>;

impl Session {
    fn new(id: String, repository: &str, upload: Box<dyn Upload>) -> Self {
        let content = Arc::new(tokio::sync::Mutex::new(Some(upload)));
        let used = Mutex::new(Instant::now());
        Self { id, repository: repository.to_owned(), received: AtomicU64::new(0), used, content }
    }

    /// How many bytes are written.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Waits until no other request works on this upload.
    pub(super) async fn turn(self: &Arc<Self>) -> Result<Turn, Refusal> {
        let busy = |_| {
            let message = "another request is sending to this upload";
            Refusal::new(StatusCode::CONFLICT, ErrorCode::BlobUploadInvalid, message)
        };
        let content = timeout(TURN, self.content.clone().lock_owned()).await.map_err(busy)?;
        Ok(Turn { session: self.clone(), content })
    }
}

/// The right to write to an upload.
pub(super) struct Turn {
    session: Arc<Session>,
    content: OwnedMutexGuard<Option<Box<dyn Upload>>>,
}

impl Turn {
    /// Writes what comes in `body`, of which at most `limit` bytes are accepted. While one batch is written, the next
    /// one is gathered.
    pub(super) async fn receive(
        self,
        mut body: Body,
        limit: Option<u64>,
        patience: Duration,
    ) -> Result<Self, Refusal> {
        let mut left = limit.unwrap_or(u64::MAX);
        let mut writer = Writer::Idle(self);
        let mut batch = Batch::default();
        let ended = loop {
            match next_piece(&mut body, patience).await {
                Ok(Some(piece)) if piece.len() as u64 > left => {
                    break Err(Refusal::bad(
                        ErrorCode::SizeInvalid,
                        "the body is longer than it was said to be",
                    ));
                }
                Ok(Some(piece)) => {
                    left -= piece.len() as u64;
                    batch.add(piece);
                }
                Ok(None) => break Ok(()),
                Err(refusal) => break Err(refusal),
            }
            if batch.size >= BATCH {
                writer = writer.write(std::mem::take(&mut batch)).await?;
            }
        };
        // What came before a break is kept.
        let turn = writer.write(batch).await?.idle().await?;
        ended?;
        match limit {
            Some(_) if left > 0 => {
                Err(Refusal::bad(ErrorCode::SizeInvalid, "the body is shorter than it was said to be"))
            }
            _ => Ok(turn),
        }
    }

    /// Makes what was written the blob `expected`.
    pub(super) async fn finish(mut self, expected: Digest) -> Result<(), Refusal> {
        let upload = self.content.take();
        let gone = || Refusal::absent(ErrorCode::BlobUploadUnknown, "the upload has ended");
        let upload = upload.ok_or_else(gone)?;
        blocking(move || upload.finish(&expected)).await
    }

    fn write(mut self, batch: Batch) -> Result<Self, ServeError> {
        let Some(upload) = self.content.as_mut() else { return Ok(self) };
        for piece in batch.pieces {
            if let Err(error) = upload.write(&piece) {
                // Nobody knows how much of the piece was written.
                *self.content = None;
                return Err(error);
            }
            self.session.received.fetch_add(piece.len() as u64, Ordering::Release);
        }
        self.session.touch();
        Ok(self)
    }
}

/// Pieces that are written together.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    size: usize,
}

impl Batch {
    fn add(&mut self, piece: Bytes) {
        self.size += piece.len();
        self.pieces.push(piece);
    }
}

/// Who has the upload now.
enum Writer {
    Idle(Turn),
    Writing(JoinHandle<Result<Turn, Refusal>>),
}

impl Writer {
    /// Begins to write, when what was begun before has ended.
    async fn write(self, batch: Batch) -> Result<Self, Refusal> {
        let turn = self.idle().await?;
        if batch.size == 0 {
            return Ok(Self::Idle(turn));
        }
        Ok(Self::Writing(tokio::spawn(blocking(move || turn.write(batch)))))
    }

    /// Waits until what was begun has ended.
    async fn idle(self) -> Result<Turn, Refusal> {
        match self {
            Self::Idle(turn) => Ok(turn),
            Self::Writing(work) => work.await.unwrap_or_else(|error| {
                let message = "the store did not answer";
                Err(Refusal::failure(StatusCode::INTERNAL_SERVER_ERROR, message, &error))
            }),
        }
    }
}

/// The next bytes of a body; `None` at its end.
pub(super) async fn next_piece(body: &mut Body, patience: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        let late = |_| {
            let message = format!("no bytes came for {} seconds", patience.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::BlobUploadInvalid, message)
        };
        match timeout(patience, frame).await.map_err(late)? {
            None => return Ok(None),
            Some(Err(_)) => {
                return Err(Refusal::bad(ErrorCode::SizeInvalid, "the body broke off before its end"));
            }
            // Trailers say nothing that matters here.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                _ => {}
            },
        }
    }
}

//! Work that tells how it goes: lines of JSON, while it is under way, and an error among them if it fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use base::CancelToken;
use base::event::{Event, EventSink};
use engine::Engine;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::piped::CancelOnDrop;
use super::{Api, ApiError};

/// How many lines wait for a slow client. What only shows progress is left out when there are more.
const WAITING: usize = 256;

/// Half a line that shows progress has so many characters.
const BAR: u64 = 50;

/// Where work tells how it goes.
#[derive(Clone)]
pub(super) struct Lines {
    sender: Sender<Told>,
    words: Words,
    /// Layers that were told of, so that each begins once.
    begun: Arc<Mutex<Vec<String>>>,
    /// What is told before anything else. What fails at once is an error of the call, so that it waits for the first news.
    title: Arc<Mutex<Option<Value>>>,
    told: Arc<AtomicBool>,
}

/// What is done with layers, as clients show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    /// Before anything has come of a layer; nothing where that is not told.
    pub(super) begin: Option<&'static str>,
    /// While it is under way.
    pub(super) going: &'static str,
    /// When it is there.
    pub(super) done: &'static str,
}

impl Words {
    /// Of images that come.
    pub(super) const PULL: Self =
        Self { begin: Some("Pulling fs layer"), going: "Downloading", done: "Pull complete" };
    /// Of images that go.
    pub(super) const PUSH: Self = Self { begin: Some("Preparing"), going: "Pushing", done: "Pushed" };
}

enum Told {
    Line(Bytes),
    Failed(ApiError),
}

/// Does work and answers with its lines. What fails before the first of them is the call's error.
///
/// # Errors
/// The work fails at once.
pub(super) async fn told(
    api: &Arc<Api>,
    words: Words,
    work: impl FnOnce(&Engine, &Lines, &CancelToken) -> Result<(), ApiError> + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    let (sender, mut receiver) = channel(WAITING);
    let lines = Lines {
        sender: sender.clone(),
        words,
        begun: Arc::default(),
        title: Arc::default(),
        told: Arc::default(),
    };
    let cancel = CancelToken::new();
    // From here on: when nobody reads what is told any more, the work is stopped.
    let guard = CancelOnDrop(cancel.clone());
    let engine = Arc::clone(&api.engine);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = work(&engine, &lines, &cancel) {
            // Who has gone does not ask why.
            let _ = sender.blocking_send(Told::Failed(error));
        }
    });
    let first = match receiver.recv().await {
        Some(Told::Failed(error)) => return Err(error),
        Some(Told::Line(line)) => line,
        None => Bytes::new(),
    };
    let rest = ReceiverStream::new(receiver).map(move |told| {
        let _held = &guard;
        match told {
            Told::Line(line) => Ok::<_, std::io::Error>(line),
            Told::Failed(error) => Ok(failed(&error.message)),
        }
    });
    let mut response = Response::new(Body::from_stream(tokio_stream::once(Ok(first)).chain(rest)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The line that says that all was in vain.
fn failed(message: &str) -> Bytes {
    line(&json!({ "errorDetail": { "message": message }, "error": message }))
}

fn line(value: &Value) -> Bytes {
    format!("{value}\r\n").into()
}

impl Lines {
    /// The same with something that is told as soon as there is anything else to tell.
    pub(super) fn after(&self, title: Value) -> Self {
        Self { title: Arc::new(Mutex::new(Some(title))), begun: Arc::default(), ..self.clone() }
    }

    fn begin(&self) {
        if let Some(title) = self.title.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.send(&title);
        }
    }

    /// Whether anything was told, so that what fails now has to be told as well.
    pub(super) fn have_begun(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    fn send(&self, value: &Value) {
        self.told.store(true, Ordering::Relaxed);
        // Who has gone misses nothing.
        let _ = self.sender.blocking_send(Told::Line(line(value)));
    }

    /// Tells something, and waits until the client can take it.
    pub(super) fn tell(&self, value: &Value) {
        self.begin();
        self.send(value);
    }

    /// Tells where things are, unless the client is slow.
    fn show(&self, value: &Value) {
        self.begin();
        self.told.store(true, Ordering::Relaxed);
        let _ = self.sender.try_send(Told::Line(line(value)));
    }

    /// Tells of a layer.
    fn layer(&self, id: &str, current: u64, total: u64, completed: bool) {
        let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
        if let Some(begin) = self.words.begin {
            let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            if !begun.contains(&short) {
                begun.push(short.clone());
                self.show(&json!({ "status": begin, "progressDetail": {}, "id": short }));
            }
        }
        if completed {
            self.tell(&json!({ "status": self.words.done, "progressDetail": {}, "id": short }));
            return;
        }
        self.show(&json!({
            "status": self.words.going,
            "progressDetail": { "current": current, "total": total },
            "progress": bar(current, total),
            "id": short,
        }));
    }
}

impl EventSink for Lines {
    fn emit(&self, event: Event) {
        if let Event::Status { id, current, total, completed, .. } = event
            && id.starts_with("sha256:")
        {
            self.layer(&id, current, total, completed);
        }
    }
}

/// A bar, for clients that do not draw one themselves.
fn bar(current: u64, total: u64) -> String {
    let units = |count: u64| crate::units::bytes(count);
    if total == 0 {
        return units(current);
    }
    let filled = usize::try_from(current.min(total) * BAR / total).unwrap_or(0);
    let empty = usize::try_from(BAR).unwrap_or(0) - filled;
    format!("[{}>{}]  {}/{}", "=".repeat(filled), " ".repeat(empty), units(current), units(total))
}

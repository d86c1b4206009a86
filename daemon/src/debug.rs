//! `--debugaddr`: a page of numbers for those who watch the daemon, as `expvar` of Go's programs has it, the same for Prometheus, and
//! whether it lives. There are no profiles.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::Timestamp;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;

use crate::builds::Builds;

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is.
const PAGES: &str = "/debug/vars /metrics /healthz\n";

/// How builds have ended since the daemon began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    completed: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// A build has ended.
    pub(crate) fn add(&self, is_completed: bool) {
        let count = if is_completed { &self.completed } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves whoever comes, for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, builds: Arc<Builds>) {
    let began = engine::now();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There are too many open files; others end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let builds = Arc::clone(&builds);
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let page = page(&builds, began, request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(page) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            // Who goes before it has its answer does not want it.
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn page(builds: &Builds, began: Timestamp, method: &Method, path: &str) -> Response<String> {
    let (status, kind, text) = match path {
        _ if *method != Method::GET && *method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "these pages are only read\n".to_owned())
        }
        "/debug/vars" => (StatusCode::OK, "application/json", Numbers::of(builds).json(began)),
        "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", Numbers::of(builds).metrics(began)),
        "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", format!("there are {PAGES}")),
    };
    let mut page = Response::new(text);
    *page.status_mut() = status;
    page.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    page
}

/// What is told.
struct Numbers {
    running: usize,
    completed: u64,
    failed: u64,
    sessions: usize,
    /// Bytes of memory, and of that what is not of files.
    resident: u64,
    anonymous: u64,
    threads: u64,
}

impl Numbers {
    fn of(builds: &Builds) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            running: builds.running().len(),
            completed: builds.counts.completed.load(Ordering::Relaxed),
            failed: builds.counts.failed.load(Ordering::Relaxed),
            sessions: builds.sessions.count(),
            resident: field("VmRSS:").unwrap_or(0) << 10,
            anonymous: field("RssAnon:").unwrap_or(0) << 10,
            threads: field("Threads:").unwrap_or(0),
        }
    }

    fn json(&self, began: Timestamp) -> String {
        let vars = json!({
            "cmdline": std::env::args().collect::<Vec<_>>(),
            "version": env!("CARGO_PKG_VERSION"),
            "started": began.to_string(),
            "builds": { "running": self.running, "completed": self.completed, "failed": self.failed },
            "sessions": self.sessions,
            "memory": { "resident": self.resident, "anonymous": self.anonymous },
            "threads": self.threads,
        });
        format!("{vars:#}\n")
    }

    fn metrics(&self, began: Timestamp) -> String {
        let Self { running, completed, failed, sessions, resident, threads, .. } = self;
        let began = began.as_second();
        let mut text = String::new();
        for (name, kind, help, values) in [
            ("lapstrake_builds_running", "gauge", "Builds that run.", format!(" {running}")),
            (
                "lapstrake_builds_total",
                "counter",
                "Builds that have ended.",
                format!(
                    "{{status=\"completed\"}} {completed}\nlapstrake_builds_total{{status=\"error\"}} {failed}"
                ),
            ),
            ("lapstrake_sessions", "gauge", "Clients with a session.", format!(" {sessions}")),
            ("process_resident_memory_bytes", "gauge", "Memory in use.", format!(" {resident}")),
            ("process_threads", "gauge", "Threads.", format!(" {threads}")),
            ("process_start_time_seconds", "gauge", "When it began.", format!(" {began}")),
        ] {
            // Writing to memory does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{values}");
        }
        text
    }
}

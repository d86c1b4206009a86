//! Downloading a file of the web: conditional, streamed, and taken up again where the connection broke.
//!
//! A download that breaks is only resumed when the server can tell that the file is still the same
//! (`If-Range`); otherwise the parts of two files could be put together. Which redirects are followed, how
//! long is waited and how often is tried is as for registries; see the transport.
//!
//! Source: RFC 9110, sections 8.8 (validators), 13 (conditional requests) and 14 (ranges).

pub(crate) mod error;
pub(crate) mod name;

use base::Timestamp;
use bytes::{Buf as _, Bytes};
use reqwest::header::{self, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use self::error::{DownloadError, DownloadProblem};
use crate::blob::Progress;
use crate::client::Client;
use crate::error::ErrorKind;
use crate::http_error;
use crate::retry::{self, Attempts};
use crate::transport::{Answer, Request};

/// How often a download is taken up again in all.
const MAX_RESUMES: u32 = 50;

/// The most bytes of a server's explanation that are read.
const MAX_EXPLANATION: u64 = 4 << 10;

/// What to download.
#[derive(Clone, Default)]
pub struct DownloadRequest {
    /// An `http` or `https` URL.
    pub url: String,
    /// The value of the `Authorization` header. It never reaches another origin.
    pub authorization: Option<String>,
    /// What is known of the file from before: when it is still the same, it is not sent.
    pub known: Option<Validators>,
}

/// What a server says to recognise a version of a file by, as it says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validators {
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Last-Modified` header.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Whether there is nothing to recognise a version by.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// The time of the last change.
    pub fn modified(&self) -> Option<Timestamp> {
        let text = self.last_modified.as_deref()?;
        jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
    }

    fn of(answer: &Answer) -> Self {
        Self { etag: answer.header("etag"), last_modified: answer.header("last-modified") }
    }

    /// What makes a range request safe: only a validator that promises the same bytes.
    fn for_range(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/")).or(self.last_modified.as_deref())
    }
}

/// What a server answers.
pub enum Download {
    /// The file is the one that is known.
    Unchanged,
    /// The file.
    File(Box<DownloadStream>),
}

/// A file on its way.
pub struct DownloadStream {
    client: Client,
    request: DownloadRequest,
    url: Url,
    answer: Option<Answer>,
    validators: Validators,
    file_name: Option<String>,
    size: Option<u64>,
    /// Bytes at the start of the answer that we have already.
    skip: u64,
    received: u64,
    attempts: Attempts,
    resumes: u32,
    progress: Option<Progress>,
}

impl Client {
    /// Asks for a file. `progress` is told the bytes received so far.
    pub async fn download(
        &self,
        request: DownloadRequest,
        progress: Option<Progress>,
    ) -> Result<Download, DownloadError> {
        let url = request.url.clone();
        self.start_download(request, progress).await.map_err(|problem| DownloadError::new(&url, problem))
    }

    async fn start_download(
        &self,
        request: DownloadRequest,
        progress: Option<Progress>,
    ) -> Result<Download, DownloadProblem> {
        let url = Url::parse(&request.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.filter(Url::has_host).ok_or(DownloadProblem::Address)?;
        let known = request.known.clone().unwrap_or_default();
        let conditions = [
            (header::IF_NONE_MATCH, known.etag.as_deref()),
            // A server that has entity tags goes by those alone.
            (header::IF_MODIFIED_SINCE, known.last_modified.as_deref().filter(|_| known.etag.is_none())),
        ];
        let answer = self.get(&url, &request, &conditions).await?;
        if answer.status() == StatusCode::NOT_MODIFIED && !known.is_empty() {
            return Ok(Download::Unchanged);
        }
        if !answer.status().is_success() || answer.status() == StatusCode::PARTIAL_CONTENT {
            return Err(self.refusal(answer, request.authorization.is_some()).await);
        }
        let disposition = answer.header("content-disposition");
        Ok(Download::File(Box::new(DownloadStream {
            client: self.clone(),
            validators: Validators::of(&answer),
            file_name: disposition.and_then(|text| name::of_disposition(&text)),
            size: answer.content_length(),
            request,
            url,
            answer: Some(answer),
            skip: 0,
            received: 0,
            attempts: Attempts::new(&self.transport().retry),
            resumes: 0,
            progress,
        })))
    }

    async fn get(
        &self,
        url: &Url,
        request: &DownloadRequest,
        headers: &[(HeaderName, Option<&str>)],
    ) -> Result<Answer, DownloadProblem> {
        let mut get = Request::new(Method::GET, url.clone());
        for (name, value) in headers {
            // What a server once sent as a header is one; anything else is left out.
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                get = get.header(name.clone(), value);
            }
        }
        let secret = |text: &String| {
            let mut value = HeaderValue::from_str(text).map_err(|_| DownloadProblem::Authorization)?;
            value.set_sensitive(true);
            Ok::<_, DownloadProblem>(value)
        };
        let authorization = request.authorization.as_ref().map(secret).transpose()?;
        Ok(self.transport().exchange(&get, authorization.as_ref()).await?)
    }

    async fn refusal(&self, mut answer: Answer, with_credentials: bool) -> DownloadProblem {
        let (status, attempts) = (answer.status().as_u16(), answer.attempts);
        let mut explanation = String::new();
        if answer.content_type().is_some_and(|kind| kind == "text/plain") {
            let body = self.transport().body(&mut answer, MAX_EXPLANATION).await.unwrap_or_default();
            explanation = http_error::printable(&String::from_utf8_lossy(&body), 200);
        }
        DownloadProblem::Status { status, attempts, with_credentials, explanation }
    }
}

impl DownloadStream {
    /// What to recognise this version by next time.
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The name that the server gives the file; a plain name, never a path.
    pub fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// The announced length in bytes.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes; `None` when all have come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        self.advance().await.map_err(|problem| DownloadError::new(&self.request.url, problem))
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, DownloadProblem> {
        loop {
            let mut answer = match self.answer.take() {
                Some(answer) => answer,
                None => self.resume().await?,
            };
            match self.client.transport().chunk(&mut answer, self.received).await {
                Ok(Some(chunk)) => {
                    self.answer = Some(answer);
                    if let Some(chunk) = self.accept(chunk) {
                        return Ok(Some(chunk));
                    }
                }
                Ok(None) if self.skip > 0 => {
                    return Err(DownloadProblem::Changed { received: self.received });
                }
                Ok(None) => {
                    self.answer = Some(answer);
                    return Ok(None);
                }
                Err(kind) => self.interrupted(kind).await?,
            }
        }
    }

    /// Takes a chunk into account; `None` when nothing of it is new.
    fn accept(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let known = self.skip.min(chunk.len() as u64);
        self.skip -= known;
        chunk.advance(known as usize);
        if chunk.is_empty() {
            return None;
        }
        self.received += chunk.len() as u64;
        self.attempts = Attempts::new(&self.client.transport().retry);
        if let Some(progress) = &self.progress {
            progress(self.received);
        }
        Some(chunk)
    }

    /// Waits after the connection broke, or gives up.
    async fn interrupted(&mut self, kind: ErrorKind) -> Result<(), DownloadProblem> {
        let resumable = self.validators.for_range().is_some() && retry::is_transient(&kind);
        let tries = self.attempts.made();
        self.resumes += 1;
        self.skip = 0;
        match self.attempts.next(None).filter(|_| resumable && self.resumes <= MAX_RESUMES) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(DownloadProblem::broken(kind, self.received, self.size, tries)),
        }
    }

    /// Asks for what is missing, provided that the file is still the same.
    async fn resume(&mut self) -> Result<Answer, DownloadProblem> {
        let range = format!("bytes={}-", self.received);
        let conditions =
            [(header::RANGE, Some(range.as_str())), (header::IF_RANGE, self.validators.for_range())];
        let answer = self.client.get(&self.url, &self.request, &conditions).await?;
        let offered = answer.header("content-range").unwrap_or_default();
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if offered.starts_with(&format!("bytes {}-", self.received)) => {
                Ok(answer)
            }
            // The whole file comes again: the server knows no ranges, or the file is another one.
            StatusCode::OK if Validators::of(&answer) == self.validators => {
                self.skip = self.received;
                Ok(answer)
            }
            _ => Err(DownloadProblem::Changed { received: self.received }),
        }
    }
}

//! Blobs of a container of Azure Blob Storage, or of what speaks its protocol.
//!
//! Only what a shared cache needs: look up, read and write single blobs, large ones in blocks. Requests are signed with the key of the
//! account ([`signature`]) and otherwise sent like a registry's: with the same certificates, proxies, patience and tries.
//!
//! Source: Azure Storage REST API, `Get Blob`, `Get Blob Properties`, `Put Blob`, `Put Block`, `Put Block List` and `Create Container`.

mod signature;

use std::io;
use std::sync::Arc;

use base::digest::Digester;
use base::time::Clock;
use base::{Digest, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};

pub use self::signature::AccountKey;
use crate::client::{Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::hosts;
use crate::s3::{ERROR_LIMIT, ObjectStream, Reader, encoded, http_date, read_part, refusal};
use crate::transport::{Answer, Request, Transport};
use crate::upload::{BlobSource, Payload};

/// The version of the protocol that is spoken.
const VERSION: HeaderValue = HeaderValue::from_static("2021-12-02");

/// Longer blobs are written in blocks, in bytes.
const WHOLE: u64 = 64 << 20;

/// How long a block is, in bytes, unless that made too many: it is in memory while it is sent.
const BLOCK: u64 = 16 << 20;

/// The most blocks that a blob can have.
const MOST_BLOCKS: u64 = 50_000;

/// A container and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerOptions {
    /// The URL of the account's blobs, such as `https://ACCOUNT.blob.core.windows.net`.
    pub account_url: String,
    /// The name of the account.
    pub account: String,
    /// The name of the container. It is made when something is written and there is none.
    pub container: String,
    /// The key of the account.
    pub key: AccountKey,
}

/// A container. Clones are cheap.
#[derive(Clone)]
pub struct Container {
    client: Client,
    clock: Arc<dyn Clock>,
    options: Arc<ContainerOptions>,
    base: Url,
}

/// What is known of a blob without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its length in bytes.
    pub size: u64,
    /// When it was written last, if the server says so.
    pub modified: Option<Timestamp>,
}

type Sent = std::result::Result<Answer, ErrorKind>;

impl Container {
    /// A container that is reached with `client`'s connections. Nothing is sent yet.
    ///
    /// # Errors
    /// When the account's URL or the container's name make no URL.
    pub fn new(client: Client, clock: Arc<dyn Clock>, options: ContainerOptions) -> Result<Self> {
        let context = Context::object("use", &options.container, &options.account_url, "");
        let bad = || context.error(ErrorKind::BadAddress { registry: options.account_url.clone() });
        let base = base_url(&options).ok_or_else(bad)?;
        Ok(Self { client, clock, options: Arc::new(options), base })
    }

    /// What is known of a blob; `None` when there is none.
    ///
    /// # Errors
    /// The server cannot be asked, or refuses.
    pub async fn head(&self, name: &str) -> Result<Option<BlobInfo>> {
        let answer = self.send((Method::HEAD, name, ""), &[], None).await;
        let answer = found(answer).within(&self.context("look for", name))?;
        Ok(answer.map(|answer| BlobInfo {
            size: answer.content_length().unwrap_or_default(),
            modified: answer.header("last-modified").and_then(|text| http_date(&text)),
        }))
    }

    /// Opens a blob; `None` when there is none.
    ///
    /// # Errors
    /// The server cannot be asked, or refuses.
    pub async fn get(&self, name: &str) -> Result<Option<ObjectStream<Self>>> {
        let answer = self.send((Method::GET, name, ""), &[], None).await;
        let answer = found(answer).within(&self.context("read", name))?;
        Ok(answer.map(|answer| ObjectStream::new(self.clone(), name, answer)))
    }

    /// Writes a blob whose content has this digest and length.
    ///
    /// # Errors
    /// The server cannot be asked, or refuses.
    pub async fn put(&self, name: &str, content: (BlobSource, &Digest, u64)) -> Result<()> {
        let context = self.context("write", name);
        match self.put_once(name, content.clone()).await {
            Err(ErrorKind::Storage { status: 404, code, .. }) if code == "ContainerNotFound" => {
                self.create().await.within(&context)?;
                self.put_once(name, content).await.within(&context)
            }
            put => put.within(&context),
        }
    }

    async fn put_once(
        &self,
        name: &str,
        (source, digest, size): (BlobSource, &Digest, u64),
    ) -> std::result::Result<(), ErrorKind> {
        if size > WHOLE {
            return self.put_in_blocks(name, (source, digest, size)).await;
        }
        let kind = (HeaderName::from_static("x-ms-blob-type"), HeaderValue::from_static("BlockBlob"));
        let payload = Payload { source, size, progress: None };
        self.send((Method::PUT, name, ""), &[kind], Some(payload)).await.map(drop)
    }

    /// Writes a blob in blocks. Those that do not become part of one are removed by the server after a week.
    async fn put_in_blocks(
        &self,
        name: &str,
        (source, digest, size): (BlobSource, &Digest, u64),
    ) -> std::result::Result<(), ErrorKind> {
        let length = BLOCK.max(size.div_ceil(MOST_BLOCKS));
        let mut list = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>".to_owned();
        let (mut offset, mut hasher) = (0, Digester::new());
        while offset < size {
            let part = read_part(source.clone(), offset, length.min(size - offset)).await?;
            hasher.update(&part);
            let id = STANDARD.encode(format!("{offset:020}"));
            let query = format!("comp=block&blockid={}", encoded(&id, false));
            offset += part.len() as u64;
            self.send((Method::PUT, name, &query), &[], Some(whole(part))).await?;
            list.push_str(&format!("<Latest>{id}</Latest>"));
        }
        let actual = hasher.finish();
        if actual != *digest {
            let message = format!("the content has the digest {actual} instead of {digest}");
            return Err(ErrorKind::Source { source: io::Error::new(io::ErrorKind::InvalidData, message) });
        }
        list.push_str("</BlockList>");
        self.send((Method::PUT, name, "comp=blocklist"), &[], Some(whole(list.into()))).await.map(drop)
    }

    /// Makes the container, unless somebody else does so at the same time.
    async fn create(&self) -> std::result::Result<(), ErrorKind> {
        match self.send((Method::PUT, "", "restype=container"), &[], Some(whole(Bytes::new()))).await {
            Err(ErrorKind::Storage { status: 409, .. }) | Ok(_) => Ok(()),
            Err(kind) => Err(kind),
        }
    }

    /// Sends a request for a blob, or without a name for the container, and gives the answer if it is a success.
    async fn send(
        &self,
        (method, name, query): (Method, &str, &str),
        headers: &[(HeaderName, HeaderValue)],
        payload: Option<Payload>,
    ) -> Sent {
        let mut url = self.base.clone();
        if !name.is_empty() {
            url.set_path(&format!("{}/{}", self.base.path(), encoded(name, true)));
        }
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = Request::new(method, url);
        request.headers.extend(headers.iter().cloned());
        request.headers.insert("x-ms-version", VERSION);
        request.payload = payload;
        let authorization = self.options.key.sign(&self.options.account, self.clock.now(), &mut request)?;
        let transport = self.client.transport();
        let mut answer = transport.exchange(&request, Some(&authorization)).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, code) = (answer.status(), answer.header("x-ms-error-code"));
        let body = transport.body(&mut answer, ERROR_LIMIT).await.unwrap_or_default();
        let mut kind = refusal(status, &String::from_utf8_lossy(&body));
        // A look at the head has no document.
        if let (ErrorKind::Storage { code, .. }, Some(of_header)) = (&mut kind, code)
            && code.is_empty()
        {
            *code = crate::http_error::printable(&of_header, 64);
        }
        Err(kind)
    }

    fn context(&self, action: &'static str, name: &str) -> Context {
        Context::object(action, &self.options.container, &hosts::host_of(&self.base), name)
    }
}

impl Reader for Container {
    fn transport(&self) -> &Transport {
        self.client.transport()
    }

    fn context(&self, action: &'static str, key: &str) -> Context {
        self.context(action, key)
    }

    async fn open_from(&self, key: &str, range: HeaderValue) -> Sent {
        self.send((Method::GET, key, ""), &[(reqwest::header::RANGE, range)], None).await
    }
}

fn whole(content: Bytes) -> Payload {
    Payload { size: content.len() as u64, source: BlobSource::Bytes(content), progress: None }
}

/// The URL of the container, without a slash at its end.
fn base_url(options: &ContainerOptions) -> Option<Url> {
    let mut url = Url::parse(&options.account_url).ok()?;
    let plain = url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
    let container = encoded(&options.container, false);
    let is_name = container == options.container && !container.is_empty() && !container.starts_with('.');
    if !matches!(url.scheme(), "http" | "https") || !plain || !is_name {
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{path}/{container}"));
    Some(url)
}

/// The answer, if there is such a blob. Nothing is in a container that there is not.
fn found(answer: Sent) -> std::result::Result<Option<Answer>, ErrorKind> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ErrorKind::Storage { status: 404, code, .. })
            if matches!(code.as_str(), "BlobNotFound" | "ContainerNotFound" | "") =>
        {
            Ok(None)
        }
        Err(kind) => Err(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_in_the_path_of_their_account() {
        let base = |account_url: &str, container: &str| {
            let options = ContainerOptions {
                account_url: account_url.to_owned(),
                account: "a".to_owned(),
                container: container.to_owned(),
                key: AccountKey::parse("AAAA").unwrap(),
            };
            base_url(&options).map(|url| url.to_string())
        };
        let url = |url: &str| Some(url.to_owned());
        assert_eq!(base("https://a.blob.core.windows.net", "c"), url("https://a.blob.core.windows.net/c"));
        assert_eq!(base("http://127.0.0.1:10000/a/", "c"), url("http://127.0.0.1:10000/a/c"));
        for (account_url, container) in [
            ("ftp://x", "c"),
            ("nothing", "c"),
            ("http://h?sv=1", "c"),
            ("http://h", "a/b"),
            ("http://h", ""),
        ] {
            assert_eq!(base(account_url, container), None, "{account_url} {container}");
        }
    }
}

//! OCI distribution client and server, OCI layouts and Docker archives.
//!
//! Two ways in and out for images, with one shape of result ([`ImageDocuments`]):
//!
//! * [`Client`] speaks the OCI distribution protocol: it resolves names, streams blobs and pushes.
//!   It is asynchronous and cheap to make; nothing is read or opened before the first request.
//! * [`Archive`] reads an OCI image layout (directory or tar) or a `docker save` archive, and
//!   [`write_archive`] writes both. They block.
//!
//! And one the other way round: [`server`] is a registry over a store that its caller has.
//!
//! Beside images, [`Client::download`] fetches any file of the web, for `ADD` and remote contexts.
//!
//! The crate hands byte streams to its caller and never touches the layer store. It starts no
//! process and reads no configuration: its caller asks credential helpers and knows the [hosts](endpoint::Hosts). It prints
//! nothing.
//!
//! Sources: OCI distribution-spec v1.1, OCI image-spec v1.1, Docker's image spec v1.2 and registry
//! token authentication documents.

mod actions_cache;
mod archive;
mod auth;
pub mod azblob;
mod blob;
mod challenge;
mod claims;
mod client;
mod credentials;
pub mod docker_config;
mod documents;
mod download;
pub mod encrypted;
pub mod endpoint;
mod error;
pub mod host_files;
mod hosts;
mod http_error;
mod listing;
mod login;
mod many;
mod pull;
pub mod reapi;
mod retry;
pub mod s3;
mod search;
pub mod server;
mod transport;
mod upload;

pub use actions_cache::{ActionsCache, ActionsEntry, ActionsProtocol};
pub use archive::writer::{ArchiveFormat, BlobOpener, ExportedImage, WriteOptions, write_archive};
pub use archive::{Archive, ArchiveError, ArchiveErrorKind, BlobReader, ImageTree, LoadedImage, Shelf};
pub use blob::{BlobStream, BlockingBlob, Progress, Received};
pub use claims::ClaimRequest;
pub use client::{Client, ClientOptions, Resolved};
pub use credentials::{Credential, Credentials, FetchedToken, Lookup, NoCredentials, TokenRequest};
pub use docker_config::{DockerConfig, DockerConfigError};
pub use documents::{Document, DocumentError, ImageDocuments};
pub use download::error::{DownloadError, DownloadProblem};
pub use download::name::file_name_of_url;
pub use download::{Download, DownloadRequest, DownloadStream, Validators};
pub use error::{ConnectFailure, Error, ErrorKind, Result};
pub use http_error::{ErrorCode, RegistryMessage};
pub use login::{LoggedIn, Trial};
pub use retry::RetryPolicy;
pub use search::FoundRepository;
pub use upload::{BlobPush, BlobSource};

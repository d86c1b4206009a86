//! Output of containers that goes to other programs: what a record becomes there, and how it gets there.
//!
//! The formats are pure ([`syslog`], [`journald`], [`gelf`], [`fluentd`]); a [`link`] is a connection of any kind; a
//! [`carrier`] is the thread that sends, with a bounded queue before it. So nothing that a server does, or leaves undone,
//! holds the supervisor up.

pub mod address;
pub(super) mod carrier;
pub mod fluentd;
pub mod gelf;
mod journald;
mod link;
mod msgpack;
pub mod syslog;
mod tls;

use std::collections::BTreeMap;
use std::io;

use base::Timestamp;
use base::event::Stream;
use serde::{Deserialize, Serialize};

use self::link::Link;
pub use self::tls::{Encrypt, Encrypted, TlsFiles, never};

/// Where output goes besides files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remote {
    /// To a server of syslog.
    Syslog(syslog::Settings),
    /// To the journal of systemd.
    Journald,
    /// To a server of Graylog's format.
    Gelf(gelf::Settings),
    /// To fluentd.
    Fluentd(fluentd::Settings),
}

/// The container that a record is of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image as it was named.
    pub image: String,
    /// The id of its image.
    pub image_id: String,
    /// What it runs.
    pub command: String,
    /// When it was made.
    pub created: Timestamp,
    /// What its records are called.
    pub tag: String,
}

impl Source {
    /// The first 12 digits of its id.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// A record on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) stream: Stream,
    pub(super) time: Timestamp,
    /// A line without its end, or a piece of one.
    pub(super) text: Vec<u8>,
    /// Which piece of a line that is longer than a record may be.
    pub(super) part: Option<Part>,
    /// How many there were before it.
    pub(super) number: u64,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The same for all pieces of the line.
    pub(super) id: String,
    /// Counted from 1.
    pub(super) number: u32,
    /// Whether it is the last one.
    pub(super) is_last: bool,
}

/// What does not depend on the record: the container, and what every record of it carries.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) source: Source,
    pub(super) attributes: BTreeMap<String, String>,
    /// The name of this machine.
    pub(super) host: String,
    /// Our process.
    pub(super) pid: u32,
    /// A random word for what is sent from now on.
    pub(super) epoch: String,
}

impl Origin {
    pub(super) fn new(source: &Source, attributes: &BTreeMap<String, String>) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let epoch = sys::random::hex(16).unwrap_or_default();
        let (source, attributes) = (source.clone(), attributes.clone());
        Self { source, attributes, host, pid: std::process::id(), epoch }
    }
}

/// Where records go, with a connection to it.
pub(super) struct Driver {
    remote: Remote,
    origin: Origin,
    link: Link,
}

impl Driver {
    /// Connects, unless that may wait.
    pub(super) fn open(remote: &Remote, origin: Origin, encrypt: Encrypt) -> io::Result<Self> {
        let mut link = match remote {
            Remote::Syslog(settings) => Link::new(settings.places(), settings.tls.clone(), encrypt),
            Remote::Journald => Link::new(journald::places(), TlsFiles::default(), encrypt),
            Remote::Gelf(gelf::Settings { address, .. })
            | Remote::Fluentd(fluentd::Settings { address, .. }) => {
                Link::new(vec![address.clone()], TlsFiles::default(), encrypt)
            }
        };
        if let Remote::Fluentd(settings) = remote {
            link.set_limits(settings.write_timeout, settings.reconnect_interval);
        }
        match remote {
            Remote::Fluentd(settings) if settings.asynchronous => {}
            _ => link.connect()?,
        }
        Ok(Self { remote: remote.clone(), origin, link })
    }

    /// Sends a record, once. A connection that fails is gone afterwards.
    pub(super) fn send(&mut self, message: &Message) -> io::Result<()> {
        if !self.link.is_usable() {
            self.link.connect()?;
        }
        let (origin, link) = (&self.origin, &mut self.link);
        let sent = match &self.remote {
            Remote::Syslog(settings) => link.send(&settings.encode(message, origin)),
            Remote::Journald => link.send_large(&journald::encode(message, origin)),
            Remote::Gelf(settings) => settings.send(message, origin, link),
            Remote::Fluentd(settings) => settings.send(message, origin, link),
        };
        if sent.is_err() {
            link.disconnect();
        }
        sent
    }

    /// How often a record is sent again that could not be, and how long to wait before the first time.
    fn retries(&self) -> Retries {
        match &self.remote {
            // As Docker's drivers: once, at once.
            Remote::Syslog(_) | Remote::Journald => Retries::ONCE,
            Remote::Gelf(settings) => settings.retries(),
            Remote::Fluentd(settings) => settings.retries(),
        }
    }
}

/// How stubbornly a record is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retries {
    /// How often again.
    pub(super) most: u32,
    /// How long to wait before the first time, in milliseconds.
    pub(super) wait_ms: u64,
    /// Whether later ones are waited for longer.
    pub(super) grows: bool,
}

impl Retries {
    const ONCE: Self = Self { most: 1, wait_ms: 0, grows: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn message(text: &str) -> Message {
        Message {
            stream: Stream::Stdout,
            time: "2026-01-02T03:04:05.600001Z".parse().unwrap(),
            text: text.as_bytes().to_vec(),
            part: None,
            number: 1,
        }
    }

    pub(super) fn origin() -> Origin {
        Origin {
            source: Source {
                id: "0123456789abcdef".to_owned(),
                name: "web".to_owned(),
                image: "busybox".to_owned(),
                image_id: "sha256:1".to_owned(),
                command: "sh -c true".to_owned(),
                created: Timestamp::UNIX_EPOCH,
                tag: "tag".to_owned(),
            },
            attributes: BTreeMap::from([("com.example.tier".to_owned(), "front".to_owned())]),
            host: "my machine".to_owned(),
            pid: 7,
            epoch: "epoch".to_owned(),
        }
    }
}

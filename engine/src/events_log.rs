//! What happens to containers, images, volumes and networks, as a log that every process writes: `lap events`.
//!
//! There is no daemon that could tell. Whoever does something adds a line to files of the store, which are of a
//! bounded size, and goes on whatever becomes of that. Rows are what is true; these are only news of it.

mod reader;
mod teller;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::time::Clock as _;
use base::{Digest, Reference, Timestamp};
use runner::logs::shared;
use serde::{Deserialize, Serialize};
use sys::clock::SystemClock;

use crate::Engine;
use crate::images::familiar;
use crate::report::Removal;

pub use self::reader::{Events, EventsRequest};
pub(crate) use self::teller::ContainerTeller;

/// The directory of the log in the store.
const DIRECTORY: &str = "events-v1";

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `volume`, `network` or `builder`.
    pub kind: String,
    /// What has happened, in Docker's words.
    pub action: String,
    /// To what: an id or a name.
    pub id: String,
    /// What else is known of it.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}

/// An event as it is written; its time is the record's.
#[derive(Serialize, Deserialize)]
struct Line {
    kind: String,
    action: String,
    id: String,
    attributes: BTreeMap<String, String>,
}

/// Names and values of an event.
pub(crate) type Attributes = BTreeMap<String, String>;

/// The log of a store.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    directory: PathBuf,
}

impl EventLog {
    /// That of the store in `root`.
    pub(crate) fn of(root: &Path) -> Self {
        Self { directory: root.join(DIRECTORY) }
    }

    /// Adds that a volume was made or removed.
    pub(crate) fn add_volume(&self, action: &str, name: &str) {
        self.add("volume", action, name, attributes([("driver", crate::volumes::DRIVER)]));
    }

    /// Adds that what nobody needed of a kind was removed, and how many bytes that were.
    pub(crate) fn add_prune(&self, kind: &str, bytes: u64) {
        self.add(kind, "prune", "", attributes([("reclaimed", &bytes.to_string())]));
    }

    /// Adds an event. Nothing depends on that: where it cannot be written, nobody hears of it.
    pub(crate) fn add(&self, kind: &str, action: &str, id: &str, attributes: Attributes) {
        let text = |attributes| {
            let (kind, action, id) = (kind.to_owned(), action.to_owned(), id.to_owned());
            serde_json::to_string(&Line { kind, action, id, attributes }).unwrap_or_default()
        };
        let mut line = text(attributes.clone());
        if line.len() > shared::LONGEST {
            // Labels can be of any length; what they belong to is known without them.
            line = text(
                attributes
                    .into_iter()
                    .filter(|(name, _)| matches!(name.as_str(), "image" | "name"))
                    .collect(),
            );
        }
        let _ = shared::append(&self.directory, &line, SystemClock.now());
    }
}

/// Attributes from pairs.
pub(crate) fn attributes<const COUNT: usize>(pairs: [(&str, &str); COUNT]) -> Attributes {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Engine {
    /// The log of this store.
    pub(crate) fn event_log(&self) -> EventLog {
        EventLog::of(self.store.root())
    }

    /// Something was done with a container. One that is gone by now is not told of.
    pub(crate) fn tell_of_container<const COUNT: usize>(
        &self,
        name: &str,
        action: &str,
        more: [(&str, &str); COUNT],
    ) {
        if let Ok(record) = self.find_container(name) {
            let directory = self.store.container_path(&record.id);
            ContainerTeller::new(self.store.root(), &record.id, &record.name, &directory).add(action, more);
        }
    }

    /// An image has got a name, or was read or written under it.
    pub(crate) fn tell_of_image(&self, action: &str, id: &Digest, name: &str) {
        let id = id.to_string();
        let name = if name.is_empty() { id.clone() } else { familiar(name) };
        self.event_log().add("image", action, &id, attributes([("name", &name)]));
    }

    /// An image has gone to a registry or has come from there.
    pub(crate) fn tell_of_transfer(&self, action: &str, name: &Reference) {
        let repository = name.familiar_repository();
        self.event_log().add("image", action, &name.familiar(), attributes([("name", &repository)]));
    }

    /// Names of an image, or the image itself, were removed.
    pub(crate) fn tell_of_removals(&self, id: &Digest, removals: &[Removal]) {
        for removal in removals {
            match removal {
                Removal::Untagged(_) => self.tell_of_image("untag", id, ""),
                Removal::Deleted(id) => self.tell_of_image("delete", id, ""),
            }
        }
    }

    /// A volume was made or removed.
    pub(crate) fn tell_of_volume(&self, action: &str, name: &str) {
        self.event_log().add_volume(action, name);
    }

    /// A network was made or removed.
    pub(crate) fn tell_of_network(&self, action: &str, id: &str, name: &str, driver: &str) {
        let attributes = attributes([("name", name), ("type", driver)]);
        self.event_log().add("network", action, id, attributes);
    }
}

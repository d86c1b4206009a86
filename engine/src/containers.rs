//! Which containers use an image.
//!
//! There are no records of containers: one lives as long as its `lap run`, which tells by the note of a lease which
//! image it uses. The kernel frees the lease when the process ends, however it ends.

use base::Digest;
use snapshotter::{Lease, LeaseNote};

use crate::Engine;
use crate::error::EngineError;

/// What the notes of running containers begin with.
const RUN: &str = "run";

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    /// 64 hex digits.
    pub(crate) id: String,
    /// The process that runs it.
    pub(crate) process: u32,
    /// The image's id.
    image: Digest,
}

impl Container {
    /// The first 12 hex digits, the short form that people read.
    pub(crate) fn short_id(&self) -> String {
        self.id.chars().take(12).collect()
    }
}

impl Engine {
    /// A lease of the container `id`. As long as it lives, the container is one that uses `image`.
    pub(crate) fn container_lease(&self, id: &str, image: &Digest) -> Result<Lease, EngineError> {
        Ok(self.store.lease(&format!("{RUN} {id} {image}"))?)
    }

    /// A running container that uses `image`.
    pub(crate) fn user_of(&self, image: &Digest) -> Result<Option<Container>, EngineError> {
        let containers = self.store.lease_notes()?.iter().filter_map(container).collect::<Vec<_>>();
        Ok(containers.into_iter().find(|container| container.image == *image))
    }
}

/// The container that a note is about, if it is about one.
fn container(note: &LeaseNote) -> Option<Container> {
    let mut words = note.purpose.split(' ');
    let (Some(RUN), Some(id), Some(image), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    Some(Container { id: id.to_owned(), process: note.process, image: image.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_notes_of_containers_are_about_containers() {
        let image = Digest::of(b"");
        let of = |purpose: &str| container(&LeaseNote { process: 7, purpose: purpose.to_owned() });
        let found = of(&format!("run abc {image}"));
        assert_eq!(found, Some(Container { id: "abc".to_owned(), process: 7, image }));
        for other in ["build", "run", "run abc", "run abc def", &format!("run abc {image} more")] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}

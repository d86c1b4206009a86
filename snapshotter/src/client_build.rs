//! What clients of a daemon are told of builds that they asked for, beside what is kept of every build. It goes with the build.

use base::{Digest, Timestamp};

use crate::db::client_builds;
use crate::error::StoreError;
use crate::store::Store;

/// A build that a client asked for. The store does not know what its document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientBuild {
    /// The id of the build.
    pub build: String,
    /// What the client calls it.
    pub name: String,
    /// What is told of it.
    pub document: Vec<u8>,
}

/// Something that goes with a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The digest of what it is when it is unpacked.
    pub digest: Digest,
    /// The length of that, in bytes.
    pub size: u64,
    /// It, as whoever wrote it has packed it.
    pub content: Vec<u8>,
}

impl Store {
    /// Records what is told of a build that has a row, in place of what was told before.
    pub fn put_client_build(
        &self,
        build: &ClientBuild,
        attachments: &[Attachment],
    ) -> Result<(), StoreError> {
        Ok(self.db().write("record a build", |c| client_builds::put(c, build, attachments))?)
    }

    /// Records what is told of a build now, with `new` in place of what went with it under the digest `old`. One that has been forgotten
    /// stays so.
    pub fn amend_client_build(
        &self,
        build: &ClientBuild,
        old: Option<&Digest>,
        new: &Attachment,
    ) -> Result<(), StoreError> {
        Ok(self.db().write("record a build", |c| client_builds::amend(c, build, old, new))?)
    }

    /// Every build that a client asked for, in no order.
    pub fn client_builds(&self) -> Result<Vec<ClientBuild>, StoreError> {
        Ok(self.db().read("list builds", client_builds::all)?)
    }

    /// What is told of the build of this id; `None` for one that no client asked for.
    pub fn client_build(&self, build: &str) -> Result<Option<ClientBuild>, StoreError> {
        Ok(self.db().read("look up a build", |c| client_builds::get(c, build))?)
    }

    /// The id of the newest build that a client calls so.
    pub fn build_named(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.db().read("look up a build", |c| client_builds::named(c, name))?)
    }

    /// What goes with some build, by its digest.
    pub fn build_attachment(&self, digest: &Digest) -> Result<Option<Attachment>, StoreError> {
        Ok(self.db().read("look up what goes with a build", |c| client_builds::attachment(c, digest))?)
    }

    /// Digests and sizes of all that goes with builds.
    pub fn build_attachments(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        Ok(self.db().read("list what goes with builds", client_builds::attachments)?)
    }

    /// Forgets builds that nobody pinned, that are not among the newest `most`, and that ended before `before`.
    pub fn forget_builds(&self, most: usize, before: Timestamp) -> Result<(), StoreError> {
        let unpinned = self.builds()?.into_iter().filter(|build| !build.pinned);
        for build in unpinned.skip(most).filter(|build| build.ended.is_some_and(|ended| ended < before)) {
            self.remove_build(&build.id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base::Key;

    use super::*;
    use crate::build::{BuildContent, BuildRecord, BuildStatus};
    use crate::test_support::TestStore;

    fn build(store: &Store, id: &str, name: &str, ended: i64) {
        let time = |second| Timestamp::from_second(second).unwrap();
        let record = BuildRecord {
            id: id.to_owned(),
            project: Key::from_bytes([1; 32]),
            name: "x".to_owned(),
            created: time(1),
            ended: Some(time(ended)),
            status: BuildStatus::Completed,
            pinned: false,
        };
        store.insert_build(&record, &BuildContent { record: Vec::new(), events: Vec::new() }).unwrap();
        let attachment =
            Attachment { digest: Digest::of(id.as_bytes()), size: 3, content: id.as_bytes().to_vec() };
        let told = ClientBuild { build: id.to_owned(), name: name.to_owned(), document: b"{}".to_vec() };
        store.put_client_build(&told, &[attachment]).unwrap();
    }

    #[test]
    fn what_is_told_of_a_build_goes_with_it() {
        let test = TestStore::new();
        build(&test.store, "a", "one", 10);
        build(&test.store, "b", "one", 20);
        build(&test.store, "c", "two", 30);
        assert_eq!(test.store.build_named("one").unwrap().as_deref(), Some("b"));
        assert_eq!(test.store.build_attachment(&Digest::of(b"a")).unwrap().unwrap().content, b"a");
        // Not among the newest two, and old; then there are two.
        test.store.forget_builds(2, Timestamp::from_second(10).unwrap()).unwrap();
        assert_eq!(test.store.client_builds().unwrap().len(), 3);
        test.store.forget_builds(2, Timestamp::from_second(100).unwrap()).unwrap();
        assert!(test.store.client_build("a").unwrap().is_none());
        assert!(test.store.build_attachment(&Digest::of(b"a")).unwrap().is_none());
        assert_eq!(test.store.build_attachments().unwrap().len(), 2);
        test.store.remove_build("b").unwrap();
        assert_eq!(test.store.build_named("one").unwrap(), None);
    }
}

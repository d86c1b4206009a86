//! User-defined networks: what they are called, how they were asked for, and which containers are in them.
//!
//! Only what outlives a restart of the machine is here. What there is of a network at the moment (a bridge, addresses,
//! rules) is the runner's.

use base::Timestamp;

use crate::db::networks;
use crate::error::StoreError;
use crate::store::Store;

/// A user-defined network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRecord {
    /// 64 hex digits.
    pub id: String,
    /// Its name, which no other network has.
    pub name: String,
    /// How it was asked for, as JSON. The store does not look into it.
    pub document: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Store {
    /// Records a network.
    ///
    /// # Errors
    /// [`StoreError::NetworkNameTaken`].
    pub fn create_network(&self, id: &str, name: &str, document: &str) -> Result<NetworkRecord, StoreError> {
        let now = self.now_millis();
        let is_new = self.db().write("add a network", |c| networks::insert(c, id, name, document, now))?;
        if !is_new {
            return Err(StoreError::NetworkNameTaken { name: name.to_owned() });
        }
        self.network(id)?.ok_or_else(|| StoreError::NoSuchNetwork { network: id.to_owned() })
    }

    /// Every network, by name.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>, StoreError> {
        Ok(self.db().read("list networks", networks::all)?)
    }

    /// The network with this id.
    pub fn network(&self, id: &str) -> Result<Option<NetworkRecord>, StoreError> {
        Ok(self.db().read("look up a network", |c| networks::get(c, id))?)
    }

    /// The ids of the containers that are in a network, running or not.
    pub fn network_users(&self, id: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.db().read("look up who is in a network", |c| networks::users(c, id))?)
    }

    /// Notes that a container is in a network.
    ///
    /// # Errors
    /// [`StoreError::NoSuchNetwork`].
    pub fn join_network(&self, id: &str, container: &str) -> Result<(), StoreError> {
        self.db().write("add a container to a network", |c| match networks::get(c, id)? {
            Some(_) => networks::join(c, id, container).map(Ok),
            None => Ok(Err(StoreError::NoSuchNetwork { network: id.to_owned() })),
        })?
    }

    /// Notes that a container is in a network no more.
    pub fn leave_network(&self, id: &str, container: &str) -> Result<(), StoreError> {
        Ok(self.db().write("take a container out of a network", |c| networks::leave(c, id, container))?)
    }

    /// Forgets a network, and who is in it. `false` when there is none.
    pub fn remove_network(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.db().write("remove a network", |c| networks::delete(c, id))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::TestStore;

    #[test]
    fn a_name_is_given_once() {
        let test = TestStore::new();
        let store = &test.store;
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let made = store.create_network(&one, "net", "{}").unwrap();
        assert_eq!((made.name.as_str(), made.document.as_str()), ("net", "{}"));
        let error = store.create_network(&two, "net", "{}").unwrap_err();
        assert_eq!(error.to_string(), "network with name net already exists");
        assert_eq!(store.networks().unwrap(), [made]);
        let error = store.join_network(&two, "c").unwrap_err();
        assert!(matches!(error, StoreError::NoSuchNetwork { .. }), "{error}");
        assert!(store.remove_network(&one).unwrap() && !store.remove_network(&one).unwrap());
        assert!(store.networks().unwrap().is_empty() && store.network_users(&one).unwrap().is_empty());
    }
}

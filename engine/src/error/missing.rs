//! Which errors say that there is no such thing, or that there is one already.

use snapshotter::StoreError;

use super::EngineError;

impl EngineError {
    /// Whether it says that there is no network of a name.
    pub fn is_missing_network(&self) -> bool {
        matches!(self, Self::Store(StoreError::NoSuchNetwork { .. }))
    }

    /// Whether it says that a network's name is taken.
    pub fn is_taken_network(&self) -> bool {
        matches!(self, Self::Store(StoreError::NetworkNameTaken { .. }))
    }

    /// Whether it says that a registry does not have what was asked for.
    pub fn is_missing_remotely(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_not_found(),
            Self::Lookup(error) => error.is_missing_remotely(),
            _ => false,
        }
    }

    /// Whether it says that there is no volume of a name.
    pub fn is_missing_volume(&self) -> bool {
        matches!(self, Self::Store(StoreError::NoSuchVolume { .. }))
    }
}

//! How packed layers are mounted here, or why they are not.

use std::sync::atomic::Ordering;

use sys::erofs::Way;
use sys::fs::PathError;

use super::{StoredForm, probe};
use crate::db::settings;
use crate::driver::DriverKind;
use crate::error::StoreError;
use crate::store::Store;

/// What is remembered of an answer to no question in particular.
const ANY: &str = "any";

/// Why layers are not packed although that was asked for, or do not stay packed.
#[derive(Debug, thiserror::Error)]
pub enum PackingObstacle {
    /// The store keeps something else than layers for overlayfs of the initial user namespace.
    #[error("the store's driver has no use for packed layers")]
    Driver,
    /// This is not the superuser, or devices are not made here.
    #[error("mounting packed layers needs root privileges in the initial user namespace")]
    Rights,
    /// The kernel cannot mount them.
    #[error(
        "the kernel cannot mount packed layers (it needs EROFS, and Linux 6.12 or newer or loop devices)"
    )]
    Kernel(#[source] PathError),
    /// One cannot be mounted, although others could be.
    #[error("a packed layer cannot be mounted")]
    Mount(#[source] PathError),
}

impl Store {
    /// Why layers are not packed, if that was asked for. Whoever has heard of it is not told again.
    ///
    /// # Errors
    /// The store's driver cannot be told.
    pub fn packing_obstacle(&self) -> Result<Option<&PackingObstacle>, StoreError> {
        if self.packed().wanted != StoredForm::Packed {
            return Ok(None);
        }
        let obstacle = self.way()?.err();
        self.packed().told.fetch_or(obstacle.is_some(), Ordering::Relaxed);
        Ok(obstacle)
    }

    /// How packed layers are mounted of which this handle has given the names away: none before it has mounted them itself.
    pub fn layer_way(&self) -> Way {
        self.packed().way.get().and_then(|way| way.as_ref().ok().copied()).unwrap_or_default()
    }

    /// How packed layers are mounted, or why they are not, found out once.
    pub(super) fn way(&self) -> Result<Result<Way, &PackingObstacle>, StoreError> {
        let known = match self.packed().way.get() {
            Some(known) => known,
            None => {
                let found = self.find_way()?;
                self.packed().way.get_or_init(|| found)
            }
        };
        Ok(known.as_ref().copied())
    }

    /// Says once that layers become directories which were to stay packed.
    pub(super) fn tell_of_unpacking(&self, why: &PackingObstacle) {
        if !self.packed().told.swap(true, Ordering::Relaxed) {
            (self.packed().teller)(why);
        }
    }

    fn find_way(&self) -> Result<Result<Way, PackingObstacle>, StoreError> {
        let driver = self.driver()?;
        if driver.kind() != DriverKind::Overlay || driver.name() != DriverKind::Overlay.to_string() {
            return Ok(Err(PackingObstacle::Driver));
        }
        if !rustix::process::geteuid().is_root() || !self.makes_devices() {
            return Ok(Err(PackingObstacle::Rights));
        }
        // What the kernel could once it can until the machine starts again.
        let boot = self.boot()?;
        let asked = self.packed().asked;
        let question = format!("{boot} {} ", asked.map_or(ANY, Way::name));
        let known = self.db().read("look up what the kernel can", |c| settings::get(c, settings::PACKS))?;
        if let Some(Ok(way)) =
            known.as_deref().and_then(|known| known.strip_prefix(&question)).map(str::parse)
        {
            return Ok(Ok(way));
        }
        let lease = self.lease("probe")?;
        let scratch = self.layout().ingest(lease.id(), self.next_number());
        let way = match probe::probe(&scratch, asked) {
            Ok(way) => way,
            Err(error) => return Ok(Err(PackingObstacle::Kernel(error))),
        };
        let answer = format!("{question}{way}");
        self.db().write("note what the kernel can", |c| settings::put(c, settings::PACKS, &answer))?;
        Ok(Ok(way))
    }
}

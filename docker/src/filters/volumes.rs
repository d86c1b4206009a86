//! `--filter` of `lap volume ls`.

use engine::Engine;
use engine::error::EngineError;
use engine::prune::LabelFilter;
use engine::volumes::{DRIVER, Volume};

use super::{FilterError, label};

/// What is to be listed. One of each kind has to fit, and all labels.
#[derive(Debug, Default)]
pub struct VolumeFilters {
    dangling: Option<bool>,
    drivers: Vec<String>,
    names: Vec<String>,
    labels: Vec<LabelFilter>,
}

impl VolumeFilters {
    /// Reads filters.
    ///
    /// # Errors
    /// One of them is none.
    pub fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        for text in texts {
            match text.split_once('=') {
                Some(("dangling", "true" | "1")) => filters.dangling = Some(true),
                Some(("dangling", "false" | "0")) => filters.dangling = Some(false),
                Some(("driver", driver)) => filters.drivers.push(driver.to_owned()),
                Some(("name", name)) => filters.names.push(name.to_owned()),
                Some(("label", value)) => filters.labels.push(label(value, true)),
                Some(("label!", value)) => filters.labels.push(label(value, false)),
                _ => {
                    let hint = "the filters are dangling=true|false, driver, label and name";
                    return Err(FilterError::new(format!("invalid filter '{text}'"), hint));
                }
            }
        }
        Ok(filters)
    }

    /// Whether it is to be shown.
    ///
    /// # Errors
    /// Who uses it cannot be found out.
    pub fn fit(&self, engine: &Engine, volume: &Volume) -> Result<bool, EngineError> {
        let named =
            self.names.is_empty() || self.names.iter().any(|name| volume.name.contains(name.as_str()));
        let driven = self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == DRIVER);
        let labelled = self.labels.iter().all(|label| label.fits(&volume.labels));
        Ok(named
            && driven
            && labelled
            && match self.dangling {
                None => true,
                Some(dangling) => engine.volume_users(&volume.name)?.is_empty() == dangling,
            })
    }
}

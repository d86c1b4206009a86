//! `--filter` of `lap network ls`.

use engine::Engine;
use engine::error::EngineError;
use engine::networks::Network;
use engine::prune::LabelFilter;

use super::{FilterError, label};

/// What is to be listed. One of each kind has to fit, and all labels.
#[derive(Debug, Default)]
pub struct NetworkFilters {
    dangling: Option<bool>,
    custom: Option<bool>,
    drivers: Vec<String>,
    ids: Vec<String>,
    names: Vec<String>,
    scopes: Vec<String>,
    labels: Vec<LabelFilter>,
}

impl NetworkFilters {
    /// Reads filters.
    ///
    /// # Errors
    /// One of them is none.
    pub fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        for text in texts {
            let owned = |value: &str| value.to_owned();
            match text.split_once('=') {
                Some(("dangling", "true" | "1")) => filters.dangling = Some(true),
                Some(("dangling", "false" | "0")) => filters.dangling = Some(false),
                Some(("type", "custom")) => filters.custom = Some(true),
                Some(("type", "builtin")) => filters.custom = Some(false),
                Some(("driver", driver)) => filters.drivers.push(owned(driver)),
                Some(("id", id)) => filters.ids.push(owned(id)),
                Some(("name", name)) => filters.names.push(owned(name)),
                Some(("scope", scope)) => filters.scopes.push(owned(scope)),
                Some(("label", value)) => filters.labels.push(label(value, true)),
                Some(("label!", value)) => filters.labels.push(label(value, false)),
                _ => {
                    let hint = "the filters are dangling=true|false, driver, id, label, name, scope \
                                and type=custom|builtin";
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
    pub fn fit(&self, engine: &Engine, network: &Network) -> Result<bool, EngineError> {
        let one_of =
            |wanted: &[String], fits: &dyn Fn(&String) -> bool| wanted.is_empty() || wanted.iter().any(fits);
        let fits = one_of(&self.names, &|name| network.name.contains(name.as_str()))
            && one_of(&self.ids, &|id| network.id.starts_with(id.as_str()))
            && one_of(&self.drivers, &|driver| driver == network.driver)
            && one_of(&self.scopes, &|scope| scope == "local")
            && self.custom.is_none_or(|custom| custom != network.is_predefined())
            && self.labels.iter().all(|label| label.fits(&network.labels()));
        Ok(fits
            && match self.dangling {
                None => true,
                Some(dangling) => {
                    let is_unused = !network.is_predefined() && engine.network_users(network)?.is_empty();
                    is_unused == dangling
                }
            })
    }
}

//! Resource limits as people write them.

use std::str::FromStr;

use crate::request::{Resource, ResourceLimit};

/// Why a text is no resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResourceLimitError {
    /// Nothing says what the limit is.
    #[error("it has no =")]
    NoValue,
    /// Nothing of this name can be limited.
    #[error("there is no such resource")]
    NoResource,
    /// A limit is not a number, -1 or `unlimited`.
    #[error("a limit is a number")]
    NoNumber,
    /// The limit in force is above the one that it may be raised to.
    #[error("the soft limit is above the hard limit")]
    SoftAboveHard,
}

impl FromStr for ResourceLimit {
    type Err = ResourceLimitError;

    /// `name=soft[:hard]`; `-1` or `unlimited` is no limit.
    fn from_str(text: &str) -> Result<Self, ResourceLimitError> {
        let (name, values) = text.split_once('=').ok_or(ResourceLimitError::NoValue)?;
        let resource = resource(name).ok_or(ResourceLimitError::NoResource)?;
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            number => number.parse().map_err(|_| ResourceLimitError::NoNumber),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft > hard {
            return Err(ResourceLimitError::SoftAboveHard);
        }
        Ok(Self { resource, soft, hard })
    }
}

/// The names that Docker gives to resources.
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

//! The rules of garbage collection in the configuration file, under the names of `buildkitd.toml` (BuildKit,
//! `docs/buildkitd.toml.md`).
//!
//! ```toml
//! [worker.oci]
//!   gc = true
//!   maxUsedSpace = "60%"
//!   [[worker.oci.gcpolicy]]
//!     filters = ["type==exec.cachemount"]
//!     keepDuration = "48h"
//!     maxUsedSpace = "512MB"
//! ```

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use snapshotter::RecordFilter;

use super::{Retention, Rule, Space, Spaces, default_rules, default_spaces};

/// The table `worker`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worker {
    #[serde(default)]
    oci: Oci,
}

impl Worker {
    /// The rules that the file at `path` gives.
    pub(crate) fn retention(self, path: &Path) -> Retention {
        let oci = self.oci;
        let rules = if oci.gcpolicy.is_empty() {
            let written = oci.spaces();
            default_rules(if written.is_empty() { default_spaces() } else { written })
        } else {
            oci.gcpolicy.into_iter().map(GcPolicy::rule).collect()
        };
        Retention { enabled: oci.gc, file: Some(path.to_owned()), rules }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Oci {
    #[serde(default = "yes")]
    gc: bool,
    #[serde(default, deserialize_with = "space")]
    reserved_space: Option<Space>,
    #[serde(default, deserialize_with = "space")]
    max_used_space: Option<Space>,
    #[serde(default, deserialize_with = "space")]
    min_free_space: Option<Space>,
    /// The older name of `reservedSpace`.
    #[serde(default, deserialize_with = "space")]
    gckeepstorage: Option<Space>,
    #[serde(default)]
    gcpolicy: Vec<GcPolicy>,
}

impl Default for Oci {
    fn default() -> Self {
        Self {
            gc: true,
            reserved_space: None,
            max_used_space: None,
            min_free_space: None,
            gckeepstorage: None,
            gcpolicy: Vec::new(),
        }
    }
}

impl Oci {
    fn spaces(&self) -> Spaces {
        Spaces {
            reserved: self.reserved_space.or(self.gckeepstorage),
            max_used: self.max_used_space,
            min_free: self.min_free_space,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GcPolicy {
    #[serde(default)]
    all: bool,
    #[serde(default, deserialize_with = "filters")]
    filters: Vec<RecordFilter>,
    #[serde(default, deserialize_with = "duration")]
    keep_duration: Duration,
    #[serde(default, deserialize_with = "space")]
    reserved_space: Option<Space>,
    #[serde(default, deserialize_with = "space")]
    max_used_space: Option<Space>,
    #[serde(default, deserialize_with = "space")]
    min_free_space: Option<Space>,
    /// The older name of `reservedSpace`.
    #[serde(default, deserialize_with = "space")]
    keep_bytes: Option<Space>,
}

impl GcPolicy {
    fn rule(self) -> Rule {
        let spaces = Spaces {
            reserved: self.reserved_space.or(self.keep_bytes),
            max_used: self.max_used_space,
            min_free: self.min_free_space,
        };
        Rule { filters: self.filters, keep_duration: self.keep_duration, all: self.all, spaces }
    }
}

fn yes() -> bool {
    true
}

/// A number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(i64),
    Text(String),
}

fn space<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Space>, D::Error> {
    const EXPECTED: &str = "an amount of disk is a number of bytes, a text such as \"10GB\", or \"20%\"";
    let scalar = Scalar::deserialize(from).map_err(|_| D::Error::custom(EXPECTED))?;
    let space = match &scalar {
        Scalar::Number(bytes) => u64::try_from(*bytes).ok().map(Space::Bytes),
        Scalar::Text(text) => match text.trim().strip_suffix('%') {
            Some(percent) => {
                percent.trim().parse().ok().filter(|percent| *percent <= 100).map(Space::Percent)
            }
            None => base::bytes::parse_binary(text).map(Space::Bytes),
        },
    };
    space.map(Some).ok_or_else(|| D::Error::custom(EXPECTED))
}

/// A time, as a number of seconds or as a text.
pub(crate) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    const EXPECTED: &str = "a time is a number of seconds, or a text such as \"48h\" or \"1h30m\"";
    let scalar = Scalar::deserialize(from).map_err(|_| D::Error::custom(EXPECTED))?;
    let duration = match &scalar {
        Scalar::Number(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Scalar::Text(text) => match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => base::time::parse_duration(text),
        },
    };
    duration.ok_or_else(|| D::Error::custom(EXPECTED))
}

fn filters<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RecordFilter>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| RecordFilter::parse(text).map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::ConfigFile;

    fn parsed(text: &str) -> Retention {
        ConfigFile::parse(Path::new("/f"), text).unwrap().retention
    }

    fn problem(text: &str) -> String {
        ConfigFile::parse(Path::new("/etc/f.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn rules_are_read_as_buildkit_reads_them() {
        let retention = parsed(
            "[worker.oci]\ngc = true\n[[worker.oci.gcpolicy]]\nreservedSpace = \"512MB\"\nmaxUsedSpace = 1000\n\
             minFreeSpace = \"10%\"\nkeepDuration = \"48h\"\nfilters = [\"type==source.local,inuse\", \"shared\"]\n\
             [[worker.oci.gcpolicy]]\nall = true\nkeepBytes = 5\nkeepDuration = 172800\n",
        );
        let [first, second] = &retention.rules[..] else { panic!("{retention:?}") };
        let spaces = Spaces {
            reserved: Some(Space::Bytes(512 << 20)),
            max_used: Some(Space::Bytes(1000)),
            min_free: Some(Space::Percent(10)),
        };
        assert_eq!((first.spaces, first.filters.len(), first.all), (spaces, 2, false));
        assert_eq!(
            (first.keep_duration, second.keep_duration),
            (super::super::HOUR * 48, first.keep_duration)
        );
        assert_eq!((second.spaces.reserved, second.all), (Some(Space::Bytes(5)), true));
    }

    #[test]
    fn caps_alone_move_those_of_the_default_rules() {
        let retention = parsed("[worker.oci]\ngckeepstorage = \"9GB\"\n");
        let spaces = Spaces { reserved: Some(Space::Bytes(9 << 30)), ..Spaces::default() };
        assert_eq!(retention.rules, default_rules(spaces));
        assert_eq!(parsed("").rules, Retention::default().rules);
        assert!(!parsed("[worker.oci]\ngc = false\n").enabled);
    }

    #[test]
    fn mistakes_name_the_line_and_what_is_right() {
        let in_policy = |line: &str| problem(&format!("[worker.oci]\n\n[[worker.oci.gcpolicy]]\n{line}\n"));
        let misspelt = in_policy("minFreeSpce = 1");
        assert!(misspelt.starts_with("/etc/f.toml, line 4: unknown field `minFreeSpce`"), "{misspelt}");
        assert!(misspelt.contains("`minFreeSpace`") && misspelt.contains("`keepDuration`"), "{misspelt}");
        for (line, says) in [
            ("maxUsedSpace = \"much\"", "line 4: an amount of disk is a number of bytes"),
            ("maxUsedSpace = \"120%\"", "line 4: an amount of disk is"),
            ("maxUsedSpace = -1", "line 4: an amount of disk is"),
            ("keepDuration = \"soon\"", "line 4: a time is a number of seconds"),
            ("all = 3", "line 4: invalid type: integer `3`, expected a boolean"),
            ("filters = [\"kind==x\"]", "line 4: there is no property \"kind\" to filter by; there are"),
            ("all = ", "line 4: "),
        ] {
            assert!(in_policy(line).contains(says), "{}", in_policy(line));
        }
        assert!(
            problem("[registry]\n")
                .contains("line 1: unknown field `registry`, expected `build` or `worker`")
        );
    }
}

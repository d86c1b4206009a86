//! Filters of lists, events and of what is pruned, as `NAME=VALUE`. What can be asked for and what fits are Docker's.

pub mod containers;
pub mod events;
pub mod images;
pub mod networks;
pub mod volumes;

use std::time::Duration;

use base::Timestamp;
use engine::RecordFilter;
use engine::prune::LabelFilter;

/// What is wrong with a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// Which filter, and why.
    pub message: String,
    /// What would be right.
    pub hint: &'static str,
}

impl FilterError {
    fn new(message: String, hint: &'static str) -> Self {
        Self { message, hint }
    }
}

/// Filters of what is pruned. Everything removed fits all of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Older, or unused for longer, than this moment.
    pub until: Option<Timestamp>,
    /// All of these.
    pub labels: Vec<LabelFilter>,
    /// Conditions on records of the build cache.
    pub records: Vec<RecordFilter>,
}

/// The properties of records that are there or not, so that they can be named without a value.
const FLAGS: [&str; 5] = ["inuse", "mutable", "immutable", "shared", "private"];

impl Filters {
    /// Reads filters; `now` is what ages are counted from.
    pub fn parse(texts: &[String], now: Timestamp) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        let mut records = Vec::new();
        for text in texts {
            let (name, value) = match text.split_once('=') {
                None if FLAGS.contains(&text.as_str()) => (text.as_str(), "true"),
                pair => pair.ok_or_else(|| bad(text, "it has no ="))?,
            };
            match name {
                "until" | "unused-for" if filters.until.is_some() => {
                    return Err(bad(text, "there can be only one time"));
                }
                "until" | "unused-for" => filters.until = Some(moment(text, value, now)?),
                "label" => filters.labels.push(label(value, true)),
                "label!" => filters.labels.push(label(value, false)),
                _ => records.push(condition(name, value)),
            }
        }
        if !records.is_empty() {
            let text = records.join(",");
            let filter =
                RecordFilter::parse(&text).map_err(|error| bad(&texts.join(" "), &error.to_string()))?;
            filters.records.push(filter);
        }
        Ok(filters)
    }

    /// Reads filters of images, which are not records.
    pub fn parse_for_images(texts: &[String], now: Timestamp) -> Result<Self, FilterError> {
        let filters = Self::parse(texts, now)?;
        match filters.records.is_empty() {
            true => Ok(filters),
            false => Err(bad(&texts.join(" "), "only build cache can be chosen by that")),
        }
    }

    /// How long the build cache must have been unused. It has no labels.
    pub fn unused_for(&self, now: Timestamp) -> Result<Duration, FilterError> {
        if let Some(label) = self.labels.first() {
            return Err(bad(&format!("label={}", label.name), "build cache has no labels"));
        }
        let idle = self.until.map(|until| now.duration_since(until));
        Ok(idle.and_then(|idle| Duration::try_from(idle).ok()).unwrap_or_default())
    }
}

/// A condition as buildx takes it, in BuildKit's language: what ends with `!` or `~` has brought its operator.
fn condition(name: &str, value: &str) -> String {
    let operator = if name.ends_with(['!', '~']) { "=" } else { "==" };
    format!("{name}{operator}\"{value}\"")
}

/// `NAME` or `NAME=VALUE`.
pub fn label(text: &str, present: bool) -> LabelFilter {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    LabelFilter { name: name.to_owned(), value: value.map(str::to_owned), present }
}

/// An age such as `24h` or `1h30m`, seconds since 1970, or a time in RFC 3339.
pub fn moment(filter: &str, text: &str, now: Timestamp) -> Result<Timestamp, FilterError> {
    let seconds = seconds(text);
    let age = || text.parse::<jiff::SignedDuration>().ok().and_then(|age| now.checked_sub(age).ok());
    seconds
        .or_else(age)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| bad(filter, "a time is an age such as 24h, or a date such as 2026-01-31T12:00:00Z"))
}

/// Seconds since 1970, perhaps with a fraction, which is how Docker's clients send times.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanoseconds).ok()
}

fn bad(text: &str, why: &str) -> FilterError {
    FilterError::new(
        format!("cannot use the filter \"{text}\": {why}"),
        "for example --filter until=24h; images can be chosen by label=NAME, label=NAME=VALUE and label!=NAME, build cache by id, type, parents, description, inuse, mutable, immutable, shared and private",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Option<Filters> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Filters::parse(&texts, Timestamp::from_second(1_000_000).unwrap()).ok()
    }

    #[test]
    fn times_are_ages_or_moments() {
        let until = |text: &str| parse(&[text]).and_then(|filters| filters.until).map(Timestamp::as_second);
        assert_eq!(until("until=24h"), Some(1_000_000 - 86_400));
        assert_eq!(until("unused-for=1h30m"), Some(1_000_000 - 5400));
        assert_eq!(until("until=77"), Some(77));
        assert_eq!(until("until=77.25"), Some(77));
        assert_eq!(seconds("77.25").map(Timestamp::as_millisecond), Some(77_250));
        assert_eq!(until("until=1970-01-02T00:00:00Z"), Some(86_400));
        for bad in ["until=soon", "until", "until=", "kind=regular", "shared=perhaps", "id"] {
            assert_eq!(parse(&[bad]), None, "{bad}");
        }
        assert_eq!(parse(&["until=1h", "until=2h"]), None);
    }

    #[test]
    fn labels_may_be_unwanted_and_have_values() {
        let labels = parse(&["label=a", "label!=b=c=d"]).unwrap().labels;
        let of = |label: &LabelFilter| (label.name.clone(), label.value.clone(), label.present);
        assert_eq!(of(&labels[0]), ("a".to_owned(), None, true));
        assert_eq!(of(&labels[1]), ("b".to_owned(), Some("c=d".to_owned()), false));
        let now = Timestamp::from_second(1).unwrap();
        assert!(parse(&["label=a"]).unwrap().unused_for(now).is_err());
    }

    #[test]
    fn records_are_chosen_as_buildx_chooses_them() {
        let same = |texts: &[&str], filter: &str| {
            assert_eq!(parse(texts).unwrap().records, [RecordFilter::parse(filter).unwrap()]);
        };
        same(&["type=exec.cachemount"], "type==\"exec.cachemount\"");
        same(&["id=17", "shared"], "id==\"17\",shared==\"true\"");
        same(&["description~=a,b", "type!=regular"], "description~=\"a,b\",type!=\"regular\"");
        let now = Timestamp::from_second(1).unwrap();
        assert!(Filters::parse_for_images(&["inuse".to_owned()], now).is_err());
    }

    #[test]
    fn the_cache_is_chosen_by_how_long_it_was_unused() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let idle = |texts: &[&str]| parse(texts).unwrap().unused_for(now).unwrap_or_else(|_| panic!());
        assert_eq!(idle(&["until=24h"]), Duration::from_secs(86_400));
        assert_eq!(idle(&[]), Duration::ZERO);
    }
}

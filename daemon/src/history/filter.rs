//! Filters of `Control/ListenBuildHistory`: conditions with commas in between must all hold, and of several filters one.

use std::time::Duration;

use base::Timestamp;

use super::from_message;
use crate::proto::control::{BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord};
use crate::proto::rpc;

/// The filters of one request; without any, everything fits.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filters(Vec<Vec<Condition>>);

#[derive(Debug, PartialEq)]
enum Condition {
    Text { property: Text, is: bool, value: String },
    Time { property: Time, order: Order, value: Timestamp },
    Duration { order: Order, value: Duration, now: Timestamp },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Text {
    Reference,
    Status,
    Repository,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Time {
    Started,
    Completed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// As they are written. Of two that begin alike, the longer one is first.
const ORDERS: [(&str, Order); 4] =
    [("<=", Order::LessOrEqual), (">=", Order::GreaterOrEqual), ("<", Order::Less), (">", Order::Greater)];

const STATUSES: [&str; 4] = ["completed", "running", "error", "canceled"];

impl Order {
    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Filters {
    /// Reads filters. Times may be ages, which are counted from `now`.
    pub(super) fn parse(texts: &[String], now: Timestamp) -> Result<Self, String> {
        let conditions = |text: &String| text.split(',').map(|text| Condition::parse(text, now)).collect();
        texts.iter().map(conditions).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a build is to be told.
    pub(super) fn fit(&self, event: &BuildHistoryEvent) -> bool {
        let Some(record) = &event.record else { return false };
        self.0.is_empty()
            || self.0.iter().any(|conditions| conditions.iter().all(|one| one.fits(event.r#type(), record)))
    }
}

impl Condition {
    fn parse(text: &str, now: Timestamp) -> Result<Self, String> {
        let wrong = |why: &str| format!("invalid filter {text:?}: {why}");
        let at = text.find(['=', '!', '<', '>', '~']).ok_or_else(|| wrong("it has no operator"))?;
        let (name, rest) = text.split_at(at);
        let ordered = ORDERS.iter().find_map(|(sign, order)| Some((rest.strip_prefix(sign)?, *order)));
        let compared = [("==", true), ("!=", false), ("=", true)]
            .iter()
            .find_map(|(sign, is)| Some((rest.strip_prefix(sign)?, *is)));
        match (name.trim(), ordered, compared) {
            ("startedAt" | "createdAt", Some((value, order)), _) => {
                let value = moment(value, now).ok_or_else(|| wrong(MOMENT))?;
                Ok(Self::Time { property: Time::Started, order, value })
            }
            ("completedAt", Some((value, order)), _) => {
                let value = moment(value, now).ok_or_else(|| wrong(MOMENT))?;
                Ok(Self::Time { property: Time::Completed, order, value })
            }
            ("duration", Some((value, order)), _) => {
                let value = base::time::parse_duration(value)
                    .ok_or_else(|| wrong("a duration is such as 90s or 1h30m"))?;
                Ok(Self::Duration { order, value, now })
            }
            ("startedAt" | "createdAt" | "completedAt" | "duration", None, _) => {
                Err(wrong("it is compared with <, <=, > or >="))
            }
            (name, None, Some((value, is))) => {
                let property = match name {
                    "ref" => Text::Reference,
                    "status" if STATUSES.contains(&value) => Text::Status,
                    "status" => return Err(wrong("a status is completed, running, error or canceled")),
                    "repository" => Text::Repository,
                    _ => return Err(wrong(PROPERTIES)),
                };
                Ok(Self::Text { property, is, value: value.to_owned() })
            }
            _ => Err(wrong("it is compared with == or !=")),
        }
    }

    fn fits(&self, kind: BuildHistoryEventType, record: &BuildHistoryRecord) -> bool {
        let started = record.created_at.as_ref().and_then(from_message);
        let completed = record.completed_at.as_ref().and_then(from_message);
        match self {
            Self::Text { property, is, value } => {
                let has = match property {
                    Text::Reference => record.r#ref == *value,
                    Text::Status => status(kind, record.error.as_ref()) == value,
                    Text::Repository => repository(record) == Some(value.as_str()),
                };
                has == *is
            }
            Self::Time { property: Time::Started, order, value } => {
                started.is_some_and(|time| order.holds(time, *value))
            }
            Self::Time { property: Time::Completed, order, value } => {
                completed.is_some_and(|time| order.holds(time, *value))
            }
            Self::Duration { order, value, now } => started.is_some_and(|started| {
                let lasted = completed.unwrap_or(*now).duration_since(started);
                order.holds(Duration::try_from(lasted).unwrap_or_default(), *value)
            }),
        }
    }
}

const MOMENT: &str = "a time is as in 2026-01-02T15:04:05Z, or an age such as 48h";
const PROPERTIES: &str =
    "there are ref, status, repository, startedAt, completedAt and duration to filter by";

fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    match base::time::parse_duration(text) {
        Some(age) => now.checked_sub(age).ok(),
        None => text.parse().ok(),
    }
}

fn status(kind: BuildHistoryEventType, error: Option<&rpc::Status>) -> &'static str {
    /// gRPC's number of what was cancelled.
    const CANCELLED: i32 = 1;
    match (kind, error) {
        (BuildHistoryEventType::Started, _) => "running",
        (_, None) => "completed",
        (_, Some(error)) if error.code == CANCELLED => "canceled",
        (_, Some(_)) => "error",
    }
}

/// Where the context comes from.
fn repository(record: &BuildHistoryRecord) -> Option<&str> {
    let source = ["vcs:source", "context"].iter().find_map(|name| record.frontend_attrs.get(*name))?;
    Some(source.split('#').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::timestamp;

    fn event(second: i64, seconds: i64) -> BuildHistoryEvent {
        let time = |second| Some(timestamp(Timestamp::from_second(second).unwrap()));
        let record = BuildHistoryRecord {
            r#ref: "a".to_owned(),
            created_at: time(second),
            completed_at: time(second + seconds),
            frontend_attrs: [("context".to_owned(), "https://host/x.git#main".to_owned())].into(),
            ..BuildHistoryRecord::default()
        };
        BuildHistoryEvent { r#type: BuildHistoryEventType::Complete.into(), record: Some(record) }
    }

    fn fits(filters: &[&str]) -> bool {
        let texts: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        let now = Timestamp::from_second(1_000_000).unwrap();
        Filters::parse(&texts, now).unwrap().fit(&event(1_000_000 - 7200, 90))
    }

    #[test]
    fn conditions_of_one_filter_hold_together_and_of_several_filters_one_does() {
        assert!(fits(&[]));
        for filter in
            ["ref==a", "ref=a", "status!=error", "status==completed,ref==a", "duration>1m", "startedAt<1h"]
        {
            assert!(fits(&[filter]), "{filter}");
        }
        for filter in ["ref==b", "ref!=a", "status==error", "ref==a,duration<1m", "startedAt>1h"] {
            assert!(!fits(&[filter]), "{filter}");
        }
        assert!(fits(&["ref==b", "repository==https://host/x.git"]));
        assert!(
            fits(&["completedAt>=1970-01-12T11:48:10Z"]) && !fits(&["completedAt>=1970-01-13T00:00:00Z"])
        );
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let now = Timestamp::UNIX_EPOCH;
        for text in ["", "ref", "what==x", "status==odd", "duration==1m", "startedAt>soon", "ref<a", "ref~=a"]
        {
            let problem = Filters::parse(&[text.to_owned()], now).unwrap_err();
            assert!(problem.contains("invalid filter"), "{text}: {problem}");
        }
    }
}

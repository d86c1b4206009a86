//! `--filter` of `lap history ls`, after buildx's.

use base::Timestamp;
use engine::history::{BuildSummary, Status};
use jiff::SignedDuration;

use crate::error::CliError;
use docker::filters::moment;

/// Conditions of one command. What is shown fits all of them.
#[derive(Debug, Default)]
pub(crate) struct BuildFilters(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    property: Property,
    operator: Operator,
}

/// What is compared, with what.
#[derive(Debug)]
enum Property {
    Reference(String),
    Name(String),
    Status(Status),
    Pinned(bool),
    StartedAt(Timestamp),
    CompletedAt(Timestamp),
    Duration(SignedDuration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// As they are written. Of two that begin alike, the longer one is first.
const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// The names of statuses; two are buildx's words for the one that it gives another name in its output.
const STATUSES: [(&str, Status); 7] = [
    ("running", Status::Running),
    ("completed", Status::Completed),
    ("success", Status::Completed),
    ("error", Status::Failed),
    ("failed", Status::Failed),
    ("canceled", Status::Canceled),
    ("interrupted", Status::Interrupted),
];

impl BuildFilters {
    /// Reads conditions; `now` is what ages are counted from.
    pub(crate) fn parse(texts: &[String], now: Timestamp) -> Result<Self, CliError> {
        texts.iter().map(|text| Condition::parse(text, now)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a build is to be shown. One that runs lasts until `now`.
    pub(crate) fn fit(&self, build: &BuildSummary, now: Timestamp) -> bool {
        self.0.iter().all(|condition| condition.fits(build, now))
    }
}

impl Condition {
    fn parse(text: &str, now: Timestamp) -> Result<Self, CliError> {
        let at = text.find(['!', '<', '>', '=']).ok_or_else(|| bad(text, "it has no operator"))?;
        let (name, rest) = text.split_at(at);
        let found = OPERATORS.iter().find_map(|(sign, operator)| Some((rest.strip_prefix(sign)?, *operator)));
        let (value, operator) = found.ok_or_else(|| bad(text, "it has no operator"))?;
        let property = match name {
            "ref" | "id" => Property::Reference(value.to_owned()),
            "name" => Property::Name(value.to_owned()),
            "status" => {
                let known = STATUSES.iter().find(|(status, _)| status.eq_ignore_ascii_case(value));
                Property::Status(known.ok_or_else(|| bad(text, "there is no such status"))?.1)
            }
            "pinned" => Property::Pinned(value.parse().map_err(|_| bad(text, "it is either true or false"))?),
            "startedAt" => Property::StartedAt(moment(text, value, now)?),
            "completedAt" => Property::CompletedAt(moment(text, value, now)?),
            "duration" => Property::Duration(
                value.parse().map_err(|_| bad(text, "a duration is such as 90s or 1h30m"))?,
            ),
            _ => return Err(bad(text, "there is no such property")),
        };
        if !property.has_order() && !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(bad(text, "it can only be compared with = and !="));
        }
        Ok(Self { property, operator })
    }

    fn fits(&self, build: &BuildSummary, now: Timestamp) -> bool {
        let same = |is_same: bool| is_same == (self.operator == Operator::Equal);
        match &self.property {
            Property::Reference(id) => same(build.id.starts_with(id.as_str())),
            Property::Name(name) => same(build.name == *name),
            Property::Status(status) => same(build.status == *status),
            Property::Pinned(pinned) => same(build.pinned == *pinned),
            Property::StartedAt(at) => self.operator.holds(&build.created, at),
            Property::CompletedAt(at) => build.ended.is_some_and(|ended| self.operator.holds(&ended, at)),
            Property::Duration(limit) => {
                let end = build.ended.unwrap_or(now);
                self.operator.holds(&end.duration_since(build.created), limit)
            }
        }
    }
}

impl Property {
    fn has_order(&self) -> bool {
        matches!(self, Self::StartedAt(_) | Self::CompletedAt(_) | Self::Duration(_))
    }
}

impl Operator {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

fn bad(text: &str, why: &str) -> CliError {
    CliError::usage(
        format!("cannot use the filter \"{text}\": {why}"),
        "for example --filter status=error --filter 'duration>30s'; there are ref, name, status, pinned, startedAt, completedAt and duration",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fits(text: &str) -> Option<bool> {
        let build = BuildSummary {
            id: "abc".to_owned(),
            name: "app".to_owned(),
            created: at(1000),
            ended: Some(at(1060)),
            status: Status::Failed,
            pinned: false,
        };
        let filters = BuildFilters::parse(&[text.to_owned()], at(2000)).ok()?;
        Some(filters.fit(&build, at(2000)))
    }

    #[test]
    fn each_property_is_compared_as_it_can_be() {
        for (fitting, other) in [
            ("status=error", "status=completed"),
            ("status!=success", "status!=Error"),
            ("ref=ab", "ref!=abc"),
            ("name=app", "name=ap"),
            ("pinned=false", "pinned=true"),
            ("duration>=1m", "duration<60s"),
            ("startedAt<500s", "startedAt>500s"),
            ("completedAt=1060", "completedAt>1060"),
        ] {
            assert_eq!((fits(fitting), fits(other)), (Some(true), Some(false)), "{fitting} {other}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["", "status", "status>error", "status=perhaps", "size=1", "duration>long", "pinned=1"] {
            assert_eq!(fits(text), None, "{text}");
        }
    }
}

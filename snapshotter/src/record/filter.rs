//! Conditions on records, in the language of BuildKit's garbage collection policies (containerd's filters):
//! `type==regular,shared,description~=apt`. Conditions between commas must all hold.

use regex::Regex;

use super::CacheUsage;

/// Properties that have a text.
const TEXTS: [&str; 5] = ["id", "parents", "parent", "description", "type"];
/// Properties that are there or not.
const FLAGS: [&str; 5] = ["inuse", "mutable", "immutable", "shared", "private"];

/// Conditions that must all hold for a record.
#[derive(Debug, Clone)]
pub struct RecordFilter {
    text: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone)]
struct Condition {
    property: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Holds(bool),
    Is(String),
    IsNot(String),
    Matches(Regex),
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such property.
    #[error("there is no property \"{name}\" to filter by; there are {}", known())]
    UnknownProperty {
        /// What was written.
        name: String,
    },
    /// A property with a text was used as if it were there or not.
    #[error("\"{name}\" needs a value, as in {name}==VALUE, {name}!=VALUE or {name}~=PATTERN")]
    NoValue {
        /// The property.
        name: String,
    },
    /// A property without a text was compared with something else.
    #[error("\"{name}\" is true or false, not \"{value}\"")]
    NotABoolean {
        /// The property.
        name: String,
        /// What was written.
        value: String,
    },
    /// A pattern cannot be read.
    #[error("\"{pattern}\" is no regular expression: {problem}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
}

fn known() -> String {
    let mut names: Vec<&str> = TEXTS.into_iter().chain(FLAGS).filter(|name| *name != "parent").collect();
    names.sort_unstable();
    names.join(", ")
}

impl RecordFilter {
    /// Reads conditions that are separated by commas. Values may be in double quotes.
    ///
    /// # Errors
    /// [`FilterError`] says what cannot be read.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let conditions = split(text).into_iter().map(Condition::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), conditions })
    }

    /// Whether every condition holds for `record`.
    pub fn fits(&self, record: &CacheUsage) -> bool {
        self.conditions.iter().all(|condition| condition.holds(record))
    }
}

impl PartialEq for RecordFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RecordFilter {}

/// The parts between commas that are not in quotes.
fn split(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let outside = |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    text.split(outside).map(str::trim).filter(|part| !part.is_empty()).collect()
}

impl Condition {
    fn parse(text: &str) -> Result<Self, FilterError> {
        let end = text.find(['=', '!', '~']).unwrap_or(text.len());
        let (name, rest) = (text[..end].trim().to_owned(), &text[end..]);
        let is_flag = FLAGS.contains(&name.as_str());
        if !is_flag && !TEXTS.contains(&name.as_str()) {
            return Err(FilterError::UnknownProperty { name });
        }
        let (operator, value) = operator(rest).ok_or_else(|| FilterError::NoValue { name: name.clone() })?;
        let test = match (is_flag, operator) {
            (true, "") => Test::Holds(true),
            (true, operator) => match base::boolean::parse(&value) {
                Some(wanted) => Test::Holds(wanted == (operator != "!=")),
                None => return Err(FilterError::NotABoolean { name, value }),
            },
            (false, "") => return Err(FilterError::NoValue { name }),
            (false, "!=") => Test::IsNot(value),
            (false, "~=") => Test::Matches(pattern(value)?),
            (false, _) => Test::Is(value),
        };
        Ok(Self { property: name, test })
    }

    fn holds(&self, record: &CacheUsage) -> bool {
        let text = || match self.property.as_str() {
            "id" => record.id.clone(),
            "type" => record.kind.name().to_owned(),
            "description" => record.description.clone(),
            _ => record.parents.join(";"),
        };
        match &self.test {
            Test::Holds(wanted) => *wanted == self.flag(record),
            Test::Is(value) => text() == *value,
            Test::IsNot(value) => text() != *value,
            Test::Matches(pattern) => pattern.is_match(&text()),
        }
    }

    fn flag(&self, record: &CacheUsage) -> bool {
        match self.property.as_str() {
            "inuse" => record.in_use,
            "mutable" => record.kind.is_mutable(),
            "immutable" => !record.kind.is_mutable(),
            "shared" => record.shared,
            _ => !record.shared,
        }
    }
}

/// The operator at the start, empty for none, and the value after it. A single `=` is taken for `==`.
fn operator(text: &str) -> Option<(&'static str, String)> {
    if text.is_empty() {
        return Some(("", String::new()));
    }
    let (operator, value) = ["==", "!=", "~=", "="]
        .into_iter()
        .find_map(|operator| Some((operator, text.strip_prefix(operator)?)))?;
    Some((operator, value.trim().trim_matches('"').to_owned()))
}

fn pattern(text: String) -> Result<Regex, FilterError> {
    Regex::new(&text).map_err(|error| {
        // The last line says what is wrong, those before show where.
        let problem = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        FilterError::BadPattern { pattern: text, problem }
    })
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::super::RecordKind;
    use super::*;

    fn record() -> CacheUsage {
        CacheUsage {
            id: "17".to_owned(),
            kind: RecordKind::CacheMount,
            description: "[2/3] RUN apt-get, \"update\"".to_owned(),
            parents: vec!["3".to_owned(), "4".to_owned()],
            bytes: 0,
            created_at: Timestamp::UNIX_EPOCH,
            last_used: Timestamp::UNIX_EPOCH,
            uses: None,
            cost_ms: None,
            shared: false,
            in_use: true,
        }
    }

    #[test]
    fn every_property_can_be_asked_about() {
        for fits in [
            "",
            "id==17",
            "id~=^1",
            "type==exec.cachemount",
            "type!=regular",
            "parents~=4",
            "parent==3;4",
            "description~=apt.*update",
            "inuse",
            "mutable",
            "private",
            "shared==false",
            "immutable!=true",
            "inuse=true,type=exec.cachemount",
            "description~=\"RUN apt-get,\"",
        ] {
            assert!(RecordFilter::parse(fits).unwrap().fits(&record()), "{fits}");
        }
        for other in ["id==1", "type==regular", "shared", "immutable", "inuse==false", "mutable,shared"] {
            assert!(!RecordFilter::parse(other).unwrap().fits(&record()), "{other}");
        }
    }

    #[test]
    fn mistakes_are_told_apart() {
        let problem = |text: &str| RecordFilter::parse(text).unwrap_err().to_string();
        assert!(problem("kind==regular").contains("there are description, id, immutable, inuse, mutable"));
        assert!(problem("type").contains("type==VALUE"));
        assert!(problem("type~regular").contains("type==VALUE"));
        assert_eq!(problem("shared==perhaps"), "\"shared\" is true or false, not \"perhaps\"");
        assert!(problem("id~=(").contains("unclosed group"), "{}", problem("id~=("));
    }
}

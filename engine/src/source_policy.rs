//! Source policies: which sources a build may use, and what stands in for some of them.
//!
//! A policy is a list of rules, each for the sources whose identifiers (`docker-image://docker.io/library/busybox:latest`,
//! `https://…`, `git://…`, `local://context`) fit its selector. Of those that allow or deny, the last one counts; one that
//! converts gives another source, which is looked at from the beginning (BuildKit, `sourcepolicy/pb/policy.proto`).

use std::collections::HashMap;

use base::{Digest, GitUrl, Platform, Reference};
use frontend::{HttpRequest, MetaResolver, ResolveError, ResolvedHttp, ResolvedImage};
use regex::{Captures, Regex};
use serde::Deserialize;

/// How often a source may be converted into another.
const MOST_CONVERSIONS: usize = 20;

/// What names of images are preceded by.
const IMAGE: &str = "docker-image://";

/// The attribute of an image or a file of the web that says what it has to be.
const IMAGE_CHECKSUM: &str = "image.checksum";
const HTTP_CHECKSUM: &str = "http.checksum";

/// What a policy does with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// It may be used.
    Allow,
    /// It may not.
    Deny,
    /// Another one is used.
    Convert,
}

/// How an identifier is written in a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MatchType {
    #[default]
    /// `*` stands for any text, and `${1}` in an update for that of the first one.
    Wildcard,
    /// As it is.
    Exact,
    /// A regular expression.
    Regex,
}

/// What is asked of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Condition {
    #[default]
    /// It is this.
    Equal,
    /// It is something else, or not there.
    NotEqual,
    /// It fits this regular expression.
    Matches,
}

/// A rule of a policy, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleText {
    /// What it does.
    pub action: Action,
    /// Which sources it is for.
    pub identifier: String,
    /// How that is written.
    pub match_type: MatchType,
    /// What is asked of their attributes: names, values and conditions.
    pub constraints: Vec<(String, String, Condition)>,
    /// The identifier of what stands in; empty leaves it.
    pub new_identifier: String,
    /// Attributes of what stands in.
    pub new_attributes: HashMap<String, String>,
}

/// A policy as buildx and buildctl read it from a file.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    rules: Vec<RuleDocument>,
}

#[derive(Deserialize)]
struct RuleDocument {
    action: Action,
    selector: SelectorDocument,
    #[serde(default)]
    updates: UpdatesDocument,
}

#[derive(Deserialize)]
struct SelectorDocument {
    identifier: String,
    #[serde(default, alias = "matchType")]
    match_type: MatchType,
    #[serde(default)]
    constraints: Vec<ConstraintDocument>,
}

#[derive(Deserialize)]
struct ConstraintDocument {
    key: String,
    value: String,
    #[serde(default)]
    condition: Condition,
}

#[derive(Default, Deserialize)]
struct UpdatesDocument {
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    attrs: HashMap<String, String>,
}

impl From<RuleDocument> for RuleText {
    fn from(document: RuleDocument) -> Self {
        let RuleDocument { action, selector, updates } = document;
        let constraints = selector.constraints.into_iter();
        Self {
            action,
            identifier: selector.identifier,
            match_type: selector.match_type,
            constraints: constraints.map(|one| (one.key, one.value, one.condition)).collect(),
            new_identifier: updates.identifier,
            new_attributes: updates.attrs,
        }
    }
}

/// A rule that is understood.
#[derive(Debug, Clone)]
struct Rule {
    action: Action,
    selector: Regex,
    constraints: Vec<Constraint>,
    new_identifier: String,
    new_attributes: HashMap<String, String>,
}

#[derive(Debug, Clone)]
struct Constraint {
    name: String,
    value: String,
    /// Of one that asks for a match.
    pattern: Option<Regex>,
    condition: Condition,
}

/// The policies of a build. Each of them has its say.
#[derive(Debug, Clone, Default)]
pub struct SourcePolicies(Vec<Vec<Rule>>);

/// Why a policy is none, or a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourcePolicyError {
    /// A pattern of a rule is none.
    #[error("the source policy has a pattern that is none: {pattern}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        #[source]
        source: regex::Error,
    },
    /// A file is no policy.
    #[error("this is no source policy")]
    Document(#[source] serde_json::Error),
    /// A source may not be used.
    #[error("source {identifier:?} denied by policy")]
    Denied {
        /// The source.
        identifier: String,
    },
    /// Sources are converted into each other.
    #[error("the source policy converts {identifier:?} without end")]
    Circle {
        /// The source it began with.
        identifier: String,
    },
    /// A source is converted into one that cannot stand in for it.
    #[error("the source policy converts {from:?} into {to:?}, which cannot stand in for it")]
    Conversion {
        /// The source.
        from: String,
        /// What it became.
        to: String,
    },
    /// An image is not the one that the policy wants.
    #[error("{identifier:?} has the digest {found}, and the source policy wants {wanted}")]
    Checksum {
        /// The source.
        identifier: String,
        /// Its digest.
        found: Digest,
        /// What the policy says.
        wanted: String,
    },
}

type Result<T> = std::result::Result<T, SourcePolicyError>;

/// What is used in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decided {
    identifier: String,
    attributes: HashMap<String, String>,
}

impl SourcePolicies {
    /// Adds a policy.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn add(&mut self, rules: Vec<RuleText>) -> Result<()> {
        let rules = rules.into_iter().map(Rule::of).collect::<Result<_>>()?;
        self.0.push(rules);
        Ok(())
    }

    /// Adds a policy as it is in a file: JSON, as BuildKit's clients read it.
    ///
    /// # Errors
    /// It is none.
    pub fn add_document(&mut self, text: &str) -> Result<()> {
        let document: Document = serde_json::from_str(text).map_err(SourcePolicyError::Document)?;
        self.add(document.rules.into_iter().map(RuleText::from).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another build.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().cloned());
    }

    /// Refuses a source that may not be used. One that is to be converted may not be, either: what stands in cannot be had.
    ///
    /// # Errors
    /// It is denied, or converted.
    pub fn check(&self, identifier: &str) -> Result<()> {
        let decided = self.decide(identifier)?;
        if decided.identifier == identifier {
            return Ok(());
        }
        Err(SourcePolicyError::Conversion { from: identifier.to_owned(), to: decided.identifier })
    }

    fn decide(&self, identifier: &str) -> Result<Decided> {
        let mut decided = Decided { identifier: identifier.to_owned(), attributes: HashMap::new() };
        for rules in &self.0 {
            let mut conversions = 0;
            while let Some(converted) = apply(rules, &decided)? {
                conversions += 1;
                if conversions > MOST_CONVERSIONS {
                    return Err(SourcePolicyError::Circle { identifier: identifier.to_owned() });
                }
                decided = converted;
            }
        }
        Ok(decided)
    }
}

/// What one policy makes of a source; `None` leaves it as it is.
fn apply(rules: &[Rule], source: &Decided) -> Result<Option<Decided>> {
    let mut denied = false;
    for rule in rules {
        let Some(found) = rule.matches(source) else { continue };
        match rule.action {
            Action::Allow => denied = false,
            Action::Deny => denied = true,
            Action::Convert => {
                let converted = rule.converted(source, &found);
                if converted != *source {
                    return Ok(Some(converted));
                }
            }
        }
    }
    match denied {
        true => Err(SourcePolicyError::Denied { identifier: source.identifier.clone() }),
        false => Ok(None),
    }
}

fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|source| SourcePolicyError::Pattern { pattern: text.to_owned(), source })
}

impl Rule {
    fn of(text: RuleText) -> Result<Self> {
        let RuleText { action, identifier, match_type, constraints, new_identifier, new_attributes } = text;
        let selector = match match_type {
            MatchType::Exact => pattern(&format!("^{}$", regex::escape(&identifier)))?,
            MatchType::Regex => pattern(&identifier)?,
            MatchType::Wildcard => {
                let parts: Vec<String> = identifier.split('*').map(regex::escape).collect();
                pattern(&format!("^{}$", parts.join("(.*?)")))?
            }
        };
        let constraint = |(name, value, condition): (String, String, Condition)| {
            let pattern = matches!(condition, Condition::Matches).then(|| pattern(&value)).transpose()?;
            Ok(Constraint { name, value, pattern, condition })
        };
        let constraints = constraints.into_iter().map(constraint).collect::<Result<_>>()?;
        Ok(Self { action, selector, constraints, new_identifier, new_attributes })
    }

    fn matches<'s>(&self, source: &'s Decided) -> Option<Captures<'s>> {
        let fits = |constraint: &Constraint| {
            let value = source.attributes.get(&constraint.name).map(String::as_str);
            match constraint.condition {
                Condition::Equal => value == Some(constraint.value.as_str()),
                Condition::NotEqual => value != Some(constraint.value.as_str()),
                Condition::Matches => {
                    value.is_some_and(|value| constraint.pattern.as_ref().is_some_and(|p| p.is_match(value)))
                }
            }
        };
        if !self.constraints.iter().all(fits) {
            return None;
        }
        self.selector.captures(&source.identifier)
    }

    fn converted(&self, source: &Decided, found: &Captures<'_>) -> Decided {
        let mut converted = source.clone();
        if !self.new_identifier.is_empty() {
            converted.identifier.clear();
            found.expand(&self.new_identifier, &mut converted.identifier);
        }
        converted.attributes.extend(self.new_attributes.clone());
        converted
    }
}

/// A resolver that keeps to policies.
pub(crate) struct Governed<'a> {
    pub(crate) policies: &'a SourcePolicies,
    pub(crate) resolver: &'a dyn MetaResolver,
}

impl MetaResolver for Governed<'_> {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> std::result::Result<ResolvedImage, ResolveError> {
        let identifier = format!("{IMAGE}{reference}");
        let decided = self.policies.decide(&identifier)?;
        let wrong =
            || SourcePolicyError::Conversion { from: identifier.clone(), to: decided.identifier.clone() };
        let name = decided.identifier.strip_prefix(IMAGE).ok_or_else(wrong)?;
        let image = match name == reference.to_string() {
            true => self.resolver.resolve(reference, platform)?,
            false => self.resolver.resolve(&name.parse::<Reference>().map_err(|_| wrong())?, platform)?,
        };
        match decided.attributes.get(IMAGE_CHECKSUM) {
            Some(wanted) if *wanted != image.manifest.to_string() => {
                let (found, wanted) = (image.manifest, wanted.clone());
                Err(SourcePolicyError::Checksum { identifier, found, wanted }.into())
            }
            _ => Ok(image),
        }
    }

    fn http(&self, request: &HttpRequest) -> std::result::Result<ResolvedHttp, ResolveError> {
        let decided = self.policies.decide(&request.url)?;
        let wrong =
            || SourcePolicyError::Conversion { from: request.url.clone(), to: decided.identifier.clone() };
        // What is fetched is what the graph names.
        if decided.identifier != request.url {
            return Err(wrong().into());
        }
        let checksum = match decided.attributes.get(HTTP_CHECKSUM) {
            Some(text) => Some(text.parse::<Digest>().map_err(|_| wrong())?),
            None => request.checksum,
        };
        self.resolver.http(&HttpRequest { checksum, ..request.clone() })
    }

    fn git(&self, url: &GitUrl) -> std::result::Result<String, ResolveError> {
        self.policies.check(&git_identifier(url))?;
        self.resolver.git(url)
    }
}

/// What BuildKit calls a repository.
pub(crate) fn git_identifier(url: &GitUrl) -> String {
    let address = url.remote.split_once("://").map_or(url.remote.as_str(), |(_, address)| address);
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    match &url.reference {
        Some(reference) => format!("git://{address}#{reference}"),
        None => format!("git://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action, identifier: &str, new_identifier: &str) -> RuleText {
        RuleText {
            action,
            identifier: identifier.to_owned(),
            match_type: MatchType::Wildcard,
            constraints: Vec::new(),
            new_identifier: new_identifier.to_owned(),
            new_attributes: HashMap::new(),
        }
    }

    fn decided(rules: Vec<RuleText>, identifier: &str) -> Result<String> {
        let mut policies = SourcePolicies::default();
        policies.add(rules)?;
        policies.decide(identifier).map(|decided| decided.identifier)
    }

    #[test]
    fn of_rules_that_allow_and_deny_the_last_one_counts() {
        let rules = || {
            vec![
                rule(Action::Deny, "*", ""),
                rule(Action::Allow, "docker-image://docker.io/library/*", ""),
                rule(Action::Deny, "docker-image://*:latest", ""),
            ]
        };
        let is_denied = |identifier: &str| decided(rules(), identifier).is_err();
        assert!(!is_denied("docker-image://docker.io/library/busybox:1"));
        assert!(is_denied("docker-image://docker.io/library/busybox:latest"));
        assert!(is_denied("docker-image://example.com/x:1") && is_denied("https://example.com/"));
        assert!(decided(Vec::new(), "local://context").is_ok());
    }

    #[test]
    fn conversions_go_on_until_nothing_changes() {
        let mirror = rule(Action::Convert, "docker-image://docker.io/*", "docker-image://mirror/${1}");
        let newer = rule(Action::Convert, "docker-image://mirror/*:1", "docker-image://mirror/${1}:2");
        let image = "docker-image://docker.io/library/busybox:1";
        let both = decided(vec![mirror.clone(), newer.clone()], image).unwrap();
        assert_eq!(both, "docker-image://mirror/library/busybox:2");
        let deny = rule(Action::Deny, "docker-image://mirror/*", "");
        assert!(decided(vec![mirror, deny], image).is_err());
        let circle = rule(Action::Convert, "a*", "aa${1}");
        assert!(matches!(decided(vec![circle], "a"), Err(SourcePolicyError::Circle { .. })));
    }

    #[test]
    fn files_are_policies() {
        let text = r#"{"rules": [
            {"action": "DENY", "selector": {"identifier": "*"}},
            {"action": "ALLOW", "selector": {"identifier": "docker-image://*", "constraints": [{"key": "k", "value": "v"}]}},
            {"action": "CONVERT", "selector": {"identifier": "a", "matchType": "EXACT"},
             "updates": {"identifier": "b", "attrs": {"k": "v"}}}]}"#;
        let mut policies = SourcePolicies::default();
        policies.add_document(text).unwrap();
        assert!(policies.check("docker-image://x").is_err() && policies.check("b").is_err());
        assert!(matches!(policies.add_document("{\"rules\": 3}"), Err(SourcePolicyError::Document(_))));
    }

    #[test]
    fn identifiers_are_exact_or_expressions() {
        let with =
            |match_type, identifier: &str| RuleText { match_type, ..rule(Action::Deny, identifier, "") };
        assert!(decided(vec![with(MatchType::Exact, "a*c")], "abc").is_ok());
        assert!(decided(vec![with(MatchType::Exact, "a*c")], "a*c").is_err());
        assert!(decided(vec![with(MatchType::Regex, "^a.c")], "abcd").is_err());
        assert!(matches!(
            decided(vec![with(MatchType::Regex, "(")], "x"),
            Err(SourcePolicyError::Pattern { .. })
        ));
    }
}

//! Source policies as clients send them.

use engine::source_policy::{Action, Condition, MatchType, RuleText, SourcePolicies};
use tonic::Status;

use crate::proto::sourcepolicy::{
    AttrConstraint, AttrMatch, MatchType as Matching, Policy, PolicyAction, Rule,
};

/// The most rules of one policy.
const MOST_RULES: usize = 10_000;

/// The policies of a build in the engine's words.
///
/// # Errors
/// One of them makes no sense.
pub(crate) fn understood<'a>(policies: impl Iterator<Item = &'a Policy>) -> Result<SourcePolicies, Status> {
    let mut all = SourcePolicies::default();
    for policy in policies.filter(|policy| !policy.rules.is_empty()) {
        if policy.version > 1 || policy.rules.len() > MOST_RULES {
            let message = "a source policy has version 1 and at most 10000 rules";
            return Err(Status::invalid_argument(message));
        }
        let rules = policy.rules.iter().map(rule).collect::<Result<_, _>>()?;
        all.add(rules).map_err(|error| Status::invalid_argument(base::fault::chain(&error)))?;
    }
    Ok(all)
}

fn rule(rule: &Rule) -> Result<RuleText, Status> {
    let unknown = |what: &str| Status::invalid_argument(format!("a source policy has an unknown {what}"));
    let selector = rule.selector.clone().unwrap_or_default();
    let updates = rule.updates.clone().unwrap_or_default();
    let constraint = |constraint: AttrConstraint| {
        let condition = match AttrMatch::try_from(constraint.condition) {
            Ok(AttrMatch::Equal) => Condition::Equal,
            Ok(AttrMatch::Notequal) => Condition::NotEqual,
            Ok(AttrMatch::Matches) => Condition::Matches,
            Err(_) => return Err(unknown("condition")),
        };
        Ok((constraint.key, constraint.value, condition))
    };
    Ok(RuleText {
        action: match PolicyAction::try_from(rule.action) {
            Ok(PolicyAction::Allow) => Action::Allow,
            Ok(PolicyAction::Deny) => Action::Deny,
            Ok(PolicyAction::Convert) => Action::Convert,
            Err(_) => return Err(unknown("action")),
        },
        match_type: match Matching::try_from(selector.match_type) {
            Ok(Matching::Wildcard) => MatchType::Wildcard,
            Ok(Matching::Exact) => MatchType::Exact,
            Ok(Matching::Regex) => MatchType::Regex,
            Err(_) => return Err(unknown("kind of selector")),
        },
        identifier: selector.identifier,
        constraints: selector.constraints.into_iter().map(constraint).collect::<Result<_, _>>()?,
        new_identifier: updates.identifier,
        new_attributes: updates.attrs,
    })
}

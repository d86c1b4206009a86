//! Whose records a build may use: a file of rules.
//!
//! ```toml
//! [[rule]]
//! caches = ["ghcr.io/team/*"]     # which caches; all without this
//! images = ["ghcr.io/team/app"]   # for builds of which images; all builds without this
//! signers = ["main.pub", "ed25519:GjN…="]
//! unsigned = false
//! ```
//!
//! A record may be used when one of the rules for its cache and for all images of the build says so. Without such a rule it may
//! not. `*` in a pattern stands for any characters.

use std::path::Path;

use serde::Deserialize;

use crate::signing::PublicKey;
use crate::signing::error::PolicyError;

/// Longer files are no policy.
const MAX_FILE: u64 = 1 << 20;

/// Whose records may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    caches: Option<Vec<String>>,
    images: Option<Vec<String>>,
    signers: Vec<PublicKey>,
    unsigned: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(default)]
    rule: Vec<RuleInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleInFile {
    caches: Option<Vec<String>>,
    images: Option<Vec<String>>,
    #[serde(default)]
    signers: Vec<String>,
    #[serde(default)]
    unsigned: bool,
}

/// Whose records a build may use of one cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Trusted {
    pub(crate) signers: Vec<PublicKey>,
    /// Whether records may be used that nobody signed.
    pub(crate) unsigned: bool,
}

impl Policy {
    /// The policy in a file. Signers in files are found from where it is.
    pub(crate) fn read(path: &Path) -> Result<Self, PolicyError> {
        let bytes = sys::fs::read_limited(path, MAX_FILE)?;
        let bytes = bytes.ok_or_else(|| PolicyError::TooLong { path: path.to_owned() })?;
        let file: PolicyFile = toml::from_str(&String::from_utf8_lossy(&bytes))
            .map_err(|source| PolicyError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let signer = |text: &String| match PublicKey::parse(text) {
            Some(key) => Ok(key),
            None => PublicKey::read(&directory.join(text))
                .map_err(|source| PolicyError::Signer { path: path.to_owned(), source }),
        };
        let rule = |rule: RuleInFile| {
            let signers = rule.signers.iter().map(signer).collect::<Result<_, _>>()?;
            Ok(Rule { caches: rule.caches, images: rule.images, signers, unsigned: rule.unsigned })
        };
        Ok(Self { rules: file.rule.into_iter().map(rule).collect::<Result<_, PolicyError>>()? })
    }

    /// Whose records of `cache` a build of `images` may use, which are names without tags.
    pub(crate) fn trusted(&self, cache: &str, images: &[String]) -> Trusted {
        let applies = |rule: &&Rule| {
            let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| matches(pattern, text));
            rule.caches.as_ref().is_none_or(|patterns| any(patterns, cache))
                && rule.images.as_ref().is_none_or(|patterns| {
                    !images.is_empty() && images.iter().all(|image| any(patterns, image))
                })
        };
        self.rules.iter().filter(applies).fold(Trusted::default(), |mut trusted, rule| {
            trusted.signers.extend(&rule.signers);
            trusted.unsigned |= rule.unsigned;
            trusted
        })
    }
}

/// Whether `text` fits a pattern, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match text.split_once(part) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_stars() {
        for (pattern, text) in
            [("a", "a"), ("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*c*e", "abcde"), ("a**b", "ab")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("a*", "b"), ("ab*b", "ab"), ("*x*", "abc"), ("", "a"), ("a*b*b", "ab")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    fn policy(text: &str) -> Result<Policy, PolicyError> {
        let dir = tempfile::tempdir().unwrap();
        crate::signing::generate(&dir.path().join("main")).unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        Policy::read(&path)
    }

    #[test]
    fn rules_are_for_caches_and_images() {
        let policy = policy(
            "[[rule]]\ncaches = [\"ghcr.io/team/*\"]\nsigners = [\"main.pub\"]\n\
             [[rule]]\nimages = [\"docker.io/library/x\", \"ghcr.io/*\"]\nunsigned = true\n",
        )
        .unwrap();
        let of = |cache: &str, images: &[&str]| {
            let images: Vec<String> = images.iter().map(|image| (*image).to_owned()).collect();
            let trusted = policy.trusted(cache, &images);
            (trusted.signers.len(), trusted.unsigned)
        };
        assert_eq!(of("ghcr.io/team/cache", &[]), (1, false));
        assert_eq!(of("ghcr.io/team/cache", &["ghcr.io/a", "docker.io/library/x"]), (1, true));
        // Every image of the build counts.
        assert_eq!(of("/srv", &["ghcr.io/a", "docker.io/library/y"]), (0, false));
        assert_eq!(of("/srv", &[]), (0, false));
    }

    #[test]
    fn mistakes_are_errors() {
        assert_eq!(policy("").unwrap(), Policy { rules: Vec::new() });
        for text in ["[[rules]]", "[[rule]]\nsigner = [\"main.pub\"]", "[[rule]]\nsigners = \"main.pub\""] {
            assert!(matches!(policy(text), Err(PolicyError::Syntax { .. })), "{text}");
        }
        for text in ["[[rule]]\nsigners = [\"none.pub\"]", "[[rule]]\nsigners = [\"main\"]"] {
            assert!(matches!(policy(text), Err(PolicyError::Signer { .. })), "{text}");
        }
    }
}

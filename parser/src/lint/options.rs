//! The options of `# check=…` and of the build argument `BUILDKIT_DOCKERFILE_CHECK`.
//!
//! `skip=RuleA,RuleB` or `skip=all`; `error=true`; `experimental=RuleA` or `experimental=all`; several
//! separated by `;`.

use super::rules::{RULES, find};
use crate::ast::Instruction;
use crate::suggest;

/// Which checks report, and whether they fail the build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOptions {
    skip: Selection,
    experimental: Selection,
    /// Whether a finding fails the build. The caller's to obey.
    pub error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Selection {
    all: bool,
    names: Vec<String>,
}

impl Selection {
    fn read(value: &str) -> Self {
        if value.eq_ignore_ascii_case("all") {
            return Self { all: true, names: Vec::new() };
        }
        let names = value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Self { all: false, names: names.collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// A part of the options that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no check option (known are skip=…, experimental=… and error=true)")]
pub struct InvalidCheckOption(pub String);

impl InvalidCheckOption {
    /// The option that it was perhaps meant to be.
    pub fn nearest(&self) -> Option<&'static str> {
        let key = self.0.split_once('=').map_or(self.0.as_str(), |(key, _)| key.trim());
        suggest::nearest(key, ["skip", "experimental", "error"]).filter(|near| *near != key)
    }
}

impl base::Faulty for InvalidCheckOption {
    fn fault(&self) -> base::Fault {
        base::Fault::Input
    }
}

impl CheckOptions {
    /// Reads options.
    pub fn parse(text: &str) -> Result<Self, InvalidCheckOption> {
        let mut options = Self::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').map_or((option, ""), |(k, v)| (k.trim(), v.trim()));
            match (key, value) {
                ("skip", value) if !value.is_empty() => options.skip = Selection::read(value),
                ("experimental", value) if !value.is_empty() => options.experimental = Selection::read(value),
                ("error", value) => match base::boolean::parse(value) {
                    Some(error) => options.error = error,
                    None => return Err(InvalidCheckOption(option.to_owned())),
                },
                _ => return Err(InvalidCheckOption(option.to_owned())),
            }
        }
        Ok(options)
    }

    /// Whether a finding of the check `name` about `instruction` is to be reported: nobody skips the
    /// check, and somebody asks for it if it is experimental. A comment `# check=skip=…` or
    /// `# check=experimental=…` right above the instruction counts too.
    pub fn allows(&self, name: &str, instruction: Option<&Instruction>) -> bool {
        let comments = instruction.map_or(&[][..], |instruction| &instruction.comments);
        let local: Vec<Self> = comments.iter().filter_map(|comment| local_options(&comment.text)).collect();
        let any = |selection: fn(&Self) -> &Selection| {
            local.iter().chain([self]).any(|options| selection(options).has(name))
        };
        let is_experimental = find(name).is_some_and(|rule| rule.is_experimental);
        !any(|options| &options.skip) && (!is_experimental || any(|options| &options.experimental))
    }

    /// Names of checks that do not exist but are spelt nearly like one that does. Others may belong to a
    /// newer version, and mean nothing.
    pub fn misspelt(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let names = self.skip.names.iter().chain(&self.experimental.names);
        names.filter(|name| find(name).is_none()).filter_map(|name| {
            let known = RULES.iter().map(|rule| rule.name);
            suggest::nearest(name, known).map(|near| (name.as_str(), near))
        })
    }
}

/// The options in a comment above an instruction.
fn local_options(comment: &str) -> Option<CheckOptions> {
    let (key, value) = comment.split_once('=')?;
    key.trim().eq_ignore_ascii_case("check").then(|| CheckOptions::parse(value).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options = CheckOptions::parse(" skip = A, b ; error=true;experimental=all").unwrap();
        assert!(!options.allows("A", None) && !options.allows("B", None) && options.allows("C", None));
        assert!(options.error);
        assert!(!CheckOptions::parse("skip=all").unwrap().allows("C", None));
        assert_eq!(CheckOptions::parse(""), Ok(CheckOptions::default()));
    }

    #[test]
    fn experimental_checks_are_asked_for() {
        let experimental = "InvalidDefinitionDescription";
        assert!(!CheckOptions::default().allows(experimental, None));
        for text in ["experimental=all", "experimental=invaliddefinitiondescription"] {
            assert!(CheckOptions::parse(text).unwrap().allows(experimental, None), "{text}");
        }
        assert!(!CheckOptions::parse("experimental=all;skip=all").unwrap().allows(experimental, None));
    }

    #[test]
    fn misspelt_names_are_found_and_unknown_ones_are_not() {
        let options = CheckOptions::parse("skip=StageNameCasng,FromTheFuture,undefinedvar").unwrap();
        assert_eq!(options.misspelt().collect::<Vec<_>>(), [("StageNameCasng", "StageNameCasing")]);
    }

    #[test]
    fn other_options_are_refused() {
        for text in ["skip", "skip=", "error=maybe", "warn=true"] {
            assert_eq!(CheckOptions::parse(text), Err(InvalidCheckOption(text.to_owned())));
        }
    }
}

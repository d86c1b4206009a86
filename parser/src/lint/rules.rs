//! The build checks by name: what they say to do, and where Docker documents them.
//!
//! Names and descriptions are BuildKit's (docs.docker.com, "Build checks"), because `# check=skip=…` names
//! them and tools read them. [`BROKEN_JSON`] and [`UNKNOWN_CHECK`] are ours.

/// One check, whichever crate makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name, the code of its diagnostics.
    pub name: &'static str,
    /// What it says to do, in one sentence without a full stop.
    pub description: &'static str,
    /// Whether it is off unless `check=experimental=…` asks for it.
    pub is_experimental: bool,
    /// Whether Docker's documentation has a page about it.
    is_documented: bool,
}

impl Rule {
    /// Where Docker's documentation explains the check, if it does:
    /// `https://docs.docker.com/go/dockerfile/rule/stage-name-casing/`.
    pub fn documentation(&self) -> Option<String> {
        let url = || format!("https://docs.docker.com/go/dockerfile/rule/{}/", kebab_case(self.name));
        self.is_documented.then(url)
    }
}

/// The check for JSON forms that are not JSON. BuildKit takes them for the other form without a word.
pub const BROKEN_JSON: &str = "bad-json-form";

/// The check for options that name a check which does not exist.
pub const UNKNOWN_CHECK: &str = "unknown-check";

/// All checks, in alphabetical order.
pub const RULES: [Rule; 24] = [
    rule(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    rule("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore"),
    rule("DuplicateStageName", "Stage names should be unique"),
    rule(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
    rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase"),
    rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword"),
    rule("FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value"),
    Rule {
        is_documented: false,
        ..rule("InvalidBaseImagePlatform", "Base image platform does not match expected target platform")
    },
    rule(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    Rule {
        is_experimental: true,
        ..rule(
            "InvalidDefinitionDescription",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        )
    },
    rule(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    rule("LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used"),
    rule(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    rule(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    rule("NoEmptyContinuation", "Empty continuation lines will become errors in a future release"),
    rule(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    rule("ReservedStageName", "Reserved words should not be used as stage names"),
    rule("SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands"),
    rule("StageNameCasing", "Stage names should be lowercase"),
    rule("UndefinedArgInFrom", "FROM command must use declared ARGs"),
    rule("UndefinedVar", "Variables should be defined before their use"),
    rule(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
    Rule {
        is_documented: false,
        ..rule(BROKEN_JSON, "Arguments that begin like a JSON array should be one")
    },
    Rule { is_documented: false, ..rule(UNKNOWN_CHECK, "Options should name build checks that exist") },
];

const fn rule(name: &'static str, description: &'static str) -> Rule {
    Rule { name, description, is_experimental: false, is_documented: true }
}

/// The check with this name, letter case aside.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name.eq_ignore_ascii_case(name))
}

/// `stage-name-casing` for `StageNameCasing`.
fn kebab_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let after_lower = index > 0 && letters[index - 1].is_lowercase();
        let before_lower = index > 0 && letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || before_lower) {
            kebab.push('-');
        }
        kebab.extend(letter.to_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_the_name_in_kebab_case() {
        let page = |name| find(name).unwrap().documentation();
        let expected = |name| Some(format!("https://docs.docker.com/go/dockerfile/rule/{name}/"));
        assert_eq!(page("StageNameCasing"), expected("stage-name-casing"));
        assert_eq!(page("jsonargsrecommended"), expected("json-args-recommended"));
        assert_eq!(page("SecretsUsedInArgOrEnv"), expected("secrets-used-in-arg-or-env"));
        assert_eq!(page("InvalidBaseImagePlatform"), None);
    }
}

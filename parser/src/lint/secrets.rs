//! A check about secrets: what ARG and ENV hold can be read in the image.

use super::Findings;
use crate::ast::{Dockerfile, InstructionKind, Word};

/// Words in a name that speak of a secret.
const SECRET: [&str; 11] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "passwd",
    "pwd",
    "pword",
    "secret",
    "token",
];
/// Words that say that it is something about a secret, or not secret at all.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(super) fn secrets_used_in_arg_or_env(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for instruction in &dockerfile.instructions {
        let names: Vec<&Word> = match &instruction.kind {
            InstructionKind::Arg(declarations) => declarations.iter().map(|arg| &arg.name).collect(),
            InstructionKind::Env(pairs) => pairs.iter().map(|pair| &pair.key).collect(),
            _ => continue,
        };
        let keyword = instruction.keyword.text.to_uppercase();
        for name in names.into_iter().filter(|name| sounds_secret(&name.text)) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {:?})", name.text);
            findings.add(
                name.span,
                message,
                "use RUN --mount=type=secret, which leaves nothing in the image",
            );
        }
    }
}

/// Whether one of the words of `NAME_LIKE_THIS` is that of a secret.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(&SECRET) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_of_a_name_count() {
        for name in ["AWS_SECRET_ACCESS_KEY", "token", "GITHUB_TOKEN", "Db_Password", "API_KEY", "AUTH"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["MONKEY", "KEYBOARD", "AUTHOR", "PUBLIC_KEY", "PASSWORD_FILE", "TOKEN_VERSION", ""] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}

//! Named contexts (`--build-context name=…`): content that takes the place of stages and images.
//!
//! A name stands for a stage, for what `COPY --from` and `RUN --mount=from=` name, or for an image in FROM;
//! `name::platform` is looked at before `name`. Source: `docker buildx build --build-context`.

use std::collections::BTreeMap;

use base::{Platform, Reference};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files of the caller: the local source of the context's name.
    Local,
    /// Another image.
    Image(Reference),
}

/// The context that `name` stands for, with the name it was given under.
pub(crate) fn find<'a>(
    contexts: &'a BTreeMap<String, NamedContext>,
    name: &str,
    platform: &Platform,
) -> Option<(&'a str, &'a NamedContext)> {
    // Nearly always there are none, and every FROM and --from asks.
    if contexts.is_empty() {
        return None;
    }
    let get = |name: &str| contexts.get_key_value(name).map(|(name, context)| (name.as_str(), context));
    let of_name = |name: &str| get(&format!("{name}::{platform}")).or_else(|| get(name));
    of_name(name).or_else(|| {
        let reference: Reference = name.parse().ok()?;
        let wanted = reference.to_string();
        // An image may be named in any of its ways: "alpine", "alpine:latest", "docker.io/library/alpine".
        let same = |known: &str| {
            let bare = known.strip_suffix(&format!("::{platform}")).unwrap_or(known);
            bare.parse::<Reference>().is_ok_and(|known| known.to_string() == wanted)
        };
        let mut matching = contexts.iter().filter(|(known, _)| same(known));
        matching.next_back().map(|(name, context)| (name.as_str(), context))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str], wanted: &str) -> Option<String> {
        let contexts = names.iter().map(|name| ((*name).to_owned(), NamedContext::Local)).collect();
        find(&contexts, wanted, &Platform::new("linux", "arm64", "")).map(|(name, _)| name.to_owned())
    }

    #[test]
    fn the_platforms_own_context_comes_first() {
        assert_eq!(found(&["a", "a::linux/arm64"], "a").as_deref(), Some("a::linux/arm64"));
        assert_eq!(found(&["a", "a::linux/amd64"], "a").as_deref(), Some("a"));
        assert_eq!(found(&["b"], "a"), None);
    }

    #[test]
    fn an_image_is_found_by_any_of_its_names() {
        assert_eq!(
            found(&["docker.io/library/alpine"], "alpine:latest").as_deref(),
            Some("docker.io/library/alpine")
        );
        assert_eq!(
            found(&["alpine::linux/arm64"], "docker.io/library/alpine").as_deref(),
            Some("alpine::linux/arm64")
        );
        assert_eq!(found(&["alpine:3"], "alpine"), None);
    }
}

//! `--cache-from` and `--cache-to`: what was typed to the places that builders share.

use engine::request::{CachePlace, SharedCaches};

use crate::error::CliError;

const EXAMPLE: &str =
    "as in type=records,ref=registry.example.com/team/cache or type=records,dest=/srv/cache";

/// Reads all of both flags.
pub(crate) fn parse(from: &[String], to: &[String]) -> Result<SharedCaches, CliError> {
    let places = |flag: &str, directory: &str, texts: &[String]| {
        texts.iter().map(|text| place(flag, directory, text)).collect::<Result<Vec<_>, _>>()
    };
    Ok(SharedCaches { from: places("--cache-from", "src", from)?, to: places("--cache-to", "dest", to)? })
}

/// Reads `type=records,ref=REFERENCE`, or with a directory, which is called `directory`.
fn place(flag: &str, directory: &str, text: &str) -> Result<CachePlace, CliError> {
    let error = |why: &str| CliError::usage(format!("invalid {flag} \"{text}\": {why}"), EXAMPLE);
    let (mut kind, mut place) = (None, None);
    for field in text.split(',') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let found = match name {
            "type" => {
                kind = Some(value);
                continue;
            }
            "ref" => CachePlace::Repository(value.parse().map_err(|why| error(&format!("{why}")))?),
            name if name == directory && !value.is_empty() => {
                let path = std::path::absolute(value).map_err(|why| error(&why.to_string()))?;
                CachePlace::Directory(path)
            }
            _ => return Err(error(&format!("\"{field}\" is not supported"))),
        };
        if place.replace(found).is_some() {
            return Err(error("it names two places"));
        }
    }
    match kind {
        Some("records") => place.ok_or_else(|| error(&format!("it has neither ref nor {directory}"))),
        Some(kind) => Err(error(&format!("the type \"{kind}\" is not supported"))),
        None => Err(error("it has no type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<Vec<CachePlace>, String> {
        let parsed = parse(&[text.to_owned()], &[]).map_err(|error| error.message().to_owned());
        parsed.map(|caches| caches.from)
    }

    #[test]
    fn places_are_repositories_and_directories() {
        let repository = CachePlace::Repository("localhost:5000/cache".parse().unwrap());
        assert_eq!(from("type=records,ref=localhost:5000/cache"), Ok(vec![repository]));
        assert_eq!(from("src=/srv/cache,type=records"), Ok(vec![CachePlace::Directory("/srv/cache".into())]));
        let to = parse(&[], &["type=records,dest=/srv".to_owned()]).unwrap();
        assert_eq!(to.to, [CachePlace::Directory("/srv".into())]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("type=records", "it has neither ref nor src"),
            ("ref=localhost:5000/cache", "it has no type"),
            ("type=what,src=/srv", "the type \"what\" is not supported"),
            ("type=records,src=/a,src=/b", "it names two places"),
            ("type=records,dest=/a", "\"dest=/a\" is not supported"),
            ("type=records,ref=A b", "invalid reference format"),
        ] {
            let error = from(text).unwrap_err();
            assert!(error.contains(text) && error.contains(why), "{error}");
        }
    }
}

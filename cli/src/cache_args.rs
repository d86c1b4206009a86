//! `--cache-from` and `--cache-to`: what was typed to the places that builders share.

use engine::request::{CacheSource, CacheWords, SharedCaches};

use crate::error::CliError;

const EXAMPLE: &str = "as in type=registry,ref=registry.example.com/app:cache,mode=max, type=local,dest=DIRECTORY, \
                       type=records,ref=registry.example.com/team/cache or type=records,s3=BUCKET,region=eu-west-1";

/// What a variable of the environment says.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads all of `--cache-from`, `--cache-to` and `--cache-mounts`.
pub(crate) fn parse(
    from: &[String],
    to: &[String],
    mounts: &[String],
    environment: Environment<'_>,
) -> Result<SharedCaches, CliError> {
    let mut caches = SharedCaches { mounts: mounts.to_vec(), ..SharedCaches::default() };
    let wrong = |flag: &str, text: &str, why: &dyn std::fmt::Display| {
        CliError::usage(format!("invalid {flag} \"{text}\": {why}"), EXAMPLE)
    };
    for text in from {
        let words = CacheWords::of_text(text, Some("src"), environment);
        caches.read_from(&words).map_err(|why| wrong("--cache-from", text, &why))?;
    }
    for text in to {
        let words = CacheWords::of_text(text, Some("dest"), environment);
        caches.write_to(&words).map_err(|why| wrong("--cache-to", text, &why))?;
    }
    check_mounts(&caches)?;
    Ok(caches)
}

/// Refuses `--cache-mounts` that could go nowhere: documents have no room for them.
fn check_mounts(caches: &SharedCaches) -> Result<(), CliError> {
    let has_records =
        !caches.to.is_empty() || caches.from.iter().any(|from| matches!(from, CacheSource::Records(_)));
    if !caches.mounts.is_empty() && !has_records {
        let message = "--cache-mounts needs --cache-from or --cache-to with type=records".to_owned();
        return Err(CliError::usage(message, EXAMPLE));
    }
    if caches.mounts.iter().any(String::is_empty) {
        let message = "--cache-mounts has an empty scope".to_owned();
        return Err(CliError::usage(message, "as in --cache-mounts=my-branch,main"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_the_flag() {
        let from = parse(&["type=records".to_owned()], &[], &[], &|_| None).unwrap_err();
        assert_eq!(
            from.message(),
            "invalid --cache-from \"type=records\": it has neither ref nor src nor s3"
        );
        let to = ["type=registry,ref=a".to_owned(), "a".to_owned()];
        let twice = parse(&[], &to, &[], &|_| None).unwrap_err();
        assert!(twice.message().contains("invalid --cache-to \"a\": two caches"), "{}", twice.message());
    }

    #[test]
    fn mounts_need_a_place() {
        let mounts =
            |scope: &str, from: &[String]| parse(from, &[], &[scope.to_owned()], &|_| None).map(drop);
        let somewhere = ["type=records,src=/srv".to_owned()];
        assert!(mounts("main", &[]).unwrap_err().message().contains("needs --cache-from or --cache-to"));
        assert!(mounts("", &somewhere).unwrap_err().message().contains("empty scope"));
        assert!(mounts("main", &somewhere).is_ok());
    }
}

//! `--cache-from` and `--cache-to`: what was typed to the places that builders share.

pub(crate) mod bucket;

use engine::request::{CachePlace, CacheSource, ReapiOptions, SharedCaches};

use crate::cache_document_args;
use crate::error::CliError;

const EXAMPLE: &str = "as in type=records,ref=registry.example.com/team/cache, type=records,dest=/srv/cache or \
                       type=records,s3=BUCKET,region=eu-west-1";

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
    for text in from {
        caches.from.push(match cache_document_args::source(text, environment)? {
            Some(document) => CacheSource::Document(document),
            None => CacheSource::Records(place("--cache-from", "src", text, environment)?),
        });
    }
    for text in to {
        if text == "type=inline" {
            caches.inline = true;
            continue;
        }
        match cache_document_args::output(text, environment)? {
            Some(document) => caches.documents.push(document),
            None => caches.to.push(place("--cache-to", "dest", text, environment)?),
        }
    }
    cache_document_args::refuse_twice(&caches.documents)?;
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

/// Reads `type=records,ref=REFERENCE`, or with a bucket, or with a directory, which is called `directory`.
fn place(
    flag: &str,
    directory: &str,
    text: &str,
    environment: Environment<'_>,
) -> Result<CachePlace, CliError> {
    let error = |why: &str| CliError::usage(format!("invalid {flag} \"{text}\": {why}"), EXAMPLE);
    let fields: Vec<(&str, &str)> =
        text.split(',').map(|field| field.split_once('=').unwrap_or((field, ""))).collect();
    match fields.iter().find(|(name, _)| *name == "type").map(|(_, kind)| *kind) {
        Some("records") => {}
        Some("reapi") => return cluster(&fields, environment).map_err(|why| error(&why)),
        Some(kind) => return Err(error(&format!("the type \"{kind}\" is not supported"))),
        None => return Err(error("it has no type")),
    }
    let mut fields: Vec<_> = fields.into_iter().filter(|(name, _)| *name != "type").collect();
    let is_place = |(name, _): &&(&str, &str)| ["ref", "s3", directory].contains(name);
    if fields.iter().filter(is_place).count() > 1 {
        return Err(error("it names two places"));
    }
    let Some(at) = fields.iter().position(|field| is_place(&field)) else {
        return Err(error(&format!("it has neither ref nor {directory} nor s3")));
    };
    let (kind, value) = fields.remove(at);
    if kind == "s3" {
        let place = bucket::place(value, &fields, environment).map_err(|why| error(&why))?;
        return Ok(CachePlace::Bucket(Box::new(place)));
    }
    if let Some((name, value)) = fields.first() {
        return Err(error(&format!("\"{name}={value}\" is not supported")));
    }
    match kind {
        "ref" => Ok(CachePlace::Repository(value.parse().map_err(|why| error(&format!("{why}")))?)),
        _ if value.is_empty() => Err(error(&format!("{directory} is empty"))),
        _ => Ok(CachePlace::Directory(std::path::absolute(value).map_err(|why| error(&why.to_string()))?)),
    }
}

/// Reads `type=reapi,endpoint=grpc://HOST:PORT,instance=NAME,token=TOKEN,ca=FILE,header=NAME:VALUE`; several headers are possible.
fn cluster(fields: &[(&str, &str)], environment: Environment<'_>) -> Result<CachePlace, String> {
    let token = environment("LAPSTRAKE_REAPI_TOKEN");
    let mut options = ReapiOptions { token, ..ReapiOptions::default() };
    for (name, value) in fields {
        match *name {
            "type" => {}
            "endpoint" => options.endpoint = (*value).to_owned(),
            "instance" => options.instance = (*value).to_owned(),
            "token" => options.token = Some((*value).to_owned()),
            "ca" if !value.is_empty() => options.authority = Some((*value).into()),
            "header" => {
                let header = value.split_once(':').ok_or("a header is like header=NAME:VALUE")?;
                options.headers.push((header.0.trim().to_owned(), header.1.trim().to_owned()));
            }
            _ => return Err(format!("\"{name}={value}\" is not supported")),
        }
    }
    match options.endpoint.is_empty() {
        true => Err("it has no endpoint, such as grpc://HOST:PORT".to_owned()),
        false => Ok(CachePlace::Cluster(Box::new(options))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<Vec<CacheSource>, String> {
        let parsed = parse(&[text.to_owned()], &[], &[], &|_| None);
        parsed.map(|caches| caches.from).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn places_are_repositories_and_directories() {
        let repository = CachePlace::Repository("localhost:5000/cache".parse().unwrap());
        let records = |place| Ok(vec![CacheSource::Records(place)]);
        assert_eq!(from("type=records,ref=localhost:5000/cache"), records(repository));
        assert_eq!(from("src=/srv/cache,type=records"), records(CachePlace::Directory("/srv/cache".into())));
        let to = parse(&[], &["type=records,dest=/srv".to_owned()], &[], &|_| None).unwrap();
        assert_eq!(to.to, [CachePlace::Directory("/srv".into())]);
    }

    #[test]
    fn a_cluster_has_an_endpoint() {
        let options = |token: Option<&str>| {
            let (endpoint, instance) = ("grpc://h:1".to_owned(), "main".to_owned());
            let token = token.map(str::to_owned);
            let options = ReapiOptions { endpoint, instance, token, ..ReapiOptions::default() };
            vec![CacheSource::Records(CachePlace::Cluster(Box::new(options)))]
        };
        assert_eq!(from("type=reapi,endpoint=grpc://h:1,instance=main"), Ok(options(None)));
        assert_eq!(from("type=reapi,endpoint=grpc://h:1,instance=main,token=t"), Ok(options(Some("t"))));
        let more = from("type=reapi,endpoint=grpcs://h:1,ca=/ca.pem,header=x-key: secret").unwrap();
        let [CacheSource::Records(CachePlace::Cluster(options))] = &more[..] else { panic!("{more:?}") };
        assert_eq!(options.authority.as_deref(), Some(std::path::Path::new("/ca.pem")));
        assert_eq!(options.headers, [("x-key".to_owned(), "secret".to_owned())]);
        assert!(!format!("{more:?}").contains("secret"));
    }

    #[test]
    fn mistakes_are_named() {
        let mounts =
            |scope: &str, from: &[String]| parse(from, &[], &[scope.to_owned()], &|_| None).map(drop);
        let somewhere = ["type=records,src=/srv".to_owned()];
        assert!(mounts("main", &[]).unwrap_err().message().contains("needs --cache-from or --cache-to"));
        assert!(mounts("", &somewhere).unwrap_err().message().contains("empty scope"));
        assert!(mounts("main", &somewhere).is_ok());
        for (text, why) in [
            ("type=records", "it has neither ref nor src nor s3"),
            ("ref=localhost:5000/cache", "it has no type"),
            ("type=what,src=/srv", "the type \"what\" is not supported"),
            ("type=records,src=/a,src=/b", "it names two places"),
            ("type=records,src=/a,dest=/a", "\"dest=/a\" is not supported"),
            ("type=records,src=", "src is empty"),
            ("type=records,ref=A b", "invalid reference format"),
            ("type=records,s3=b,ref=x", "it names two places"),
            ("type=reapi,instance=x", "it has no endpoint"),
            ("type=reapi,endpoint=grpc://h:1,ref=x", "\"ref=x\" is not supported"),
            ("type=reapi,endpoint=grpc://h:1,header=x", "a header is like header=NAME:VALUE"),
            ("type=records,s3=b,x=y", "\"x=y\" is not supported"),
        ] {
            let error = from(text).unwrap_err();
            assert!(error.contains(text) && error.contains(why), "{error}");
        }
    }
}

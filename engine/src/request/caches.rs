//! Caches that builders share, in the words of `--cache-from` and `--cache-to`, and of clients of the API.

use std::sync::Arc;

use super::{CachePlace, CacheSource, ReapiOptions, SharedCaches, cache_bucket, cache_documents};
use crate::caller::CallersBlobs;

/// What a variable of the environment says.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why words name no cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongCache(String);

impl WrongCache {
    pub(super) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

/// A cache as it is named: attributes with values.
#[derive(Clone)]
pub struct CacheWords<'a> {
    /// The attributes, with `type`. The last of a name counts.
    pub fields: Vec<(&'a str, &'a str)>,
    /// What the attribute with a directory of this machine is called; `None` for those who may name no files of it.
    pub directory: Option<&'a str>,
    /// Who has the directories of those who may not, and what the attribute with one is called.
    pub caller: Option<(&'a str, Arc<dyn CallersBlobs>)>,
    /// What a variable of the environment says, for what the attributes leave open.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> CacheWords<'a> {
    /// The attributes of `type=registry,ref=NAME`. A name alone is that of a registry.
    pub fn of_text(
        text: &'a str,
        directory: Option<&'a str>,
        environment: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let fields = match text.contains('=') {
            false => vec![("type", "registry"), ("ref", text)],
            true => text.split(',').map(|field| field.split_once('=').unwrap_or((field, ""))).collect(),
        };
        Self { fields, directory, caller: None, environment }
    }

    /// The last value of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }
}

impl SharedCaches {
    /// Adds a cache that is read.
    ///
    /// # Errors
    /// The words name none.
    pub fn read_from(&mut self, words: &CacheWords<'_>) -> Result<(), WrongCache> {
        self.from.push(match cache_documents::source(words)? {
            Some(document) => CacheSource::Document(document),
            None => CacheSource::Records(place(words)?),
        });
        Ok(())
    }

    /// Adds a cache that is written.
    ///
    /// # Errors
    /// The words name none, or one that is written already: one of the two would be lost.
    pub fn write_to(&mut self, words: &CacheWords<'_>) -> Result<(), WrongCache> {
        if words.get("type") == Some("inline") {
            // How much of a build it has is how much of it is in the image, and that is nothing to choose.
            let rest = words.fields.iter().find(|(name, _)| !["type", "mode", "ignore-error"].contains(name));
            self.inline = true;
            return rest.map_or(Ok(()), |(name, _)| Err(unsupported(name)));
        }
        match cache_documents::output(words)? {
            Some(document) if self.documents.iter().any(|other| other.place == document.place) => {
                return Err(WrongCache::new(
                    "two caches that are written have the same place; give each its own",
                ));
            }
            Some(document) => self.documents.push(document),
            None => self.to.push(place(words)?),
        }
        Ok(())
    }
}

fn unsupported(name: &str) -> WrongCache {
    WrongCache::new(&format!("\"{name}\" is not supported"))
}

/// The place of `type=records,ref=REFERENCE`, or with a bucket, or with a directory.
fn place(words: &CacheWords<'_>) -> Result<CachePlace, WrongCache> {
    let error = WrongCache::new;
    match words.get("type") {
        Some("records") => {}
        Some("reapi") => return cluster(words).map_err(|why| error(&why)),
        Some(kind) => return Err(error(&format!("the type \"{kind}\" is not supported"))),
        None => return Err(error("it has no type")),
    }
    let mut fields: Vec<_> = words.fields.iter().copied().filter(|(name, _)| *name != "type").collect();
    let is_place = |(name, _): &&(&str, &str)| ["ref", "s3"].contains(name) || Some(*name) == words.directory;
    if fields.iter().filter(is_place).count() > 1 {
        return Err(error("it names two places"));
    }
    let Some(at) = fields.iter().position(|field| is_place(&field)) else {
        return Err(error(&match words.directory {
            Some(directory) => format!("it has neither ref nor {directory} nor s3"),
            None => "it has neither ref nor s3".to_owned(),
        }));
    };
    let (kind, value) = fields.remove(at);
    if kind == "s3" {
        let place = cache_bucket::place(value, &fields, words.environment).map_err(|why| error(&why))?;
        return Ok(CachePlace::Bucket(Box::new(place)));
    }
    if let Some((name, value)) = fields.first() {
        return Err(error(&format!("\"{name}={value}\" is not supported")));
    }
    match kind {
        "ref" => Ok(CachePlace::Repository(value.parse().map_err(|why| error(&format!("{why}")))?)),
        directory if value.is_empty() => Err(error(&format!("{directory} is empty"))),
        _ => Ok(CachePlace::Directory(std::path::absolute(value).map_err(|why| error(&why.to_string()))?)),
    }
}

/// Reads `type=reapi,endpoint=grpc://HOST:PORT,instance=NAME,token=TOKEN,ca=FILE,header=NAME:VALUE`; several headers are possible.
fn cluster(words: &CacheWords<'_>) -> Result<CachePlace, String> {
    let token = (words.environment)("LAPSTRAKE_REAPI_TOKEN");
    let mut options = ReapiOptions { token, ..ReapiOptions::default() };
    for (name, value) in &words.fields {
        match *name {
            "type" => {}
            "endpoint" => options.endpoint = (*value).to_owned(),
            "instance" => options.instance = (*value).to_owned(),
            "token" => options.token = Some((*value).to_owned()),
            "ca" if !value.is_empty() && words.directory.is_some() => {
                options.authority = Some((*value).into())
            }
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
        let mut caches = SharedCaches::default();
        let parsed = caches.read_from(&CacheWords::of_text(text, Some("src"), &|_| None));
        parsed.map(|()| caches.from).map_err(|error| error.to_string())
    }

    fn to(texts: &[&str], directory: Option<&str>) -> Result<SharedCaches, String> {
        let mut caches = SharedCaches::default();
        for text in texts {
            let written = caches.write_to(&CacheWords::of_text(text, directory, &|_| None));
            written.map_err(|error| error.to_string())?;
        }
        Ok(caches)
    }

    #[test]
    fn places_are_repositories_and_directories() {
        let repository = CachePlace::Repository("localhost:5000/cache".parse().unwrap());
        let records = |place| Ok(vec![CacheSource::Records(place)]);
        assert_eq!(from("type=records,ref=localhost:5000/cache"), records(repository));
        assert_eq!(from("src=/srv/cache,type=records"), records(CachePlace::Directory("/srv/cache".into())));
        let to = to(&["type=records,dest=/srv", "type=inline"], Some("dest")).unwrap();
        assert_eq!((to.to, to.inline), (vec![CachePlace::Directory("/srv".into())], true));
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
            assert!(error.contains(why), "{error}");
        }
        assert!(to(&["a/b", "type=registry,ref=a/b"], None).unwrap_err().contains("the same place"));
        assert!(to(&["a/b", "type=registry,ref=a/c"], None).is_ok());
    }

    #[test]
    fn those_of_elsewhere_name_no_files_of_this_machine() {
        for (text, why) in [
            ("type=records,dest=/srv", "it has neither ref nor s3"),
            ("type=local,dest=/srv", "a directory of the client"),
            ("type=reapi,endpoint=grpc://h:1,ca=/etc/shadow", "\"ca=/etc/shadow\" is not supported"),
            ("type=tape,name=x", "the type \"tape\" is not supported"),
            ("type=inline,ref=x", "\"ref\" is not supported"),
        ] {
            let error = to(&[text], None).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

//! Caches that are one document, in BuildKit's words.

use std::sync::Arc;
use std::time::Duration;

use super::caches::{CacheWords, WrongCache};
use super::{
    ActionsPlace, ActionsProtocol, BucketDocumentPlace, CacheMode, CallersPlace, DocumentForm, DocumentInput,
    DocumentOutput, DocumentPlace, LayerOptions, LayoutPlace, cache_azure as azure, cache_bucket as bucket,
};

/// The tag of a layout's document that is meant without one.
const DEFAULT_TAG: &str = "latest";

/// The name of a document of the Actions cache, or of a bucket, that is meant without one.
const DEFAULT_NAME: &str = "buildkit";

/// How long a request to the Actions cache may take.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long reading a document may take elsewhere.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The document that is read. `None` for other kinds of caches.
pub(super) fn source(words: &CacheWords<'_>) -> Result<Option<DocumentInput>, WrongCache> {
    let Some(fields) = Fields::of_document(words)? else { return Ok(None) };
    // There it is the limit of one request.
    let timeout = match fields.kind {
        "gha" => fields.timeout(DEFAULT_TIMEOUT)?.max(DEFAULT_TIMEOUT),
        _ => fields.timeout(LOAD_TIMEOUT)?,
    };
    let input = DocumentInput { place: fields.place()?, timeout };
    if let DocumentPlace::Caller(CallersPlace { digest: None, .. }) = input.place {
        // BuildKit's words.
        return Err(fields.error("local cache importer requires explicit digest"));
    }
    fields.refuse_rest(&["timeout"])?;
    Ok(Some(input))
}

/// The document that is written. `None` for other kinds of caches.
pub(super) fn output(words: &CacheWords<'_>) -> Result<Option<DocumentOutput>, WrongCache> {
    let Some(fields) = Fields::of_document(words)? else { return Ok(None) };
    let place = fields.place()?;
    let output = DocumentOutput {
        place,
        mode: fields.mode(),
        layers: fields.layers()?,
        form: fields.form()?,
        ignore_error: fields.truth("ignore-error")?.unwrap_or(false),
    };
    fields.refuse_rest(&[
        "mode",
        "image-manifest",
        "oci-mediatypes",
        "compression",
        "compression-level",
        "force-compression",
        "ignore-error",
    ])?;
    Ok(Some(output))
}

/// The attributes of a document.
struct Fields<'a> {
    words: &'a CacheWords<'a>,
    kind: &'a str,
}

impl<'a> Fields<'a> {
    /// The attributes, if they are of a cache that is one document.
    fn of_document(words: &'a CacheWords<'a>) -> Result<Option<Self>, WrongCache> {
        let Some(kind) = words.get("type") else { return Ok(None) };
        if kind == "local" && words.directory.is_none() && words.caller.is_none() {
            let why = "a directory of the client is wanted, and the client offers none; \
                       type=registry, type=s3, type=azblob, type=gha and type=inline need none";
            return Err(WrongCache::new(why));
        }
        let is_document = matches!(kind, "registry" | "local" | "gha" | "s3" | "azblob");
        Ok(is_document.then_some(Self { words, kind }))
    }

    fn error(&self, why: &str) -> WrongCache {
        WrongCache::new(why)
    }

    /// What the attribute with a directory is called.
    fn directory(&self) -> &'a str {
        let of_caller = self.words.caller.as_ref().map(|(name, _)| *name);
        self.words.directory.or(of_caller).unwrap_or_default()
    }

    fn environment(&self, name: &str) -> Option<String> {
        (self.words.environment)(name)
    }

    /// The last value of a field.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.words.get(name)
    }

    fn needed(&self, name: &str) -> Result<&'a str, WrongCache> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| self.error(&format!("it has no {name}")))
    }

    fn truth(&self, name: &str) -> Result<Option<bool>, WrongCache> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let why = || self.error(&format!("\"{name}\" is true or false, not \"{value}\""));
        base::boolean::parse(value).map(Some).ok_or_else(why)
    }

    fn place(&self) -> Result<DocumentPlace, WrongCache> {
        if self.kind == "registry" {
            let place = match self.truth("registry.insecure")?.unwrap_or(false) {
                true => DocumentPlace::InsecureRegistry,
                false => DocumentPlace::Registry,
            };
            return self.needed("ref")?.parse().map(place).map_err(|why| self.error(&format!("{why}")));
        }
        if self.kind == "gha" {
            return self.actions().map(DocumentPlace::Actions);
        }
        if self.kind == "s3" {
            return self.bucket().map(|place| DocumentPlace::Bucket(Box::new(place)));
        }
        if self.kind == "azblob" {
            let get = |name: &str| self.get(name).map(str::to_owned);
            let place = azure::place(get, self.words.environment).map_err(|why| self.error(&why))?;
            return Ok(DocumentPlace::Azure(Box::new(place)));
        }
        let digest = self.get("digest").filter(|digest| !digest.is_empty()).map(str::parse).transpose();
        if let (None, Some((_, blobs))) = (self.words.directory, &self.words.caller) {
            return Ok(DocumentPlace::Caller(CallersPlace {
                blobs: Arc::clone(blobs),
                store: self.needed(self.directory())?.to_owned(),
                digest: digest.map_err(|why| self.error(&format!("{why}")))?,
                written: Arc::default(),
            }));
        }
        let directory = std::path::absolute(self.needed(self.directory())?);
        Ok(DocumentPlace::Layout(LayoutPlace {
            directory: directory.map_err(|why| self.error(&why.to_string()))?,
            tag: self.get("tag").unwrap_or(DEFAULT_TAG).to_owned(),
            digest: digest.map_err(|why| self.error(&format!("{why}")))?,
        }))
    }

    /// A document may have several names, with semicolons between them.
    fn bucket(&self) -> Result<BucketDocumentPlace, WrongCache> {
        let name = self.get("bucket").map(str::to_owned).or_else(|| self.environment("AWS_BUCKET"));
        let name = name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| self.error("it has no bucket, and AWS_BUCKET says none"))?;
        let of_bucket = self.words.fields.iter().filter(|(name, _)| bucket::ATTRIBUTES.contains(name));
        let of_bucket: Vec<_> = of_bucket.copied().collect();
        let names: Vec<String> =
            self.get("name").unwrap_or(DEFAULT_NAME).split(';').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(self.error("one of its names is empty"));
        }
        Ok(BucketDocumentPlace {
            bucket: bucket::place(&name, &of_bucket, self.words.environment)
                .map_err(|why| self.error(&why))?,
            manifests_prefix: self.get("manifests_prefix").unwrap_or("manifests/").to_owned(),
            names,
        })
    }

    /// A service that is not named is the job's.
    fn actions(&self) -> Result<ActionsPlace, WrongCache> {
        let given = |field: &str, variable: &str| {
            let own = self.get(field).map(str::to_owned);
            own.or_else(|| self.environment(variable)).filter(|value| !value.is_empty())
        };
        let missing =
            |what: &str| self.error(&format!("there is no {what}: is this a job of GitHub Actions?"));
        let (old, new) = (given("url", "ACTIONS_CACHE_URL"), given("url_v2", "ACTIONS_RESULTS_URL"));
        let switch =
            self.environment("ACTIONS_CACHE_SERVICE_V2").and_then(|value| base::boolean::parse(&value));
        let protocol = match (self.get("version"), &old) {
            (Some("1"), _) => ActionsProtocol::V1,
            (Some("2"), _) => ActionsProtocol::V2,
            (Some(_), _) => return Err(self.error("version is 1 or 2")),
            (None, _) if switch == Some(true) => ActionsProtocol::V2,
            (None, Some(_)) => ActionsProtocol::V1,
            (None, None) => ActionsProtocol::V2,
        };
        let url = match protocol {
            ActionsProtocol::V1 => old.ok_or_else(|| missing("url (ACTIONS_CACHE_URL)"))?,
            ActionsProtocol::V2 => new.or(old).ok_or_else(|| missing("url_v2 (ACTIONS_RESULTS_URL)"))?,
        };
        let token = given("token", "ACTIONS_RUNTIME_TOKEN");
        Ok(ActionsPlace {
            protocol,
            url,
            token: token.ok_or_else(|| missing("token (ACTIONS_RUNTIME_TOKEN)"))?,
            scope: self.get("scope").unwrap_or(DEFAULT_NAME).to_owned(),
            timeout: self.timeout(DEFAULT_TIMEOUT)?,
        })
    }

    fn timeout(&self, default: Duration) -> Result<Duration, WrongCache> {
        let Some(text) = self.get("timeout") else { return Ok(default) };
        base::time::parse_duration(text).ok_or_else(|| self.error("timeout is a time such as 30s or 10m"))
    }

    /// Whatever is not `max` is `min`, as in BuildKit.
    fn mode(&self) -> CacheMode {
        if self.get("mode") == Some("max") { CacheMode::Max } else { CacheMode::Min }
    }

    fn form(&self) -> Result<DocumentForm, WrongCache> {
        let oci_media_types = self.truth("oci-mediatypes")?.unwrap_or(true);
        let image_manifest = self.truth("image-manifest")?;
        if image_manifest == Some(true) && !oci_media_types {
            return Err(self.error("image-manifest=true needs oci-mediatypes=true"));
        }
        Ok(DocumentForm { image_manifest: image_manifest.unwrap_or(oci_media_types), oci_media_types })
    }

    fn layers(&self) -> Result<LayerOptions, WrongCache> {
        let method = self.get("compression").unwrap_or("gzip");
        let compression = super::compression(method, self.get("compression-level"));
        let compression = Some(compression.map_err(|wrong| self.error(&wrong.why))?);
        let force = self.truth("force-compression")?.unwrap_or(false);
        Ok(LayerOptions { compression, force, ..LayerOptions::default() })
    }

    /// Refuses fields that are neither part of the place nor in `known`.
    fn refuse_rest(&self, known: &[&str]) -> Result<(), WrongCache> {
        let of_place = match self.kind {
            "registry" => &["type", "ref", "registry.insecure"][..],
            // The last two save BuildKit requests that are not made here.
            "gha" => {
                &["type", "url", "url_v2", "version", "token", "scope", "timeout", "repository", "ghtoken"]
            }
            "s3" => &["type", "bucket", "name", "manifests_prefix"],
            "azblob" => &azure::ATTRIBUTES,
            _ => &["type", self.directory(), "tag", "digest"],
        };
        let is_known = |name: &str| {
            known.contains(&name)
                || of_place.contains(&name)
                || (self.kind == "s3" && bucket::ATTRIBUTES.contains(&name))
        };
        let rest = self.words.fields.iter().find(|(name, _)| !is_known(name));
        match rest {
            Some((name, _)) => Err(self.error(&format!("\"{name}\" is not supported"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compression, caches::Environment};
    use super::*;

    fn source(text: &str, environment: Environment<'_>) -> Result<Option<DocumentInput>, WrongCache> {
        super::source(&CacheWords::of_text(text, Some("src"), environment))
    }

    fn read(text: &str) -> Option<DocumentPlace> {
        source(text, &|_| None).unwrap().map(|input| input.place)
    }

    fn written(text: &str) -> Result<DocumentOutput, String> {
        let parsed = output(&CacheWords::of_text(text, Some("dest"), &|_| None));
        parsed.map(|output| output.unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_alone_is_of_a_registry() {
        let registry = DocumentPlace::Registry("example.com/app:cache".parse().unwrap());
        assert_eq!(read("example.com/app:cache"), Some(registry.clone()));
        assert_eq!(read("type=registry,ref=example.com/app:cache"), Some(registry.clone()));
        assert_eq!(read("type=records,src=/srv"), None);
        let patient =
            source("type=registry,ref=example.com/app:cache,timeout=5s", &|_| None).unwrap().unwrap();
        assert_eq!(patient.timeout, Duration::from_secs(5));
        let output = written("example.com/app:cache").unwrap();
        assert_eq!((output.place, output.mode, output.ignore_error), (registry, CacheMode::Min, false));
        assert_eq!(
            (output.form, output.layers.compression),
            (DocumentForm::default(), Some(Compression::GZIP))
        );
    }

    #[test]
    fn all_fields_are_read() {
        let output = written(
            "type=local,dest=/srv/cache,tag=main,mode=max,oci-mediatypes=false,compression=zstd,compression-level=9,\
             force-compression=true,ignore-error=true",
        );
        let output = output.unwrap();
        let place = LayoutPlace { directory: "/srv/cache".into(), tag: "main".to_owned(), digest: None };
        assert_eq!(output.place, DocumentPlace::Layout(place));
        assert_eq!((output.mode, output.ignore_error), (CacheMode::Max, true));
        assert_eq!(output.form, DocumentForm { image_manifest: false, oci_media_types: false });
        assert_eq!((output.layers.compression, output.layers.force), (Some(Compression::Zstd(9)), true));
    }

    #[test]
    fn a_job_knows_its_service() {
        let job = |name: &str| {
            let value = match name {
                "ACTIONS_CACHE_URL" => "http://old/",
                "ACTIONS_RESULTS_URL" => "http://new/",
                "ACTIONS_RUNTIME_TOKEN" => "secret",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let place = |text: &str| match source(text, &job).map(|input| input.map(|input| input.place)) {
            Ok(Some(DocumentPlace::Actions(place))) => place,
            other => panic!("{text}: {other:?}"),
        };
        let default = place("type=gha");
        assert_eq!((default.protocol, default.url.as_str()), (ActionsProtocol::V1, "http://old/"));
        assert_eq!((default.scope.as_str(), default.timeout), ("buildkit", DEFAULT_TIMEOUT));
        assert!(!format!("{default:?}").contains("secret"));
        let own = place("type=gha,version=2,scope=app,timeout=5s,ghtoken=x,repository=a/b");
        assert_eq!((own.protocol, own.url.as_str()), (ActionsProtocol::V2, "http://new/"));
        assert_eq!((own.scope.as_str(), own.timeout), ("app", Duration::from_secs(5)));
        let nowhere = source("type=gha", &|_| None).unwrap_err();
        assert!(nowhere.to_string().contains("ACTIONS_RESULTS_URL"));
    }

    #[test]
    fn a_bucket_has_documents_by_name() {
        let text = "type=s3,bucket=team,prefix=app/,name=0a1b;main,manifests_prefix=m/,mode=max,use_path_style=true,\
                    retry_mode=standard";
        let output = written(text).unwrap();
        let DocumentPlace::Bucket(place) = output.place else { panic!("{:?}", output.place) };
        assert_eq!(output.mode, CacheMode::Max);
        assert_eq!((place.bucket.options.bucket.as_str(), place.bucket.prefix.as_str()), ("team", "app/"));
        assert!(place.bucket.options.path_style);
        assert_eq!((place.manifests_prefix.as_str(), place.names.join(" ")), ("m/", "0a1b main".to_owned()));
        let named = |name: &str| (name == "AWS_BUCKET").then(|| "from-there".to_owned());
        let input = source("type=s3", &named).unwrap().unwrap();
        let DocumentPlace::Bucket(place) = input.place else { panic!("{:?}", input.place) };
        assert_eq!(place.bucket.options.bucket, "from-there");
        assert_eq!(
            (place.manifests_prefix.as_str(), place.names.join(" ")),
            ("manifests/", "buildkit".to_owned())
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("type=registry", "it has no ref"),
            ("type=s3", "it has no bucket"),
            ("type=s3,bucket=b,name=a;", "one of its names is empty"),
            ("type=s3,bucket=b,use_path_style=perhaps", "is no use_path_style"),
            ("type=s3,bucket=b,ref=x", "\"ref\" is not supported"),
            ("type=azblob", "it has no account_url"),
            (
                "type=azblob,account_url=http://h,secret_access_key=AAAA,bucket=b",
                "\"bucket\" is not supported",
            ),
            ("type=registry,ref=A b", "invalid reference format"),
            ("type=local,src=/srv", "it has no dest"),
            ("type=local,dest=/srv,digest=x", "digest"),
            ("type=registry,ref=a,image-manifest=true,oci-mediatypes=false", "needs oci-mediatypes"),
            ("type=registry,ref=a,ignore-error=perhaps", "is true or false"),
            ("type=registry,ref=a,compression=lzma", "\"lzma\""),
            ("type=registry,ref=a,colour=red", "\"colour\" is not supported"),
        ] {
            let error = written(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let of_client = CacheWords::of_text("type=local,dest=/srv", None, &|_| None);
        assert!(output(&of_client).unwrap_err().to_string().contains("a directory of the client"));
    }
}

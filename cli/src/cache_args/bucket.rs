//! A bucket of S3, with the attributes and variables that BuildKit has for one.
//!
//! Source: BuildKit, README, "S3 cache"; AWS SDKs and Tools Reference Guide, "environment variables".

use std::num::NonZeroUsize;
use std::time::Duration;

use engine::request::{BucketKeys, BucketOptions, BucketPlace, CachePlace};

use super::Environment;

/// The region where nobody says which; servers of others do not care.
const REGION: &str = "us-east-1";
/// How many blobs are sent at once.
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(4).unwrap();
/// How old something may become that is used.
const TOUCH: Duration = Duration::from_secs(24 * 3600);

/// Reads the attributes of a bucket; what they do not say is in the environment.
pub(super) fn place(
    bucket: &str,
    fields: &[(&str, &str)],
    environment: Environment<'_>,
) -> Result<CachePlace, String> {
    let given = |variables: &[&str]| variables.iter().find_map(|name| environment(name));
    let mut place = BucketPlace {
        options: BucketOptions {
            bucket: bucket.to_owned(),
            region: given(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| REGION.to_owned()),
            endpoint: given(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            path_style: false,
            keys: None,
        },
        prefix: String::new(),
        blobs_prefix: "blobs/".to_owned(),
        upload_parallelism: PARALLELISM,
        touch_refresh: TOUCH,
    };
    let mut id = given(&["AWS_ACCESS_KEY_ID"]);
    let mut secret = given(&["AWS_SECRET_ACCESS_KEY"]);
    let mut token = given(&["AWS_SESSION_TOKEN"]);
    for (name, value) in fields {
        let text = || (*value).to_owned();
        let bad = || format!("\"{value}\" is no {name}");
        match *name {
            "region" => place.options.region = text(),
            "endpoint_url" => place.options.endpoint = Some(text()),
            "use_path_style" => place.options.path_style = value.parse().map_err(|_| bad())?,
            "prefix" => place.prefix = text(),
            "blobs_prefix" => place.blobs_prefix = text(),
            "access_key_id" => id = Some(text()),
            "secret_access_key" => secret = Some(text()),
            "session_token" => token = Some(text()),
            "upload_parallelism" => place.upload_parallelism = value.parse().map_err(|_| bad())?,
            "touch_refresh" => place.touch_refresh = base::time::parse_duration(value).ok_or_else(bad)?,
            _ => return Err(format!("\"{name}={value}\" is not supported")),
        }
    }
    place.options.keys = match (id, secret) {
        (Some(id), Some(secret)) => Some(BucketKeys { id, secret, session_token: token }),
        (None, None) => None,
        _ => return Err("of access_key_id and secret_access_key only one is known".to_owned()),
    };
    if bucket.is_empty() {
        return Err("s3 is empty".to_owned());
    }
    Ok(CachePlace::Bucket(Box::new(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<BucketPlace, String> {
        let environment = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        match place("b", fields, &environment)? {
            CachePlace::Bucket(place) => Ok(*place),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attributes_come_before_the_environment() {
        let variables = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_ENDPOINT_URL", "http://elsewhere"),
        ];
        let place = read(&[], &variables).unwrap();
        assert_eq!((place.options.region.as_str(), place.blobs_prefix.as_str()), ("eu-west-1", "blobs/"));
        assert_eq!(place.options.endpoint.as_deref(), Some("http://elsewhere"));
        assert_eq!(place.options.keys.unwrap().id, "id");
        let fields = [
            ("region", "us-west-2"),
            ("use_path_style", "true"),
            ("prefix", "team/"),
            ("upload_parallelism", "9"),
            ("touch_refresh", "1h"),
            ("access_key_id", "other"),
        ];
        let place = read(&fields, &variables).unwrap();
        assert_eq!((place.options.region.as_str(), place.prefix.as_str()), ("us-west-2", "team/"));
        assert!(place.options.path_style);
        assert_eq!((place.upload_parallelism.get(), place.touch_refresh.as_secs()), (9, 3600));
        assert_eq!(place.options.keys.unwrap().id, "other");
    }

    #[test]
    fn mistakes_are_named() {
        for (name, value, why) in [
            ("use_path_style", "maybe", "\"maybe\" is no use_path_style"),
            ("upload_parallelism", "0", "\"0\" is no upload_parallelism"),
            ("access_key_id", "id", "only one is known"),
            ("mode", "max", "\"mode=max\" is not supported"),
        ] {
            assert!(read(&[(name, value)], &[]).unwrap_err().contains(why), "{name}");
        }
    }
}

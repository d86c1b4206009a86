//! A bucket of S3, with the attributes and variables that BuildKit has for one.
//!
//! Source: BuildKit, README, "S3 cache"; AWS SDKs and Tools Reference Guide, "environment variables".

use std::num::NonZeroUsize;
use std::time::Duration;

use std::path::PathBuf;

use super::caches::Environment;
use super::{BucketKeys, BucketOptions, BucketPlace, KeyService, Parts, ProfileFiles};

/// Where a container on Amazon's machines is lent keys.
const CONTAINER_SERVICE: &str = "http://169.254.170.2";
/// Where a machine of Amazon's is lent keys.
const MACHINE_SERVICE: &str = "http://169.254.169.254";
/// How many blobs are sent at once.
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(4).unwrap();
/// How old something may become that is used.
const TOUCH: Duration = Duration::from_secs(24 * 3600);

/// What can be said of a bucket and the blobs in it.
pub(super) const ATTRIBUTES: [&str; 13] = [
    "region",
    "endpoint_url",
    "use_path_style",
    "prefix",
    "blobs_prefix",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "upload_parallelism",
    "touch_refresh",
    // What these ask for is what is done anyway: no encoding is asked for, and requests are sent again with growing waits.
    "disable_accept_encoding",
    "retry_mode",
    "retry_max_attempts",
];

/// Reads the attributes of a bucket; what they do not say is in the environment.
pub(super) fn place(
    bucket: &str,
    fields: &[(&str, &str)],
    environment: Environment<'_>,
) -> Result<BucketPlace, String> {
    let given = |variables: &[&str]| variables.iter().find_map(|name| environment(name));
    let mut place = BucketPlace {
        options: BucketOptions {
            bucket: bucket.to_owned(),
            region: given(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_default(),
            endpoint: given(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            path_style: false,
            keys: None,
            parts: Parts::default(),
        },
        profile: None,
        services: Vec::new(),
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
            known if ATTRIBUTES.contains(&known) => {}
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
    place.profile = profile(environment);
    place.services = services(environment, place.options.endpoint.is_none());
    Ok(place)
}

/// Where the profile is that the environment names, or the default one.
fn profile(environment: Environment<'_>) -> Option<ProfileFiles> {
    let home = environment("HOME").map(|home| PathBuf::from(home).join(".aws"));
    let file = |variable: &str, name: &str| {
        environment(variable).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(name)))
    };
    let (credentials, config) =
        (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config"));
    let asked = environment("AWS_PROFILE").filter(|name| !name.is_empty());
    let is_asked = asked.is_some();
    let name = asked.unwrap_or_else(|| "default".to_owned());
    Some(ProfileFiles { name, is_asked, credentials, config })
}

/// Who lends keys: the service that the environment of a container names, or the one of the machine if the bucket is Amazon's.
fn services(environment: Environment<'_>, is_amazons: bool) -> Vec<KeyService> {
    let below = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let container = below.map(|path| format!("{CONTAINER_SERVICE}{path}"));
    if let Some(url) = container.or_else(|| environment("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
        let authorization = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let authorization_file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
        return vec![KeyService::Container { url, authorization, authorization_file }];
    }
    if environment("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Vec::new();
    }
    let machine = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let machine = machine.or_else(|| is_amazons.then(|| MACHINE_SERVICE.to_owned()));
    machine.into_iter().map(|url| KeyService::Machine { url }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<BucketPlace, String> {
        let environment = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        place("b", fields, &environment)
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
    fn keys_can_come_from_profiles_and_services() {
        let place = read(&[], &[("HOME", "/home/a"), ("AWS_CONFIG_FILE", "/c")]).unwrap();
        let profile = place.profile.unwrap();
        assert_eq!((profile.name.as_str(), profile.is_asked), ("default", false));
        assert_eq!(profile.credentials, Some("/home/a/.aws/credentials".into()));
        assert_eq!(profile.config, Some("/c".into()));
        assert_eq!(place.services, [KeyService::Machine { url: MACHINE_SERVICE.to_owned() }]);
        assert!(read(&[], &[("AWS_PROFILE", "ci")]).unwrap().profile.unwrap().is_asked);
        let services = |variables: &[(&str, &str)]| {
            let elsewhere = read(&[("endpoint_url", "http://here")], variables).unwrap().services;
            format!("{elsewhere:?}")
        };
        assert_eq!(services(&[]), "[]");
        assert_eq!(
            services(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://x/")]),
            "[Container(http://x/)]"
        );
        let below = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")];
        assert_eq!(services(&below), "[Container(http://169.254.170.2/v2/x)]");
        let machine = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://m");
        assert_eq!(services(&[machine]), "[Machine(http://m)]");
        assert_eq!(services(&[machine, ("AWS_EC2_METADATA_DISABLED", "true")]), "[]");
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

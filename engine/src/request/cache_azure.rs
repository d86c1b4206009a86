//! A container of Azure Blob Storage, with the attributes and variables that BuildKit has for one.
//!
//! Source: BuildKit, README, "Azure Blob Storage cache".

use super::caches::Environment;
use super::{AccountKey, AzureDocumentPlace, ContainerOptions};

/// The container that is meant without one.
const CONTAINER: &str = "buildkit-cache";

/// The document that is meant without a name.
const NAME: &str = "buildkit";

/// What can be said of a container and what is in it.
pub(super) const ATTRIBUTES: [&str; 9] = [
    "type",
    "account_url",
    "account_name",
    "container",
    "prefix",
    "blobs_prefix",
    "manifests_prefix",
    "name",
    "secret_access_key",
];

/// Reads the attributes; what they do not say is in the environment, but for the key.
pub(super) fn place(
    get: impl Fn(&str) -> Option<String>,
    environment: Environment<'_>,
) -> Result<AzureDocumentPlace, String> {
    let given = |name: &str, variable: &str| {
        get(name).or_else(|| environment(variable)).filter(|value| !value.is_empty())
    };
    let account_url = given("account_url", "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL")
        .ok_or("it has no account_url, and BUILDKIT_AZURE_STORAGE_ACCOUNT_URL says none")?;
    // Accounts are the first part of the host's name.
    let host = account_url.split_once("://").map_or(account_url.as_str(), |(_, rest)| rest);
    let first = host.split(['.', ':', '/']).next().unwrap_or_default().to_owned();
    let key = get("secret_access_key").filter(|key| !key.is_empty()).ok_or(
        "it has no secret_access_key, and other credentials of Azure are not known here; the portal shows the keys of an account",
    )?;
    let names: Vec<String> =
        get("name").unwrap_or_else(|| NAME.to_owned()).split(';').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err("one of its names is empty".to_owned());
    }
    Ok(AzureDocumentPlace {
        options: ContainerOptions {
            account: given("account_name", "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME").unwrap_or(first),
            container: given("container", "BUILDKIT_AZURE_STORAGE_CONTAINER")
                .unwrap_or_else(|| CONTAINER.to_owned()),
            key: AccountKey::parse(&key).ok_or("its secret_access_key is not in base64")?,
            account_url,
        },
        prefix: get("prefix").unwrap_or_default(),
        blobs_prefix: get("blobs_prefix").unwrap_or_else(|| "blobs/".to_owned()),
        manifests_prefix: get("manifests_prefix").unwrap_or_else(|| "manifests/".to_owned()),
        names,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<AzureDocumentPlace, String> {
        let of = |all: &[(&str, &str)], name: &str| {
            all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        place(|name| of(fields, name), &|name| of(variables, name))
    }

    #[test]
    fn attributes_come_before_the_environment() {
        let key = ("secret_access_key", "c2VjcmV0");
        let url = ("account_url", "https://team.blob.core.windows.net");
        let plain = read(&[url, key], &[]).unwrap();
        assert_eq!((plain.options.account.as_str(), plain.options.container.as_str()), ("team", CONTAINER));
        assert_eq!((plain.blobs_prefix.as_str(), plain.manifests_prefix.as_str()), ("blobs/", "manifests/"));
        assert_eq!(plain.names, [NAME]);
        assert!(!format!("{plain:?}").contains("secret"));
        let variables = [
            ("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "http://127.0.0.1:10000/a"),
            ("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME", "a"),
            ("BUILDKIT_AZURE_STORAGE_CONTAINER", "c"),
        ];
        let named = read(&[key, ("name", "x;y"), ("container", "d"), ("prefix", "p/")], &variables).unwrap();
        assert_eq!((named.options.account.as_str(), named.options.container.as_str()), ("a", "d"));
        assert_eq!((named.names.join(" ").as_str(), named.prefix.as_str()), ("x y", "p/"));
        for (fields, why) in [
            (&[key][..], "no account_url"),
            (&[url], "no secret_access_key"),
            (&[url, ("secret_access_key", "§")], "not in base64"),
            (&[url, key, ("name", "a;")], "names is empty"),
        ] {
            assert!(read(fields, &[]).unwrap_err().contains(why), "{why}");
        }
    }
}

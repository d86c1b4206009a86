//! Who the client is to registries: what it sends along with a call. The logins of the daemon's own user are not used.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use base::reference::{DEFAULT_REGISTRY, registry_of};
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bollard_stubs::models::AuthConfig;
use engine::registries::{Credential, Credentials, Lookup};
use serde::Deserialize;

use super::ApiError;

/// A login as clients send it.
#[derive(Debug, Clone, Default, Deserialize)]
struct Login {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default, alias = "identityToken")]
    identitytoken: Option<String>,
    #[serde(default, alias = "registryToken")]
    registrytoken: Option<String>,
}

impl Login {
    fn credential(self) -> Option<Credential> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = some(self.registrytoken) {
            return Some(Credential::RegistryToken(token));
        }
        if let Some(token) = some(self.identitytoken) {
            return Some(Credential::IdentityToken(token));
        }
        if let (Some(user), Some(password)) = (some(self.username), some(self.password)) {
            return Some(Credential::Password { user, password });
        }
        let both = String::from_utf8(decoded(some(self.auth)?.as_bytes())?).ok()?;
        let (user, password) = both.split_once(':')?;
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

/// What a client has sent: one login for whatever registry the call is about, or one for each.
#[derive(Default)]
pub(super) struct Given {
    any: Option<Credential>,
    by_registry: BTreeMap<String, Credential>,
}

impl Given {
    /// From `X-Registry-Auth`.
    ///
    /// # Errors
    /// It is there and no login.
    pub(super) fn one(headers: &HeaderMap) -> Result<Self, ApiError> {
        let login: Login = header(headers, "x-registry-auth")?.unwrap_or_default();
        Ok(Self { any: login.credential(), by_registry: BTreeMap::new() })
    }

    /// From `X-Registry-Config`: the logins of a build, by registry.
    ///
    /// # Errors
    /// It is there and no map of logins.
    pub(super) fn all(headers: &HeaderMap) -> Result<Self, ApiError> {
        let logins: BTreeMap<String, Login> = header(headers, "x-registry-config")?.unwrap_or_default();
        let known = |(server, login): (String, Login)| Some((registry(&server)?, login.credential()?));
        Ok(Self { any: None, by_registry: logins.into_iter().filter_map(known).collect() })
    }
}

impl Credentials for Given {
    fn lookup(&self, registry: &str, _repository: &str) -> Lookup {
        let credential = self.by_registry.get(registry).or(self.any.as_ref()).cloned();
        Lookup { credential, source: Some("the client".to_owned()), ..Lookup::default() }
    }
}

/// The login that a client wants to try, and where.
///
/// # Errors
/// It is none.
pub(super) fn tried(config: AuthConfig) -> Result<(String, Credential), ApiError> {
    let server = config.serveraddress.clone().unwrap_or_default();
    let login = Login {
        username: config.username,
        password: config.password,
        auth: None,
        identitytoken: None,
        registrytoken: None,
    };
    let credential = login
        .credential()
        .ok_or_else(|| ApiError::bad_request("a login needs a user name and a password"))?;
    let wrong = || ApiError::bad_request(format!("{server:?} is not the address of a registry"));
    Ok((registry(&server).ok_or_else(wrong)?, credential))
}

/// A registry's name, of the address that a client has for it. Without one it is Docker Hub.
fn registry(server: &str) -> Option<String> {
    if server.is_empty() { Some(DEFAULT_REGISTRY.to_owned()) } else { registry_of(server) }
}

/// Clients use both alphabets, and some leave the padding out.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&URL_SAFE, &STANDARD]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

fn header<T: for<'a> Deserialize<'a>>(headers: &HeaderMap, name: &str) -> Result<Option<T>, ApiError> {
    let Some(value) = headers.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let wrong = || ApiError::bad_request(format!("invalid {name} header: it is no base64 of JSON"));
    let text = decoded(value.as_bytes()).ok_or_else(wrong)?;
    if text.iter().all(u8::is_ascii_whitespace) || text == b"null" {
        return Ok(None);
    }
    serde_json::from_slice(&text).map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn logins_come_in_several_forms() {
        let password = |user: &str, password: &str| {
            Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
        };
        let cases = [
            (r#"{"username":"a","password":"b>?"}"#, password("a", "b>?")),
            (r#"{"auth":"YTpiOmM="}"#, password("a", "b:c")),
            (r#"{"identitytoken":"t"}"#, Some(Credential::IdentityToken("t".to_owned()))),
            (r#"{"registrytoken":"t","username":"a"}"#, Some(Credential::RegistryToken("t".to_owned()))),
            (r#"{"username":"a","other":1}"#, None),
            ("{}", None),
            ("null", None),
            ("", None),
        ];
        for (text, expected) in cases {
            for encoded in [
                BASE64_STANDARD.encode(text),
                BASE64_URL_SAFE.encode(text),
                BASE64_URL_SAFE_NO_PAD.encode(text),
            ] {
                let given = Given::one(&headers("x-registry-auth", &encoded)).unwrap();
                assert_eq!(given.lookup("r.example", "x").credential, expected, "{text}");
            }
        }
        for bad in ["%%", "e30", "bm90IGpzb24="] {
            let given = Given::one(&headers("x-registry-auth", bad));
            assert_eq!(given.is_err(), bad != "e30", "{bad}");
        }
    }

    #[test]
    fn builds_have_a_login_for_each_registry() {
        let text = r#"{"https://index.docker.io/v1/":{"username":"a","password":"b"},"r.example:5000":{"auth":"eDp5"}}"#;
        let given = Given::all(&headers("x-registry-config", &BASE64_URL_SAFE.encode(text))).unwrap();
        assert!(given.lookup("docker.io", "x").credential.is_some());
        assert!(given.lookup("r.example:5000", "x").credential.is_some());
        assert!(given.lookup("other.example", "x").credential.is_none());
    }
}

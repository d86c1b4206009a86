//! Which version of the API a client speaks: `/v1.41/containers/json`. Without one it is the newest.

use std::fmt;
use std::str::FromStr;

use axum::http::uri::{PathAndQuery, Uri};

use super::ApiError;

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// The oldest that is served.
    pub const OLDEST: Self = Self { major: 1, minor: 24 };
    /// The newest: that of Docker 28.
    pub const NEWEST: Self = Self { major: 1, minor: 51 };

    /// Version 1 with this minor number.
    pub const fn minor(minor: u32) -> Self {
        Self { major: 1, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_number =
            |text: &str| !text.is_empty() && text.len() < 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        let (major, minor) =
            text.split_once('.').filter(|(major, minor)| is_number(major) && is_number(minor)).ok_or(())?;
        Ok(Self { major: major.parse().map_err(drop)?, minor: minor.parse().map_err(drop)? })
    }
}

/// Takes the version off the front of a path.
///
/// # Errors
/// Nobody here speaks that version.
pub fn take(uri: &Uri) -> Result<(ApiVersion, Uri), ApiError> {
    let text = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let versioned = text.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        Some((rest[..end].parse().ok()?, &rest[end..]))
    });
    let Some((version, rest)) = versioned else { return Ok((ApiVersion::NEWEST, uri.clone())) };
    if version > ApiVersion::NEWEST {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::NEWEST
        )));
    }
    if version < ApiVersion::OLDEST {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            ApiVersion::OLDEST
        )));
    }
    let uri = rest.parse().map_err(|_| ApiError::bad_request("the path makes no sense"))?;
    Ok((version, uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<(String, String), String> {
        let taken = take(&text.parse().unwrap()).map_err(|error| error.message)?;
        Ok((taken.0.to_string(), taken.1.to_string()))
    }

    #[test]
    fn versions_are_taken_off_and_bounded() {
        let newest = ApiVersion::NEWEST.to_string();
        let pair = |one: &str, two: &str| Ok((one.to_owned(), two.to_owned()));
        assert_eq!(taken("/v1.41/containers/json?all=1"), pair("1.41", "/containers/json?all=1"));
        assert_eq!(taken("/info"), pair(&newest, "/info"));
        assert_eq!(taken("/volumes"), pair(&newest, "/volumes"));
        assert_eq!(taken("/v1/info"), pair(&newest, "/v1/info"));
        assert!(taken("/v1.99/info").unwrap_err().contains("too new. Maximum supported API version is 1.51"));
        assert!(taken("/v1.12/info").unwrap_err().contains("too old"));
        assert!(taken("/v2.0/info").is_err());
        assert_eq!(taken("/v1.4294967296/info"), pair(&newest, "/v1.4294967296/info"));
    }
}

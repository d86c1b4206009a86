//! From a path to what is asked for.
//!
//! Names of repositories have slashes in them, so a path is read from its end. Every part is decoded on its own, so
//! that an encoded slash separates nothing, and then has to fit the grammar of what it stands for.

use base::reference;

use super::query::decoded;
use super::refusal::Refusal;
use crate::http_error::ErrorCode;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// Something of a repository.
    In(String, Target),
}

/// What of a repository. Digests and tags are as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `tags/list`
    Tags,
    /// `manifests/<tag or digest>`
    Manifest(String),
    /// `blobs/<digest>`
    Blob(String),
    /// `blobs/uploads/`
    Uploads,
    /// `blobs/uploads/<id>`
    Upload(String),
    /// `referrers/<digest>`
    Referrers(String),
    /// `_lapstrake/manifests`
    ManyManifests,
    /// `_lapstrake/claims`
    Claims,
}

impl Route {
    /// What `path` names.
    ///
    /// # Errors
    /// 404 for a path that is none of ours, and `NAME_INVALID` when the name of the repository is not one.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let none = || Refusal::absent(ErrorCode::Unsupported, "there is nothing at this path");
        let rest = path.strip_prefix("/v2").ok_or_else(none)?;
        let parts: Vec<String> = rest.split('/').map(decoded).collect::<Option<_>>().ok_or_else(none)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        // Before the first slash there is nothing, or the path only begins like ours.
        let ["", parts @ ..] = parts.as_slice() else { return Err(none()) };
        let (name, target) = match parts {
            [] | [""] => return Ok(Self::Base),
            ["_catalog"] => return Ok(Self::Catalog),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => (name, Target::Uploads),
            [name @ .., "blobs", "uploads", id] => (name, Target::Upload((*id).to_owned())),
            [name @ .., "tags", "list"] => (name, Target::Tags),
            [name @ .., "manifests", reference] => (name, Target::Manifest((*reference).to_owned())),
            [name @ .., "blobs", digest] => (name, Target::Blob((*digest).to_owned())),
            [name @ .., "_lapstrake", "manifests"] => (name, Target::ManyManifests),
            [name @ .., "_lapstrake", "claims"] => (name, Target::Claims),
            [name @ .., "referrers", digest] => (name, Target::Referrers((*digest).to_owned())),
            _ => return Err(none()),
        };
        Ok(Self::In(repository(name)?, target))
    }
}

fn repository(parts: &[&str]) -> Result<String, Refusal> {
    let name = parts.join("/");
    // A slash that was encoded is in a part, and would be taken for one between parts.
    if parts.iter().all(|part| !part.contains('/')) && reference::is_repository(&name) {
        return Ok(name);
    }
    let message = "the repository's name is not one: parts of lower-case letters and digits, joined by '.', '_', \
                   '__' or '-', with '/' between them";
    Err(Refusal::bad(ErrorCode::NameInvalid, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;

    fn parse(path: &str) -> Result<Route, u16> {
        Route::parse(path).map_err(|refusal| refusal.into_response().status().as_u16())
    }

    fn of(name: &str, target: Target) -> Result<Route, u16> {
        Ok(Route::In(name.to_owned(), target))
    }

    #[test]
    fn paths_are_read_from_their_end() {
        assert_eq!(parse("/v2"), Ok(Route::Base));
        assert_eq!(parse("/v2/"), Ok(Route::Base));
        assert_eq!(parse("/v2/_catalog"), Ok(Route::Catalog));
        assert_eq!(parse("/v2/a/b/tags/list"), of("a/b", Target::Tags));
        assert_eq!(parse("/v2/a/manifests/1.0"), of("a", Target::Manifest("1.0".into())));
        assert_eq!(parse("/v2/a/blobs/sha256%3Aab"), of("a", Target::Blob("sha256:ab".into())));
        assert_eq!(parse("/v2/a/blobs/uploads/"), of("a", Target::Uploads));
        assert_eq!(parse("/v2/a/blobs/uploads"), of("a", Target::Uploads));
        assert_eq!(parse("/v2/a/blobs/uploads/1f"), of("a", Target::Upload("1f".into())));
        assert_eq!(parse("/v2/a/referrers/sha256:1"), of("a", Target::Referrers("sha256:1".into())));
        assert_eq!(parse("/v2/a/b/_lapstrake/manifests"), of("a/b", Target::ManyManifests));
        assert_eq!(parse("/v2/a/blobs/manifests/x"), of("a/blobs", Target::Manifest("x".into())));
        assert_eq!(parse("/v2/manifests/manifests/x"), of("manifests", Target::Manifest("x".into())));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["..", "a/../b", "%2e%2e", "a%2F..%2Fb", "a//b", "A", "a%00", "_lapstrake", "a/_x", ""] {
            assert_eq!(parse(&format!("/v2/{name}/manifests/1")), Err(400), "{name}");
        }
        assert_eq!(parse(&format!("/v2/{}/tags/list", "a/".repeat(200))), Err(400));
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in
            ["/", "/v1/", "/v22/", "/v2x", "/v2/a", "/v2/a/tags", "/v2/a/%zz/x", "/v2/a/manifests/1/x"]
        {
            assert_eq!(parse(path), Err(404), "{path}");
        }
    }
}

//! What may be asked on a socket for those who only watch.
//!
//! Files of containers and images are nobody's to read who only watches, and a connection to a container's streams is more than looking.
//! What is not on the list is refused, so that a call that is added later is no hole.

use axum::http::Method;
use axum::http::uri::Uri;
use percent_encoding::percent_decode_str;

/// The calls that only look: parts of a path, where `*` is any one part and `**` any number of them, but at least one.
const READING: [&str; 24] = [
    "_ping",
    "version",
    "info",
    "events",
    "system/df",
    "containers/json",
    "containers/*/json",
    "containers/*/top",
    "containers/*/logs",
    "containers/*/stats",
    "containers/*/changes",
    "exec/*/json",
    "images/json",
    "images/**/json",
    "images/**/history",
    "networks",
    "networks/*",
    "volumes",
    "volumes/*",
    "plugins",
    "swarm",
    "nodes",
    "services",
    "tasks",
];

/// Whether a call only looks. The path has no version in front.
pub fn is_reading(method: &Method, uri: &Uri) -> bool {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    // The calls see a path like this: a name of an image may have its slashes written in another way.
    let Ok(path) = percent_decode_str(uri.path()).decode_utf8() else { return false };
    let Some(path) = path.strip_prefix('/') else { return false };
    READING.iter().any(|pattern| fits(pattern, path))
}

fn fits(pattern: &str, path: &str) -> bool {
    if let Some((before, after)) = pattern.split_once("**") {
        let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        return middle.is_some_and(|middle| !middle.is_empty());
    }
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(wanted), Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_is_on_the_list() {
        for path in [
            "/_ping",
            "/containers/json?all=1",
            "/containers/a/json",
            "/containers/a/logs?stdout=1",
            "/images/json",
            "/images/host:5000/a/b:1/json",
            "/images/host%3A5000%2Fa/history",
            "/networks/a",
            "/volumes",
        ] {
            assert!(is_reading(&Method::GET, &path.parse().unwrap()), "{path}");
            assert!(!is_reading(&Method::POST, &path.parse().unwrap()), "{path}");
        }
        for path in [
            "/images/get?names=a",
            "/images/a/get",
            "/images/a/g%65t",
            "/images/a%2Fget",
            "/images/a%2fg%65t",
            "/images/json/get",
            "/images//json",
            "/containers/a/archive?path=/json",
            "/containers/a/export",
            "/containers/a/expor%74",
            "/containers/a%2Fjson/export",
            "/containers/a/attach/ws",
            "/containers/",
            "/containers//json",
            "/exec/a/start",
            "/distribution/a/json",
            "/nothing",
            "/%ff",
            "/",
        ] {
            assert!(!is_reading(&Method::GET, &path.parse().unwrap()), "{path}");
        }
    }
}

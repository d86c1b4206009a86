//! Which names of the store a repository of the registry has.
//!
//! A repository is the registry's own first: `team/app` is `localhost:5000/team/app`. What it does not have there, it has as
//! a person would type it: `x` and `library/x` are `docker.io/library/x`, `ghcr.io/a/b` is itself. Only names of the
//! first kind are ever given or taken away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base::Reference;
use base::reference::{DEFAULT_REGISTRY, is_repository};
use registry::server::Repository;

use super::error::ServerError;

/// The registry's names.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The one that new images get first, then others that lead to the same.
    own: Vec<String>,
}

/// A name of the store, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The registry.
    pub(super) registry: String,
    /// The repository there.
    pub(super) repository: String,
}

impl Place {
    /// The name of the image with this tag.
    pub(super) fn tagged(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", self.registry, self.repository)
    }

    /// The name of the image with this digest.
    pub(super) fn pinned(&self, digest: &base::Digest) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }

    pub(super) fn holds(&self, name: &Reference) -> bool {
        self.registry == name.registry && self.repository == name.repository
    }
}

impl Names {
    /// The names of a registry that listens at `address` and is called `name`, if it was given one.
    pub(super) fn new(name: Option<&str>, address: SocketAddr) -> Result<Self, ServerError> {
        let port = address.port();
        let mut own: Vec<String> = Vec::new();
        if let Some(name) = name {
            let image = format!("{name}/x").parse::<Reference>();
            if !image.is_ok_and(|image| image.registry == name && name != DEFAULT_REGISTRY) {
                return Err(ServerError::Name(name.to_owned()));
            }
            own.push(name.to_owned());
        }
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            own.push(format!("localhost:{port}"));
            own.extend(loopback.map(|ip| SocketAddr::new(ip, port).to_string()));
        }
        own.push(address.to_string());
        Ok(Self { own })
    }

    /// The registry's name in the names of images.
    pub(super) fn own(&self) -> &str {
        // `new` always adds the address.
        self.own.first().map_or("", String::as_str)
    }

    /// Where images of a repository are that were pushed here, or named as if they were, the best place first. Empty when the
    /// client means another registry.
    pub(super) fn own_places(&self, repository: &Repository) -> Vec<Place> {
        if repository.origin.as_ref().is_some_and(|origin| !self.own.contains(origin)) {
            return Vec::new();
        }
        let place = |own: &String| Place { registry: own.clone(), repository: repository.name.clone() };
        self.own.iter().map(place).collect()
    }

    /// Where images of a repository are, the best place first.
    pub(super) fn places(&self, repository: &Repository) -> Vec<Place> {
        let mut places = self.own_places(repository);
        let typed = match &repository.origin {
            Some(origin) => format!("{origin}/{}", repository.name),
            None => repository.name.clone(),
        };
        if let Ok(name) = typed.parse::<Reference>() {
            let place = Place { registry: name.registry, repository: name.repository };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The repository by which an image of this name is reached without saying whose it is. `None` when its registry has a
    /// port, which no path can have.
    pub(super) fn repository(&self, name: &Reference) -> Option<String> {
        if self.own.contains(&name.registry) || name.registry == DEFAULT_REGISTRY {
            return Some(name.repository.clone());
        }
        Some(format!("{}/{}", name.registry, name.repository)).filter(|name| is_repository(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: Option<&str>, address: &str) -> Names {
        Names::new(name, address.parse().unwrap()).unwrap()
    }

    fn places(names: &Names, repository: &str, origin: Option<&str>) -> Vec<String> {
        let repository = Repository { name: repository.to_owned(), origin: origin.map(str::to_owned) };
        names.places(&repository).iter().map(|place| place.tagged("1")).collect()
    }

    #[test]
    fn a_repository_is_our_own_first_and_then_what_a_person_would_type() {
        let names = names(None, "0.0.0.0:5000");
        assert_eq!(names.own(), "localhost:5000");
        let found = places(&names, "team/app", None);
        assert_eq!(found[0], "localhost:5000/team/app:1");
        assert!(found.contains(&"127.0.0.1:5000/team/app:1".to_owned()));
        assert_eq!(found.last().unwrap(), "docker.io/team/app:1");
        assert_eq!(places(&names, "x", None).last().unwrap(), "docker.io/library/x:1");
        assert_eq!(places(&names, "ghcr.io/a/b", None).last().unwrap(), "ghcr.io/a/b:1");
    }

    #[test]
    fn a_mirror_is_asked_for_the_registry_that_it_mirrors_alone() {
        let names = names(None, "127.0.0.1:5000");
        assert_eq!(places(&names, "library/x", Some("docker.io")), ["docker.io/library/x:1"]);
        assert_eq!(places(&names, "a/b", Some("example.com:8080")), ["example.com:8080/a/b:1"]);
        assert_eq!(places(&names, "a", Some("localhost:5000"))[0], "localhost:5000/a:1");
        assert_eq!(places(&names, "a", Some("../etc")), Vec::<String>::new());
        let other = Repository { name: "a".to_owned(), origin: Some("docker.io".to_owned()) };
        assert!(names.own_places(&other).is_empty());
    }

    #[test]
    fn a_name_that_is_given_comes_first() {
        let names = names(Some("build.example:5000"), "10.0.0.5:5000");
        assert_eq!(names.own(), "build.example:5000");
        assert_eq!(places(&names, "a", None)[1], "10.0.0.5:5000/a:1");
        for bad in ["docker.io", "host", "a/b", "", "a b.c", "index.docker.io"] {
            let address = "127.0.0.1:1".parse().unwrap();
            assert!(Names::new(Some(bad), address).is_err(), "{bad}");
        }
    }

    #[test]
    fn repositories_are_listed_as_they_can_be_asked_for() {
        let names = names(None, "127.0.0.1:5000");
        let of = |name: &str| names.repository(&name.parse().unwrap());
        assert_eq!(of("localhost:5000/team/app:1").as_deref(), Some("team/app"));
        assert_eq!(of("debian").as_deref(), Some("library/debian"));
        assert_eq!(of("ghcr.io/a/b").as_deref(), Some("ghcr.io/a/b"));
        assert_eq!(of("example.com:8080/a"), None);
    }
}

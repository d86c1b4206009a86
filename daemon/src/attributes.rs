//! What a client asks of the Dockerfile frontend, which says it in attributes: names with texts.
//!
//! Source: the attributes that BuildKit's documentation of the Dockerfile frontend and its clients name.

use std::collections::{BTreeMap, HashMap};

use base::image::ImageConfig;
use base::{GitUrl, Platform, Reference};
use base64::Engine as _;
use engine::request::{
    BuildRequest, ContextSource, Entitlement, HostAddress, NamedContext, NetworkMode, PullPolicy,
    ResourceLimit,
};
use tonic::Status;

use crate::builds::brought::LayoutContext;

/// The attributes.
pub(crate) struct Attributes<'a>(pub(crate) &'a HashMap<String, String>);

/// The files of a client, or of another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory of the client, by the name under which it offers it.
    Local(String),
    /// What is elsewhere: a repository, or a file of the web.
    Elsewhere(String),
    /// What the client sends when it is asked for: an archive or a Dockerfile.
    Upload(String),
    /// The same, by a call of the client's own; the name is the build's.
    Sent(String),
}

/// The named contexts of a build.
#[derive(Debug, Default)]
pub(crate) struct NamedContexts {
    /// Those that are no directories of the client.
    pub(crate) named: BTreeMap<String, NamedContext>,
    /// The client's directories of those that are.
    pub(crate) local: Vec<(String, String)>,
    /// Those that are results of other builds, with the names of their definitions.
    pub(crate) inputs: Vec<(String, String)>,
    /// Those that are images of the client's layouts.
    pub(crate) layouts: Vec<LayoutContext>,
}

/// What the addresses of uploads begin with.
const UPLOAD: &str = "http://buildkit-session/";

/// What a context begins with that comes by a call of its own.
pub(crate) const SENT: &str = "upload-request:";

impl Attributes<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What begins with `prefix`, without it.
    fn below<'b>(&'b self, prefix: &'b str) -> impl Iterator<Item = (&'b str, &'b str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).into_iter().flat_map(|value| value.split(',')).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).and_then(base::boolean::parse).unwrap_or(false)
    }

    /// The path of the Dockerfile.
    pub(crate) fn filename(&self) -> &str {
        self.get("filename").unwrap_or("Dockerfile")
    }

    /// Where the build context is.
    pub(crate) fn context(&self) -> Place {
        match self.get("context") {
            None => Place::Local(self.get("contextkey").unwrap_or("context").to_owned()),
            Some(text) => match text.strip_prefix(UPLOAD) {
                Some(id) => Place::Upload(id.to_owned()),
                None => match (text.strip_prefix("local:"), text.strip_prefix(SENT)) {
                    (Some(name), _) => Place::Local(name.to_owned()),
                    (_, Some(id)) => Place::Sent(id.to_owned()),
                    (None, None) => Place::Elsewhere(text.to_owned()),
                },
            },
        }
    }

    /// The client's directory that has the Dockerfile; `None` when it is in the context.
    pub(crate) fn dockerfile_directory(&self) -> Option<&str> {
        match (self.get("dockerfilekey"), self.context()) {
            (Some(name), _) => Some(name),
            (None, Place::Local(_)) => Some("dockerfile"),
            (None, _) => None,
        }
    }

    /// Whether the result is an index whatever the number of platforms is.
    pub(crate) fn is_multi_platform(&self) -> bool {
        self.is_true("multi-platform") || self.is_true("build-arg:BUILDKIT_MULTI_PLATFORM")
    }

    /// The config of an input's image (`input-metadata:NAME`), as a result has it.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn config_of_input(&self, input: &str) -> Result<Option<ImageConfig>, Status> {
        let name = format!("input-metadata:{input}");
        let Some(text) = self.get(&name) else { return Ok(None) };
        let wrong = |why: String| Status::invalid_argument(format!("{name}: {why}"));
        let metadata: HashMap<String, String> =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let Some(config) = metadata.get("containerimage.config") else { return Ok(None) };
        let config = base64::engine::general_purpose::STANDARD
            .decode(config)
            .map_err(|error| wrong(error.to_string()))?;
        serde_json::from_slice(&config).map(Some).map_err(|error| wrong(error.to_string()))
    }

    /// What is asked besides a build, as in `frontend.outline`.
    pub(crate) fn question(&self) -> Option<&str> {
        self.get("requestid")
    }

    /// Puts what the attributes say into `request`, but for files.
    ///
    /// # Errors
    /// A value is none.
    pub(crate) fn apply(&self, request: &mut BuildRequest, allowed: &[Entitlement]) -> Result<(), Status> {
        let owned = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        request.build_args = self.below("build-arg:").map(owned).collect();
        request.labels = self.below("label:").map(owned).collect();
        request.target = self.get("target").map(str::to_owned);
        request.platforms = self.list("platform").map(platform).collect::<Result<_, _>>()?;
        if let Some(stages) = self.0.get("no-cache") {
            request.no_cache = stages.is_empty();
            request.no_cache_filter = self.list("no-cache").map(str::to_owned).collect();
        }
        request.pull = match self.get("image-resolve-mode") {
            Some("pull") => PullPolicy::Always,
            Some("local") => PullPolicy::Missing,
            Some("default") | None => PullPolicy::Newer,
            Some(other) => return Err(invalid("image-resolve-mode", other, "default, pull or local")),
        };
        request.network = match self.get("force-network-mode") {
            None | Some("sandbox" | "default") => NetworkMode::Default,
            Some("host") => NetworkMode::Host,
            Some("none") => NetworkMode::None,
            Some(other) => return Err(invalid("force-network-mode", other, "host, none or sandbox")),
        };
        self.attest(request)?;
        request.steps.hosts = self.list("add-hosts").map(host).collect::<Result<_, _>>()?;
        request.steps.shm_size = self
            .get("shm-size")
            .map(|text| text.parse().map_err(|_| invalid("shm-size", text, "a number of bytes")))
            .transpose()?;
        request.steps.rlimits = self.list("ulimit").map(limit).collect::<Result<_, _>>()?;
        request.allow = allowed.iter().cloned().collect();
        if let Some(text) = request.build_args.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) {
            if text == "context" {
                request.epoch_of_context = true;
            } else {
                let seconds = text.parse().ok().and_then(base::time::from_epoch_seconds);
                let expected = "seconds since 1970, or context";
                request.epoch = Some(seconds.ok_or_else(|| invalid("SOURCE_DATE_EPOCH", text, expected))?);
            }
        }
        Ok(())
    }

    /// Puts what is to be told of the images into `request`.
    ///
    /// # Errors
    /// There is no such attestation.
    pub(crate) fn attest(&self, request: &mut BuildRequest) -> Result<(), Status> {
        for (kind, attributes) in self.below("attest:") {
            let asked = request.attestations.ask(kind, attributes);
            asked.map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
        }
        let vcs = self.below("vcs:").filter(|(name, _)| ["source", "revision"].contains(name));
        request.attestations.vcs.extend(vcs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(())
    }

    /// The named contexts.
    ///
    /// # Errors
    /// One is of a kind that there is not here.
    pub(crate) fn named_contexts(&self) -> Result<NamedContexts, Status> {
        let NamedContexts { mut named, mut local, mut inputs, mut layouts } = NamedContexts::default();
        for (name, value) in self.below("context:") {
            // What holds for one platform has it behind two colons.
            let name = name.split_once("::").map_or(name, |(name, _)| name).to_lowercase();
            if let Some(image) = value.strip_prefix("docker-image://") {
                named.insert(name, NamedContext::Image(reference(image)?));
            } else if let Some(directory) = value.strip_prefix("local:") {
                local.push((name, directory.to_owned()));
            } else if let Some(input) = value.strip_prefix("input:") {
                inputs.push((name, input.to_owned()));
            } else if let Some(layout) = value.strip_prefix("oci-layout://") {
                layouts.push(layout_context(name, layout)?);
            } else {
                named.insert(name, NamedContext::Files(elsewhere(value)?));
            }
        }
        local.sort();
        inputs.sort();
        layouts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(NamedContexts { named, local, inputs, layouts })
    }
}

/// `STORE[:TAG]@DIGEST`: what the client calls the layout, and the image that its tag meant.
fn layout_context(name: String, text: &str) -> Result<LayoutContext, Status> {
    let wrong = || {
        let message =
            format!("invalid context {name}: the reference {text:?} into an OCI layout must have a digest");
        Status::invalid_argument(message)
    };
    let (store, digest) = text.split_once('@').ok_or_else(wrong)?;
    let digest = digest.parse().map_err(|_| wrong())?;
    let store = store.split_once(':').map_or(store, |(store, _)| store).to_owned();
    Ok(LayoutContext { name, store, digest })
}

/// Files of a repository or of the web.
pub(crate) fn elsewhere(text: &str) -> Result<ContextSource, Status> {
    let url = GitUrl::parse_context(text).map_err(|error| Status::invalid_argument(error.to_string()))?;
    match url {
        Some(url) => Ok(ContextSource::Git(url)),
        None if base::git_url::is_http(text) => Ok(ContextSource::Url(text.to_owned())),
        None => Err(invalid("context", text, "a git repository or the address of an archive")),
    }
}

pub(crate) fn reference(text: &str) -> Result<Reference, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

fn platform(text: &str) -> Result<Platform, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

/// `name=address`
fn host(text: &str) -> Result<(String, HostAddress), Status> {
    let wrong = || invalid("add-hosts", text, "name=address");
    let (name, address) = text.split_once('=').ok_or_else(wrong)?;
    let address = match address {
        "host-gateway" => HostAddress::Gateway,
        other => {
            let bare = other.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(other);
            HostAddress::Given(bare.parse().map_err(|_| wrong())?)
        }
    };
    Ok((name.to_owned(), address))
}

/// `name=soft:hard`, with -1 for no limit.
fn limit(text: &str) -> Result<ResourceLimit, Status> {
    text.parse().map_err(|why| Status::invalid_argument(format!("invalid ulimit \"{text}\": {why}")))
}

fn invalid(name: &str, value: &str, expected: &str) -> Status {
    Status::invalid_argument(format!("invalid {name} \"{value}\": expected {expected}"))
}

/// The patterns of an ignore file, as clients want them: cleaned, without comments.
pub(crate) fn ignore_patterns(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(pattern).collect()
}

fn pattern(line: &str) -> Option<String> {
    let (sign, path) = match line.strip_prefix('!') {
        Some(path) => ("!", path.trim()),
        None => ("", line),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." && parts.last().is_some_and(|last| *last != "..") {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let cleaned = if parts.is_empty() { ".".to_owned() } else { parts.join("/") };
    (!path.is_empty()).then(|| format!("{sign}{cleaned}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn places_are_told_apart() {
        let place = |pairs: &[(&str, &str)]| Attributes(&attributes(pairs)).context();
        assert_eq!(place(&[]), Place::Local("context".to_owned()));
        assert_eq!(place(&[("contextkey", "main")]), Place::Local("main".to_owned()));
        assert_eq!(place(&[("context", "local:main")]), Place::Local("main".to_owned()));
        assert_eq!(place(&[("context", "http://buildkit-session/abc")]), Place::Upload("abc".to_owned()));
        let git = "https://host/repository.git#main";
        assert_eq!(place(&[("context", git)]), Place::Elsewhere(git.to_owned()));
    }

    #[test]
    fn patterns_are_clean() {
        let text = "\u{feff}# comment\n\n  /a/./b/../c/ \n!/keep\n!\n*.log\n.\n../x\n";
        assert_eq!(ignore_patterns(text), ["a/c", "!keep", "*.log", ".", "../x"]);
    }

    #[test]
    fn attributes_become_a_request() {
        let pairs = attributes(&[
            ("build-arg:A", "1"),
            ("label:l", "v"),
            ("platform", "linux/amd64,linux/arm64"),
            ("no-cache", ""),
            ("image-resolve-mode", "pull"),
            ("force-network-mode", "none"),
            ("add-hosts", "db=10.0.0.5,v6=[::1],gw=host-gateway"),
            ("ulimit", "nofile=1024:2048"),
            ("shm-size", "1048576"),
            ("target", "t"),
        ]);
        let mut request = BuildRequest::new(ContextSource::Empty, engine::request::DockerfileSource::Default);
        Attributes(&pairs).apply(&mut request, &[]).unwrap();
        assert_eq!((request.platforms.len(), request.no_cache), (2, true));
        assert_eq!((request.pull, request.network), (PullPolicy::Always, NetworkMode::None));
        assert_eq!((request.steps.hosts.len(), request.steps.rlimits.len()), (3, 1));
        assert_eq!(request.target.as_deref(), Some("t"));
        for (name, value) in [("platform", "?"), ("shm-size", "x"), ("ulimit", "x"), ("add-hosts", "x")] {
            let pairs = attributes(&[(name, value)]);
            Attributes(&pairs).apply(&mut request, &[]).unwrap_err();
        }
    }
}

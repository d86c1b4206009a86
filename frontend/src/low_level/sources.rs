//! Sources of a definition: images, directories of the client, files of the web, repositories.

use std::collections::{BTreeMap, HashSet};

use base::image::chain_id;
use base::{Digest, GitUrl, KeyHasher, Platform, Reference};
use bollard_buildkit_proto::pb;
use llb::{
    ChmodMode, CopyAction, CopyRules, FileAction, FileOp, GitSource, HttpSource, ImageSource, LocalSource,
    Op, Owner, SourceOp, UserName,
};

use super::error::DefinitionError;
use super::operations::{Operation, Operations};
use super::{Lowering, Value};
use crate::ports::{HttpRequest, ResolveError};

/// The mode of files of the web, as BuildKit has it.
const FILE_MODE: u32 = 0o600;

/// The scheme of blobs of the client's layouts.
pub const LAYOUT_BLOB: &str = "oci-layout+blob";

/// The file that such a blob is, in the directory that it is brought in.
pub const BLOB_FILE: &str = "blob";

/// How many directories of the client a definition may need.
const MOST_DIRECTORIES: usize = 256;

/// A directory of the client that a definition needs, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDirectory {
    /// The name of the local source in the graph: that of the directory, and what is wanted of it.
    pub key: String,
    /// What the client calls it.
    pub name: String,
    /// Patterns of what is wanted; all, without any.
    pub include: Vec<String>,
    /// Patterns of what is not wanted.
    pub exclude: Vec<String>,
    /// Paths whose links are followed.
    pub follow: Vec<String>,
}

/// What the attributes of a source say, by name.
type Attributes = BTreeMap<String, String>;

/// What the result of a definition needs from elsewhere.
#[derive(Debug, Default)]
pub struct Needs {
    /// Directories of the client.
    pub directories: Vec<LocalDirectory>,
    /// All other sources, each once: identifiers and attributes.
    sources: Vec<(String, Attributes)>,
}

impl Needs {
    /// Reads them in a definition.
    ///
    /// # Errors
    /// The definition cannot be decoded, or a source is not understood.
    pub fn of(definition: &pb::Definition) -> Result<Self, DefinitionError> {
        let operations = Operations::of(definition)?;
        let (mut needs, mut known) = (Self::default(), HashSet::new());
        for index in operations.needed()? {
            let operation = operations.get(index);
            let Some(pb::op::Op::Source(source)) = &operation.op.op else { continue };
            match local(operation, source)? {
                Some(directory) if known.insert(directory.key.clone()) => {
                    if needs.directories.len() >= MOST_DIRECTORIES {
                        let why = format!("a definition has at most {MOST_DIRECTORIES} directories");
                        return Err(operation.invalid(why));
                    }
                    needs.directories.push(directory);
                }
                None if known.insert(source.identifier.clone()) => {
                    needs.sources.push((source.identifier.clone(), source.attrs.clone()));
                }
                _ => {}
            }
        }
        Ok(needs)
    }

    /// The sources of a scheme, such as `oci-layout`.
    pub fn of_scheme(&self, scheme: &str) -> impl Iterator<Item = (&str, &Attributes)> {
        let fits =
            move |identifier: &str| identifier.split_once("://").is_some_and(|(found, _)| found == scheme);
        let sources = self.sources.iter().map(|(identifier, attributes)| (identifier.as_str(), attributes));
        sources.filter(move |(identifier, _)| fits(identifier))
    }

    /// Whether images are to be asked for in their registries even if the store has them (`image.resolvemode=pull`).
    pub fn pulls_images(&self) -> bool {
        let pulls =
            |attributes: &Attributes| attributes.get("image.resolvemode").is_some_and(|mode| mode == "pull");
        self.of_scheme("docker-image").any(|(_, attributes)| pulls(attributes))
    }
}

/// The directory that a source is, if it is one.
fn local(
    operation: &Operation<'_>,
    source: &pb::SourceOp,
) -> Result<Option<LocalDirectory>, DefinitionError> {
    let Some(name) = source.identifier.strip_prefix("local://") else { return Ok(None) };
    let list = |name: &str| -> Result<Vec<String>, DefinitionError> {
        let Some(text) = source.attrs.get(name).filter(|text| !text.is_empty()) else {
            return Ok(Vec::new());
        };
        serde_json::from_str(text)
            .map_err(|error| operation.invalid(format!("{name} is not a JSON list of texts: {error}")))
    };
    let (include, exclude, follow) =
        (list("local.includepattern")?, list("local.excludepatterns")?, list("local.followpaths")?);
    if source.attrs.contains_key("local.metadatatransfer") {
        return Err(operation.unsupported("transfers of metadata alone"));
    }
    let mut key = name.to_owned();
    if !(include.is_empty() && exclude.is_empty() && follow.is_empty()) {
        let mut hasher = KeyHasher::new("lapstrake/llb-local/v1");
        let wanted = hasher.add(&include).add(&exclude).add(&follow).finish();
        key.push_str(&format!("#{}", &wanted.hex()[..16]));
    }
    Ok(Some(LocalDirectory { key, name: name.to_owned(), include, exclude, follow }))
}

impl Lowering<'_> {
    /// What a source gives.
    pub(super) fn source(
        &mut self,
        operation: &Operation<'_>,
        source: &pb::SourceOp,
        platform: &Platform,
    ) -> Result<Value, DefinitionError> {
        if let Some(directory) = local(operation, source)? {
            let op = Op::Source(SourceOp::Local(LocalSource { name: directory.key }));
            return Ok(Value::Local(self.add(operation, op, platform, &[])));
        }
        let identifier = source.identifier.as_str();
        if let Some(reference) = self.options.images.get(identifier).cloned() {
            return self.image(operation, source, &reference, platform);
        }
        let (scheme, rest) = identifier
            .split_once("://")
            .ok_or_else(|| operation.invalid(format!("{identifier:?} is no source: it has no scheme")))?;
        match scheme {
            "docker-image" => {
                let reference: Reference = rest.parse().map_err(|error| {
                    operation.invalid(format!("{rest:?} is no name of an image: {error}"))
                })?;
                self.image(operation, source, &reference, platform)
            }
            "http" | "https" => self.file_of_the_web(operation, source, platform),
            "docker-image+blob" => {
                let is_pinned = rest.parse::<Reference>().is_ok_and(|reference| reference.digest.is_some());
                if !is_pinned {
                    return Err(
                        operation.invalid(format!("{rest:?} is no repository with the digest of a blob"))
                    );
                }
                self.file_of_the_web(operation, source, platform)
            }
            LAYOUT_BLOB => self.blob_of_layout(operation, source, platform),
            "git" => self.repository(operation, source, rest, platform),
            other => Err(operation.unsupported(format!("sources of the scheme {other}"))),
        }
    }

    fn image(
        &mut self,
        operation: &Operation<'_>,
        source: &pb::SourceOp,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Value, DefinitionError> {
        known_attributes(
            operation,
            source,
            &[
                "image.resolvemode",
                "image.recordtype",
                "image.checksum",
                "image.layerlimit",
                "oci.session",
                "oci.store",
                "oci.layerlimit",
            ],
        )?;
        let found = self.resolver.resolve(reference, platform);
        let image = found.map_err(|error| unresolved(source, error))?;
        if let Some(wanted) = source.attrs.get("image.checksum")
            && *wanted != image.manifest.to_string()
            && image.reference.digest.is_none_or(|digest| *wanted != digest.to_string())
        {
            let why = format!("the image has the digest {}, and not {wanted}", image.manifest);
            return Err(operation.invalid(why));
        }
        let diff_ids = &image.config.rootfs.diff_ids;
        let layers = layer_limit(operation, source)?.filter(|layers| *layers < diff_ids.len());
        let wanted = diff_ids.get(..layers.unwrap_or(diff_ids.len())).unwrap_or_default();
        let Some(chain_id) = chain_id(wanted) else { return Ok(Value::Scratch) };
        let (reference, manifest) = (image.reference.to_string(), image.manifest);
        let op = Op::Source(SourceOp::Image(ImageSource { reference, manifest, chain_id, layers }));
        Ok(Value::Filesystem(self.add(operation, op, platform, &[])))
    }

    fn file_of_the_web(
        &mut self,
        operation: &Operation<'_>,
        source: &pb::SourceOp,
        platform: &Platform,
    ) -> Result<Value, DefinitionError> {
        known_attributes(
            operation,
            source,
            &["http.checksum", "http.filename", "http.perm", "http.uid", "http.gid", "image.recordtype"],
        )?;
        let FileAttributes { checksum, filename, mode, uid, gid } = FileAttributes::of(operation, source)?;
        let url = source.identifier.clone();
        let found = self.resolver.http(&HttpRequest { url: url.clone(), checksum });
        let found = found.map_err(|error| unresolved(source, error))?;
        let filename = filename.unwrap_or(found.filename);
        let (digest, mtime) = (found.digest, found.last_modified);
        let file = HttpSource { url, digest, filename, mode, uid, gid, mtime };
        Ok(Value::Filesystem(self.add(operation, Op::Source(SourceOp::Http(file)), platform, &[])))
    }

    /// A blob of a layout of the client, which is brought as a directory with this one file.
    fn blob_of_layout(
        &mut self,
        operation: &Operation<'_>,
        source: &pb::SourceOp,
        platform: &Platform,
    ) -> Result<Value, DefinitionError> {
        known_attributes(
            operation,
            source,
            &[
                "http.filename",
                "http.perm",
                "http.uid",
                "http.gid",
                "image.recordtype",
                "oci.session",
                "oci.store",
            ],
        )?;
        let FileAttributes { filename, mode, uid, gid, .. } = FileAttributes::of(operation, source)?;
        let identifier = &source.identifier;
        let digest = identifier.rsplit_once('@').and_then(|(_, digest)| digest.parse::<Digest>().ok());
        let digest =
            digest.ok_or_else(|| operation.invalid(format!("{identifier:?} has no digest of a blob")))?;
        let local = Op::Source(SourceOp::Local(LocalSource { name: identifier.clone() }));
        let local = self.add(operation, local, platform, &[]);
        let name = filename.unwrap_or_else(|| digest.hex());
        let copy = CopyAction {
            owner: Some(Owner { user: UserName::Id(uid), group: Some(UserName::Id(gid)) }),
            mode: Some(ChmodMode::Bits(mode)),
            rules: CopyRules { time: Some(0), ..CopyRules::default() },
            ..CopyAction::new(0, vec![BLOB_FILE.to_owned()], format!("/{name}"))
        };
        let op = Op::File(FileOp { has_base: false, actions: vec![FileAction::Copy(copy)] });
        Ok(Value::Filesystem(self.add(operation, op, platform, &[local])))
    }

    fn repository(
        &mut self,
        operation: &Operation<'_>,
        source: &pb::SourceOp,
        rest: &str,
        platform: &Platform,
    ) -> Result<Value, DefinitionError> {
        known_attributes(
            operation,
            source,
            &[
                "git.keepgitdir",
                "git.fullurl",
                "git.checksum",
                "git.skipsubmodules",
                "git.authheadersecret",
                "git.authtokensecret",
                "git.knownsshhosts",
                "git.mountsshsock",
            ],
        )?;
        let get = |name: &str| source.attrs.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let (address, fragment) = match rest.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (rest, None),
        };
        let remote = get("git.fullurl").map_or_else(|| format!("git://{address}"), str::to_owned);
        let mut url = GitUrl::of_remote(remote);
        if let Some((reference, subdir)) =
            fragment.map(|text| text.split_once(':').map_or((text, None), |(r, s)| (r, Some(s))))
        {
            url.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
            url.subdir = subdir.map(str::to_owned).filter(|subdir| !subdir.is_empty());
        }
        url.checksum = get("git.checksum").map(str::to_owned);
        url.keep_git_dir = Some(get("git.keepgitdir") == Some("true"));
        url.submodules = get("git.skipsubmodules") != Some("true");
        let commit = self.resolver.git(&url).map_err(|error| unresolved(source, error))?;
        let op = Op::Source(SourceOp::Git(GitSource::of(&url, commit, false)));
        Ok(Value::Filesystem(self.add(operation, op, platform, &[])))
    }
}

/// What attributes say of a single file.
struct FileAttributes {
    checksum: Option<Digest>,
    filename: Option<String>,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl FileAttributes {
    fn of(operation: &Operation<'_>, source: &pb::SourceOp) -> Result<Self, DefinitionError> {
        let get = |name: &str| source.attrs.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let wrong = |name: &str, value: &str| operation.invalid(format!("{name} is {value:?}"));
        let number = |name: &str| match get(name) {
            Some(text) => text.parse::<u32>().map_err(|_| wrong(name, text)),
            None => Ok(0),
        };
        let checksum = get("http.checksum")
            .map(|text| text.parse::<Digest>().map_err(|_| wrong("http.checksum", text)))
            .transpose()?;
        let mode = match get("http.perm") {
            Some(text) => {
                u32::from_str_radix(text.trim_start_matches("0o"), 8).map_err(|_| wrong("http.perm", text))?
            }
            None => FILE_MODE,
        };
        let filename = match get("http.filename") {
            Some(name) if name.contains('/') || name == "." || name == ".." => {
                return Err(wrong("http.filename", name));
            }
            name => name.map(str::to_owned),
        };
        let (uid, gid) = (number("http.uid")?, number("http.gid")?);
        Ok(Self { checksum, filename, mode: mode & 0o7777, uid, gid })
    }
}

/// How many layers of an image are wanted.
fn layer_limit(operation: &Operation<'_>, source: &pb::SourceOp) -> Result<Option<usize>, DefinitionError> {
    let said = ["image.layerlimit", "oci.layerlimit"]
        .into_iter()
        .find_map(|name| Some((name, source.attrs.get(name)?)));
    let Some((name, text)) = said else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(layers @ 1..) => Ok(Some(layers)),
        _ => Err(operation.invalid(format!("{name} is {text:?}, and not a number of layers"))),
    }
}

/// Refuses attributes that would change what a source is, and are not known.
fn known_attributes(
    operation: &Operation<'_>,
    source: &pb::SourceOp,
    known: &[&str],
) -> Result<(), DefinitionError> {
    match source.attrs.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(operation.unsupported(format!("the attribute {name} of a source"))),
        None => Ok(()),
    }
}

fn unresolved(source: &pb::SourceOp, error: ResolveError) -> DefinitionError {
    DefinitionError::Resolve { identifier: source.identifier.clone(), source: error }
}

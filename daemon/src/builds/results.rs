//! The results of one build: what clients call them, what they look at in them, and what they put together of them.

use std::collections::HashMap;

use base::Platform;
use base::image::ImageConfig;
use engine::request::BuildRequest;
use engine::session::{FoundFile, ResultPart, Session as EngineSession, Solved};
use tonic::Status;

use super::containers::Containers;
use super::opening::Opened;
use crate::errors::status_of_engine;
use crate::proto::frontend::result::Result as ResultRefs;
use crate::proto::{frontend, fsutil, pb};
use crate::{linked, workers};

/// The name of the result's documents.
const CONFIG: &str = "containerimage.config";

/// The name of the list of platforms.
const PLATFORMS: &str = "refs.platforms";

/// How much of a file is read for a client at once, in bytes.
const MOST_READ: u64 = 15 << 20;

/// A result, by the name under which the client knows it.
pub(super) struct Known {
    pub(super) solved: Solved,
    /// The files that were used stay as long as the result.
    opened: Opened,
}

/// The results of a build, in the order in which they were asked for.
pub(super) struct Results {
    /// The name of the build.
    build: String,
    known: Vec<Known>,
    /// How many frontends are at work, each asked for by the one before.
    pub(super) depth: usize,
    pub(super) containers: Containers,
}

/// One image of a result.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    /// The number of the result.
    pub(super) number: usize,
    pub(super) known: &'a Known,
    /// Which of its images.
    pub(super) image: usize,
}

impl Results {
    pub(super) fn new(build: &str) -> Self {
        Self { build: build.to_owned(), known: Vec::new(), depth: 0, containers: Containers::default() }
    }

    /// Keeps a result, and names it.
    pub(super) fn add(&mut self, solved: Solved, opened: Opened) -> Result<frontend::SolveResponse, Status> {
        let result = self.named(&solved, opened.definition.as_ref(), opened.is_multi_platform)?;
        self.known.push(Known { solved, opened });
        Ok(frontend::SolveResponse { r#ref: String::new(), result: Some(result) })
    }

    /// Keeps a filesystem that nobody has asked for, and answers its name.
    pub(super) fn keep(&mut self, solved: Solved, request: &BuildRequest) -> String {
        let opened = Opened::new(request.clone(), Vec::new());
        self.known.push(Known { solved, opened });
        format!("{}:0", self.known.len() - 1)
    }

    /// The next result, as the client is told of it. What came of a graph of operations is called by it in other graphs.
    fn named(
        &self,
        solved: &Solved,
        definition: Option<&pb::Definition>,
        is_multi_platform: bool,
    ) -> Result<frontend::Result, Status> {
        let number = self.known.len();
        let mut metadata = HashMap::new();
        let def = || definition.cloned().unwrap_or_else(|| linked::definition(&self.build, number));
        let reference = |index: usize| frontend::Ref { id: format!("{number}:{index}"), def: Some(def()) };
        if definition.is_some() {
            let result = Some(ResultRefs::Ref(reference(0)));
            return Ok(frontend::Result { result, ..Default::default() });
        }
        let mut add = |name: String, value: serde_json::Result<Vec<u8>>| {
            let value = value.map_err(|error| Status::internal(format!("cannot write {name}: {error}")))?;
            metadata.insert(name, value);
            Ok::<_, Status>(())
        };
        let images: Vec<_> = solved.images().collect();
        if let ([(_, config)], false) = (images.as_slice(), is_multi_platform) {
            add(CONFIG.to_owned(), serde_json::to_vec(config))?;
            return Ok(frontend::Result {
                result: Some(ResultRefs::Ref(reference(0))),
                metadata,
                ..Default::default()
            });
        }
        let mut refs = HashMap::new();
        let mut platforms = Vec::new();
        for (index, (platform, config)) in images.iter().enumerate() {
            let id = platform.to_string();
            add(format!("{CONFIG}/{id}"), serde_json::to_vec(config))?;
            platforms.push(serde_json::json!({ "ID": id, "Platform": go_platform(platform) }));
            refs.insert(id, reference(index));
        }
        add(PLATFORMS.to_owned(), serde_json::to_vec(&serde_json::json!({ "Platforms": platforms })))?;
        let result = Some(ResultRefs::Refs(frontend::RefMap { refs }));
        Ok(frontend::Result { result, metadata, ..Default::default() })
    }

    /// The result that `id` names, and which of its images.
    pub(super) fn find(&self, id: &str) -> Result<Found<'_>, Status> {
        let parse = || {
            let (number, image) = id.split_once(':')?;
            let (number, image) = (number.parse::<usize>().ok()?, image.parse().ok()?);
            let known = self.known.get(number)?;
            (image < known.solved.images().count()).then_some(Found { number, known, image })
        };
        parse().ok_or_else(|| Status::not_found(format!("no such ref: {id}")))
    }

    /// What a client returns as the result of its build; `None` is nothing at all.
    pub(super) fn returned(
        &self,
        session: &EngineSession<'_>,
        opening: &BuildRequest,
        result: frontend::Result,
    ) -> Result<Option<Solved>, Status> {
        let metadata = result.metadata;
        let (by_name, is_index) = match result.result {
            None => (vec![(String::new(), String::new())], false),
            Some(ResultRefs::Ref(one)) => (vec![(String::new(), one.id)], false),
            Some(ResultRefs::RefDeprecated(id)) => (vec![(String::new(), id)], false),
            Some(ResultRefs::Refs(all)) => {
                (all.refs.into_iter().map(|(name, one)| (name, one.id)).collect(), true)
            }
            Some(ResultRefs::RefsDeprecated(all)) => (all.refs.into_iter().collect(), true),
        };
        if by_name.iter().all(|(_, id)| id.is_empty()) && metadata.is_empty() {
            return Ok(None);
        }
        let order = platforms(&metadata, is_index.then_some(by_name.as_slice()))?;
        let mut parts = Vec::new();
        let mut request = opening;
        for Listed { name, platform } in order {
            let id = by_name.iter().find(|(known, _)| *known == name).map(|(_, id)| id.as_str());
            let of = match id.unwrap_or_default() {
                "" => None,
                id => {
                    let found = self.find(id)?;
                    request = &found.known.opened.request;
                    Some((&found.known.solved, found.image))
                }
            };
            let key = if is_index { format!("{CONFIG}/{name}") } else { CONFIG.to_owned() };
            let config = metadata.get(&key).filter(|bytes| !bytes.is_empty());
            let config = config.map(|bytes| config_of(&key, bytes)).transpose()?;
            let platform = platform.or_else(|| Some(config.as_ref()?.platform()));
            parts.push(ResultPart { of, platform, config });
        }
        Ok(Some(session.compose(request, parts, is_index)))
    }
}

/// A platform of a result.
struct Listed {
    name: String,
    platform: Option<Platform>,
}

/// The images of a result in their order: as the client lists them, or by name.
fn platforms(
    metadata: &HashMap<String, Vec<u8>>,
    names: Option<&[(String, String)]>,
) -> Result<Vec<Listed>, Status> {
    let Some(names) = names else { return Ok(vec![Listed { name: String::new(), platform: None }]) };
    let Some(bytes) = metadata.get(PLATFORMS) else {
        let mut names: Vec<&String> = names.iter().map(|(name, _)| name).collect();
        names.sort();
        return Ok(names.into_iter().map(|name| Listed { name: name.clone(), platform: None }).collect());
    };
    let wrong = |why: String| Status::invalid_argument(format!("{PLATFORMS} of the result: {why}"));
    let document: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let list = document["Platforms"].as_array().ok_or_else(|| wrong("it has no list".to_owned()))?;
    let one = |entry: &serde_json::Value| {
        let name = entry["ID"].as_str().ok_or_else(|| wrong("a platform has no ID".to_owned()))?;
        let platform: Platform =
            serde_json::from_value(entry["Platform"].clone()).map_err(|error| wrong(error.to_string()))?;
        Ok(Listed { name: name.to_owned(), platform: Some(platform) })
    };
    list.iter().map(one).collect()
}

/// The config of an image, as a frontend has it.
pub(super) fn config_of(name: &str, bytes: &[u8]) -> Result<ImageConfig, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::invalid_argument(format!("{name} is no config of an image: {error}")))
}

/// A platform as OCI documents have it.
fn go_platform(platform: &Platform) -> serde_json::Value {
    serde_json::to_value(platform).unwrap_or_default()
}

/// Which bytes of a file are asked for.
pub(super) fn range_of(request: &frontend::ReadFileRequest) -> (u64, u64) {
    let range = request.range.as_ref();
    let offset = range.map_or(0, |range| u64::try_from(range.offset).unwrap_or(0));
    let length = range.map_or(0, |range| u64::try_from(range.length).unwrap_or(0));
    (offset, if length == 0 { MOST_READ } else { length.min(MOST_READ) })
}

/// The entries that a pattern means.
pub(super) fn entries_of(found: &[FoundFile], pattern: &str) -> frontend::ReadDirResponse {
    let fits = |name: &str| pattern.is_empty() || engine::matches_name(pattern, name);
    let entries = found.iter().filter(|file| fits(&file.name)).map(workers::stat).collect();
    frontend::ReadDirResponse { entries }
}

pub(super) fn read_file(
    session: &EngineSession<'_>,
    results: &Results,
    request: &frontend::ReadFileRequest,
) -> Result<frontend::ReadFileResponse, Status> {
    let Found { known, image, .. } = results.find(&request.r#ref)?;
    let data = session.read_file(&known.solved, image, &request.file_path, range_of(request));
    Ok(frontend::ReadFileResponse { data: data.map_err(|error| status_of_engine(&error))? })
}

pub(super) fn read_dir(
    session: &EngineSession<'_>,
    results: &Results,
    request: &frontend::ReadDirRequest,
) -> Result<frontend::ReadDirResponse, Status> {
    let Found { known, image, .. } = results.find(&request.r#ref)?;
    let found = session
        .read_dir(&known.solved, image, &request.dir_path)
        .map_err(|error| status_of_engine(&error))?;
    Ok(entries_of(&found, &request.include_pattern))
}

pub(super) fn stat_file(
    session: &EngineSession<'_>,
    results: &Results,
    request: &frontend::StatFileRequest,
) -> Result<frontend::StatFileResponse, Status> {
    let Found { known, image, .. } = results.find(&request.r#ref)?;
    let found =
        session.stat_file(&known.solved, image, &request.path).map_err(|error| status_of_engine(&error))?;
    let stat: fsutil::Stat = workers::stat(&found);
    Ok(frontend::StatFileResponse { stat: Some(stat) })
}

//! From files to one tree: found, interpolated, brought into the long form, extended, included and merged.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::ComposeError;
use crate::interpolate::{self, Variables};
use crate::model::Project;
use crate::paths::Base;
use crate::yaml::{Map, Node, Place, Value};
use crate::{dotenv, extend, merge, normal, schema};

/// The names of the files that are looked for, the first that is there.
const USUAL: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// What is laid over a file with a usual name.
const USUAL_OVER: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];
/// The file of variables.
const DOTENV: &str = ".env";
/// The variable that is the project's name.
const NAME: &str = "COMPOSE_PROJECT_NAME";

/// Reads files: the only way to the outside.
pub trait Files {
    /// The text of a file; `None` if there is none. `-` is standard input.
    ///
    /// # Errors
    /// It is there, but cannot be read.
    fn read(&self, path: &Path) -> std::io::Result<Option<String>>;
    /// Whether there is a file.
    fn exists(&self, path: &Path) -> bool;
}

/// What the command line and the environment say about the project.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `-f`; without any, they are looked for.
    pub files: Vec<PathBuf>,
    /// `-p`
    pub name: Option<String>,
    /// `--profile`
    pub profiles: Vec<String>,
    /// `--env-file`
    pub env_files: Vec<PathBuf>,
    /// `--project-directory`
    pub directory: Option<PathBuf>,
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
    /// Services that the command line names, which are used whatever their profiles are.
    pub services: Vec<String>,
    /// The directory in which we are, absolute.
    pub working_directory: PathBuf,
}

/// A project, and what its user should know.
#[derive(Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// Variables that are not set, keys that do nothing.
    pub warnings: Vec<String>,
}

/// Variables: those of the process win over those of files.
pub(crate) struct Environment<'a> {
    outer: &'a BTreeMap<String, String>,
    pub(crate) inner: BTreeMap<String, String>,
    missing: &'a RefCell<BTreeSet<String>>,
}

impl Variables for Environment<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.outer.get(name).or_else(|| self.inner.get(name)).cloned()
    }

    fn missing(&self, name: &str) {
        self.missing.borrow_mut().insert(name.to_owned());
    }
}

/// Everything that reading a project needs.
pub(crate) struct Loader<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) options: &'a Options,
    /// Whether variables stay as they are written.
    raw: bool,
    missing: RefCell<BTreeSet<String>>,
    ignored: RefCell<Vec<String>>,
}

/// Reads a project.
///
/// # Errors
/// [`ComposeError`]
pub fn load(options: &Options, files: &dyn Files) -> Result<Loaded, ComposeError> {
    let loader =
        Loader { files, options, raw: false, missing: RefCell::default(), ignored: RefCell::default() };
    let project = loader.project()?;
    let unset = loader.missing.into_inner().into_iter();
    let mut warnings: Vec<String> = unset
        .map(|name| format!("The \"{name}\" variable is not set. Defaulting to a blank string."))
        .collect();
    warnings.extend(loader.ignored.into_inner());
    warnings.extend(project.without_effect());
    Ok(Loaded { project, warnings })
}

/// What the files of a project say.
struct Read<'a> {
    name: String,
    root: Node,
    base: Base,
    environment: Environment<'a>,
}

/// What the files of a project say together, in which variables stay as they are written. What has a variable in it is in no
/// long form, and nobody knows whether it makes sense.
///
/// # Errors
/// [`ComposeError`]
pub fn load_raw(options: &Options, files: &dyn Files) -> Result<(Node, Vec<String>), ComposeError> {
    let loader =
        Loader { files, options, raw: true, missing: RefCell::default(), ignored: RefCell::default() };
    let Read { name, mut root, .. } = loader.read()?;
    let place = root.place.clone();
    if let Some(map) = root.map_mut() {
        map.insert("name".to_owned(), Node::text_at(&place, name));
    }
    Ok((root, loader.ignored.into_inner()))
}

impl<'a> Loader<'a> {
    fn project(&self) -> Result<Project, ComposeError> {
        let Read { name, root, base, environment } = self.read()?;
        let profiles = self.profiles(&environment);
        let named = (&profiles, &*self.options.services);
        Project::new(name, root, &base, named, &environment, self.files)
    }

    /// What all files say together.
    fn read(&'a self) -> Result<Read<'a>, ComposeError> {
        let options = self.options;
        let explicit = options.directory.as_ref().map(|directory| options.working_directory.join(directory));
        // Where the files are may be said in the file of variables, which is looked for where we are first.
        let start = explicit.clone().unwrap_or_else(|| options.working_directory.clone());
        let mut environment = self.environment(&start, &options.env_files)?;
        let paths = self.paths(&start, &environment)?;
        let directory = explicit.unwrap_or_else(|| parent(&paths, &options.working_directory));
        if options.env_files.is_empty() && directory != start {
            environment = self.environment(&directory, &[])?;
        }
        let home = options.environment.get("HOME").cloned();
        let base = Base { directory, home, raw: self.raw };
        let parsed = self.parse(&paths)?;
        let name = self.name(&parsed, &base, &environment)?;
        environment.inner.insert(NAME.to_owned(), name.clone());
        let mut root = self.tree(parsed, &base, &environment, &mut paths.clone())?;
        merge::settle(&mut root);
        Ok(Read { name, root, base, environment })
    }

    /// The variables of files, which do not win over those of the process.
    pub(crate) fn environment(
        &'a self,
        directory: &Path,
        files: &[PathBuf],
    ) -> Result<Environment<'a>, ComposeError> {
        let mut environment =
            Environment { outer: &self.options.environment, inner: BTreeMap::new(), missing: &self.missing };
        let usual = [directory.join(DOTENV)];
        let (files, required) = if files.is_empty() { (&usual[..], false) } else { (files, true) };
        for file in files {
            let path = self.options.working_directory.join(file);
            let text = read(self.files, &path)?;
            match text {
                Some(text) => {
                    let name = path.to_string_lossy().into();
                    let more = dotenv::parse(&name, &text, &environment)?;
                    environment.inner.extend(more);
                }
                None if required => {
                    let place = Place { file: "--env-file".into(), line: 0 };
                    return Err(ComposeError::MissingEnvFile { path, place });
                }
                None => {}
            }
        }
        Ok(environment)
    }

    /// The files of the project.
    fn paths(&self, start: &Path, environment: &Environment<'_>) -> Result<Vec<PathBuf>, ComposeError> {
        let here = |path: &Path| match path.as_os_str() == "-" {
            true => path.to_owned(),
            false => self.options.working_directory.join(path),
        };
        if !self.options.files.is_empty() {
            return Ok(self.options.files.iter().map(|path| here(path)).collect());
        }
        let set = |name| environment.get(name).filter(|value| !value.is_empty());
        if let Some(list) = set("COMPOSE_FILE") {
            let separator = set("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
            return Ok(list.split(&separator).map(|path| here(Path::new(path))).collect());
        }
        for directory in start.ancestors() {
            let first = |names: &[&str]| {
                names.iter().map(|name| directory.join(name)).find(|path| self.files.exists(path))
            };
            if let Some(file) = first(&USUAL) {
                return Ok([file].into_iter().chain(first(&USUAL_OVER)).collect());
            }
        }
        Err(ComposeError::NoFile { directory: start.to_owned() })
    }

    pub(crate) fn parse(&self, paths: &[PathBuf]) -> Result<Vec<Node>, ComposeError> {
        let mut documents = Vec::new();
        for path in paths {
            let text =
                read(self.files, path)?.ok_or_else(|| ComposeError::MissingFile { path: path.clone() })?;
            let shown = path.strip_prefix(&self.options.working_directory).unwrap_or(path);
            let name: Arc<str> = shown.to_string_lossy().into();
            documents.extend(crate::yaml::parse(&name, &text)?);
        }
        Ok(documents)
    }

    /// The project's name: the flag's, the environment's, the files', or that of the directory.
    fn name(
        &self,
        documents: &[Node],
        base: &Base,
        environment: &Environment<'_>,
    ) -> Result<String, ComposeError> {
        let set = |name: Option<String>| name.filter(|name| !name.is_empty());
        let given = set(self.options.name.clone()).or_else(|| set(environment.get(NAME)));
        if let Some(name) = given {
            return check_name(name);
        }
        let named = documents.iter().rev().find_map(|document| document.get("name"));
        if let Some(named) = named {
            let mut named = named.clone();
            interpolate::tree(&mut named, "name", environment)?;
            return check_name(named.text().unwrap_or_default());
        }
        let directory = base.directory.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        let name: String = directory.chars().filter(fits).collect();
        set(Some(name.trim_start_matches(['-', '_']).to_owned())).ok_or(ComposeError::NoProjectName)
    }

    fn profiles(&self, environment: &Environment<'_>) -> BTreeSet<String> {
        match self.options.profiles.is_empty() {
            true => {
                let list = environment.get("COMPOSE_PROFILES").unwrap_or_default();
                list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
            }
            false => self.options.profiles.iter().cloned().collect(),
        }
    }

    /// What several files say together. `open` are the files that are being read, for circles.
    pub(crate) fn tree(
        &self,
        documents: Vec<Node>,
        base: &Base,
        environment: &Environment<'_>,
        open: &mut Vec<PathBuf>,
    ) -> Result<Node, ComposeError> {
        let place = Place { file: "project".into(), line: 0 };
        let mut tree = Node::at(&place, Value::Map(Map::new()));
        for document in documents {
            let mut document = self.prepare(document, base, environment)?;
            extend::services(self, &mut document, environment, base)?;
            let included = extend::included(self, &document, environment, base, open)?;
            if let Some(map) = document.map_mut() {
                map.remove("include");
            }
            for other in included {
                extend::import(&mut document, other)?;
            }
            tree = merge::merge(tree, document);
        }
        Ok(tree)
    }

    /// A document interpolated, in the long form, and checked.
    pub(crate) fn prepare(
        &self,
        mut document: Node,
        base: &Base,
        environment: &Environment<'_>,
    ) -> Result<Node, ComposeError> {
        if !base.raw {
            interpolate::tree(&mut document, "", environment)?;
        }
        normal::document(&mut document, base)?;
        let mut ignored = schema::check(&document, base.raw)?;
        let mut all = self.ignored.borrow_mut();
        ignored.retain(|text| !all.contains(text));
        all.extend(ignored);
        Ok(document)
    }
}

/// The text of a file.
pub(crate) fn read(files: &dyn Files, path: &Path) -> Result<Option<String>, ComposeError> {
    files.read(path).map_err(|source| ComposeError::Read { path: path.to_owned(), source })
}

fn parent(paths: &[PathBuf], working_directory: &Path) -> PathBuf {
    match paths.first() {
        Some(path) if path.as_os_str() != "-" => {
            let base = Base { directory: working_directory.to_owned(), home: None, raw: false };
            let path = base.resolve(&path.to_string_lossy());
            path.parent().unwrap_or(working_directory).to_owned()
        }
        _ => working_directory.to_owned(),
    }
}

fn check_name(name: String) -> Result<String, ComposeError> {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if first && rest { Ok(name) } else { Err(ComposeError::ProjectName(name)) }
}

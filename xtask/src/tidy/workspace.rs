//! The workspace as the rules see it: packages with their manifests and sources, and the documents.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::Table;

use super::source::Source;

/// Everything that rules look at.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// In the order of the root manifest.
    pub(super) packages: Vec<Package>,
    /// Markdown files at the root and the file names of design notes, with their text.
    pub(super) documents: BTreeMap<String, String>,
}

/// A member of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    /// The package's name, which is also its directory.
    pub(super) name: String,
    /// What it needs, and which part of the manifest says so.
    pub(super) dependencies: Vec<Dependency>,
    /// Whether it takes its lints from the workspace.
    pub(super) has_workspace_lints: bool,
    /// Its Rust files, below `src`, `tests`, `benches` and `examples`.
    pub(super) sources: Vec<Source>,
}

/// A package that another names in its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) kind: DependencyKind,
    /// The line in the manifest, from 1.
    pub(super) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DependencyKind {
    Normal,
    Build,
    Dev,
}

/// Why the workspace cannot be read.
#[derive(Debug)]
pub(super) struct ReadError {
    path: PathBuf,
    reason: String,
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "read {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for ReadError {}

impl Workspace {
    /// Reads the workspace at `root`.
    pub(super) fn read(root: &Path) -> Result<Self, ReadError> {
        let manifest = root.join("Cargo.toml");
        let table = parse(&manifest, &read(&manifest)?)?;
        let members = table.get("workspace").and_then(|workspace| workspace.get("members")?.as_array());
        let Some(members) = members else {
            return Err(ReadError { path: manifest, reason: "it has no workspace members".to_owned() });
        };
        let names = members.iter().filter_map(|member| member.as_str());
        let packages = names.map(|name| Package::read(root, name)).collect::<Result<_, _>>()?;
        Ok(Self { packages, documents: read_documents(root)? })
    }

    /// All sources of all packages.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.packages.iter().flat_map(|package| &package.sources)
    }
}

impl Package {
    fn read(root: &Path, name: &str) -> Result<Self, ReadError> {
        let dir = root.join(name);
        let manifest = dir.join("Cargo.toml");
        let mut package = Self::from_manifest(name, &read(&manifest)?)
            .map_err(|reason| ReadError { path: manifest, reason })?;
        let mut files = Vec::new();
        for part in ["src", "tests", "benches", "examples"] {
            find_rust_files(&dir.join(part), &mut files)?;
        }
        files.sort();
        for file in files {
            let path = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            package.sources.push(Source::new(&path, &read(&file)?));
        }
        Ok(package)
    }

    /// A package as its manifest's text describes it, without sources.
    pub(super) fn from_manifest(name: &str, text: &str) -> Result<Self, String> {
        let table: Table = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let lints = table.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        let sections = [
            ("dependencies", DependencyKind::Normal),
            ("build-dependencies", DependencyKind::Build),
            ("dev-dependencies", DependencyKind::Dev),
        ];
        let mut dependencies = Vec::new();
        for (section, kind) in sections {
            let names =
                table.get(section).and_then(|section| section.as_table()).into_iter().flat_map(Table::keys);
            dependencies.extend(names.map(|name| Dependency {
                name: name.clone(),
                kind,
                line: line_of(text, section, name),
            }));
        }
        let has_workspace_lints = lints.unwrap_or(false);
        Ok(Self { name: name.to_owned(), dependencies, has_workspace_lints, sources: Vec::new() })
    }
}

/// The line of a key in a section of a manifest, from 1; line 1 if it is written in an unusual way.
fn line_of(text: &str, section: &str, key: &str) -> usize {
    let header = format!("[{section}]");
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| line.trim() != header);
    let found = lines.find(|(_, line)| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    });
    found.map_or(1, |(index, _)| index + 1)
}

/// The Markdown files at the root, and the names of everything in `docs/design`.
fn read_documents(root: &Path) -> Result<BTreeMap<String, String>, ReadError> {
    let mut documents = BTreeMap::new();
    for path in list(root)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        documents.insert(name_in(root, &path), read(&path)?);
    }
    for path in list(&root.join("docs/design"))? {
        documents.insert(name_in(root, &path), String::new());
    }
    Ok(documents)
}

fn name_in(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn find_rust_files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    for path in list(dir)? {
        if path.is_dir() {
            find_rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// What is in a directory; nothing if it is not there.
fn list(dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let error = |error: io::Error| ReadError { path: dir.to_owned(), reason: error.to_string() };
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(error)?.path())).collect(),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(other) => Err(error(other)),
    }
}

fn read(path: &Path) -> Result<String, ReadError> {
    std::fs::read_to_string(path)
        .map_err(|error| ReadError { path: path.to_owned(), reason: error.to_string() })
}

fn parse(path: &Path, text: &str) -> Result<Table, ReadError> {
    toml::from_str(text)
        .map_err(|error| ReadError { path: path.to_owned(), reason: error.message().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_have_kinds_and_lines() {
        let text = "[package]\nname = \"x\"\n[lints]\nworkspace = true\n\n[dependencies]\nbase.workspace = true\n\
                    [dev-dependencies]\ntestkit = { workspace = true }\n";
        let package = Package::from_manifest("x", text).unwrap();
        let seen: Vec<_> = package.dependencies.iter().map(|d| (d.name.as_str(), d.kind, d.line)).collect();
        assert_eq!(seen, [("base", DependencyKind::Normal, 7), ("testkit", DependencyKind::Dev, 9)]);
        assert!(package.has_workspace_lints);
    }
}

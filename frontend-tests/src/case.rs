//! Cases as written in `case.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::expect::Expect;
use crate::files::Files;
use crate::web::Commit;

/// A case with its place and its parts.
#[derive(Debug, Clone)]
pub struct Case {
    /// `area/name`, from its directory.
    pub name: String,
    /// What the file says about the case as a whole.
    pub about: About,
    /// The builds, in the order in which they run in one store.
    pub builds: Vec<Build>,
}

/// What a case is about.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The rows of the feature list that the case shows.
    pub rows: Vec<String>,
    /// One sentence: what is expected of a builder.
    pub what: String,
    /// The version of the Dockerfile frontend that brought the feature; an older judge may disagree.
    #[serde(default)]
    pub since: Option<String>,
    /// Why a judge that knows the feature disagrees and we are right nevertheless.
    #[serde(default)]
    pub differs: Option<String>,
    /// Files beside the context, at `{outside}`.
    #[serde(default)]
    pub outside: Files,
    /// The commits of the git repository at `{git}`; `{commit}` is the last one's hash.
    #[serde(default)]
    pub git: Vec<Commit>,
    /// The `Authorization` header without which the repository is not given out.
    #[serde(default)]
    pub git_authorization: Option<String>,
}

/// One build of a case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// The text of the Dockerfile, over the one that is there. `false` removes it.
    pub dockerfile: Option<Dockerfile>,
    /// Files to write into the context, over those of the build before.
    pub files: Files,
    /// Files that a server on the loopback interface offers below `{http}`, over those of the build before.
    pub http: Files,
    /// Files to remove from the context.
    pub remove: Vec<String>,
    /// Files of the context and the names that they get before anything is written.
    pub rename: BTreeMap<String, String>,
    /// Commits to add to the branch `main` of the repository at `{git}`.
    pub commits: Vec<Commit>,
    /// Arguments of `builder prune --force`, which runs before the build.
    pub prune: Option<Vec<String>>,
    /// Further arguments of `build`.
    pub args: Vec<String>,
    /// Variables of the builder's own environment.
    pub env: BTreeMap<String, String>,
    /// The context argument, by default `{context}`; an empty text leaves it out. `{elsewhere}` is a copy of the context
    /// in a directory of its own, whose files are all of now.
    pub context: Option<String>,
    /// What comes on standard input, by default nothing.
    pub stdin: Option<Stdin>,
    /// The name that the image gets, by default `case`.
    pub tag: Option<String>,
    /// What must come of it.
    pub expect: Expect,
}

/// A Dockerfile's text, or its absence.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Dockerfile {
    /// The text.
    Text(String),
    /// `false`: there is none.
    Absent(bool),
}

/// What a builder reads on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdin {
    /// The Dockerfile.
    Dockerfile,
    /// The context, the Dockerfile with it, as a tar.
    Tar,
    /// The same, compressed with gzip.
    TarGzip,
}

/// Why a case cannot be read.
#[derive(Debug)]
pub struct CaseError {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for CaseError {}

/// The directory of the cases.
pub fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))
}

/// All cases, sorted by name.
pub fn all() -> Result<Vec<Case>, CaseError> {
    let mut cases = Vec::new();
    for area in directories(directory())? {
        for place in directories(&area)? {
            let name = format!("{}/{}", file_name(&area), file_name(&place));
            cases.push(read(&place, name)?);
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

/// Reads the case at `place`.
fn read(place: &Path, name: String) -> Result<Case, CaseError> {
    let path = place.join("case.toml");
    let fail = |reason: String| CaseError { path: path.clone(), reason };
    let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
    let mut case = parse(&text, name).map_err(|reason| fail(reason.to_string()))?;
    let dockerfile = place.join("Dockerfile");
    let main = case.builds.iter_mut().find(|build| build.tag.is_none());
    if let (Some(main), true) = (main, dockerfile.exists()) {
        let text = std::fs::read_to_string(&dockerfile).map_err(|error| fail(error.to_string()))?;
        main.dockerfile = Some(Dockerfile::Text(text));
    }
    Ok(case)
}

/// Splits the table: what is about the case, `[[before]]`, the build of the top level, `[[then]]`.
fn parse(text: &str, name: String) -> Result<Case, toml::de::Error> {
    let mut build: Table = toml::from_str(text)?;
    let mut about = Table::new();
    for key in ["rows", "what", "since", "differs", "outside", "git", "git_authorization"] {
        if let Some(value) = build.remove(key) {
            about.insert(key.to_owned(), value);
        }
    }
    let mut several = |key: &str| -> Result<Vec<Build>, toml::de::Error> {
        build.remove(key).map_or(Ok(Vec::new()), Value::try_into)
    };
    let (before, then) = (several("before")?, several("then")?);
    let main: Build = build.try_into()?;
    Ok(Case { name, about: about.try_into()?, builds: [before, vec![main], then].concat() })
}

fn directories(parent: &Path) -> Result<Vec<PathBuf>, CaseError> {
    let fail = |error: std::io::Error| CaseError { path: parent.to_owned(), reason: error.to_string() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Build {
    /// Whether anything but success is asked for.
    pub fn expects_something(&self) -> bool {
        self.expect != Expect::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_case_are_told_apart() {
        let text = "rows = [\"A001\"]\nwhat = \"x\"\nargs = [\"--pull\"]\n[[before]]\ntag = \"base\"\n[[then]]\nremove = [\"f\"]\n";
        let case = parse(text, "a/b".to_owned()).unwrap();
        assert_eq!(case.about.rows, ["A001"]);
        assert_eq!(case.builds.len(), 3);
        assert_eq!(case.builds[0].tag.as_deref(), Some("base"));
        assert_eq!(case.builds[1].args, ["--pull"]);
        assert_eq!(case.builds[2].remove, ["f"]);
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        assert!(parse("rows = []\nwhat = \"x\"\nexpected = 1\n", String::new()).is_err());
        assert!(parse("rows = []\nwhat = \"x\"\n[expect]\nfile = 1\n", String::new()).is_err());
    }

    #[test]
    fn every_case_can_be_read_and_names_its_rows() {
        for case in all().unwrap() {
            assert!(!case.about.rows.is_empty(), "{} shows no row", case.name);
            assert!(case.builds.iter().any(Build::expects_something), "{} cannot fail", case.name);
        }
    }
}

//! The packages in a root filesystem, as the files of package managers tell: those of dpkg and apk, and what npm, pip and cargo
//! leave behind.
//!
//! All of it is an image's, and hostile: sizes, depths and counts have limits, and what cannot be read is no package.

use std::collections::BTreeSet;

use base::CancelToken;
use snapshotter::Tree;
use snapshotter::tree::{Entry, Follow};
use sys::stat::Kind;

use super::escaped;
use crate::error::EngineError;

/// How long a file may be that is read.
const LONGEST: u64 = 64 << 20;
/// How deep directories are gone into.
const DEEPEST: usize = 64;
/// How many packages are told.
const MOST: usize = 100_000;
/// How long a name or a version may be.
const LONGEST_NAME: usize = 256;

/// Directories that are no files of the image.
const ELSEWHERE: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A package. Sorted by kind, name and version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// Kind and namespace, as package URLs have them: `deb/debian`.
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) version: String,
    /// What it runs on, if that is known.
    pub(super) architecture: String,
    /// The file that tells of it.
    pub(super) found_in: String,
}

impl Package {
    /// Its package URL.
    pub(super) fn url(&self) -> String {
        let Self { kind, name, version, architecture, .. } = self;
        let architecture = match architecture.as_str() {
            "" => String::new(),
            known => format!("?arch={}", escaped(known, false)),
        };
        let name = escaped(name, true);
        format!("pkg:{kind}/{name}@{}{architecture}", escaped(version, false))
    }
}

/// The packages in a root filesystem, sorted.
pub(super) fn find(tree: &Tree, cancel: &CancelToken) -> Result<Vec<Package>, EngineError> {
    let mut finder = Finder { tree, cancel, distribution: String::new(), found: BTreeSet::new() };
    finder.distribution = finder.distribution()?;
    finder.directory(&tree.root()?, "", 0)?;
    Ok(finder.found.into_iter().collect())
}

struct Finder<'a> {
    tree: &'a Tree,
    cancel: &'a CancelToken,
    /// What `/etc/os-release` calls the system.
    distribution: String,
    found: BTreeSet<Package>,
}

impl Finder<'_> {
    fn distribution(&self) -> Result<String, EngineError> {
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            if let Some(entry) = self.tree.lookup(path, Follow::Last)?
                && let Some(text) = self.read(&entry)?
                && let Some(id) = text.lines().find_map(|line| line.strip_prefix("ID="))
            {
                return Ok(id.trim().trim_matches('"').to_owned());
            }
        }
        Ok(String::new())
    }

    /// The text of a file; none of those that are no text, or too long.
    fn read(&self, entry: &Entry) -> Result<Option<String>, EngineError> {
        if entry.kind() != Kind::File || entry.stat().size > LONGEST {
            return Ok(None);
        }
        Ok(String::from_utf8(self.tree.read(entry, LONGEST)?).ok())
    }

    fn directory(&mut self, directory: &Entry, path: &str, depth: usize) -> Result<(), EngineError> {
        self.cancel.check()?;
        if depth > DEEPEST || ELSEWHERE.contains(&path) {
            return Ok(());
        }
        for entry in self.tree.read_dir(directory)? {
            let Some(name) = entry.name().to_str() else { continue };
            let below = format!("{path}/{name}");
            if entry.is_dir() {
                self.directory(&entry, &below, depth + 1)?;
            } else if let Some(read) = reader(&below)
                && let Some(text) = self.read(&entry)?
            {
                let mut add = |kind: &str, name: &str, version: &str, architecture: &str| {
                    let is_good = |text: &str| {
                        !text.is_empty() && text.len() <= LONGEST_NAME && !text.contains(char::is_control)
                    };
                    if self.found.len() < MOST && is_good(name) && is_good(version) {
                        self.found.insert(Package {
                            kind: kind.to_owned(),
                            name: name.to_owned(),
                            version: version.to_owned(),
                            architecture: architecture.to_owned(),
                            found_in: below.clone(),
                        });
                    }
                };
                read(&text, &self.distribution, &mut add);
            }
        }
        Ok(())
    }
}

/// Tells of packages: kind, name, version, architecture.
type Add<'a> = &'a mut dyn FnMut(&str, &str, &str, &str);

/// What reads the packages in a file of this path.
fn reader(path: &str) -> Option<fn(&str, &str, Add<'_>)> {
    let (directory, name) = path.rsplit_once('/')?;
    match name {
        "status" if directory == "/var/lib/dpkg" => Some(dpkg),
        _ if directory == "/var/lib/dpkg/status.d" && !name.contains('.') => Some(dpkg),
        "installed" if matches!(directory, "/lib/apk/db" | "/usr/lib/apk/db") => Some(apk),
        "package.json" if is_module(directory) => Some(npm),
        "METADATA" if directory.ends_with(".dist-info") => Some(pip),
        "PKG-INFO" if directory.ends_with(".egg-info") => Some(pip),
        "Cargo.lock" => Some(cargo),
        _ => None,
    }
}

/// Whether a directory is that of a package of npm: `…/node_modules/NAME` or `…/node_modules/@SCOPE/NAME`.
fn is_module(directory: &str) -> bool {
    let mut parts = directory.rsplit('/');
    let (_, parent, above) = (parts.next(), parts.next(), parts.next());
    parent == Some("node_modules")
        || (parent.is_some_and(|scope| scope.starts_with('@')) && above == Some("node_modules"))
}

/// Paragraphs of `Field: value`.
fn dpkg(text: &str, distribution: &str, add: Add<'_>) {
    let kind = format!("deb/{}", if distribution.is_empty() { "debian" } else { distribution });
    for paragraph in text.split("\n\n") {
        let field = |name: &str| header(paragraph, name);
        // Those that are removed but for their configuration are not there.
        if field("Status").is_none_or(|status| status.ends_with(" installed")) {
            let text = |name: &str| field(name).unwrap_or_default();
            add(&kind, text("Package"), text("Version"), text("Architecture"));
        }
    }
}

/// The value of a field in a head of mail.
fn header<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    let lines = paragraph.lines().take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_once(':')).find(|(own, _)| *own == name).map(|(_, value)| value.trim())
}

/// Paragraphs of `P:name`.
fn apk(text: &str, distribution: &str, add: Add<'_>) {
    let kind = format!("apk/{}", if distribution.is_empty() { "alpine" } else { distribution });
    for paragraph in text.split("\n\n") {
        let text = |name: &str| header(paragraph, name).unwrap_or_default();
        add(&kind, text("P"), text("V"), text("A"));
    }
}

fn npm(text: &str, _: &str, add: Add<'_>) {
    let Ok(document) = serde_json::from_str::<serde_json::Value>(text) else { return };
    let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    add("npm", text("name"), text("version"), "");
}

fn pip(text: &str, _: &str, add: Add<'_>) {
    let text = |name: &str| header(text, name).unwrap_or_default();
    // Names differ in nothing but case and hyphens.
    let name = text("Name").to_lowercase().replace('_', "-");
    add("pypi", &name, text("Version"), "");
}

fn cargo(text: &str, _: &str, add: Add<'_>) {
    let Ok(document) = text.parse::<toml::Table>() else { return };
    let packages = document.get("package").and_then(toml::Value::as_array);
    for package in packages.into_iter().flatten() {
        let text = |name: &str| package.get(name).and_then(toml::Value::as_str).unwrap_or_default();
        add("cargo", text("name"), text("version"), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut add = |kind: &str, name: &str, version: &str, architecture: &str| {
            let owned = |text: &str| text.to_owned();
            let package = Package {
                kind: owned(kind),
                name: owned(name),
                version: owned(version),
                architecture: owned(architecture),
                found_in: owned(path),
            };
            found.push(package.url());
        };
        reader(path).unwrap()(text, "", &mut add);
        found
    }

    #[test]
    fn every_manager_is_read() {
        let dpkg = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-1+b2\nDescription: x\n \
                    Version: 9\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        assert_eq!(urls("/var/lib/dpkg/status", dpkg), ["pkg:deb/debian/libc6@2.41-1%2Bb2?arch=amd64"]);
        let apk = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nP:zlib\nV:1.3\n";
        let expected = ["pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64", "pkg:apk/alpine/zlib@1.3"];
        assert_eq!(urls("/lib/apk/db/installed", apk), expected);
        let npm = r#"{"name":"@scope/left-pad","version":"1.3.0"}"#;
        let path = "/app/node_modules/@scope/left-pad/package.json";
        assert_eq!(urls(path, npm), ["pkg:npm/%40scope/left-pad@1.3.0"]);
        let pip = "Metadata-Version: 2.1\nName: Typing_Extensions\nVersion: 4.12\n\nName: other\n";
        let path = "/usr/lib/python3/x-4.dist-info/METADATA";
        assert_eq!(urls(path, pip), ["pkg:pypi/typing-extensions@4.12"]);
        let cargo = "version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n";
        assert_eq!(urls("/src/Cargo.lock", cargo), ["pkg:cargo/serde@1.0.0"]);
    }

    #[test]
    fn other_files_are_left_alone() {
        for path in ["/app/package.json", "/status", "/var/lib/dpkg/status.d/x.md5sums", "/x/METADATA"] {
            assert!(reader(path).is_none(), "{path}");
        }
        assert!(urls("/x/Cargo.lock", "[[").is_empty());
        assert!(urls("/node_modules/a/package.json", "[").is_empty());
    }
}

//! Dependencies point down, and each outside library belongs to the crate that wraps it.

use super::Violation;
use super::workspace::{Dependency, DependencyKind, Package, Workspace};

const RULE: &str = "arrows";

/// What each package may depend on in this workspace. The five crates under `engine` never see one another.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("base", &[]),
    ("sys", &["base"]),
    ("parser", &["base"]),
    ("llb", &["base"]),
    ("frontend", &["base", "llb", "parser"]),
    ("solver", &["base", "llb"]),
    ("snapshotter", &["base", "sys"]),
    ("runner", &["base", "sys"]),
    ("registry", &["base", "sys"]),
    ("engine", &["base", "frontend", "llb", "parser", "registry", "runner", "snapshotter", "solver", "sys"]),
    ("compose", &["base"]),
    ("docker", &["base", "engine"]),
    ("daemon", &["base", "docker", "engine"]),
    ("cli", &["base", "compose", "daemon", "docker", "engine"]),
    ("testkit", &["base", "sys"]),
    ("frontend-tests", &["base", "testkit"]),
    ("bench", &["base", "frontend", "llb", "parser", "solver", "testkit"]),
    ("xtask", &["base", "frontend-tests", "testkit"]),
];

/// Packages that are built only to work on Lapstrake. They may use `testkit`; what is shipped may not.
const TOOLS: [&str; 4] = ["bench", "frontend-tests", "testkit", "xtask"];

/// Outside libraries that only some packages may know.
const OWNERS: [(&str, &[&str]); 12] = [
    ("rusqlite", &["snapshotter"]),
    ("reqwest", &["registry"]),
    ("rustls", &["registry"]),
    ("tonic", &["daemon", "frontend-tests", "bench"]),
    ("axum", &["daemon", "docker", "registry"]),
    ("clap", &["cli"]),
    ("granit-parser", &["compose"]),
    ("gtmpl-ng", &["cli"]),
    ("indicatif", &["cli"]),
    ("pest", &["parser"]),
    ("oci-spec", &["runner"]),
    ("libc", &["sys"]),
];

/// The one package whose lints allow `unsafe`.
const UNSAFE: &str = "sys";

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    workspace.packages.iter().flat_map(|package| check_package(package, &workspace.packages)).collect()
}

fn check_package(package: &Package, all: &[Package]) -> Vec<Violation> {
    let manifest = format!("{}/Cargo.toml", package.name);
    let violation = |line, advice| Violation { file: manifest.clone(), line, rule: RULE, advice };
    let mut violations = Vec::new();
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
        let advice = "say in xtask/src/tidy/arrows.rs what this package may depend on".to_owned();
        return vec![violation(1, advice)];
    };
    if !package.has_workspace_lints && package.name != UNSAFE {
        let advice = format!("add `[lints] workspace = true`; only {UNSAFE} has lints of its own");
        violations.push(violation(1, advice));
    }
    for dependency in &package.dependencies {
        let is_member = all.iter().any(|other| other.name == dependency.name);
        let advice = if is_member {
            wrong_arrow(package, dependency, allowed)
        } else {
            wrong_owner(package, dependency)
        };
        violations.extend(advice.map(|advice| violation(dependency.line, advice)));
    }
    violations
}

fn wrong_arrow(package: &Package, dependency: &Dependency, allowed: &[&str]) -> Option<String> {
    let is_tool = TOOLS.contains(&package.name.as_str());
    match (dependency.name.as_str(), dependency.kind) {
        ("testkit", DependencyKind::Dev) => None,
        ("testkit", _) if !is_tool => Some("testkit is for tests; make it a dev-dependency".to_owned()),
        (name, _) if allowed.contains(&name) => None,
        (name, _) => Some(format!(
            "{} may not depend on {name}; put what both need into base, or a trait into {} that engine implements",
            package.name, package.name
        )),
    }
}

fn wrong_owner(package: &Package, dependency: &Dependency) -> Option<String> {
    let (_, owners) = OWNERS.iter().find(|(name, _)| *name == dependency.name)?;
    let fits = owners.contains(&package.name.as_str()) || dependency.kind == DependencyKind::Dev;
    (!fits)
        .then(|| format!("only {} knows {}; go through its interface", owners.join(" and "), dependency.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(name: &str, dependencies: &str) -> Vec<String> {
        let manifest = format!("[lints]\nworkspace = true\n{dependencies}");
        let names = ["base", "llb", "parser", "solver", "snapshotter", "runner", "testkit"];
        let mut packages: Vec<Package> = names
            .iter()
            .map(|name| Package::from_manifest(name, "[lints]\nworkspace = true\n").unwrap())
            .collect();
        packages.retain(|package| package.name != name);
        packages.push(Package::from_manifest(name, &manifest).unwrap());
        let workspace = Workspace { packages, ..Workspace::default() };
        check(&workspace).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_down_are_fine() {
        assert!(
            advice("solver", "[dependencies]\nbase = \"1\"\nllb = \"1\"\nthiserror = \"1\"\n").is_empty()
        );
        assert!(advice("solver", "[dev-dependencies]\ntestkit = \"1\"\n").is_empty());
    }

    #[test]
    fn siblings_are_strangers() {
        let found = advice("runner", "[dependencies]\nsnapshotter = \"1\"\n");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("runner/Cargo.toml:4: arrows: runner may not depend on snapshotter"),
            "{found:?}"
        );
        assert_eq!(advice("runner", "[dev-dependencies]\nsnapshotter = \"1\"\n").len(), 1);
    }

    #[test]
    fn testkit_is_not_shipped() {
        let found = advice("solver", "[dependencies]\ntestkit = \"1\"\n");
        assert!(found[0].contains("make it a dev-dependency"), "{found:?}");
        assert!(advice("bench", "[dependencies]\ntestkit = \"1\"\n").is_empty());
    }

    #[test]
    fn libraries_have_owners() {
        assert!(
            advice("solver", "[dependencies]\nrusqlite = \"1\"\n")[0]
                .contains("only snapshotter knows rusqlite")
        );
        assert!(advice("snapshotter", "[dependencies]\nrusqlite = \"1\"\n").is_empty());
    }

    #[test]
    fn lints_come_from_the_workspace_and_new_packages_are_declared() {
        let package = |name: &str| Package::from_manifest(name, "").unwrap();
        let packages = vec![package("sys"), package("runner"), package("newcomer")];
        let found = check(&Workspace { packages, ..Workspace::default() });
        let files: Vec<&str> = found.iter().map(|violation| violation.file.as_str()).collect();
        assert_eq!(files, ["runner/Cargo.toml", "newcomer/Cargo.toml"]);
    }
}

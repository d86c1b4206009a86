//! The code map names every package, and design notes are numbered.

use super::Violation;
use super::workspace::Workspace;

const RULE: &str = "documents";

/// The code map.
const MAP: &str = "ARCHITECTURE.md";

/// Where design notes are.
const NOTES: &str = "docs/design/";

pub(super) fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut violations = check_map(workspace);
    let notes = workspace.documents.keys().filter_map(|path| Some((path, path.strip_prefix(NOTES)?)));
    let mut numbers: Vec<&str> = Vec::new();
    for (path, name) in notes {
        let violation = |advice: &str| violation(path, advice.to_owned());
        match number_of(name) {
            None => violations.push(violation("call it NNNN-title.md, in lower case with hyphens")),
            Some(number) if numbers.contains(&number) => {
                violations.push(violation("take a number that is free"))
            }
            Some(number) => numbers.push(number),
        }
    }
    violations
}

fn check_map(workspace: &Workspace) -> Vec<Violation> {
    let map = workspace.documents.get(MAP).map_or("", String::as_str);
    let named = |name: &str| map.contains(&format!("`{name}`")) || map.contains(&format!("`{name}/`"));
    let unnamed = workspace.packages.iter().filter(|package| !named(&package.name));
    let advice = |name: &str| format!("say what `{name}/` does and what it does not");
    unnamed.map(|package| violation(MAP, advice(&package.name))).collect()
}

/// The number of a design note, if it is named as one.
fn number_of(name: &str) -> Option<&str> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let fits = number.len() == 4
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !title.is_empty()
        && title.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    fits.then_some(number)
}

fn violation(file: &str, advice: String) -> Violation {
    Violation { file: file.to_owned(), line: 1, rule: RULE, advice }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::workspace::Package;

    fn found(documents: &[(&str, &str)]) -> Vec<String> {
        let documents =
            documents.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let packages = vec![Package::from_manifest("solver", "").unwrap()];
        check(&Workspace { packages, documents }).into_iter().map(|violation| violation.file).collect()
    }

    #[test]
    fn the_map_names_every_package() {
        assert!(found(&[(MAP, "* `solver/` plans")]).is_empty());
        assert_eq!(found(&[(MAP, "* `solvers` plan")]), [MAP]);
        assert_eq!(found(&[]), [MAP]);
    }

    #[test]
    fn notes_have_numbers_of_their_own() {
        let map = (MAP, "`solver`");
        assert!(found(&[map, ("docs/design/0001-a-b.md", ""), ("docs/design/0002-c.md", "")]).is_empty());
        assert_eq!(found(&[map, ("docs/design/1-a.md", "")]), ["docs/design/1-a.md"]);
        assert_eq!(found(&[map, ("docs/design/0001-A.md", "")]), ["docs/design/0001-A.md"]);
        assert_eq!(
            found(&[map, ("docs/design/0001-a.md", ""), ("docs/design/0001-b.md", "")]),
            ["docs/design/0001-b.md"]
        );
    }
}

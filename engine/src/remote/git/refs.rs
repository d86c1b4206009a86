//! From a branch or tag to its commit.

use base::git_url::{GitUrl, is_commit_id};

use super::{Git, GitError};

/// How many existing names an error lists.
const MAX_LISTED: usize = 8;

/// One line of what a server lists: a ref and the object that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
}

/// Refuses a commit that is not the one which the URL's checksum demands.
pub(super) fn checked(url: &GitUrl, commit: String) -> Result<String, GitError> {
    match &url.checksum {
        Some(expected) if !commit.starts_with(expected.as_str()) => Err(GitError::Checksum {
            remote: url.shown(),
            reference: url.reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
            expected: expected.clone(),
            actual: commit,
        }),
        _ => Ok(commit),
    }
}

/// Asks the server for the commit of a URL's ref.
pub(super) fn commit_of(git: &Git<'_>, url: &GitUrl) -> Result<String, GitError> {
    let action = "list the branches and tags of";
    let reference = url.reference.as_deref().unwrap_or("HEAD");
    let peeled = format!("{reference}^{{}}");
    let output = git.run(action, &["ls-remote", "--", &git.remote, reference, &peeled])?;
    let text = String::from_utf8_lossy(&output);
    if let Some(commit) = choose(&listed(&text), reference) {
        return Ok(commit.to_owned());
    }
    if url.reference.is_none() {
        return Err(GitError::Empty { remote: url.shown() });
    }
    let output = git.run(action, &["ls-remote", "--heads", "--tags", "--", &git.remote])?;
    let text = String::from_utf8_lossy(&output);
    let existing = alternatives(&listed(&text), reference);
    Err(GitError::NoReference { remote: url.shown(), reference: reference.to_owned(), existing })
}

fn listed(text: &str) -> Vec<Listed<'_>> {
    let line = |line: &'_ str| -> Option<(usize, usize)> {
        let tab = line.find('\t')?;
        is_commit_id(&line[..tab]).then_some((tab, line.len()))
    };
    let parse = |text| line(text).map(|(tab, end)| Listed { id: &text[..tab], name: &text[tab + 1..end] });
    text.lines().filter_map(parse).collect()
}

/// The commit that `reference` means: the ref of exactly that name, else a branch, else a tag. An annotated
/// tag is an object of its own; the line with `^{}` has its commit.
fn choose<'a>(listed: &[Listed<'a>], reference: &str) -> Option<&'a str> {
    let by_name = |name: &str| {
        let of = |wanted: &str| listed.iter().find(|one| one.name == wanted).map(|one| one.id);
        of(&format!("{name}^{{}}")).or_else(|| of(name))
    };
    let prefixes = ["", "refs/", "refs/heads/", "refs/tags/"];
    prefixes.iter().find_map(|prefix| by_name(&format!("{prefix}{reference}")))
}

/// The name of a repository that resembles `reference`, else the first few that it has.
fn alternatives(listed: &[Listed<'_>], reference: &str) -> Vec<String> {
    let short = |name: &str| {
        let name =
            name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name);
        name.trim_end_matches("^{}").to_owned()
    };
    let mut names: Vec<String> = listed.iter().map(|one| short(one.name)).collect();
    names.dedup();
    closest(names, &short(reference))
}

/// The one of `names` that resembles `wanted`, else the first few of them.
pub(super) fn closest(mut names: Vec<String>, wanted: &str) -> Vec<String> {
    if let Some(near) = parser::suggest::nearest(wanted, names.iter().map(String::as_str)) {
        return vec![near.to_owned()];
    }
    names.sort();
    names.truncate(MAX_LISTED);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn list(names: &[(char, &str)]) -> String {
        names.iter().map(|(digit, name)| format!("{}\t{name}\n", id(*digit))).collect()
    }

    #[test]
    fn a_branch_wins_over_a_tag_and_a_full_name_over_both() {
        let text = list(&[
            ('1', "refs/heads/x"),
            ('2', "refs/tags/x"),
            ('3', "refs/tags/x^{}"),
            ('4', "refs/heads/other/x"),
            ('5', "refs/pull/7/head"),
        ]);
        let listed = listed(&text);
        let chosen = |reference: &str| choose(&listed, reference).map(str::to_owned);
        assert_eq!(chosen("x"), Some(id('1')));
        assert_eq!(chosen("refs/tags/x"), Some(id('3')));
        assert_eq!(chosen("tags/x"), Some(id('3')));
        assert_eq!(chosen("pull/7/head"), Some(id('5')));
        assert_eq!(chosen("head"), None);
    }

    #[test]
    fn lines_that_are_not_refs_are_passed_over() {
        let text = format!("warning: x\n\nshort\trefs/heads/a\n{}\tHEAD\n", id('a'));
        assert_eq!(listed(&text), [Listed { id: &id('a'), name: "HEAD" }]);
    }

    #[test]
    fn what_exists_is_told_with_the_likeliest_first() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(closest(names(&["develop", "main", "v1"]), "mian"), ["main"]);
        assert_eq!(closest(names(&["bb", "aaaaaaaa"]), "zzzzzzzzzz"), ["aaaaaaaa", "bb"]);
        assert_eq!(closest((0..50).map(|n| format!("release-{n}")).collect(), "nothing").len(), MAX_LISTED);
    }
}

//! Taking a git URL apart: remote, query and fragment, and what they say.

use std::collections::BTreeMap;

use super::{FileTimes, GitUrl, GitUrlProblem, is_commit_id};

/// The fewest digits of a commit id that a checksum may have.
const SHORTEST_CHECKSUM: usize = 7;

/// A text that names a repository, cut at `?` and `#`.
pub(super) struct Split<'a> {
    remote: &'a str,
    /// What follows the scheme or the user: host and path.
    location: Location<'a>,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

struct Location<'a> {
    host: &'a str,
    path: &'a str,
}

/// Cuts a text that names a repository; `None` for one that names something else.
pub(super) fn split(text: &str) -> Option<Split<'_>> {
    let (rest, fragment) = cut(text, '#');
    let (remote, query) = cut(rest, '?');
    let location = match remote.split_once("://") {
        Some((scheme, rest)) => {
            let scheme = scheme.to_ascii_lowercase();
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let known = match scheme.as_str() {
                "git" | "ssh" => true,
                "http" | "https" => path.trim_end_matches('/').ends_with(".git"),
                _ => false,
            };
            known.then_some(Location { host: without_user(authority), path })
        }
        None => of_scp(remote),
    }?;
    Some(Split { remote, location, query, fragment })
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// `user@host:path`, the form of `scp(1)`.
fn of_scp(remote: &str) -> Option<Location<'_>> {
    let (user, rest) = remote.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let plausible = !user.is_empty() && user.bytes().all(name) && !host.contains('/');
    plausible.then_some(Location { host, path })
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Host and port of a remote.
pub(super) fn host(remote: &str) -> &str {
    match remote.split_once("://") {
        Some((_, rest)) => without_user(rest.split('/').next().unwrap_or_default()),
        None => of_scp(remote).map_or("", |location| location.host),
    }
}

/// Replaces the password of a URL.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let hidden = authority.rsplit_once('@').and_then(|(user, host)| {
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:xxxxx@{host}{tail}"))
    });
    hidden.unwrap_or_else(|| url.to_owned())
}

/// Adds `.git` to the path of a URL that lacks it.
pub(super) fn with_git_suffix(url: &str) -> String {
    let (path, tail) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let path = path.trim_end_matches('/');
    let suffix = if path.ends_with(".git") { "" } else { ".git" };
    format!("{path}{suffix}{tail}")
}

/// Reads what the parts say.
pub(super) fn read(split: &Split<'_>) -> Result<GitUrl, GitUrlProblem> {
    check_remote(split)?;
    let mut url = GitUrl::of_remote(split.remote);
    let mut reference = Agreed::new("the ref");
    let mut subdir = Agreed::new("the directory");
    if let Some(fragment) = split.fragment {
        let fragment = decode(fragment, false)?;
        let (name, directory) = fragment.split_once(':').unwrap_or((&fragment, ""));
        reference.add(name)?;
        subdir.add(&clean_directory(directory)?)?;
    }
    for (name, value) in parameters(split.query.unwrap_or_default())? {
        match name.as_str() {
            "ref" => reference.add(&value)?,
            "branch" => reference.add(&full_name("refs/heads/", &value))?,
            "tag" => reference.add(&full_name("refs/tags/", &value))?,
            "subdir" => subdir.add(&clean_directory(&value)?)?,
            "checksum" => url.checksum = Some(checksum(&value)?),
            "keep-git-dir" => url.keep_git_dir = Some(boolean(&name, &value)?),
            "submodules" => url.submodules = boolean(&name, &value)?,
            "mtime" => url.times = times(&value)?,
            "fetch-by-commit" => url.fetch_by_commit = boolean(&name, &value)?,
            _ => return Err(GitUrlProblem::Parameter(name)),
        }
    }
    url.reference = reference.value.map(check_reference).transpose()?;
    url.subdir = subdir.value;
    if url.fetch_by_commit && !url.checksum.as_deref().is_some_and(is_commit_id) {
        return Err(GitUrlProblem::NoCommit);
    }
    Ok(url)
}

fn check_remote(split: &Split<'_>) -> Result<(), GitUrlProblem> {
    let Location { host, path } = split.location;
    if split.remote.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(GitUrlProblem::Character);
    }
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    // A host that starts with a dash would be an option to ssh.
    if host.is_empty() || host.starts_with('-') || !host.bytes().all(name) {
        return Err(GitUrlProblem::Host(host.to_owned()));
    }
    match path.trim_matches('/') {
        "" => Err(GitUrlProblem::NoPath),
        _ => Ok(()),
    }
}

/// A value that several places may give, as long as they agree.
struct Agreed {
    what: &'static str,
    value: Option<String>,
}

impl Agreed {
    fn new(what: &'static str) -> Self {
        Self { what, value: None }
    }

    fn add(&mut self, value: &str) -> Result<(), GitUrlProblem> {
        match &self.value {
            _ if value.is_empty() => Ok(()),
            Some(first) if first != value => {
                let (first, second) = (first.clone(), value.to_owned());
                Err(GitUrlProblem::Conflict { what: self.what, first, second })
            }
            _ => {
                self.value = Some(value.to_owned());
                Ok(())
            }
        }
    }
}

/// The parameters of a query, each once. `commit` is another name of `checksum`. Those that switch
/// something may come without a value, which is "yes".
fn parameters(query: &str) -> Result<BTreeMap<String, String>, GitUrlProblem> {
    let mut found = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (mut name, mut value) = (decode(name, true)?, decode(value, true)?);
        if name == "commit" {
            "checksum".clone_into(&mut name);
        }
        if value.is_empty() {
            match name.as_str() {
                "keep-git-dir" | "submodules" | "fetch-by-commit" => "true".clone_into(&mut value),
                _ => return Err(GitUrlProblem::NoValue(name)),
            }
        }
        if let Some(first) = found.insert(name, value.clone())
            && first != value
        {
            return Err(GitUrlProblem::Conflict { what: "one parameter with", first, second: value });
        }
    }
    Ok(found)
}

fn full_name(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn boolean(name: &str, value: &str) -> Result<bool, GitUrlProblem> {
    crate::boolean::parse(value).ok_or_else(|| unexpected(name, value, "true or false"))
}

fn times(value: &str) -> Result<FileTimes, GitUrlProblem> {
    match value {
        "checkout" => Ok(FileTimes::Checkout),
        "commit" => Ok(FileTimes::Commit),
        _ => Err(unexpected("mtime", value, "checkout or commit")),
    }
}

fn checksum(value: &str) -> Result<String, GitUrlProblem> {
    let value = value.to_ascii_lowercase();
    let digits = value.bytes().all(|b| b.is_ascii_hexdigit());
    match digits && (SHORTEST_CHECKSUM..=64).contains(&value.len()) {
        true => Ok(value),
        false => Err(unexpected("checksum", &value, "a commit id, or the first seven digits of one or more")),
    }
}

fn unexpected(name: &str, value: &str, expected: &'static str) -> GitUrlProblem {
    GitUrlProblem::Value { name: name.to_owned(), value: value.to_owned(), expected }
}

/// A directory without `.`, `..`, leading and double slashes; empty for the repository itself.
fn clean_directory(text: &str) -> Result<String, GitUrlProblem> {
    let outside = || GitUrlProblem::Outside(text.to_owned());
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(outside)?),
            other if other.contains('\0') => return Err(GitUrlProblem::Character),
            other => parts.push(other),
        }
    }
    Ok(parts.join("/"))
}

/// Refuses what git would not take as a ref, or would take for an option or a pattern.
/// Source: `git-check-ref-format(1)`.
fn check_reference(name: String) -> Result<String, GitUrlProblem> {
    let forbidden = |c: char| {
        c.is_control() || c.is_whitespace() || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\')
    };
    let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let good = !name.starts_with(['-', '+'])
        && !name.contains(forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name != "@"
        && name.split('/').all(component);
    if good { Ok(name) } else { Err(GitUrlProblem::Reference(name)) }
}

/// Undoes percent encoding, in a query also `+` for a blank.
fn decode(text: &str, query: bool) -> Result<String, GitUrlProblem> {
    let wrong = || GitUrlProblem::Encoding(text.to_owned());
    let text = if query { text.replace('+', " ") } else { text.to_owned() };
    let bytes = decoded(&text);
    // Every percent sign has to start an encoded byte.
    let encoded = text.bytes().filter(|byte| *byte == b'%').count();
    if text.len() - bytes.len() != 2 * encoded {
        return Err(wrong());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Undoes percent encoding; a percent sign that encodes nothing stays.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let pair = match (first, tail) {
            (b'%', [high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        bytes.push(pair.map_or(*first, |(high, low)| (high * 16 + low) as u8));
        rest = if pair.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

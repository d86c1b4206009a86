//! Sources of ADD that are elsewhere: files of the web, and git repositories.
//!
//! Both are pinned while the Dockerfile is lowered: the graph has the digest of the file, or the commit. So
//! a rebuild is decided by what the server has, not by what the Dockerfile calls it.

use base::git_url::{is_http, without_password};
use base::{Digest, GitUrl};
use llb::{GitSource, HttpSource, Input, Metadata, Op, SourceOp};
use parser::ast::{Add, Word};
use parser::span::Span;

use super::{Lowering, StageState, source_range};
use crate::error::LowerError;
use crate::ports::{HttpRequest, ResolveError, ResolvedHttp};

/// The permission bits of a file of the web, as in Docker: nobody but its owner reads it.
const FILE_MODE: u32 = 0o600;

/// A filesystem with a source, and what of it to copy.
pub(super) struct Remote {
    pub(super) from: Input,
    pub(super) path: String,
    /// Whether it may be unpacked: an archive of the web is not, unless that is asked for.
    pub(super) unpack_archives: bool,
}

/// Whether a source of ADD, expanded, is elsewhere. A git URL that cannot be used is, too.
fn is_remote(text: &str) -> bool {
    is_http(text) || !matches!(GitUrl::parse(text), Ok(None))
}

impl Lowering<'_> {
    /// The source that `text` names, if it is elsewhere; `text` is `written` after expansion.
    pub(super) fn remote(
        &mut self,
        state: &StageState,
        add: &Add,
        written: &Word,
        text: &str,
    ) -> Result<Option<Remote>, LowerError> {
        let checksum = self.checksum(state, add, text)?;
        let url = GitUrl::parse(text)
            .map_err(|error| LowerError::at("invalid-git-url", written.span, error.to_string()))?;
        match url {
            Some(url) => {
                let url = with_flags(url, add, checksum)
                    .map_err(|message| LowerError::at("git-flag-conflict", written.span, message))?;
                self.repository(&url, written.span).map(Some)
            }
            None if is_http(text) => {
                let checksum = checksum.map(|written| digest(&written)).transpose()?;
                self.file_of_the_web(text, checksum, add, written.span).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The value of `--checksum`, which is for one source that is elsewhere.
    fn checksum(&self, state: &StageState, add: &Add, text: &str) -> Result<Option<Word>, LowerError> {
        let Some(written) = &add.checksum else { return Ok(None) };
        let wrong = |message: &str| Err(LowerError::at("invalid-checksum", written.span, message));
        if add.sources.len() > 1 {
            return wrong("--checksum is for one source, and this ADD has several");
        }
        if !is_remote(text) {
            return wrong("--checksum is for a URL or a git repository, not for files of the build context");
        }
        let text = self.expander.word(written, &state.environment)?;
        Ok((!text.is_empty()).then_some(Word { text, span: written.span }))
    }

    fn file_of_the_web(
        &mut self,
        url: &str,
        checksum: Option<Digest>,
        add: &Add,
        span: Span,
    ) -> Result<Remote, LowerError> {
        let request = HttpRequest { url: url.to_owned(), checksum };
        let found = self.resolver.http(&request).map_err(|source| unresolved(url, span, source))?;
        let ResolvedHttp { digest, filename, last_modified } = found;
        let path = escaped(&filename);
        let source = HttpSource {
            url: url.to_owned(),
            digest,
            filename,
            mode: FILE_MODE,
            uid: 0,
            gid: 0,
            mtime: last_modified,
        };
        let from = self.elsewhere(SourceOp::Http(source), &without_password(url), span);
        Ok(Remote { from, path, unpack_archives: add.unpack == Some(true) })
    }

    fn repository(&mut self, url: &GitUrl, span: Span) -> Result<Remote, LowerError> {
        let commit = self.resolver.git(url).map_err(|source| unresolved(&url.remote, span, source))?;
        let name = format!("{}#{commit}", url.shown());
        let source = GitSource::of(url, commit, false);
        let from = self.elsewhere(SourceOp::Git(source), &name, span);
        Ok(Remote { from, path: "/".to_owned(), unpack_archives: false })
    }

    fn elsewhere(&mut self, source: SourceOp, name: &str, span: Span) -> Input {
        let metadata = Metadata {
            name: format!("[internal] load {name}"),
            source: source_range(span),
            ..Metadata::default()
        };
        self.graph.add(Op::Source(source), &self.options.build_platform, &[], metadata)
    }
}

/// The repository with what the flags of ADD say. What they say must not contradict the URL.
fn with_flags(mut url: GitUrl, add: &Add, checksum: Option<Word>) -> Result<GitUrl, String> {
    if let (Some(flag), Some(query)) = (add.keep_git_dir, url.keep_git_dir)
        && flag != query
    {
        return Err(format!("--keep-git-dir={flag} contradicts keep-git-dir={query} of the URL"));
    }
    url.keep_git_dir = add.keep_git_dir.or(url.keep_git_dir);
    if let Some(flag) = checksum {
        let flag = flag.text.to_ascii_lowercase();
        if !(7..=64).contains(&flag.len()) || !flag.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!(
                "--checksum={flag} is not the id of a commit, or the first seven digits of one or more"
            ));
        }
        if let Some(query) = url.checksum.filter(|query| *query != flag) {
            return Err(format!("--checksum={flag} contradicts checksum={query} of the URL"));
        }
        url.checksum = Some(flag);
    }
    Ok(url)
}

fn digest(written: &Word) -> Result<Digest, LowerError> {
    written.text.parse().map_err(|error: base::digest::DigestError| {
        let message = format!("invalid checksum \"{}\": {error}", written.text);
        LowerError::with_help("invalid-checksum", written.span, message, "write sha256: and 64 digits")
    })
}

/// A file name as a pattern that matches nothing else.
fn escaped(name: &str) -> String {
    let mut pattern = String::new();
    for character in name.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

fn unresolved(url: &str, span: Span, source: ResolveError) -> LowerError {
    LowerError::Resolve {
        reference: without_password(url),
        span,
        near: None,
        fault: ::base::Fault::Environment,
        source,
    }
}

//! Calls that look at a Dockerfile and build nothing: what is wrong with it, what a target takes, which
//! targets there are. They give plain values with places in the [`Source`]; whoever calls draws them.

pub mod json;
pub mod text;

use std::sync::Arc;

use base::event::EventSink;
use base::{CancelToken, Digest, GitUrl, Platform, Reference};
pub use frontend::outline::{Argument, Need, Outline, Target};
use frontend::{HttpRequest, MetaResolver, ResolveError, ResolvedHttp, ResolvedImage};
use parser::lint;
pub use parser::span::Span;
use parser::{Diagnostic, SourceFile};

use crate::Engine;
use crate::build::options;
use crate::context::BuildContext;
use crate::definition::Definition;
use crate::error::{BuildError, EngineError};
use crate::layouts::Layouts;
use crate::progress::Progress;
use crate::remote::{Access, Fetcher};
use crate::request::BuildRequest;
use crate::resolve::SourceResolver;

/// Hexadecimal digits of a commit's id.
const COMMIT_ID_LENGTH: usize = 40;

/// Of `known`, the name that `typed` is probably meant to be.
pub fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    parser::suggest::nearest(typed, known.iter().copied())
}

/// The Dockerfile that was looked at.
#[derive(Debug, Clone)]
pub struct Source(SourceFile);

impl Source {
    /// What messages call it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its text, decoded.
    pub fn text(&self) -> &str {
        self.0.text()
    }

    /// Lines and characters of a span.
    pub fn location(&self, span: Span) -> Location {
        let position = |offset| {
            let position = self.0.position(offset);
            Position { line: position.line, character: position.column - 1 }
        };
        // The end of a line that a span includes is not the start of the next.
        let end = if span.end > span.start { position(span.end - 1) } else { position(span.end) };
        let width = usize::from(span.end > span.start);
        Location {
            start: position(span.start),
            end: Position { line: end.line, character: end.character + width },
        }
    }
}

/// What an error is about: a part of a Dockerfile, with all of it.
#[derive(Debug, Clone)]
pub struct Place {
    source: Source,
    span: Span,
}

impl Place {
    pub(crate) fn new(source: &SourceFile, span: Span) -> Self {
        Self { source: Source(source.clone()), span }
    }

    /// The Dockerfile.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Which part of it.
    pub fn location(&self) -> Location {
        self.source.location(self.span)
    }

    /// File, line and column, then the lines themselves.
    pub fn excerpt(&self) -> String {
        let file = &self.source.0;
        let at = file.position(self.span.start);
        format!("{}:{}:{}\n{}", file.name(), at.line, at.column, file.excerpt(self.span))
    }
}

/// A part of a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Where it begins.
    pub start: Position,
    /// Where it ends, exclusively.
    pub end: Position,
}

/// A place in a [`Source`], counted as in BuildKit's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 0.
    pub character: usize,
}

/// What a build check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub rule: &'static str,
    /// What the check says to do.
    pub description: &'static str,
    /// A page about the check.
    pub url: Option<String>,
    /// What is wrong here.
    pub detail: String,
    /// What to do about it here.
    pub help: Option<String>,
    /// Where.
    pub span: Span,
}

impl From<Diagnostic> for Finding {
    fn from(found: Diagnostic) -> Self {
        let rule = lint::find(found.code);
        Self {
            rule: found.code,
            description: rule.map_or("", |rule| rule.description),
            url: rule.and_then(lint::Rule::documentation),
            detail: found.message,
            help: found.help,
            span: found.span,
        }
    }
}

/// What is wrong with a Dockerfile.
#[derive(Debug)]
pub struct CheckReport {
    /// What the build checks found, in the order of the file.
    pub findings: Vec<Finding>,
    /// Why it cannot be built; the checks ended there.
    pub error: Option<CheckError>,
    /// The Dockerfile.
    pub source: Source,
}

/// Why a Dockerfile that was checked cannot be built.
#[derive(Debug)]
pub struct CheckError {
    /// The error that a build would end with.
    pub error: BuildError,
    /// Where it is, as far as it has a place.
    pub span: Option<Span>,
}

/// What a target takes.
#[derive(Debug, Clone)]
pub struct OutlineReport {
    /// The target and what it takes.
    pub outline: Outline,
    /// The Dockerfile.
    pub source: Source,
}

/// Which targets a Dockerfile has.
#[derive(Debug, Clone)]
pub struct TargetsReport {
    /// The targets, in the order of the file.
    pub targets: Vec<Target>,
    /// The Dockerfile.
    pub source: Source,
}

impl Engine {
    /// Makes all build checks on the Dockerfile of `request`; of all its stages, if no target is named.
    /// Base images are looked up, but nothing is built.
    ///
    /// # Errors
    /// When there is no Dockerfile to check. What is wrong with one that exists is in the report.
    pub fn check(
        &self,
        request: &BuildRequest,
        events: Arc<dyn EventSink>,
        cancel: &CancelToken,
    ) -> Result<CheckReport, BuildError> {
        let progress = Progress::new(events, self.clock.clone());
        let lease = self.store.lease("check").map_err(EngineError::from)?;
        let access = Access::of(request)?;
        let rules = &request.steps.rules;
        let fetcher =
            Fetcher { engine: self, lease: &lease, access: &access, progress: &progress, rules, cancel };
        let (context, definition) = self.definition(request, &fetcher)?;
        let mut warnings = definition.warnings();
        let error = match definition.mistakes() {
            Some(error) => {
                Some(CheckError { error, span: definition.first_mistake().map(|mistake| mistake.span) })
            }
            None => {
                let layouts = self.import_layouts(&lease, request, cancel)?;
                let resolver = ImagesOnly(SourceResolver::new(fetcher, &layouts, request.pull));
                let options = options(request, &definition, &context, &layouts);
                let checked = frontend::check(&definition.parsed.dockerfile, &options, &resolver);
                warnings.extend(checked.warnings);
                checked.error.map(|error| CheckError { span: error.span(), error: definition.error(error) })
            }
        };
        if let Some(CheckError { error: BuildError::Cancelled, .. }) = error {
            return Err(BuildError::Cancelled);
        }
        warnings.sort_by_key(|warning| (warning.span.start, warning.span.end));
        let findings = warnings.into_iter().map(Finding::from).collect();
        Ok(CheckReport { findings, error, source: Source(definition.source) })
    }

    /// What the target of `request` takes.
    ///
    /// # Errors
    /// When the Dockerfile cannot be read or understood.
    pub fn outline(
        &self,
        request: &BuildRequest,
        events: Arc<dyn EventSink>,
    ) -> Result<OutlineReport, BuildError> {
        let (context, definition) = self.understood(request, events)?;
        let options = options(request, &definition, &context, &Layouts::default());
        let outline = frontend::outline::outline(&definition.parsed.dockerfile, &options)
            .map_err(|error| definition.error(error))?;
        Ok(OutlineReport { outline, source: Source(definition.source) })
    }

    /// Which targets the Dockerfile of `request` has.
    ///
    /// # Errors
    /// When the Dockerfile cannot be read or understood.
    pub fn targets(
        &self,
        request: &BuildRequest,
        events: Arc<dyn EventSink>,
    ) -> Result<TargetsReport, BuildError> {
        let (_, definition) = self.understood(request, events)?;
        let targets = frontend::outline::targets(&definition.parsed.dockerfile)
            .map_err(|error| definition.error(error))?;
        Ok(TargetsReport { targets, source: Source(definition.source) })
    }

    /// Loads what a Dockerfile without mistakes says.
    fn understood(
        &self,
        request: &BuildRequest,
        events: Arc<dyn EventSink>,
    ) -> Result<(BuildContext, Definition), BuildError> {
        let progress = Progress::new(events, self.clock.clone());
        let lease = self.store.lease("call").map_err(EngineError::from)?;
        let (access, cancel, rules) = (Access::of(request)?, &CancelToken::new(), &request.steps.rules);
        let fetcher =
            Fetcher { engine: self, lease: &lease, access: &access, progress: &progress, rules, cancel };
        let (context, definition) = self.definition(request, &fetcher)?;
        match definition.mistakes() {
            Some(error) => Err(error),
            None => Ok((context, definition)),
        }
    }
}

/// Looks up images. What ADD would fetch matters to no check, and stands for nothing in particular.
struct ImagesOnly<'a>(SourceResolver<'a>);

impl MetaResolver for ImagesOnly<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        self.0.resolve(reference, platform)
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        let digest = Digest::of(request.url.as_bytes());
        Ok(ResolvedHttp { digest, filename: "download".to_owned(), last_modified: None })
    }

    fn git(&self, _url: &GitUrl) -> Result<String, ResolveError> {
        Ok("0".repeat(COMMIT_ID_LENGTH))
    }
}

//! The Dockerfile of a build, parsed: its findings told, its mistakes as errors. What a build and the
//! calls that only look at a Dockerfile share.

use std::sync::Arc;

use base::Reference;
use base::event::{Event, TextPlace};
use base::reference::DEFAULT_REGISTRY;
use frontend::LowerError;
use parser::lint::{self, CheckOptions};
use parser::span::Span;
use parser::{Diagnostic, Level, Parsed, SourceFile};

use crate::call::Place;
use crate::context::LoadedDockerfile;
use crate::error::{BuildError, EngineError};
use crate::progress::Progress;
use crate::request::BuildRequest;

/// The build argument that replaces the `check` directive.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The build argument that replaces the `syntax` directive.
pub(crate) const SYNTAX_ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// What that argument says for the frontend that is here anyway.
pub(crate) const BUILT_IN: &str = "dockerfile.v0";

/// The repositories of Docker's frontend for Dockerfiles.
const DOCKERS: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// Whether an image is Docker's frontend for Dockerfiles, in any version.
fn is_dockers(image: &str) -> bool {
    image
        .parse::<Reference>()
        .is_ok_and(|image| image.registry == DEFAULT_REGISTRY && DOCKERS.contains(&image.repository.as_str()))
}

/// The image, and what follows it on its line, of another frontend that a Dockerfile asks for, or the build argument
/// `BUILDKIT_SYNTAX`. Those of Docker read what is read here, so they are none.
pub fn other_frontend(text: &[u8], argument: Option<&str>) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let asked = argument.map(str::to_owned).or_else(|| parser::detect_syntax(&text));
    let asked = asked.filter(|asked| !asked.is_empty())?;
    let image = asked.split_whitespace().next().unwrap_or_default();
    (image != BUILT_IN && !is_dockers(image)).then_some(asked)
}

/// A parsed Dockerfile with the text that its spans point into.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) parsed: Parsed,
    pub(crate) source: SourceFile,
}

impl Definition {
    /// Refuses a Dockerfile that another frontend is to read. Those of Docker read what is read here, so their
    /// images are never fetched.
    fn check_frontend(dockerfile: &LoadedDockerfile, request: &BuildRequest) -> Result<(), BuildError> {
        let argument = request.build_args.get(SYNTAX_ARGUMENT).map(String::as_str);
        match other_frontend(&dockerfile.text, argument) {
            None => Ok(()),
            Some(line) => {
                let image = line.split_whitespace().next().unwrap_or_default().to_owned();
                Err(EngineError::OtherFrontend { image, file: dockerfile.name.clone() }.into())
            }
        }
    }

    /// Parses. The mistakes in the text are in [`Self::mistakes`]; only a wrong build argument is an error.
    pub(crate) fn parse(dockerfile: &LoadedDockerfile, request: &BuildRequest) -> Result<Self, BuildError> {
        Self::check_frontend(dockerfile, request)?;
        let checks = request.build_args.get(CHECK_ARGUMENT).map(|text| CheckOptions::parse(text));
        let parsed = parser::parse_with_checks(&dockerfile.text, checks.transpose()?);
        let source = SourceFile::new(&dockerfile.name, &parsed.text);
        Ok(Self { parsed, source })
    }

    /// The error that the mistakes in the text are, if there are any.
    pub(crate) fn mistakes(&self) -> Option<BuildError> {
        let errors = self.findings(Level::Error);
        (!errors.is_empty()).then(|| BuildError::dockerfile(self.source.clone(), errors))
    }

    /// The first mistake in the text.
    pub(crate) fn first_mistake(&self) -> Option<&Diagnostic> {
        self.parsed.diagnostics.iter().find(|finding| finding.level == Level::Error)
    }

    /// What checks of the text found.
    pub(crate) fn warnings(&self) -> Vec<Diagnostic> {
        self.findings(Level::Warning)
    }

    fn findings(&self, level: Level) -> Vec<Diagnostic> {
        self.parsed.diagnostics.iter().filter(|finding| finding.level == level).cloned().collect()
    }

    /// An error of lowering, with the lines it is about.
    pub(crate) fn error(&self, error: LowerError) -> BuildError {
        match error {
            LowerError::Dockerfile(diagnostic) => {
                BuildError::dockerfile(self.source.clone(), vec![*diagnostic])
            }
            LowerError::Resolve { reference, span, source, near, .. } => {
                BuildError::resolve(reference, self.place(span), source, near)
            }
            LowerError::Graph(error) => BuildError::Graph(error),
        }
    }

    /// Where something stands.
    pub(crate) fn place(&self, span: Span) -> Place {
        Place::new(&self.source, span)
    }

    /// Tells the findings.
    pub(crate) fn warn(&self, progress: &Progress, warnings: &[Diagnostic]) {
        let text: Arc<str> = self.source.text().into();
        for warning in warnings {
            let place = self.place(warning.span).location();
            progress.emit(Event::Warning {
                vertex: None,
                code: warning.code.to_owned(),
                message: warning.message.clone(),
                excerpt: self.source.render_place(warning),
                url: lint::find(warning.code).and_then(lint::Rule::documentation),
                place: Some(TextPlace {
                    name: self.source.name().to_owned(),
                    start: (place.start.line, place.start.character),
                    end: (place.end.line, place.end.character),
                    text: Some(Arc::clone(&text)),
                }),
            });
        }
    }

    /// Refuses to go on after findings, if the options of the checks say so.
    pub(crate) fn refuse_findings(&self, warnings: &[Diagnostic]) -> Result<(), BuildError> {
        let mut rules: Vec<String> = Vec::new();
        for warning in warnings.iter().filter(|_| self.parsed.checks.error) {
            if !rules.iter().any(|rule| rule == warning.code) {
                rules.push(warning.code.to_owned());
            }
        }
        if rules.is_empty() { Ok(()) } else { Err(BuildError::Findings { rules }) }
    }
}

//! Why a Dockerfile that parses cannot be built.

use base::{Fault, Faulty};
use llb::GraphError;
use parser::Diagnostic;
use parser::span::Span;

use crate::ports::ResolveError;

/// A failure to lower, with its place.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// The Dockerfile asks for something that cannot be.
    #[error("{}", .0.message)]
    Dockerfile(Box<Diagnostic>),
    /// An image, a URL or a repository could not be resolved.
    #[error("cannot resolve \"{reference}\"")]
    Resolve {
        /// The name as it was asked for.
        reference: String,
        /// Where the Dockerfile names it.
        span: Span,
        /// Why.
        #[source]
        source: ResolveError,
        /// Whose fault the resolver says it is.
        fault: Fault,
        /// The stage that was perhaps meant.
        near: Option<String>,
    },
    /// The operations do not form a graph: a defect of this crate.
    #[error("the frontend made an invalid graph; this is a bug in lapstrake, please report it")]
    Graph(#[from] GraphError),
}

impl LowerError {
    /// An error at a place, with a stable code.
    pub(crate) fn at(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self::Dockerfile(Box::new(Diagnostic::error(code, span, message)))
    }

    /// The same with advice.
    pub(crate) fn with_help(
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Dockerfile(Box::new(Diagnostic::error(code, span, message).with_help(help)))
    }

    /// The place in the Dockerfile, if there is one.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Dockerfile(diagnostic) => Some(diagnostic.span),
            Self::Resolve { span, .. } => Some(*span),
            Self::Graph(_) => None,
        }
    }
}

impl Faulty for LowerError {
    fn fault(&self) -> Fault {
        match self {
            Self::Dockerfile(_) => Fault::Input,
            Self::Resolve { fault, .. } => *fault,
            Self::Graph(_) => Fault::Bug,
        }
    }
}

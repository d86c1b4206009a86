//! Why a definition cannot be lowered.

use base::{Fault, Faulty};
use llb::GraphError;

use crate::options::Entitlement;
use crate::ports::ResolveError;

/// Why a definition is none, or asks for what there is not.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// There are more operations than any build needs.
    #[error("the definition has {operations} operations, at most {most} are taken")]
    TooMany {
        /// How many there are.
        operations: usize,
        /// The most there may be.
        most: usize,
    },
    /// The bytes of an operation are no operation.
    #[error("operation {position} of the definition cannot be decoded")]
    Decode {
        /// Its place in the definition, from 0.
        position: usize,
        /// What is wrong with it.
        source: prost::DecodeError,
    },
    /// An operation has an input that is not in the definition. It cannot be one of a circle either: operations name each
    /// other by their digests.
    #[error("\"{operation}\" needs the operation {digest}, which is not in the definition")]
    MissingInput {
        /// Who needs it.
        operation: String,
        /// The digest of its input.
        digest: String,
    },
    /// Operations need each other: their digests are not theirs.
    #[error("\"{operation}\" needs itself")]
    Circle {
        /// One of them.
        operation: String,
    },
    /// An operation uses a result that its input does not have.
    #[error("\"{operation}\" uses result {output} of an operation with {outputs}")]
    MissingOutput {
        /// Who uses it.
        operation: String,
        /// The number of the result, from 0.
        output: i64,
        /// How many there are.
        outputs: usize,
    },
    /// An operation makes no sense.
    #[error("\"{operation}\": {why}")]
    Invalid {
        /// The operation.
        operation: String,
        /// What is wrong with it.
        why: String,
    },
    /// An operation needs what this builder has not announced.
    #[error("\"{operation}\" needs {what}, which this builder does not have")]
    Unsupported {
        /// The operation.
        operation: String,
        /// What it needs.
        what: String,
    },
    /// An operation needs more rights than it has been given.
    #[error("\"{operation}\" needs the entitlement {}, which was not given", entitlement.name())]
    NotEntitled {
        /// The operation.
        operation: String,
        /// What it needs.
        entitlement: Entitlement,
    },
    /// A source cannot be found.
    #[error("failed to resolve source metadata for {identifier}")]
    Resolve {
        /// The source.
        identifier: String,
        /// Why.
        source: ResolveError,
    },
    /// The operations make no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Faulty for DefinitionError {
    fn fault(&self) -> Fault {
        match self {
            Self::Resolve { .. } => Fault::Environment,
            Self::Graph(error) => error.fault(),
            _ => Fault::Input,
        }
    }
}

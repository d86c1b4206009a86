//! Errors as clients understand them: a code, words, and details by which they draw the lines of a Dockerfile.
//!
//! Source: the types of `solver/errdefs` in BuildKit's definitions. A detail is JSON in an `Any` whose address names its type.

use bollard_buildkit_proto::google::protobuf::Any;
use engine::call::{Place, Position};
use engine::error::{BuildError, EngineError};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};

use base64::Engine as _;

use crate::proto::rpc;

/// A part of a Dockerfile.
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// A step that failed.
const VERTEX: &str = "github.com/moby/buildkit/errdefs.Vertex+json";

/// What a step that failed did, and what it left.
const SOLVE: &str = "github.com/moby/buildkit/errdefs.Solve+json";

/// A question that is not answered here.
const SUBREQUEST: &str = "github.com/moby/buildkit/errdefs.Subrequest+json";

/// The largest Dockerfile that travels with an error: details are in a header, whose size clients limit.
const LARGEST_SOURCE: usize = 32 << 10;

/// How many parts of one Dockerfile an error shows.
const MOST_PLACES: usize = 3;

/// A status with details.
fn detailed(code: Code, message: String, details: Vec<(&str, Value)>) -> Status {
    let any = |(kind, value): (&str, Value)| Any {
        type_url: kind.to_owned(),
        value: value.to_string().into_bytes(),
    };
    let details: Vec<Any> = details.into_iter().map(any).collect();
    if details.is_empty() {
        return Status::new(code, message);
    }
    let all = rpc::Status { code: code.into(), message: message.clone(), details };
    Status::with_details(code, message, all.encode_to_vec().into())
}

/// What a client says went wrong, with the details that it had from us.
pub(crate) fn returned(error: rpc::Status) -> Status {
    let (code, message) = (Code::from(error.code), error.message.clone());
    if error.details.is_empty() {
        return Status::new(code, message);
    }
    Status::with_details(code, message, error.encode_to_vec().into())
}

/// A question that is not answered.
pub(crate) fn unsupported_question(name: &str) -> Status {
    let details = vec![(SUBREQUEST, json!({ "name": name }))];
    detailed(Code::Unimplemented, format!("unsupported request {name}"), details)
}

/// A failed build, in the words of its first line and causes.
pub(crate) fn status_of(error: &BuildError) -> Status {
    status_of_solve(error, None)
}

/// The same, with what a failed process left if there is something.
pub(crate) fn status_of_solve(error: &BuildError, left: Option<Value>) -> Status {
    let text = match error {
        BuildError::Cancelled => return Status::cancelled("context canceled"),
        BuildError::Engine(error) => return status_of_engine(error),
        BuildError::Dockerfile(problem) => problem.lines().join("\n"),
        error => base::fault::chain(error),
    };
    let text = text.strip_prefix("failed to solve: ").unwrap_or(&text);
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let places = error.places();
    let steps = error.vertices().into_iter().take(MOST_PLACES);
    let steps = steps.map(|step| (VERTEX, json!({ "digest": step })));
    let steps: Vec<_> = steps.chain(left.map(|left| (SOLVE, left))).collect();
    let fits = places.first().is_some_and(|place| place.source().text().len() <= LARGEST_SOURCE);
    if !fits {
        let excerpt = error.excerpt();
        let excerpt = if excerpt.is_empty() { excerpt } else { format!("\n{}", excerpt.trim_end()) };
        return detailed(Code::Unknown, format!("{text}{excerpt}{hint}"), steps);
    }
    let sources = places.iter().take(MOST_PLACES).map(|place| (SOURCE, source(place)));
    detailed(Code::Unknown, format!("{text}{hint}"), sources.chain(steps).collect())
}

/// A part of a Dockerfile, with its text.
fn source(place: &Place) -> Value {
    let (file, location) = (place.source(), place.location());
    let position = |at: Position| json!({ "line": at.line, "character": at.character });
    json!({
        "info": {
            "filename": file.name(),
            "data": base64::engine::general_purpose::STANDARD.encode(file.text()),
            "language": "Dockerfile",
        },
        "ranges": [{ "start": position(location.start), "end": position(location.end) }],
    })
}

pub(crate) fn status_of_engine(error: &EngineError) -> Status {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let text = format!("{}{hint}", base::fault::chain(error));
    match error {
        EngineError::NotInResult(_) => Status::not_found(text),
        EngineError::Sent { .. } => Status::invalid_argument(text),
        _ => Status::unknown(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_come_back_as_they_went() {
        let status = unsupported_question("frontend.nonsense");
        let sent = rpc::Status::decode(status.details()).unwrap();
        assert_eq!((sent.details.len(), sent.details[0].type_url.as_str()), (1, SUBREQUEST));
        let back = returned(sent);
        assert_eq!((back.code(), back.details()), (Code::Unimplemented, status.details()));
        assert!(returned(rpc::Status { code: 5, ..rpc::Status::default() }).details().is_empty());
    }
}

//! Results that other builds begin with, such as `contexts = { base = "target:base" }` of bake.
//!
//! With a result its client gets a definition, which it hands on to the other build: an operation of LLB whose address says
//! which result of which build is meant. Results that are evaluated are images of the store, without a name.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::Digest;
use base::image::Descriptor;
use prost::Message as _;
use tonic::Status;

use crate::builds::{Build, Builds, Command};
use crate::proto::pb;

/// What the addresses of results begin with.
const RESULT: &str = "lapstrake-result://";

/// The same as the scheme of a source.
pub(crate) const SCHEME: &str = "lapstrake-result";

/// How many results are remembered.
const REMEMBERED: usize = 1024;

/// How long a build may take to keep a result for another.
const PATIENCE: Duration = Duration::from_secs(600);

/// No definition of ours has more operations.
const MOST_OPERATIONS: usize = 16;

/// The results that were evaluated, by their addresses, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Linked(Mutex<VecDeque<(String, Descriptor)>>);

fn address(build: &str, number: usize) -> String {
    format!("{RESULT}{build}/{number}")
}

/// The definition of a result.
pub(crate) fn definition(build: &str, number: usize) -> pb::Definition {
    let source = pb::SourceOp { identifier: address(build, number), ..pb::SourceOp::default() };
    let source = pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() }.encode_to_vec();
    let digest = Digest::of(&source).to_string();
    let last = pb::Op { inputs: vec![pb::Input { digest: digest.clone(), index: 0 }], ..pb::Op::default() };
    let metadata = [(digest, pb::OpMetadata::default())].into_iter().collect();
    pb::Definition { def: vec![source, last.encode_to_vec()], metadata, source: None }
}

/// The address in a definition of ours.
fn address_in(definition: &pb::Definition) -> Option<String> {
    let operations = definition.def.iter().take(MOST_OPERATIONS);
    operations.filter_map(|bytes| pb::Op::decode(bytes.as_slice()).ok()?.op).find_map(|op| match op {
        pb::op::Op::Source(source) => Some(source.identifier).filter(|address| address.starts_with(RESULT)),
        _ => None,
    })
}

impl Linked {
    /// Whether a result is kept.
    pub(crate) fn has(&self, build: &str, number: usize) -> bool {
        self.get(&address(build, number)).is_some()
    }

    /// Keeps a result, which is an image of the store now.
    pub(crate) fn keep(&self, build: &str, number: usize, image: Descriptor) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back((address(build, number), image));
        if all.len() > REMEMBERED {
            all.pop_front();
        }
    }

    fn get(&self, address: &str) -> Option<Descriptor> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(known, _)| known == address).map(|(_, image)| image.clone())
    }
}

/// Whether a definition is a result of ours.
pub(crate) fn is_result(definition: &pb::Definition) -> bool {
    address_in(definition).is_some()
}

/// The address of the result that the context `name` is.
fn address_of(name: &str, definition: Option<&pb::Definition>) -> Result<(String, String), Status> {
    let definition = definition.ok_or_else(|| {
        Status::invalid_argument(format!("the context {name} is an input of the build that was not sent"))
    })?;
    let address = address_in(definition);
    let parts = address.as_deref().and_then(|address| address.strip_prefix(RESULT)?.rsplit_once('/'));
    let (build, number) = parts.ok_or_else(|| {
        Status::unimplemented(format!(
            "the context {name} is a graph of operations, which this builder does not take yet"
        ))
    })?;
    Ok((build.to_owned(), number.to_owned()))
}

/// The result that the context `name` of `asker` is, by its definition. A build that still runs is asked to keep it.
///
/// # Errors
/// The definition is not one of ours, or its result is not kept.
pub(crate) fn find(
    builds: &Builds,
    asker: &Build,
    name: &str,
    definition: Option<&pb::Definition>,
) -> Result<Descriptor, Status> {
    let (build, number) = address_of(name, definition)?;
    find_address(builds, asker, &format!("{RESULT}{build}/{number}"))
        .map_err(|status| Status::new(status.code(), format!("the context {name}: {}", status.message())))
}

/// The number of the result that an address names, if it is one of this build.
pub(crate) fn own<'a>(address: &'a str, build: &str) -> Option<&'a str> {
    let (of, number) = address.strip_prefix(RESULT)?.rsplit_once('/')?;
    (of == build).then_some(number)
}

/// The result that an address names. A build that still runs is asked to keep it.
///
/// # Errors
/// It is not kept, or is one of the asker's own that has not been evaluated.
pub(crate) fn find_address(builds: &Builds, asker: &Build, address: &str) -> Result<Descriptor, Status> {
    if let Some(image) = builds.linked.get(address) {
        return Ok(image);
    }
    let missing = || Status::not_found(format!("{address}: the result of that build is not kept any more"));
    let parts = address.strip_prefix(RESULT).and_then(|rest| rest.rsplit_once('/'));
    let Some((build, number)) = parts.map(|(build, number)| (build.to_owned(), number.to_owned())) else {
        return Err(missing());
    };
    if build == asker.id {
        return Err(missing());
    }
    let kept = async {
        let build = builds.get(&build).await?;
        build.ask(|reply| Command::Evaluate(format!("{number}:0"), reply)).await
    };
    let gone = async {
        match &asker.session {
            Some(session) => session.closed().await,
            None => std::future::pending().await,
        }
    };
    builds.runtime().block_on(async {
        tokio::select! {
            kept = tokio::time::timeout(PATIENCE, kept) => kept.unwrap_or_else(|_| Err(missing())),
            () = gone => Err(Status::cancelled("context canceled")),
        }
    })?;
    builds.linked.get(address).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_lead_to_results() {
        let linked = Linked::default();
        let image = Descriptor::new("application/json", Digest::of(b"x"), 1);
        linked.keep("build", 3, image.clone());
        let address = |definition| address_of("c", definition);
        let ours = definition("a/build", 3);
        assert_eq!(address(Some(&ours)).unwrap(), ("a/build".to_owned(), "3".to_owned()));
        assert_eq!(linked.get(&super::address("build", 3)).unwrap().digest, image.digest);
        assert!(linked.has("build", 3) && !linked.has("build", 4));
        assert_eq!(address(None).unwrap_err().code(), tonic::Code::InvalidArgument);
        let other = pb::Definition { def: vec![vec![255; 9]], ..pb::Definition::default() };
        assert_eq!(address(Some(&other)).unwrap_err().code(), tonic::Code::Unimplemented);
    }
}

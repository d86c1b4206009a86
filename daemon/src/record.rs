//! What is kept of a build for its client: what it asked for, what became of it, all that it said, and where its result came from.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use base::Digest;
use base::image::Descriptor;
use engine::history::{ClientError, ClientRecord, ClientResult, StepCounts};
use engine::session::{Provenance, Session as EngineSession, Solved};
use prost::Message as _;
use tonic::Status;

use crate::builds::{Build, Builds, Outcome};
use crate::proto::control::StatusResponse;
use crate::proto::rpc;
use crate::traces;

/// The type of a build's log: messages of `Control/Status`, each after its length in four bytes, the lowest first.
pub(crate) const LOGS: &str = "application/vnd.buildkit.status.v0";

/// The type of what is told of a result.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// What a statement is about, in the annotations of what leads to it.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// A log that is longer is not kept here; the engine's is. In bytes.
const LONGEST_LOG: usize = 64 << 20;

/// What becomes known of a build while it runs.
#[derive(Default)]
pub(crate) struct Noted {
    /// The id under which it is remembered.
    pub(crate) id: Option<String>,
    provenance: Vec<Provenance>,
    /// What each output made.
    images: BTreeMap<usize, Descriptor>,
}

impl Build {
    fn note(&self, note: impl FnOnce(&mut Noted)) {
        note(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes as what the build is remembered.
    pub(crate) fn note_begun(&self, session: &EngineSession<'_>) {
        self.note(|noted| noted.id = session.build_id().map(str::to_owned));
    }

    /// Notes what is the result of the build.
    pub(crate) fn note_result(&self, session: &EngineSession<'_>, solved: &Solved) {
        if !self.request.internal {
            let provenance = session.provenance(solved);
            self.note(|noted| noted.provenance = provenance);
        }
    }

    /// Notes what an output made.
    pub(crate) fn note_image(&self, output: usize, descriptor: &Descriptor) {
        self.note(|noted| drop(noted.images.insert(output, descriptor.clone())));
    }

    /// The id under which it is remembered, if it has come so far.
    pub(crate) fn remembered_as(&self) -> Option<String> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).id.clone()
    }
}

/// Keeps the record of a build that is over, and answers whether there is one. A record is worth less than the build: that it
/// cannot be written fails nothing.
pub(crate) fn keep(builds: &Builds, build: &Build, outcome: &Outcome) -> bool {
    let noted = {
        let mut noted = build.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let id = noted.id.clone();
        std::mem::replace(&mut *noted, Noted { id, ..Noted::default() })
    };
    // What built nothing, as questions and those that only find out what we can, is no build.
    if build.request.internal || (noted.id.is_none() && outcome.response.is_ok()) {
        return false;
    }
    let mut attachments = Vec::new();
    let mut attach = |media_type: &str, content: Vec<u8>| {
        let descriptor = Descriptor::new(media_type, Digest::of(&content), content.len() as u64);
        attachments.push(content);
        descriptor
    };
    let is_multi_platform = noted.provenance.len() > 1;
    let mut results = vec![ClientResult { images: noted.images, ..ClientResult::default() }];
    for provenance in noted.provenance {
        let mut descriptor = attach(STATEMENT, provenance.document);
        descriptor.annotations.insert(PREDICATE.to_owned(), provenance.kind.to_owned());
        if is_multi_platform {
            let platform = provenance.platform.to_string();
            let attestations = vec![descriptor];
            results.push(ClientResult { platform, attestations, ..ClientResult::default() });
        } else {
            results[0].attestations.push(descriptor);
        }
    }
    results.retain(|result| !result.images.is_empty() || !result.attestations.is_empty());
    let logs = packed(&build.status.said()).map(|log| attach(LOGS, log));
    let trace = Some(traces::content(build)).filter(|trace| !trace.is_empty());
    let trace = trace.map(|trace| attach(traces::MEDIA_TYPE, trace));
    let record = ClientRecord { logs, results, trace, ..record(build, outcome) };
    let Ok(id) = builds.engine.keep_for_client(noted.id.as_deref(), record, &attachments) else {
        return false;
    };
    // Who lists builds before it is put away finds it once.
    build.note(|noted| noted.id = Some(id));
    if let Some(limits) = builds.history_limits {
        let _ = builds.engine.forget_builds(limits);
    }
    true
}

/// What a client asked for, and what became of it.
pub(crate) fn record(build: &Build, outcome: &Outcome) -> ClientRecord {
    let request = &build.request;
    let sorted = |texts: &std::collections::HashMap<String, String>| {
        texts.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let (total, completed, cached, warnings) = build.status.counts();
    ClientRecord {
        name: build.id.clone(),
        frontend: request.frontend.clone(),
        attributes: sorted(&request.frontend_attrs),
        exporters: request.exporters.iter().map(|one| (one.r#type.clone(), sorted(&one.attrs))).collect(),
        response: outcome.response.as_ref().map(sorted).unwrap_or_default(),
        error: outcome.response.as_ref().err().map(error),
        started: build.created,
        ended: outcome.completed,
        steps: StepCounts { total, completed, cached, warnings },
        ..ClientRecord::default()
    }
}

fn error(status: &Status) -> ClientError {
    let details = rpc::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    let detail = |any: bollard_buildkit_proto::google::protobuf::Any| {
        Some((any.type_url, String::from_utf8(any.value).ok()?))
    };
    ClientError {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: details.into_iter().filter_map(detail).collect(),
    }
}

/// Messages as one file.
fn packed(messages: &[std::sync::Arc<StatusResponse>]) -> Option<Vec<u8>> {
    let mut log = Vec::new();
    for message in messages {
        let length = u32::try_from(message.encoded_len()).ok()?;
        if length > 0 {
            log.extend_from_slice(&length.to_le_bytes());
            message.encode(&mut log).ok()?;
        }
        if log.len() > LONGEST_LOG {
            return None;
        }
    }
    Some(log)
}

/// The messages of such a file, as far as they can be read.
pub(crate) fn unpacked(log: &[u8]) -> impl Iterator<Item = StatusResponse> {
    let mut rest = log;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (message, after) = after.split_at_checked(length)?;
        rest = after;
        StatusResponse::decode(message).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::proto::control::VertexLog;

    #[test]
    fn a_log_is_read_as_it_was_written_and_ends_where_it_was_cut_off() {
        let message = |text: &str| {
            let log = VertexLog { msg: text.as_bytes().to_vec(), ..VertexLog::default() };
            StatusResponse { logs: vec![log], ..StatusResponse::default() }
        };
        let messages = [message("one"), StatusResponse::default(), message("two")].map(Arc::new);
        let log = packed(&messages).unwrap();
        assert_eq!(unpacked(&log).collect::<Vec<_>>(), [message("one"), message("two")]);
        assert_eq!(unpacked(&log[..log.len() - 1]).collect::<Vec<_>>(), [message("one")]);
        assert_eq!(unpacked(&[255; 7]).count(), 0);
    }
}

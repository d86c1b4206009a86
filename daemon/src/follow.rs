//! Streams that tell of builds as they go.

use std::sync::Arc;
use std::sync::PoisonError;

use tokio_stream::Stream;
use tonic::Status;

use crate::builds::{Build, Builds};
use crate::proto::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, Exporter,
    StatusResponse,
};
use crate::proto::rpc;
use crate::status::timestamp;

/// What a build says, from its beginning to its end.
pub(crate) fn status(build: Arc<Build>) -> impl Stream<Item = Result<StatusResponse, Status>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        let mut seen = 0;
        while let Some(messages) = build.status.next(seen).await {
            seen += messages.len();
            for message in messages {
                if sender.send(Ok((*message).clone())).await.is_err() {
                    return;
                }
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// The builds that fit `request`, and those that come, unless it wants no more than there is.
pub(crate) fn history(
    builds: Arc<Builds>,
    request: &BuildHistoryRequest,
) -> impl Stream<Item = Result<BuildHistoryEvent, Status>> + use<> {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let BuildHistoryRequest { active_only, r#ref, early_exit, .. } = request.clone();
    tokio::spawn(async move {
        let mut told: Vec<(String, bool)> = Vec::new();
        loop {
            let changed = builds.changed();
            for build in builds.all() {
                let is_over = build.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                let known = told.iter().find(|(id, _)| *id == build.id).map(|(_, over)| *over);
                let is_wanted = (r#ref.is_empty() || build.id == r#ref)
                    && !build.request.internal
                    && (!active_only || !is_over || known == Some(false));
                if !is_wanted || known == Some(is_over) {
                    continue;
                }
                told.retain(|(id, _)| *id != build.id);
                told.push((build.id.clone(), is_over));
                if sender.send(Ok(event(&build))).await.is_err() {
                    return;
                }
            }
            if early_exit {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = sender.closed() => return,
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

fn event(build: &Build) -> BuildHistoryEvent {
    let outcome = build.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let kind =
        if outcome.is_some() { BuildHistoryEventType::Complete } else { BuildHistoryEventType::Started };
    let (total, completed, cached, warnings) = build.status.counts();
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let exporters = build.request.exporters.iter();
    let record = BuildHistoryRecord {
        r#ref: build.id.clone(),
        frontend: build.request.frontend.clone(),
        frontend_attrs: build.request.frontend_attrs.clone(),
        exporters: exporters
            .map(|one| Exporter { r#type: one.r#type.clone(), attrs: one.attrs.clone() })
            .collect(),
        error: outcome.as_ref().and_then(|outcome| outcome.response.as_ref().err()).map(|status| {
            rpc::Status {
                code: status.code().into(),
                message: status.message().to_owned(),
                details: Vec::new(),
            }
        }),
        created_at: Some(timestamp(build.created)),
        completed_at: outcome.as_ref().map(|outcome| timestamp(outcome.completed)),
        exporter_response: outcome.and_then(|outcome| outcome.response.ok()).unwrap_or_default(),
        num_cached_steps: count(cached),
        num_total_steps: count(total),
        num_completed_steps: count(completed),
        num_warnings: count(warnings),
        ..BuildHistoryRecord::default()
    };
    BuildHistoryEvent { r#type: kind.into(), record: Some(record) }
}

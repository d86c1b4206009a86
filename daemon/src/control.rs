//! `Control`: builds, what they say, sessions, and the cache.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use engine::{CacheUsage, Policy, RecordFilter, SpaceLimits};
use futures_util::stream::{self, Stream};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::builds::Builds;
use crate::proto::control::control_server::Control;
use crate::proto::control::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse, InfoRequest,
    InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest, SolveResponse,
    StatusRequest, StatusResponse, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse, UsageRecord,
};
use crate::session::Outgoing;
use crate::status::{now_text, timestamp};
use crate::traces::Trace;
use crate::{follow, history, waiting, workers};

/// The header with our time, by which clients correct what they are told.
const NOW: &str = "buildkit-current-timestamp";

/// The service.
pub(crate) struct ControlService(pub(crate) Arc<Builds>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for ControlService {
    type PruneStream = Answers<UsageRecord>;
    type StatusStream = Answers<StatusResponse>;
    type SessionStream = Outgoing;
    type ListenBuildHistoryStream = Answers<BuildHistoryEvent>;

    async fn solve(&self, request: Request<SolveRequest>) -> Result<Response<SolveResponse>, Status> {
        let trace = Trace::of(request.metadata());
        let exporter_response = self.0.run(request.into_inner(), trace).await?;
        Ok(Response::new(SolveResponse { exporter_response }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let id = request.into_inner().r#ref;
        let known = self.0.known(&id).map(|build| Arc::clone(&build.status));
        let stream = match known.or_else(|| self.0.heard_of(&id)) {
            Some(status) => follow::status(status),
            None => match history::replay(&self.0, &id).await? {
                Some(said) => said,
                None => follow::status(Arc::clone(&self.0.get(&id).await?.status)),
            },
        };
        let stream: Self::StatusStream = Box::pin(stream);
        Ok(with_time(Response::new(stream)))
    }

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let headers = request.metadata().clone();
        let outgoing = self.0.sessions.open(&headers, request.into_inner())?;
        Ok(Response::new(outgoing))
    }

    async fn list_workers(
        &self,
        _request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Ok(Response::new(ListWorkersResponse { record: vec![workers::worker(&self.0)] }))
    }

    async fn info(&self, _request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { buildkit_version: Some(workers::version()) }))
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<DiskUsageResponse>, Status> {
        let filters = filters(&request.into_inner().filter)?;
        let engine = Arc::clone(&self.0.engine);
        let usage = waiting(move || engine.usage_details()).await?;
        let fits = |record: &&CacheUsage| filters.iter().all(|filter| filter.fits(record));
        let record = usage.cache.iter().filter(fits).map(usage_record).collect();
        Ok(Response::new(DiskUsageResponse { record }))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let request = request.into_inner();
        let filters = filters(&request.filter)?;
        let engine = Arc::clone(&self.0.engine);
        let bytes = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        let policy = Policy {
            filters,
            unused_for: Some(Duration::from_nanos(u64::try_from(request.keep_duration).unwrap_or(0))),
            all: request.all,
            limits: SpaceLimits {
                reserved: bytes(request.reserved_space),
                max_used: bytes(request.max_used_space),
                min_free: bytes(request.min_free_space),
            },
        };
        let pruned = waiting(move || {
            let before = engine.usage_details()?.cache;
            let pruned = engine.prune(None, policy)?;
            let gone =
                before.into_iter().filter(|record| pruned.cache.contains(&record.id)).collect::<Vec<_>>();
            pruned.remove_files()?;
            Ok(gone)
        })
        .await?;
        let records: Vec<_> = pruned.iter().map(|record| Ok(usage_record(record))).collect();
        Ok(Response::new(Box::pin(stream::iter(records))))
    }

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        let events = history::listen(Arc::clone(&self.0), request.into_inner()).await?;
        let stream: Self::ListenBuildHistoryStream = Box::pin(events);
        Ok(with_time(Response::new(stream)))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Result<Response<UpdateBuildHistoryResponse>, Status> {
        history::update(&self.0, request.into_inner()).await?;
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }
}

fn with_time<T>(mut response: Response<T>) -> Response<T> {
    if let Ok(value) = MetadataValue::try_from(now_text()) {
        response.metadata_mut().insert(NOW, value);
    }
    response
}

fn filters(texts: &[String]) -> Result<Vec<RecordFilter>, Status> {
    let filter = |text: &String| {
        RecordFilter::parse(text)
            .map_err(|error| Status::invalid_argument(format!("invalid filter {text:?}: {error}")))
    };
    texts.iter().map(filter).collect()
}

fn usage_record(record: &CacheUsage) -> UsageRecord {
    #[allow(deprecated, reason = "older clients read nothing else")]
    UsageRecord {
        id: record.id.clone(),
        mutable: record.kind.is_mutable(),
        in_use: record.in_use,
        size: i64::try_from(record.bytes).unwrap_or(i64::MAX),
        parent: String::new(),
        created_at: Some(timestamp(record.created_at)),
        last_used_at: Some(timestamp(record.last_used)),
        usage_count: record.uses.and_then(|uses| i64::try_from(uses).ok()).unwrap_or(0),
        description: record.description.clone(),
        record_type: record.kind.name().to_owned(),
        shared: record.shared,
        parents: record.parents.clone(),
    }
}

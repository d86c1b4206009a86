//! What a container uses: once, or every second for as long as somebody reads it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use engine::containers::usage::Usage;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

use super::super::query::Parameters;
use super::super::{Api, ApiError};
use crate::documents::containers::stats::document;

/// How often figures are read, as in Docker.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn stats(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    let stream = parameters.is_true_or("stream", true);
    let one_shot = parameters.is_true("one-shot");
    if stream && one_shot {
        return Err(ApiError::bad_request("cannot have stream=true and one-shot=true"));
    }
    let first = usage(&api, &id).await?;
    let body = if stream {
        let (sender, receiver) = channel(1);
        tokio::spawn(async move {
            let gone = sender.clone();
            tokio::select! {
                () = gone.closed() => {}
                () = follow(&api, first, &sender) => {}
            }
        });
        Body::from_stream(ReceiverStream::new(receiver))
    } else if one_shot || first.counted.is_none() {
        line(&first, None).into()
    } else {
        // A share of processor time needs two looks.
        tokio::time::sleep(PAUSE).await;
        let second = usage(&api, &first.id).await?;
        line(&second, Some(&first)).into()
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn usage(api: &Arc<Api>, id: &str) -> Result<Usage, ApiError> {
    let id = id.to_owned();
    api.ask(move |engine| engine.container_usage(&id)).await
}

fn line(usage: &Usage, before: Option<&Usage>) -> Bytes {
    format!("{}\n", document(usage, before)).into()
}

/// Sends figures until the container is gone.
async fn follow(api: &Arc<Api>, first: Usage, sender: &Sender<io::Result<Bytes>>) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before = None;
    let mut now = first;
    while sender.send(Ok(line(&now, before.as_ref()))).await.is_ok() {
        ticks.tick().await;
        let Ok(next) = usage(api, &now.id).await else { return };
        before = Some(std::mem::replace(&mut now, next));
    }
}

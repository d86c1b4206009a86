//! Waiting for the end of a container. The client hears at once that it is waited for, and later how it ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use serde_json::json;
use tokio::sync::mpsc::channel;
use tokio_stream::wrappers::ReceiverStream;

use super::super::query::Parameters;
use super::super::{Api, ApiError};
use super::told::Listener;

/// How long after a look whether a container is still there the next one is.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(500);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

pub(super) async fn wait(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    let condition = match parameters.get("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => return Err(ApiError::bad_request(format!("invalid condition: {other:?}"))),
    };
    let (id, told, code) = api
        .ask(move |engine| {
            let container = engine.container(&id)?;
            let told = match condition {
                Condition::NotRunning => engine.told_of_end(&container.id)?,
                Condition::NextExit | Condition::Removed => Some(engine.told_of_next_end(&container.id)?),
            };
            Ok((container.id, told, container.state.exit_code))
        })
        .await?;
    let first = told.map(Listener::new).transpose()?;
    let (sender, receiver) = channel::<io::Result<Bytes>>(1);
    tokio::spawn(async move {
        let gone = sender.clone();
        tokio::select! {
            () = gone.closed() => {}
            code = end(&api, &id, condition, first, code) => {
                let answer = match code {
                    Ok(code) => json!({ "StatusCode": code }),
                    Err(error) => json!({ "StatusCode": -1, "Error": { "Message": error.message } }),
                };
                // Who has gone does not want to know.
                let _ = sender.send(Ok(format!("{answer}\n").into())).await;
            }
        }
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Waits, and answers the exit code.
async fn end(
    api: &Arc<Api>,
    id: &str,
    condition: Condition,
    first: Option<Listener>,
    mut code: i32,
) -> Result<i32, ApiError> {
    // It does not run.
    let Some(mut listener) = first else { return Ok(code) };
    loop {
        let told = listener.ended().await;
        code = told.unwrap_or(code);
        match condition {
            Condition::NotRunning => {
                return match told {
                    Some(code) => Ok(code),
                    // Its supervisor was killed, or has gone before it could tell.
                    None => Ok(state_of(api, id).await?.unwrap_or(code)),
                };
            }
            Condition::NextExit if told.is_some() => return Ok(code),
            Condition::NextExit | Condition::Removed => {}
        }
        listener.gone().await;
        if condition == Condition::Removed && told.is_some() {
            return until_removed(api, id, code).await;
        }
        let name = id.to_owned();
        let next = api.answer(move |engine| match engine.told_of_next_end(&name) {
            Ok(told) => Ok(Ok(Some(told))),
            Err(error) if error.is_missing_container() => Ok(Ok(None)),
            Err(error) => Err(error),
        });
        match next.await? {
            Some(told) => listener = Listener::new(told)?,
            None => return Ok(code),
        }
    }
}

/// Waits until a container that has ended is removed, which nothing tells of if its supervisor has not done it.
async fn until_removed(api: &Arc<Api>, id: &str, mut code: i32) -> Result<i32, ApiError> {
    let mut pause = SHORTEST;
    while let Some(now) = state_of(api, id).await? {
        code = now;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
    Ok(code)
}

/// The exit code of a container that has ended; nothing of one that is gone.
async fn state_of(api: &Arc<Api>, id: &str) -> Result<Option<i32>, ApiError> {
    let name = id.to_owned();
    api.ask(move |engine| match engine.container(&name) {
        Ok(container) => Ok(Some(container.state.exit_code)),
        Err(error) if error.is_missing_container() => Ok(None),
        Err(error) => Err(error),
    })
    .await
}

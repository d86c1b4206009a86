//! What containers have said.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use base::Timestamp;
use engine::containers::{LogsRequest, Record, Stream};
use engine::request::Selection;

use super::super::query::Parameters;
use super::super::upgrade::Framing;
use super::super::version::ApiVersion;
use super::super::{Api, ApiError, follow};
use super::attach::{framing, told};
use super::relay::number;
use crate::filters::moment;

pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    version: axum::Extension<ApiVersion>,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| parameters.is_true(name));
    if !stdout && !stderr {
        return Err(ApiError::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let selection = Selection {
        tail: parameters.get("tail").and_then(|text| text.parse().ok()),
        since: time(&parameters, "since")?,
        until: time(&parameters, "until")?,
    };
    let (times, details) = (parameters.is_true("timestamps"), parameters.is_true("details"));
    let wanted = LogsRequest { container: id, selection, follow: parameters.is_true("follow") };
    let opened = api.ask(move |engine| {
        let container = engine.container(&wanted.container)?;
        Ok((container.document.tty, engine.logs(&LogsRequest { container: container.id, ..wanted })?))
    });
    let (terminal, logs) = opened.await?;
    let framing = framing(terminal);
    let body = follow::body(logs, move |record: &Record, piece| {
        let is_wanted = match record.stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        if is_wanted {
            write_with(record, framing, (times, details), piece);
        }
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, told(framing, *version).content_type());
    Ok(response)
}

/// A moment: seconds since 1970, also parts of them, or as people write it; 0 is none.
fn time(parameters: &Parameters, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = parameters.get(name).filter(|text| *text != "0") else { return Ok(None) };
    let parts = text.split_once('.').filter(|(whole, part)| {
        !part.is_empty() && [whole, part].iter().all(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if let Some((whole, part)) = parts {
        let nanoseconds = format!("{part:0<9}").get(..9).and_then(|part| part.parse().ok());
        let time =
            whole.parse().ok().zip(nanoseconds).and_then(|(whole, part)| Timestamp::new(whole, part).ok());
        let wrong = || ApiError::bad_request(format!("invalid value for {name:?}: {text:?} is no time"));
        return time.map(Some).ok_or_else(wrong);
    }
    Ok(Some(moment(&format!("{name}={text}"), text, engine::now())?))
}

/// A record as a client of its streams gets it.
pub(super) fn write(record: &Record, framing: Framing, piece: &mut Vec<u8>) {
    write_with(record, framing, (false, false), piece);
}

/// The same, with its time and what the log was told to add, if they are wanted. Times have nine digits, so that they are of
/// one length.
fn write_with(record: &Record, framing: Framing, (times, details): (bool, bool), piece: &mut Vec<u8>) {
    use std::io::Write as _;
    let start = piece.len();
    if framing == Framing::Multiplexed {
        piece.extend_from_slice(&Framing::header(number(record.stream), 0));
    }
    let content = piece.len();
    if times {
        // Memory takes it.
        let _ = write!(piece, "{:.9} ", record.time);
    }
    if details && !record.attributes.is_empty() {
        let pairs: Vec<String> =
            record.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        piece.extend_from_slice(pairs.join(",").as_bytes());
        piece.push(b' ');
    }
    piece.extend_from_slice(record.text.as_bytes());
    if framing == Framing::Multiplexed {
        let length = u32::try_from(piece.len() - content).unwrap_or(u32::MAX);
        piece[start..content].copy_from_slice(&Framing::header(number(record.stream), length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn records_are_framed_with_what_is_added() {
        let record = Record {
            stream: Stream::Stderr,
            time: Timestamp::new(1, 5).unwrap(),
            text: "x\n".to_owned(),
            attributes: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        let mut piece = Vec::new();
        write_with(&record, Framing::Multiplexed, (true, true), &mut piece);
        assert_eq!(piece[..8], [2, 0, 0, 0, 0, 0, 0, u8::try_from(piece.len() - 8).unwrap()]);
        assert_eq!(&piece[8..], b"1970-01-01T00:00:01.000000005Z a=b x\n");
        piece.clear();
        write(&record, Framing::Raw, &mut piece);
        assert_eq!(piece, b"x\n");
    }
}

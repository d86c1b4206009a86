//! Who is about to make what; the form is in [`crate::claims`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::dispatch::{Asked, Registry, wrong_method};
use super::refusal::Refusal;
use super::store::Repository;
use crate::claims::{ANSWER_TYPE, ClaimRequest, Granted};
use crate::http_error::ErrorCode;

/// How many claims there may be at once; more are granted and not remembered.
const MOST: usize = 10_000;
/// How long a key or the name of a holder may be.
const MOST_BYTES: usize = 128;
/// For how long something can be claimed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is claimed at the moment, by repository and key.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashMap<(String, String), Held>>);

struct Held {
    holder: String,
    until: Instant,
}

impl Claims {
    /// Claims a key for a holder, who may have it already.
    fn claim(&self, key: (String, String), holder: String, limit: Duration) -> bool {
        let now = Instant::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&key).is_some_and(|held| held.until > now && held.holder != holder) {
            return false;
        }
        if held.len() >= MOST {
            held.retain(|_, held| held.until > now);
        }
        if held.len() < MOST {
            held.insert(key, Held { holder, until: now + limit.min(LONGEST) });
        }
        true
    }

    fn release(&self, key: &(String, String), holder: &str) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(key).is_some_and(|held| held.holder == holder) {
            held.remove(key);
        }
    }
}

impl Registry {
    pub(super) async fn claims(
        &self,
        asked: &Asked,
        repository: Repository,
        body: Body,
    ) -> Result<Response, Refusal> {
        let method = &asked.parts.method;
        if !matches!(*method, Method::POST | Method::DELETE) {
            return Err(wrong_method(asked));
        }
        let question = self.document(&asked.parts.headers, body).await?;
        let fits = |claim: &ClaimRequest| claim.key.len() <= MOST_BYTES && claim.holder.len() <= MOST_BYTES;
        let claim: Option<ClaimRequest> = serde_json::from_slice(&question).ok();
        let ClaimRequest { key, holder, seconds } = claim.filter(fits).ok_or_else(|| {
            Refusal::bad(ErrorCode::Unsupported, "a claim has a key, a holder and a number of seconds")
        })?;
        let key = (repository.name, key);
        if *method == Method::DELETE {
            self.claimed.release(&key, &holder);
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let granted = self.claimed.claim(key, holder, Duration::from_secs(seconds));
        let body = serde_json::to_vec(&Granted { granted }).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(ANSWER_TYPE));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_is_released_or_over() {
        let claims = Claims::default();
        let key = |key: &str| ("repository".to_owned(), key.to_owned());
        let claim = |name: &str, holder: &str, seconds| {
            claims.claim(key(name), holder.to_owned(), Duration::from_secs(seconds))
        };
        assert!(claim("a", "one", 60) && claim("a", "one", 60) && claim("b", "two", 60));
        assert!(!claim("a", "two", 60));
        claims.release(&key("a"), "two");
        assert!(!claim("a", "two", 60), "it was not theirs to release");
        claims.release(&key("a"), "one");
        assert!(claim("a", "two", 0));
        assert!(claim("a", "one", u64::MAX), "the time was over");
        for count in 0..2 * MOST {
            assert!(claim(&count.to_string(), "one", 60));
        }
        assert!(claims.0.lock().unwrap().len() <= MOST);
    }
}

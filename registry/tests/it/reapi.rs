//! A Remote Execution API cache, at BuildGrid's server.

use base::Digest;
use base::Faulty as _;
use registry::BlobSource;
use registry::reapi::{ActionName, ActionResult, Reapi, ReapiOptions};
use testkit::{BuildGrid, FaultyRegistry};

fn cache(endpoint: String) -> Reapi {
    Reapi::new(ReapiOptions {
        endpoint,
        instance: "team".to_owned(),
        token: Some("token".to_owned()),
        ..ReapiOptions::default()
    })
    .unwrap()
}

async fn read(cache: &Reapi, blob: &(Digest, u64)) -> Option<Vec<u8>> {
    let mut reader = cache.blob(blob).await.unwrap()?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    Some(bytes)
}

#[tokio::test]
async fn results_and_blobs_come_back_as_they_went() {
    let Some(server) = BuildGrid::start() else { return };
    let cache = cache(server.url());
    let (one, other) = (ActionName::of(b"one"), ActionName::of(b"other"));
    assert_eq!(cache.result(&one).await.unwrap(), None);
    let mut blobs = Vec::new();
    for content in [vec![], vec![1; 10], (0..5_000_000_u32).map(|byte| byte as u8).collect()] {
        let blob = (Digest::of(&content), content.len() as u64);
        if !content.is_empty() {
            assert_eq!(read(&cache, &blob).await, None);
        }
        // The second time, it is there.
        for _ in 0..2 {
            cache.add_blob(&blob, BlobSource::Bytes(content.clone().into())).await.unwrap();
        }
        cache.put_blob(&blob, BlobSource::Bytes(content.clone().into())).await.unwrap();
        assert_eq!(read(&cache, &blob).await.as_ref(), Some(&content), "{} bytes", content.len());
        blobs.push(blob);
    }
    let result = ActionResult { text: vec![7; 100_000], blobs };
    cache.set_result(&one, &result).await.unwrap();
    assert_eq!(cache.result(&one).await.unwrap(), Some(result));
    assert_eq!(cache.result(&other).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_such_cache_is_an_error() {
    let nobody = cache(format!("grpc://{}", FaultyRegistry::refused_address()));
    let error = nobody.result(&ActionName::of(b"x")).await.unwrap_err();
    assert!(base::fault::chain(&error).contains("no connection"), "{error}");
    // A server of HTTP/1.1.
    let registry = FaultyRegistry::start();
    let error =
        cache(format!("grpc://{}", registry.address())).result(&ActionName::of(b"x")).await.unwrap_err();
    assert!(error.to_string().contains("does not speak gRPC"), "{error}");
    assert_eq!(error.fault(), base::Fault::Environment);
}

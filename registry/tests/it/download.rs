//! Downloads: conditional requests, names, secrets, and servers that misbehave.

use registry::{Client, Download, DownloadError, DownloadRequest, DownloadStream, Validators};
use testkit::registry::Fault;
use testkit::{FaultyRegistry, WebFile, WebServer};

use crate::fixture::{assert_says, client, impatient, noise, told};

fn request(url: &str) -> DownloadRequest {
    DownloadRequest { url: url.to_owned(), ..DownloadRequest::default() }
}

async fn open(client: &Client, request: DownloadRequest) -> Result<Box<DownloadStream>, DownloadError> {
    match client.download(request, None).await? {
        Download::File(stream) => Ok(stream),
        Download::Unchanged => panic!("nothing was known before"),
    }
}

async fn read_all(stream: &mut DownloadStream) -> Result<Vec<u8>, DownloadError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn read(url: &str) -> Result<Vec<u8>, DownloadError> {
    read_by(&client(), url).await
}

async fn read_by(client: &Client, url: &str) -> Result<Vec<u8>, DownloadError> {
    read_all(&mut *open(client, request(url)).await?).await
}

/// The error of reading a file of 200,000 bytes while `fault` lasts.
async fn read_error(fault: Fault) -> DownloadError {
    let server = WebServer::start();
    let url = server.put("/file", WebFile::new(noise(200_000)).etag("1"));
    server.inject(u32::MAX, "/file", fault);
    read(&url).await.unwrap_err()
}

#[tokio::test]
async fn a_file_comes_with_its_name_and_validators() {
    let server = WebServer::start();
    let file = WebFile::new("content").etag("v1");
    let file = file.header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT");
    let url = server.put("/path", file.header("Content-Disposition", "attachment; filename=\"../up.txt\""));
    let mut stream = open(&client(), request(&url)).await.unwrap();
    assert_eq!((stream.file_name(), stream.size()), (Some("up.txt"), Some(7)));
    let validators = stream.validators().clone();
    assert_eq!(validators.modified().unwrap().as_second(), 1_445_412_480);
    assert_eq!(read_all(&mut stream).await.unwrap(), b"content");

    let again = DownloadRequest { known: Some(validators), ..request(&url) };
    assert!(matches!(client().download(again, None).await.unwrap(), Download::Unchanged));
    assert_eq!(server.seen("/path")[1].if_none_match.as_deref(), Some("\"v1\""));
    assert_eq!(server.seen("/path")[1].if_modified_since, None);
}

#[tokio::test]
async fn a_server_without_entity_tags_is_asked_by_date() {
    let server = WebServer::start();
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    let url = server.put("/path", WebFile::new("content").header("Last-Modified", date));
    let known = Some(Validators { etag: None, last_modified: Some(date.to_owned()) });
    let again = DownloadRequest { known, ..request(&url) };
    assert!(matches!(client().download(again, None).await.unwrap(), Download::Unchanged));
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_an_error() {
    let error = read_error(Fault::Status(304, None)).await;
    assert_says(&error, &["cannot download http://127.0.0.1", "the server answered 304"]);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let server = WebServer::start();
    assert_says(
        read(&server.url("/missing")).await.unwrap_err(),
        &["/missing", "404", "no such file", "check the URL"],
    );
    let url = server.put("/secret", WebFile::new("x").secret("Bearer right"));
    let error = read(&url).await.unwrap_err();
    assert_says(&error, &["401", "log in first", "may need a login"]);
    assert_eq!(error.status(), Some(401));
    let with = |secret: &str| DownloadRequest { authorization: Some(secret.to_owned()), ..request(&url) };
    let error = open(&client(), with("Bearer wrong")).await.err().unwrap();
    assert_says(&error, &["does not accept the credentials"]);
    assert!(!told(&error).contains("wrong"), "{}", told(&error));
    let error = open(&client(), with("Bearer\nright")).await.err().unwrap();
    assert_says(&error, &["characters that a header cannot have"]);
    let mut stream = open(&client(), with("Bearer right")).await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"x");
    assert_says(read_error(Fault::Status(503, None)).await, &["503", "tried 3 times"]);
}

#[tokio::test]
async fn a_secret_does_not_follow_a_redirect_to_another_server() {
    let (first, second) = (WebServer::start(), WebServer::start());
    second.put("/file", WebFile::new("x"));
    first.inject(1, "/file", Fault::RedirectTo(second.url("")));
    let url = first.url("/file");
    let request = DownloadRequest { authorization: Some("Bearer secret".to_owned()), ..request(&url) };
    let mut stream = open(&client(), request).await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"x");
    assert_eq!(first.seen("/file")[0].authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(second.seen("/file")[0].authorization, None);
}

#[tokio::test]
async fn redirects_end_somewhere_on_the_web() {
    let server = WebServer::start();
    server.inject(u32::MAX, "/loop", Fault::RedirectTo(server.url("")));
    assert_says(read(&server.url("/loop")).await.unwrap_err(), &["/loop", "too many redirects"]);
    server.inject(1, "/local", Fault::RedirectTo("file://".to_owned()));
    assert_says(read(&server.url("/local")).await.unwrap_err(), &["file:///local", "neither http nor https"]);
}

#[tokio::test]
async fn only_the_web_can_be_read() {
    for url in ["file:///etc/passwd", "ftp://host/x", "http://", "no url", ""] {
        assert_says(read(url).await.unwrap_err(), &["not an http or https URL"]);
    }
    let nobody = format!("http://user:password@{}/x", FaultyRegistry::refused_address());
    let error = read(&nobody).await.unwrap_err();
    assert_says(&error, &["connection refused", "is a server listening", "user:xxxxx@"]);
    assert!(!told(&error).contains("password"), "{}", told(&error));
}

#[tokio::test]
async fn a_broken_download_is_taken_up_where_it_broke() {
    let server = WebServer::start();
    let url = server.put("/file", WebFile::new(noise(200_000)).etag("1"));
    server.inject(1, "/file", Fault::CloseAfter(50_000));
    server.inject(1, "/file", Fault::CloseAfter(30_000));
    assert_eq!(read(&url).await.unwrap(), noise(200_000));
    let ranges: Vec<_> = server.seen("/file").into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges, [None, Some("bytes=50000-".to_owned()), Some("bytes=80000-".to_owned())]);
    server.inject(1, "/file", Fault::StallAfter(30_000));
    assert_eq!(read_by(&impatient(), &url).await.unwrap(), noise(200_000));
    assert_eq!(server.seen("/file")[4].range.as_deref(), Some("bytes=30000-"));
}

#[tokio::test]
async fn a_server_without_ranges_is_read_again() {
    let server = WebServer::start();
    let url = server.put("/file", WebFile::new(noise(200_000)).etag("1"));
    server.inject(1, "/file", Fault::CloseAfter(50_000));
    server.inject(1, "/file", Fault::IgnoreRange);
    assert_eq!(read(&url).await.unwrap(), noise(200_000));
}

#[tokio::test]
async fn parts_of_two_files_are_never_put_together() {
    let server = WebServer::start();
    let url = server.put("/file", WebFile::new(noise(200_000)).etag("1"));
    server.inject(1, "/file", Fault::CloseAfter(50_000));
    server.inject(1, "/file", Fault::IgnoreRange);
    let mut stream = open(&client(), request(&url)).await.unwrap();
    stream.next().await.unwrap().unwrap();
    server.put("/file", WebFile::new(noise(200_001)).etag("2"));
    assert_says(read_all(&mut stream).await.unwrap_err(), &["another file", "try again"]);

    // Without a validator there is no telling.
    let url = server.put("/plain", WebFile::new(noise(200_000)));
    server.inject(1, "/plain", Fault::CloseAfter(50_000));
    assert_says(read(&url).await.unwrap_err(), &["lost after 50000 of 200000 bytes"]);
    assert_eq!(server.seen("/plain").len(), 1);
}

#[tokio::test]
async fn a_server_that_stalls_or_lies_is_given_up() {
    assert_says(read_error(Fault::CloseBefore).await, &["lost after 0 bytes", "tried 3 times"]);
    assert_says(read_error(Fault::CloseAfter(0)).await, &["lost after 0 of 200000 bytes"]);
    let server = WebServer::start();
    let url = server.put("/file", WebFile::new("short"));
    server.inject(1, "/file", Fault::ClaimLength(500));
    assert_says(read(&url).await.unwrap_err(), &["lost after 5 of 500 bytes"]);
    server.inject(u32::MAX, "/file", Fault::StallBefore);
    let stalled = read_by(&impatient(), &url).await.unwrap_err();
    assert_says(stalled, &["sent nothing for 2 s", "tried 3 times"]);
}

//! HTTPS: certificates that are trusted, that are not, and servers that do not speak it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use registry::{Client, ClientOptions, ConnectFailure, ErrorKind};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::{FaultyRegistry, judges};

use crate::fixture::{assert_says, image, options, registry_with_image};

/// A self-signed certificate for 127.0.0.1 and its key, as PEM; `None` without openssl.
fn certificate(dir: &Path) -> Option<(Vec<u8>, Vec<u8>)> {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let files = ["-keyout", key.to_str()?, "-out", cert.to_str()?];
    let kind =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let name = [
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    judges::program("openssl")?.ok(kind.iter().chain(&files).chain(&name));
    Some((std::fs::read(cert).ok()?, std::fs::read(key).ok()?))
}

/// Puts TLS in front of `registry`, one connection at a time, and returns the address.
fn serve_tls(registry: &FaultyRegistry, cert: &[u8], key: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let chain = vec![CertificateDer::from_pem_slice(cert).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = Arc::new(config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let target = registry.address().to_owned();
    let serve = move || {
        for client in listener.incoming().map_while(Result::ok) {
            let tls = rustls::ServerConnection::new(config.clone()).unwrap();
            // A client that does not trust us breaks off, which is what is tested.
            let _ = relay(rustls::StreamOwned::new(tls, client), &target);
        }
    };
    std::thread::Builder::new().name("tls-relay".to_owned()).spawn(serve).unwrap();
    address
}

/// Passes one request on and its answer back.
fn relay(
    mut client: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    target: &str,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let mut server = TcpStream::connect(target)?;
    server.write_all(&head)?;
    server.shutdown(std::net::Shutdown::Write)?;
    io::copy(&mut server, &mut client)?;
    client.conn.send_close_notify();
    client.flush()
}

/// Options under which loopback is not special.
fn secure(extra_roots: Vec<Vec<u8>>) -> ClientOptions {
    ClientOptions { loopback_is_plain: false, extra_roots, ..options() }
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted_and_an_unknown_one_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some((cert, key)) = certificate(dir.path()) else { return };
    let (registry, _) = registry_with_image();
    let name = format!("{}/app", serve_tls(&registry, &cert, &key)).parse().unwrap();
    let resolved = Client::new(secure(vec![cert])).resolve(&name).await.unwrap();
    assert_eq!(resolved.digest, image("app").digest());
    let error = Client::new(secure(Vec::new())).resolve(&name).await.unwrap_err();
    assert_says(&error, &[&name.registry, "certificate is not accepted"]);
    let refused =
        |kind: &ErrorKind| matches!(kind, ErrorKind::Connect { failure: ConnectFailure::Certificate(_), .. });
    assert!(refused(error.kind()), "{error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_recognised() {
    let (_registry, name) = registry_with_image();
    let error = Client::new(secure(Vec::new())).resolve(&name).await.unwrap_err();
    assert_says(&error, &["answers without TLS", "insecure registry"]);
}

//! Tests of the crate from outside: the client against a registry that fails on request and against
//! Debian's `docker-registry`, the archives against `skopeo` and `podman`.

mod archive_read;
mod archive_write;
mod blob;
mod docker_registry;
mod download;
mod fixture;
mod login;
mod pull;
mod push;
mod reapi;
mod s3;
mod server;
mod tls;

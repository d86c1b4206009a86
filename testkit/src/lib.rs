//! Support for tests that drive the real `lap` binary on real input.
//!
//! Everything here is hermetic: a test gets its own store, home and context directories, images are made in
//! code or from installed Debian packages, and the only registries are on the loopback interface. Nothing
//! waits for a fixed time; every wait is for an event and has a deadline. Helpers panic with the whole story
//! (command, exit, output) when something is not as a test says, so tests need no error handling of their own.
//!
//! No shipped crate depends on this one, except for its tests.
#![allow(clippy::disallowed_methods, reason = "test support starts processes and reads the environment")]

pub mod actions_service;
mod azurite;
pub mod binary;
pub mod build_grid;
pub mod certificates;
pub mod command;
pub mod context;
pub mod cutting_proxy;
pub mod debian;
pub mod disk;
pub mod docker_registry;
pub mod driver_suite;
pub mod env;
pub mod images;
pub mod judges;
pub mod layer_tar;
pub mod moto;
pub mod mounted;
pub mod oci;
pub mod ordinary_user;
pub mod ports;
pub mod privilege;
pub mod python;
pub mod registry;
pub mod repository;
pub mod tree;
mod tree_read;
pub mod user_namespace;
pub mod wait;
pub mod web;

pub use actions_service::ActionsService;
pub use azurite::Azurite;
pub use build_grid::BuildGrid;
pub use command::{Lap, Output, Running};
pub use context::Context;
pub use cutting_proxy::CuttingProxy;
pub use docker_registry::{DockerRegistry, RegistryDoor};
pub use env::TestEnv;
pub use layer_tar::LayerTar;
pub use moto::MotoServer;
pub use oci::{Image, Layer};
pub use ordinary_user::{OrdinaryUser, Ranges};
pub use registry::FaultyRegistry;
pub use repository::Repository;
pub use tree::Tree;
pub use web::{WebFile, WebServer};

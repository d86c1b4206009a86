//! Conformance cases: small builds with what they must give, run by `lap` in the tests and by an independent builder
//! that judges the cases themselves.
//!
//! A case is a directory below `cases/` with a `Dockerfile` and a `case.toml`; `cases/README.md` says how to write one.
//! [`case`] reads them, [`scene`] carries one out with a [`subject::Subject`], and [`expect`] compares what came of it.
#![allow(clippy::disallowed_methods, reason = "test support starts processes and reads the environment")]

pub mod case;
pub mod compare;
pub mod conformance;
pub mod coverage;
pub mod docker;
pub mod expect;
pub mod files;
pub mod image;
pub mod lap;
pub mod oci_archive;
pub mod progress;
pub mod scene;
pub mod subject;
pub mod web;

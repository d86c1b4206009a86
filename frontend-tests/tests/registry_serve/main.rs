//! `lap registry serve`: the protocol as the specification has it, hostile clients, and clients of others.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod content;
mod documents;
mod hostile;
mod http;
mod records;
mod server;
mod tap;
mod uploads;

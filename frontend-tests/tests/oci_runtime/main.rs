//! `lap oci-runtime`: driven by hand, by Podman and by Docker.

mod bundle;
mod callers;
mod hooks;
mod life;
mod propagation;
mod settings;
mod terminal;

#[allow(dead_code, reason = "each test binary uses its part")]
#[path = "../common/terminal.rs"]
mod person;

//! `lap oci-runtime`: driven by hand, by Podman and by Docker.

mod bundle;
mod callers;
mod hooks;
mod life;
mod settings;

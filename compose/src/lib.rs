//! Compose files as values: read, interpolated, merged, checked, and turned into what `lap build` and `lap run` are told.
//!
//! Nothing here touches a container, and files are read through one port ([`load::Files`]). A file goes through these steps:
//!
//! 1. [`yaml`]: text to a tree whose nodes know their lines;
//! 2. [`interpolate`]: variables, of the environment and of files ([`dotenv`]);
//! 3. `normal`: every short form becomes the long one, every path absolute, and `schema` checks the result;
//! 4. `extend`: what services extend, what files include; `merge`: what later files change;
//! 5. [`model`]: services, networks, volumes and files that fit together, in their order (`order`);
//! 6. [`flags`] and [`mod@build`]: a service in the words of `lap run` and `lap build`; [`canonical`]: the project as one file.

pub mod build;
pub mod canonical;
pub mod dotenv;
pub mod error;
mod extend;
pub mod flags;
pub mod interpolate;
pub mod load;
mod merge;
pub mod model;
mod normal;
mod order;
mod paths;
mod schema;
mod short;
#[cfg(test)]
mod tests;
pub mod yaml;

pub use error::ComposeError;
pub use load::{Files, Loaded, Options, load, load_raw};
pub use model::{Condition, Dependency, Hook, Network, Project, Service, Volume};
